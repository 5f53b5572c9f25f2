"""Rows of money against the audit chains, where each of them was named when it was recorded: what stands there and was
never recorded, what was recorded otherwise, what is gone.

The other checks ask whether rows agree with each other; whoever writes all of them alike has to forge a chain for this.
"""

import json
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from sqlalchemy import Row, and_, exists, func, literal, or_, select
from sqlalchemy.orm import Session, aliased

from api.verify.finding import Check, Finding
from store.tables.audit import AuditEvent
from store.tables.charging import Charge, Invoice, Payment, Statement, StatementState
from store.tables.disputes import CreditEntry, CreditKind
from store.tables.reward_steps import RewardPayment
from store.tables.rewards import RewardRun

_POSTED, _REVERSED = "charge.posted", "charge.reversed"
_FINALIZED, _PREPARED = "statement.finalized", "reward_run.prepared"
_CREDITS = {
    "settlement.released": CreditKind.RELEASE.value,
    "credit.applied": CreditKind.APPLY.value,
    "credit.refunded": CreditKind.REFUND.value,
}
_INVOICED, _PAID, _REWARDED = "invoice.recorded", "payment.recorded", "reward_payment.recorded"
_AT_ONCE = {"yield_per": 1000}


def charges(month: int | None = None) -> Check:
    """Return the check of the charges posted into a month (yyyymm; all of them, where it is None): each stands in its
    host's chain with its hash, a reversal with what it takes back; and all that stand there are still there."""

    def check(session: Session) -> Iterator[Finding]:
        for rows in (_posted(), _reversals()):
            of_month = rows if month is None else rows.where(Charge.posting_month == month)
            for row in session.execute(of_month, execution_options=_AT_ONCE):
                wrong = _charge_differs(row)
                if wrong:
                    yield Finding("charge", row.charge_id, wrong)
        if month is None:
            yield from _charges_gone(session)

    return check


def statements(session: Session) -> Iterator[Finding]:
    """Every final statement stands in its host's chain with number, sum and hash; and none is gone."""
    named = and_(
        AuditEvent.action == _FINALIZED, AuditEvent.subject == literal("statement:").concat(Statement.statement_id)
    )
    rows = session.execute(
        select(Statement.statement_id, Statement.number, Statement.total_fen, Statement.content_sha256, AuditEvent.body)
        .outerjoin(AuditEvent, named)
        .where(Statement.state == StatementState.FINAL.value)
        .order_by(Statement.statement_id)
    )
    for row in rows:
        key, said = row.number or row.statement_id, _after(row.body)
        fields = ("number", "total_fen", "content_sha256")
        if [said.get(name) for name in fields] != [getattr(row, name) for name in fields]:
            yield Finding("statement", key, _says(said, "number, sum and hash"))
    there = exists().where(
        Statement.statement_id == func.substr(AuditEvent.subject, len("statement:") + 1),
        Statement.state == StatementState.FINAL.value,
    )
    gone = select(AuditEvent.subject).where(AuditEvent.action == _FINALIZED, ~there).order_by(AuditEvent.subject)
    for subject in session.execute(gone).scalars():
        yield Finding("statement", subject.removeprefix("statement:"), "it became final and is not there")


def money(session: Session) -> Iterator[Finding]:
    """Invoices, payments, credit and what the county paid are what their chains say, row for row."""
    said = _said_of_money(session)
    paid = (Payment.statement_id, Payment.tender, Payment.amount_fen, Payment.external_ref)
    invoiced = (Invoice.statement_id, Invoice.kind, Invoice.reverses, Invoice.amount_fen)
    transfer = (RewardPayment.run_id, RewardPayment.host_id, RewardPayment.external_ref)
    # By kind and charge; a refund is of a payment.
    credit = (CreditEntry.kind, func.coalesce(CreditEntry.charge_id, CreditEntry.payment_id))
    stored: dict[str, dict[Hashable, Any]] = {
        "invoice": {no: tuple(rest) for no, *rest in session.execute(select(Invoice.invoice_no, *invoiced))},
        "payment": {one: tuple(rest) for one, *rest in session.execute(select(Payment.payment_id, *paid))},
        "credit_entry": {
            tuple(key): int(fen)
            for *key, fen in session.execute(select(*credit, func.sum(CreditEntry.amount_fen)).group_by(*credit))
        },
        "reward_payment": {
            tuple(key): fen for *key, fen in session.execute(select(*transfer, RewardPayment.amount_fen))
        },
    }
    for table, rows in stored.items():
        for key in sorted({*rows, *said[table]}, key=str):
            if rows.get(key) != said[table].get(key):
                shown = "/".join(key) if isinstance(key, tuple) else str(key)
                there, chain = rows.get(key, "nothing"), said[table].get(key, "nothing")
                yield Finding(table, shown, f"{there} is there, {chain} was recorded")


def runs(run_id: str | None = None) -> Check:
    """Return the check of one reward run, or of all: the county's chain names its inputs, its result and its sum."""

    def check(session: Session) -> Iterator[Finding]:
        named = and_(
            AuditEvent.action == _PREPARED, AuditEvent.subject == literal("reward_run:").concat(RewardRun.run_id)
        )
        fields = ("input_sha256", "result_sha256", "payable_fen")
        rows = (
            select(RewardRun.run_id, *(getattr(RewardRun, name) for name in fields), AuditEvent.body)
            .outerjoin(AuditEvent, named)
            .order_by(RewardRun.run_id)
        )
        for row in session.execute(rows if run_id is None else rows.where(RewardRun.run_id == run_id)):
            said = _after(row.body)
            if [said.get(name) for name in fields] != [getattr(row, name) for name in fields]:
                yield Finding("reward_run", row.run_id, _says(said, "inputs, result and sum"))

    return check


_CHARGE = (Charge.charge_id, Charge.revision, Charge.row_hash, Charge.total_fen, AuditEvent.body)


def _posted() -> Any:
    named = and_(AuditEvent.action == _POSTED, AuditEvent.subject == literal("charge:").concat(Charge.charge_id))
    return select(*_CHARGE).outerjoin(AuditEvent, named).where(Charge.revision % 2 == 1).order_by(Charge.charge_id)


def _reversals() -> Any:
    """What takes a charge back stands in the chain under that charge."""
    before = aliased(Charge)
    previous = and_(
        before.booking_id == Charge.booking_id,
        before.purpose == Charge.purpose,
        before.revision == Charge.prev_revision,
    )
    named = and_(AuditEvent.action == _REVERSED, AuditEvent.subject == literal("charge:").concat(before.charge_id))
    joined = select(*_CHARGE).outerjoin(before, previous).outerjoin(AuditEvent, named)
    return joined.where(Charge.revision % 2 == 0).order_by(Charge.charge_id)


def _charge_differs(row: Row[Any]) -> str:
    said = _after(row.body)
    if row.revision % 2:
        return "" if said.get("row_hash") == row.row_hash else _says(said, "hash")
    # What was reversed before the hash was named there too is known by its id and amount.
    wanted = (row.charge_id, row.total_fen, said.get("row_hash", row.row_hash))
    return "" if wanted == (said.get("reversal"), said.get("total_fen"), row.row_hash) else _says(said, "reversal")


def _charges_gone(session: Session) -> Iterator[Finding]:
    original, reversal = aliased(Charge), aliased(Charge)
    of_subject = original.charge_id == func.substr(AuditEvent.subject, len("charge:") + 1)
    taken_back = and_(
        reversal.booking_id == original.booking_id,
        reversal.purpose == original.purpose,
        reversal.prev_revision == original.revision,
    )
    gone = (
        select(AuditEvent.action, AuditEvent.subject)
        .outerjoin(original, of_subject)
        .outerjoin(reversal, and_(taken_back, AuditEvent.action == _REVERSED))
        .where(
            or_(
                and_(AuditEvent.action == _POSTED, original.charge_id.is_(None)),
                and_(AuditEvent.action == _REVERSED, reversal.charge_id.is_(None)),
            )
        )
        .order_by(AuditEvent.subject)
    )
    for action, subject in session.execute(gone):
        what = "it was posted and is not there" if action == _POSTED else "its reversal was posted and is not there"
        yield Finding("charge", subject.removeprefix("charge:"), what)


def _said_of_money(session: Session) -> dict[str, dict[Hashable, Any]]:
    said: dict[str, dict[Hashable, Any]] = defaultdict(dict)
    rows = session.execute(
        select(AuditEvent.chain_id, AuditEvent.action, AuditEvent.subject, AuditEvent.body)
        .where(AuditEvent.action.in_((_INVOICED, _PAID, _REWARDED, *_CREDITS)))
        .order_by(AuditEvent.chain_id, AuditEvent.seq),
        execution_options=_AT_ONCE,
    )
    for chain_id, action, subject, body in rows:
        after, of = _after(body), subject.partition(":")[2]
        if action == _INVOICED:
            said["invoice"][after["invoice_no"]] = (of, after["kind"], after["reverses"], after["amount_fen"])
        elif action == _PAID:
            said["payment"][after["payment_id"]] = (of, after["tender"], after["amount_fen"], after["external_ref"])
        elif action == _REWARDED:
            key = (of, chain_id.removeprefix("host:"), after["external_ref"])
            said["reward_payment"][key] = after["amount_fen"]
        else:  # several of one kind add up
            moved = said["credit_entry"]
            moved[_CREDITS[action], of] = moved.get((_CREDITS[action], of), 0) + after["amount_fen"]
    return said


def _after(body: bytes | None) -> Mapping[str, Any]:
    """What an event says became so; nothing where there is no event."""
    said: Mapping[str, Any] = {} if body is None else json.loads(body)["after"]
    return said


def _says(said: Mapping[str, Any], what: str) -> str:
    return f"the audit chain names another {what}" if said else "the audit chain does not name it"
