"""Numbers of tax invoices on final statements: recorded, never edited. The host's own system issues the invoices."""

from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.charging.access import require_host_role
from api.charging.invoiceable import not_invoiced_fen, statements_taken_back
from api.charging.payments import require_final
from api.charging.statements import BILLERS, take_statement
from api.errors import Refused, conflict, invalid
from api.work import Work
from store.money import yuan
from store.tables.charging import Invoice, InvoiceKind, Statement
from store.upsert import insert_if_absent
from wire.clock import from_ms, to_ms


def record_invoice(
    work: Work,
    statement_id: str,
    invoice_no: str,
    kind: InvoiceKind,
    issued_at: datetime,
    reverses: str | None = None,
    amount_fen: int | None = None,
) -> Invoice:
    """Record the number of a tax invoice. A blue one takes what stands on the statement (charges that nobody took back)
    and is not invoiced yet, or the smaller amount given; a red one takes back what is left of one blue invoice of the
    same statement, or the part given as a positive amount (several red ones may take back a blue one in parts). It is
    stored with a negative amount.

    Refused: 403, 404, 409 `statement_not_final`, 409 `invoice_already_recorded` (a number is used once, ever), 409
    `more_than_invoiceable`, 409 `red_invoice_missing` (what was taken back here still has its blue one elsewhere), 409
    `invoice_already_reversed`, 422 `bad_invoice_no`, `bad_reversal`, `bad_amount`.
    """
    statement = take_statement(work.session, statement_id)
    require_host_role(work, statement.host_id, BILLERS, "登记发票", "record invoices")
    require_final(statement)
    if len(invoice_no) != 20 or not (invoice_no.isascii() and invoice_no.isdigit()):
        raise invalid(
            "bad_invoice_no",
            "发票号码应为 20 位数字;请核对。",
            "An invoice number has 20 digits; check it.",
            field="invoice_no",
        )
    if kind is InvoiceKind.RED:
        left = _left_to_reverse(work.session, statement_id, reverses)
        if amount_fen is not None and not (0 < amount_fen <= left or amount_fen == -left):
            raise _bad_amount()
        amount = -left if amount_fen is None else -abs(amount_fen)
    else:
        if reverses is not None:
            raise _bad_reversal()
        amount = _blue_amount(work.session, statement, amount_fen)
    row = {
        "invoice_no": invoice_no,
        "statement_id": statement_id,
        "kind": kind.value,
        "reverses": reverses,
        "amount_fen": amount,
        "issued_at": from_ms(to_ms(issued_at)),
        "recorded_by": work.actor.person_id,
        "recorded_at": work.now,
    }
    if not insert_if_absent(work.session, Invoice, row):
        raise conflict(
            "invoice_already_recorded",
            f"发票号码 {invoice_no} 已登记;一个号码只能使用一次;请核对号码。",
            f"Invoice {invoice_no} has been recorded; a number is used once, so check it; correct the number.",
            invoice_no=invoice_no,
        )
    work.audit(
        "invoice.recorded",
        f"statement:{statement_id}",
        host_id=statement.host_id,
        after={"invoice_no": invoice_no, "kind": kind.value, "reverses": reverses, "amount_fen": amount},
    )
    return work.session.get_one(Invoice, invoice_no)


def _blue_amount(session: Session, statement: Statement, given_fen: int | None) -> int:
    """What stands on a statement is invoiced, whatever is taken back beside it: that takes a red invoice where it was
    invoiced, and until then nothing takes its place."""
    left = not_invoiced_fen(session, statement.statement_id)
    amount = left if given_fen is None else given_fen
    if amount > left or left <= 0:
        raise conflict(
            "more_than_invoiceable",
            f"请更正金额,可开票金额为 {yuan(max(left, 0))} 元。",
            f"{yuan(max(left, 0))} yuan of this statement are not invoiced yet; correct the amount.",
            left_fen=left,
        )
    others = statements_taken_back(session, statement.statement_id)
    too_much = {one: fen for one in others if (fen := -not_invoiced_fen(session, one)) > 0}
    if amount > left - sum(too_much.values()):
        first = session.get_one(Statement, next(iter(too_much)))
        raise conflict(
            "red_invoice_missing",
            f"结算单 {first.number} 上已冲销的收费仍有蓝字发票;请先在该结算单登记红字发票。",
            f"Statement {first.number} has invoices of charges taken back here; record their red invoices first.",
            statement=first.number,
        )
    if amount <= 0:
        raise _bad_amount()
    return amount


def _left_to_reverse(session: Session, statement_id: str, reverses: str | None) -> int:
    """Return what of a blue invoice no red one took back yet, in fen."""
    blue = None if reverses is None else session.get(Invoice, reverses)
    if blue is None or blue.kind != InvoiceKind.BLUE.value or blue.statement_id != statement_id:
        raise _bad_reversal()
    taken = session.execute(
        select(func.coalesce(func.sum(Invoice.amount_fen), 0)).where(Invoice.reverses == blue.invoice_no)
    ).scalar_one()
    left = blue.amount_fen + int(taken)
    if left <= 0:
        raise conflict(
            "invoice_already_reversed",
            f"发票 {blue.invoice_no} 已全部红冲;请核对被冲销号码。",
            f"Invoice {blue.invoice_no} was taken back as a whole before; check the number.",
            invoice_no=blue.invoice_no,
        )
    return left


def _bad_reversal() -> Refused:
    return invalid(
        "bad_reversal",
        "红字发票须冲销同一结算单的一张蓝字发票;蓝字发票不能填写被冲销号码;请更正。",
        "A red invoice names one blue invoice of the same statement; a blue one names none; correct the number.",
        field="reverses",
    )


def _bad_amount() -> Refused:
    return invalid(
        "bad_amount",
        "金额须大于零;红字发票金额不得超过被冲销发票的剩余金额;请更正金额。",
        "The amount must be above zero, and a red invoice takes back no more than is left of the blue one;"
        " correct the amount.",
        field="amount_fen",
    )
