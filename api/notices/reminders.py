"""What nobody does, but time brings: a statement that stays unpaid, a certificate or a training that runs out. Chores
of the worker.

Each is recorded in the host's audit chain when it comes about, once, and so told as any other event (concerns.py).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from api.booking.qualification import current
from api.charging.ageing import bucket_of
from api.charging.settled import is_reversed, settled_of
from api.work import Work
from store.tables.accounts import Person
from store.tables.audit import AuditEvent
from store.tables.booking_rules import QualificationEvent, QualificationState
from store.tables.charging import Charge, Statement, StatementLine, StatementState
from store.tables.registry import Certificate, Instrument, RunStatus
from wire.clock import to_ms

OVERDUE = "statement.overdue"
EXPIRING = "certificate.expiring"
QUALIFICATION_EXPIRING = "qualification.expiring"
OVERDUE_AFTER = timedelta(days=31)
"""The first day that the ageing of debts does not count to its first bucket any more."""
EXPIRES_WITHIN = (timedelta(days=30), timedelta(days=7))
"""How long before something ends it is told, each time once."""
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
    """Record each certificate of an instrument in service that is about to end, once in each of EXPIRES_WITHIN, unless
    another one is valid when it ends."""
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
            Certificate.valid_to <= work.now + EXPIRES_WITHIN[0],
            Instrument.run_status != RunStatus.RETIRED.value,
            ~followed.exists(),
        )
        .order_by(Instrument.host_id, Certificate.certificate_id)
    )
    ending = [
        _Ending(f"certificate:{row.certificate_id}", host_id, row.valid_to, row.recorded_at, {"number": row.number})
        for row, host_id in rows
    ]
    _warn(work, EXPIRING, "valid_to_ms", ending)


def warn_of_qualifications(work: Work) -> None:
    """Record each qualification of an active person on an instrument in service that is about to end, once in each of
    EXPIRES_WITHIN. A newer word on it (granted again, revoked) is what counts; one that was granted for less than that
    is not news to anybody."""
    rows = work.session.execute(
        current(None, None, None)
        .add_columns(Instrument.host_id)
        .join(Instrument, Instrument.instrument_id == QualificationEvent.instrument_id)
        .join(Person, Person.person_id == QualificationEvent.person_id)
        .where(
            QualificationEvent.state == QualificationState.GRANTED.value,
            QualificationEvent.expires_at > work.now,
            QualificationEvent.expires_at <= work.now + EXPIRES_WITHIN[0],
            Instrument.run_status != RunStatus.RETIRED.value,
            Person.active,
        )
        .order_by(Instrument.host_id, QualificationEvent.event_id)
    )
    ending = [
        _Ending(
            f"qualification:{row.event_id}",
            host_id,
            row.expires_at,
            row.recorded_at,
            {"instrument": row.instrument_id, "person": row.person_id},
        )
        for row, host_id in rows
    ]
    _warn(work, QUALIFICATION_EXPIRING, "expires_at_ms", ending)


@dataclass(frozen=True)
class _Ending:
    """What ends at `at`, was said at `since`, and is told as `says`."""

    subject: str
    host_id: str
    at: datetime
    since: datetime
    says: dict[str, Any]


def _warn(work: Work, action: str, name: str, ending: Sequence[_Ending]) -> None:
    """Record what ends soon, once in each of EXPIRES_WITHIN that it did not begin in; `name` is that of its end."""
    told = _told(work.session, action, [one.subject for one in ending])
    for one in ending:
        within = min(window for window in EXPIRES_WITHIN if one.at - work.now <= window)
        # What was recorded before there were two warnings has no days: it was the first.
        said = {before.get("days", EXPIRES_WITHIN[0].days) for before in told.get(one.subject, ())}
        if within.days not in said and one.at - one.since > within:
            after = one.says | {name: to_ms(one.at), "days": within.days}
            work.audit(action, one.subject, host_id=one.host_id, after=after)


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
