"""What one payer owes one host for one month of posting: drafts that collect charges, final statements that stand.

A charge is billed once, in the month it was posted into. A later batch of the same month is the next part. Final
statements are numbered without gaps within a host and year, in the transaction that makes them final, and never
change; what was billed wrongly comes back as a reversal on a later part, a credit note where the total is negative.
"""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Select, bindparam, delete, func, select, update
from sqlalchemy.orm import Session, aliased

from api.charging.access import require_host_role
from api.charging.closing import close_if_settled
from api.charging.documents import StatementHead, StatementItem, statement_document
from api.charging.months import take_month_alone
from api.charging.repository import take_booking, take_statement
from api.charging.settled import is_reversed
from api.charging.statements_window import dispute_days
from api.charging.waiting import correction_waits, dispute_is_open
from api.errors import conflict, invalid, not_found
from api.schemas import rfc3339
from api.work import Work
from store.canonical import sha256_hex
from store.periods import SHANGHAI, check_month
from store.tables.accounts import Role
from store.tables.charging import Charge, NumberSeries, Statement, StatementKind, StatementLine, StatementState
from store.tables.disputes import Correction, Dispute
from store.tables.registry import Host, Org
from store.upsert import insert_if_absent
from wire.clock import to_ms
from wire.ids import new_ulid

__all__ = [
    "BILLERS",
    "finalize_statement",
    "head_of",
    "home_charges",
    "prepare_statement",
    "statement_items",
    "take_statement",
]

BILLERS = (Role.FINANCE,)

# Put together once: building a statement costs more than the database's answer to it.
_OF_PAYER = (
    Statement.host_id == bindparam("host"),
    Statement.payer_org == bindparam("payer"),
    Statement.month == bindparam("month"),
)
# Locked: whoever issues or finalises it at this moment is waited for, and what became of it is seen.
_DRAFT = (
    select(Statement)
    .where(*_OF_PAYER, Statement.state == StatementState.DRAFT.value)
    .with_for_update()
    .execution_options(populate_existing=True)
)
_LAST_PART = select(func.coalesce(func.max(Statement.part), 0)).where(*_OF_PAYER)
_ITEMS = (
    select(Charge.charge_id, Charge.row_hash, StatementLine.amount_fen, Charge.net_fen)
    .join(Charge, Charge.charge_id == StatementLine.charge_id)
    .where(StatementLine.statement_id == bindparam("statement_id"))
    .order_by(StatementLine.line_no)
)
_UNBILLED = select(
    Charge.charge_id, Charge.row_hash, Charge.total_fen, Charge.net_fen, Charge.service_at, Charge.revision
).where(
    Charge.host_id == bindparam("host"),
    Charge.payer_org == bindparam("payer"),
    Charge.posting_month == bindparam("month"),
    ~select(StatementLine.charge_id).where(StatementLine.charge_id == Charge.charge_id).exists(),
)
_ON_IT = select(StatementLine.charge_id).where(StatementLine.statement_id == bindparam("statement_id"))
_QUARRELS = (
    select(Dispute.charge_id).where(Dispute.charge_id.in_(_ON_IT), dispute_is_open()),
    select(Correction.charge_id).where(Correction.charge_id.in_(_ON_IT), correction_waits()),
)
_NEXT_NUMBER = (
    update(NumberSeries)
    .where(NumberSeries.series == bindparam("of"))
    .values(last_no=NumberSeries.last_no + 1)
    .returning(NumberSeries.last_no)
    .execution_options(synchronize_session=False)
)


def prepare_statement(work: Work, host_id: str, payer_org: str, month: int) -> Statement:
    """Return the draft with every charge of that posting month that is on no final statement; makes or refreshes it.

    Refused: 403, 404 unknown host or payer, 409 `nothing_to_bill`, 422 `bad_month`.
    """
    require_host_role(work, host_id, BILLERS, "编制结算单", "prepare statements")
    _check_parties(work.session, host_id, payer_org, month)
    take_month_alone(work.session, host_id, month)
    asked = {"host": host_id, "payer": payer_org, "month": month}
    draft = work.session.execute(_DRAFT, asked).scalar_one_or_none()
    before = [] if draft is None else statement_items(work.session, draft.statement_id)
    if draft is not None:
        work.session.execute(delete(StatementLine).where(StatementLine.statement_id == draft.statement_id))
    items = _unbilled(work.session, asked)
    if not items:
        raise conflict(
            "nothing_to_bill",
            f"{payer_org} 在 {month} 月没有未结算的收费;请核对单位和月份。",
            f"{payer_org} has no unbilled charge, check firm and month: host {host_id} in {month}.",
            host_id=host_id,
            payer_org=payer_org,
            month=month,
        )
    total = sum(item.amount_fen for item in items)
    kind = StatementKind.CREDIT_NOTE if total < 0 else StatementKind.STATEMENT
    statement = draft or Statement(statement_id=new_ulid(), host_id=host_id, payer_org=payer_org, month=month)
    if draft is None:
        statement.part = int(work.session.execute(_LAST_PART, asked).scalar_one()) + 1
    statement.kind, statement.state, statement.number = kind.value, StatementState.DRAFT.value, None
    statement.total_fen, statement.line_count = total, len(items)
    statement.prepared_by, statement.prepared_at = work.actor.person_id, work.now
    statement.finalized_by, statement.finalized_at = None, None
    if items != before:  # the payer has not seen this yet: the window starts when it is issued again
        statement.issued_at, statement.dispute_until = None, None
    statement.content_sha256 = sha256_hex(statement_document(head_of(statement), items))
    work.session.add(statement)
    work.session.flush()
    work.session.add_all(
        StatementLine(
            statement_id=statement.statement_id,
            line_no=number,
            line_count=len(items),
            charge_id=item.charge_id,
            amount_fen=item.amount_fen,
        )
        for number, item in enumerate(items, start=1)
    )
    work.session.flush()
    work.audit(
        "statement.prepared",
        f"statement:{statement.statement_id}",
        host_id=host_id,
        after={"payer_org": payer_org, "month": month, "total_fen": total, "lines": len(items)},
    )
    return statement


def finalize_statement(work: Work, statement_id: str) -> Statement:
    """Make a draft final: it gets its number and its hash and never changes again.

    Refused: 403, 404, 409 `not_a_draft`, 409 `statement_inconsistent` where lines and charges do not agree, 409
    `dispute_window_open` while its payer may still object, 409 `disputed` while a line's dispute or correction waits.
    """
    statement = take_statement(work.session, statement_id)
    require_host_role(work, statement.host_id, BILLERS, "定稿结算单", "make statements final")
    if statement.state != StatementState.DRAFT.value:
        raise conflict(
            "not_a_draft",
            f"结算单 {statement.number} 已定稿;请刷新后查看。",
            f"Statement {statement.number} is final already; read it again.",
            number=statement.number,
        )
    items = statement_items(work.session, statement_id)
    if len(items) != statement.line_count or sum(item.amount_fen for item in items) != statement.total_fen:
        raise conflict(
            "statement_inconsistent",
            "结算单与收费明细不一致;请重新编制。",
            "The draft does not agree with its charges; prepare it again.",
            statement_id=statement_id,
        )
    _require_undisputed(work, statement)
    days = dispute_days(work.session, statement.host_id, work.now)
    statement.number = _next_number(work, statement.host_id)
    statement.state = StatementState.FINAL.value
    statement.finalized_by, statement.finalized_at = work.actor.person_id, work.now
    if statement.dispute_until is None:
        statement.dispute_until = work.now + timedelta(days=days)
    statement.content_sha256 = sha256_hex(statement_document(head_of(statement), items))
    work.session.flush()
    work.audit(
        "statement.finalized",
        f"statement:{statement_id}",
        host_id=statement.host_id,
        after={
            "number": statement.number,
            "total_fen": statement.total_fen,
            "content_sha256": statement.content_sha256,
        },
    )
    _close_what_is_free(work, items)
    return statement


def home_charges(session: Session, statement_id: str) -> list[Charge]:
    """Return the live charges that are paid against this statement, in line order: those whose first revision it bills.

    A charge that was corrected afterwards is paid where it was first billed, by what stands now.
    """
    return list(session.execute(_HOME_CHARGES, {"statement_id": statement_id}).scalars())


def _home_charges() -> Select[Charge]:
    first = aliased(Charge)
    return (
        select(Charge)
        .join(first, (first.booking_id == Charge.booking_id) & (first.purpose == Charge.purpose))
        .join(StatementLine, StatementLine.charge_id == first.charge_id)
        .where(StatementLine.statement_id == bindparam("statement_id"), first.revision == 1)
        .where(Charge.revision % 2 == 1, ~is_reversed())
        .order_by(StatementLine.line_no)
    )


_HOME_CHARGES = _home_charges()


def statement_items(session: Session, statement_id: str) -> list[StatementItem]:
    """Return the lines of a statement in their order, with what the charges say."""
    return [StatementItem(*row) for row in session.execute(_ITEMS, {"statement_id": statement_id})]


def head_of(statement: Statement) -> StatementHead:
    """Return what is hashed of a statement besides its lines."""
    return StatementHead(
        statement.statement_id,
        statement.host_id,
        statement.payer_org,
        statement.month,
        statement.kind,
        statement.part,
        statement.number,
        statement.finalized_by,
        None if statement.finalized_at is None else to_ms(statement.finalized_at),
    )


def _check_parties(session: Session, host_id: str, payer_org: str, month: int) -> None:
    try:
        check_month(month)
    except ValueError as error:
        raise invalid("bad_month", f"{month} 不是月份;请写成 202611。", f"{error}.", field="month") from None
    if session.get(Host, host_id) is None:
        raise not_found("依托单位", "host", host_id)
    if session.get(Org, payer_org) is None:
        raise not_found("单位", "organisation", payer_org)


def _unbilled(session: Session, asked: dict[str, object]) -> list[StatementItem]:
    rows = session.execute(_UNBILLED, asked).all()
    ordered = sorted(rows, key=lambda row: (row.service_at, row.revision, row.charge_id))
    return [StatementItem(*row[:4]) for row in ordered]


def _next_number(work: Work, host_id: str) -> str:
    """Return the next number of the host in the year (Asia/Shanghai) of the instant; a rollback gives it back."""
    series = f"statement:{host_id}:{work.now.astimezone(SHANGHAI).year}"
    number = work.session.execute(_NEXT_NUMBER, {"of": series}).scalar_one_or_none()
    if number is None:  # once a series
        insert_if_absent(work.session, NumberSeries, {"series": series, "last_no": 0})
        number = work.session.execute(_NEXT_NUMBER, {"of": series}).scalar_one()
    return f"{host_id.upper()}-{work.now.astimezone(SHANGHAI).year}-{number:04d}"


def _require_undisputed(work: Work, statement: Statement) -> None:
    if statement.issued_at is not None and statement.dispute_until is not None and work.now < statement.dispute_until:
        raise conflict(
            "dispute_window_open",
            f"异议期至 {rfc3339(statement.dispute_until)};请在此之后定稿。",
            f"The payer may object until {rfc3339(statement.dispute_until)}; make it final after that.",
            dispute_until=rfc3339(statement.dispute_until),
        )
    asked = {"statement_id": statement.statement_id}
    charges = sorted({found for query in _QUARRELS for found in work.session.execute(query, asked).scalars()})
    if charges:
        raise conflict(
            "disputed",
            f"有 {len(charges)} 笔收费存在未办结的异议或更正,不能定稿;请先处理。",
            f"{len(charges)} charges are disputed or have a correction that waits; decide those first.",
            charges=charges,
        )


def _close_what_is_free(work: Work, items: Sequence[StatementItem]) -> None:
    """Bookings that cost nothing have nothing to wait for once they are billed."""
    for item in items:
        if item.amount_fen == 0:
            charge = work.session.get_one(Charge, item.charge_id)
            close_if_settled(work, take_booking(work.session, charge.booking_id))
