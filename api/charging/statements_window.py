"""The dispute window of a statement: how many days a host's payers have, and showing a draft to its payer.

A draft that is issued is visible to its payer, who may object until the window ends; only then it can become final.
Without issuing, a statement becomes final at once and the same window runs afterwards: nobody has fewer days.
"""

from datetime import datetime, timedelta

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from api.charging.access import require_host_role
from api.charging.repository import take_statement
from api.errors import conflict, invalid, not_found
from api.work import Work
from store.tables.accounts import Role
from store.tables.charging import Statement, StatementState
from store.tables.disputes import BillingTerms
from store.tables.registry import Host
from store.types import UtcDateTime
from store.upsert import insert_if_absent

DEFAULT_DISPUTE_DAYS = 7
DISPUTE_DAYS_MAX = 60
ISSUERS = (Role.FINANCE,)
_DISPUTE_DAYS = (
    select(BillingTerms.dispute_days)
    .where(BillingTerms.host_id == bindparam("host"), BillingTerms.valid_from <= bindparam("at", type_=UtcDateTime))
    .order_by(BillingTerms.valid_from.desc())
    .limit(1)
)


def dispute_days(session: Session, host_id: str, at: datetime) -> int:
    """Return for how many days payers of this host may object to what is issued (or made final) at an instant."""
    found = session.execute(_DISPUTE_DAYS, {"host": host_id, "at": at}).scalar_one_or_none()
    return DEFAULT_DISPUTE_DAYS if found is None else found


def set_dispute_days(work: Work, host_id: str, days: int, valid_from: datetime) -> BillingTerms:
    """Set the days from an instant on, not before now. Statements that were issued keep theirs.

    Refused: 403, 404, 409 `terms_not_later`, 422 `bad_days`.
    """
    work.require((Role.COUNTY_OFFICER, Role.FINANCE), "设置异议期", "set the dispute window")
    if work.session.get(Host, host_id) is None:
        raise not_found("依托单位", "host", host_id)
    if not 0 <= days <= DISPUTE_DAYS_MAX:
        raise invalid(
            "bad_days",
            f"请填写异议期:0 至 {DISPUTE_DAYS_MAX} 天。",
            f"Give the window in days: 0 to {DISPUTE_DAYS_MAX} days.",
            field="dispute_days",
        )
    last = work.session.execute(
        select(func.max(BillingTerms.valid_from), func.max(BillingTerms.terms_no)).where(
            BillingTerms.host_id == host_id
        )
    ).one()
    row = {
        "host_id": host_id,
        "terms_no": int(last[1] or 0) + 1,
        "valid_from": valid_from,
        "dispute_days": days,
        "set_by": work.actor.person_id,
        "set_at": work.now,
    }
    earlier = valid_from < work.now or (last[0] is not None and valid_from <= last[0])
    if earlier or not insert_if_absent(work.session, BillingTerms, row):
        raise conflict(
            "terms_not_later",
            "生效时间须晚于现在和已有的设置;请改为更晚的时间。",
            "They begin later than now and than what is set already; choose a later time.",
            field="valid_from",
        )
    work.audit("billing_terms.set", f"host:{host_id}", host_id=host_id, after={"dispute_days": days})
    return work.session.get_one(BillingTerms, (host_id, row["terms_no"]))


def issue_statement(work: Work, statement_id: str) -> Statement:
    """Show a draft to its payer and start the dispute window. Issued again, it keeps its window.

    Refused: 403, 404, 409 `not_a_draft`.
    """
    statement = take_statement(work.session, statement_id)
    require_host_role(work, statement.host_id, ISSUERS, "发出结算单", "issue statements")
    if statement.state != StatementState.DRAFT.value:
        raise conflict(
            "not_a_draft",
            f"结算单 {statement.number} 已定稿;请刷新后查看。",
            f"Statement {statement.number} is final already; read it again.",
            number=statement.number,
        )
    if statement.issued_at is None:
        days = dispute_days(work.session, statement.host_id, work.now)
        statement.issued_at, statement.dispute_until = work.now, work.now + timedelta(days=days)
        work.session.flush()
        work.audit(
            "statement.issued",
            f"statement:{statement_id}",
            host_id=statement.host_id,
            after={"total_fen": statement.total_fen, "content_sha256": statement.content_sha256, "days": days},
        )
    return statement
