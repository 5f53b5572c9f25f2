"""What nobody does, but time brings: a statement that stays unpaid, a certificate that runs out. Chores of the worker.

Each is recorded in the host's audit chain when it comes about, once, and so told as any other event (concerns.py).
"""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from api.charging.ageing import bucket_of
from api.charging.settled import is_reversed, settled_of
from api.work import Work
from store.tables.audit import AuditEvent
from store.tables.charging import Charge, Statement, StatementLine, StatementState
from store.tables.registry import Certificate, Instrument, RunStatus
from wire.clock import to_ms

OVERDUE = "statement.overdue"
EXPIRING = "certificate.expiring"
OVERDUE_AFTER = timedelta(days=31)
"""The first day that the ageing of debts does not count to its first bucket any more."""
EXPIRES_WITHIN = timedelta(days=30)
CHUNK = 500


def remind_of_overdue(work: Work) -> None:
    """Record each final statement with something left to pay, once when it enters each bucket of the ageing but the
    first: 31, 61 and 91 days after it became final."""
    first = aliased(Charge)
    left = func.sum(Charge.total_fen - settled_of(Charge.charge_id.expression))
    rows = work.session.execute(
        select(Statement, left)
        .join(StatementLine, StatementLine.statement_id == Statement.statement_id)
        .join(first, first.charge_id == StatementLine.charge_id)
        .join(Charge, (Charge.booking_id == first.booking_id) & (Charge.purpose == first.purpose))
        .where(
            Statement.state == StatementState.FINAL.value,
            Statement.finalized_at <= work.now - OVERDUE_AFTER,
            first.revision == 1,
            Charge.revision % 2 == 1,
            ~is_reversed(),
        )
        .group_by(Statement.statement_id)
        .having(left > 0)
        .order_by(Statement.host_id, Statement.statement_id)
    ).all()
    told = _told(work.session, OVERDUE, [f"statement:{row[0].statement_id}" for row in rows])
    for statement, open_fen in rows:
        assert statement.finalized_at is not None  # of a final statement
        subject, bucket = f"statement:{statement.statement_id}", bucket_of(statement.finalized_at, work.now)
        after = {"open_fen": int(open_fen), "bucket": bucket}
        if all(said["bucket"] != bucket for said in told.get(subject, ())):
            work.audit(OVERDUE, subject, host_id=statement.host_id, after=after)


def warn_of_expiring(work: Work) -> None:
    """Record each certificate of an instrument in service that ends within EXPIRES_WITHIN, once, unless another one is
    valid when it ends."""
    next_one = aliased(Certificate)
    followed = select(next_one.certificate_id).where(
        next_one.instrument_id == Certificate.instrument_id,
        next_one.withdrawn_at.is_(None),
        next_one.valid_from <= Certificate.valid_to,
        next_one.valid_to > Certificate.valid_to,
    )
    rows = work.session.execute(
        select(Certificate, Instrument.host_id)
        .join(Instrument, Instrument.instrument_id == Certificate.instrument_id)
        .where(
            Certificate.withdrawn_at.is_(None),
            Certificate.valid_to > work.now,
            Certificate.valid_to <= work.now + EXPIRES_WITHIN,
            Instrument.run_status != RunStatus.RETIRED.value,
            ~followed.exists(),
        )
        .order_by(Instrument.host_id, Certificate.certificate_id)
    ).all()
    told = _told(work.session, EXPIRING, [f"certificate:{row[0].certificate_id}" for row in rows])
    for certificate, host_id in rows:
        subject = f"certificate:{certificate.certificate_id}"
        if subject not in told:
            after = {"number": certificate.number, "valid_to_ms": to_ms(certificate.valid_to)}
            work.audit(EXPIRING, subject, host_id=host_id, after=after)


def _told(session: Session, action: str, subjects: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return what each subject was told of before; those that never were are left out."""
    found: dict[str, list[dict[str, Any]]] = {}
    for start in range(0, len(subjects), CHUNK):
        wanted = select(AuditEvent.subject, AuditEvent.body).where(
            AuditEvent.subject.in_(subjects[start : start + CHUNK]), AuditEvent.action == action
        )
        for subject, body in session.execute(wanted):
            found.setdefault(subject, []).append(json.loads(body)["after"])
    return found
