"""SQL of charging that several services share. Decides nothing."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, bindparam, literal, or_, select
from sqlalchemy.orm import Session

from api.charging.access import visible_to
from api.errors import not_found
from api.work import Actor, Work
from store.tables.calendar import Booking
from store.tables.charging import (
    Charge,
    ChargeLine,
    ChargePurpose,
    Invoice,
    Payment,
    Statement,
    StatementLine,
    StatementState,
)
from store.upsert import insert_if_absent

# Put together once: building a statement costs more than the database's answer to it.
_BOOKING_ALONE = (
    select(Booking)
    .where(Booking.booking_id == bindparam("booking"))
    .with_for_update()
    .execution_options(populate_existing=True)
)
_LAST_CHARGE = (
    select(Charge)
    .where(Charge.booking_id == bindparam("booking"), Charge.purpose == bindparam("purpose"))
    .order_by(Charge.revision.desc())
    .limit(1)
)
_STATEMENT_ALONE = (
    select(Statement)
    .where(Statement.statement_id == bindparam("statement"))
    .with_for_update()
    .execution_options(populate_existing=True)
)


def take_booking(session: Session, booking_id: str) -> Booking:
    """Return the booking, locked: attempts on one booking queue up."""
    booking = session.execute(_BOOKING_ALONE, {"booking": booking_id}).scalar_one_or_none()
    if booking is None:
        raise not_found("预约", "booking", booking_id)
    return booking


def last_charge(session: Session, booking_id: str, purpose: str = ChargePurpose.USE.value) -> Charge | None:
    """Return the newest revision of a booking's charge: odd is live, even is reversed, None was never charged."""
    return session.execute(_LAST_CHARGE, {"booking": booking_id, "purpose": purpose}).scalar_one_or_none()


def last_charge_before(session: Session, reversal: Charge) -> str:
    """Return the id of the charge that a reversal took back."""
    return session.execute(
        select(Charge.charge_id).where(
            Charge.booking_id == reversal.booking_id,
            Charge.purpose == reversal.purpose,
            Charge.revision == reversal.prev_revision,
        )
    ).scalar_one()


def take_statement(session: Session, statement_id: str) -> Statement:
    """Return a statement, locked. Refused 404."""
    statement = session.execute(_STATEMENT_ALONE, {"statement": statement_id}).scalar_one_or_none()
    if statement is None:
        raise not_found("结算单", "statement", statement_id)
    return statement


def column_values(row: Charge) -> dict[str, Any]:
    """Return a charge as column -> value."""
    return {column.key: getattr(row, column.key) for column in Charge.__mapper__.column_attrs}


def store_charge(session: Session, charge: Charge, lines: list[ChargeLine]) -> bool:
    """Insert header and lines; False where the header's key is taken."""
    if not insert_if_absent(session, Charge, column_values(charge)):
        return False
    session.add_all(lines)
    session.flush()
    return True


@dataclass(frozen=True)
class StatementParts:
    """A statement and everything that hangs on it."""

    statement: Statement
    lines: list[tuple[StatementLine, Charge]]
    invoices: list[Invoice]
    payments: list[Payment]


def charges_seen(
    actor: Actor,
    *,
    host_id: str | None = None,
    payer_org: str | None = None,
    booking_id: str | None = None,
    posting_month: int | None = None,
) -> Select[Charge]:
    """Return the selection of charges an actor may see, reversals too; None: whatever it is."""
    seen = select(Charge).where(visible_to(actor, Charge.host_id.expression, Charge.payer_org.expression))
    asked = (
        (Charge.host_id, host_id),
        (Charge.payer_org, payer_org),
        (Charge.booking_id, booking_id),
        (Charge.posting_month, posting_month),
    )
    return seen.where(*(column == value for column, value in asked if value is not None))


def statement_seen(
    actor: Actor,
    *,
    host_id: str | None = None,
    payer_org: str | None = None,
    month: int | None = None,
    state: StatementState | None = None,
) -> Select[Statement]:
    """Return the statements an actor may see: a payer sees its own once they are issued or final. None: whatever."""
    visible = visible_to(actor, Statement.host_id.expression, Statement.payer_org.expression)
    host_side = visible_to(actor, Statement.host_id.expression, literal(None))
    shown = or_(Statement.state == StatementState.FINAL.value, Statement.issued_at.is_not(None))
    seen = select(Statement).where(visible, or_(shown, host_side))
    asked = (
        (Statement.host_id, host_id),
        (Statement.payer_org, payer_org),
        (Statement.month, month),
        (Statement.state, None if state is None else state.value),
    )
    return seen.where(*(column == value for column, value in asked if value is not None))


def statement_parts(work: Work, statement_id: str) -> StatementParts:
    """Return a statement that the actor may see, with its parts. Refused 404 otherwise."""
    found = work.session.scalars(statement_seen(work.actor).where(Statement.statement_id == statement_id)).one_or_none()
    if found is None:
        raise not_found("结算单", "statement", statement_id)
    lines = (
        select(StatementLine, Charge)
        .join(Charge, Charge.charge_id == StatementLine.charge_id)
        .where(StatementLine.statement_id == statement_id)
        .order_by(StatementLine.line_no)
    )
    invoices = select(Invoice).where(Invoice.statement_id == statement_id).order_by(Invoice.invoice_no)
    payments = select(Payment).where(Payment.statement_id == statement_id).order_by(Payment.payment_id)
    return StatementParts(
        found,
        [(row[0], row[1]) for row in work.session.execute(lines)],
        list(work.session.scalars(invoices)),
        list(work.session.scalars(payments)),
    )
