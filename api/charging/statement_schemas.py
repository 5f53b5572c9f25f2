"""What the endpoints of statements, invoices and payments take and give."""

from typing import Annotated

from pydantic import Field

from api.charging.statement_files import is_late
from api.schemas import Answer, Fen, Instant, Question
from store.tables.charging import Charge, InvoiceKind, Statement, StatementLine, Tender


class StatementAsked(Question):
    """Whose charges of which month of posting (yyyymm, Asia/Shanghai) to collect."""

    host_id: Annotated[str, Field(max_length=64)]
    payer_org: Annotated[str, Field(max_length=64)]
    month: Annotated[int, Field(ge=200_001, le=299_912)]


class StatementAnswer(Answer):
    """The header of a statement; a credit note is one with a negative total. `open_fen` may still be paid."""

    statement_id: str
    host_id: str
    payer_org: str
    month: int
    kind: str
    part: int
    state: str
    number: str | None
    total_fen: Fen
    line_count: int
    content_sha256: str
    prepared_at: Instant
    issued_at: Instant | None
    dispute_until: Instant | None
    finalized_at: Instant | None


class StatementLineAnswer(Answer):
    """A charge on a statement. `late`: of a month that was closed already when it was posted."""

    line_no: int
    charge_id: str
    amount_fen: Fen
    service_month: int
    revision: int
    late: bool


class PaymentAnswer(Answer):
    """A payment that was recorded."""

    payment_id: str
    statement_id: str
    tender: str
    amount_fen: Fen
    external_ref: str
    received_at: Instant


class InvoiceAnswer(Answer):
    """A tax invoice that was recorded; a red one has a negative amount."""

    invoice_no: str
    statement_id: str
    kind: str
    reverses: str | None
    amount_fen: Fen
    issued_at: Instant


class StatementWhole(StatementAnswer):
    """A statement with everything that hangs on it."""

    open_fen: Fen
    lines: list[StatementLineAnswer]
    invoices: list[InvoiceAnswer]
    payments: list[PaymentAnswer]

    @staticmethod
    def whole(
        statement: Statement,
        open_fen: int,
        lines: list[tuple[StatementLine, Charge]],
        invoices: list[InvoiceAnswer],
        payments: list[PaymentAnswer],
    ) -> "StatementWhole":
        return StatementWhole(
            **dict(StatementAnswer.model_validate(statement)),
            open_fen=open_fen,
            lines=[
                StatementLineAnswer(
                    line_no=line.line_no,
                    charge_id=line.charge_id,
                    amount_fen=line.amount_fen,
                    service_month=charge.service_month,
                    revision=charge.revision,
                    late=is_late(charge, statement),
                )
                for line, charge in lines
            ],
            invoices=invoices,
            payments=payments,
        )


class InvoiceAsked(Question):
    """A tax invoice of the host's own system. Without an amount a blue one takes what is not invoiced yet, a red one
    all that is left of the blue one; a part of it is given as a positive amount."""

    invoice_no: Annotated[str, Field(max_length=40)]
    kind: InvoiceKind
    issued_at: Instant
    reverses: Annotated[str, Field(max_length=40)] | None = None
    amount_fen: Fen | None = None


class PaymentAsked(Question):
    """Money or a voucher that was received, by its reference at the bank or the scheme."""

    tender: Tender
    amount_fen: Fen
    external_ref: Annotated[str, Field(max_length=200)]
    received_at: Instant


class CreditUsed(Answer):
    """How much of a statement was settled with credit."""

    settled_fen: Fen


class RefundAsked(Question):
    """Credit of a payment that was paid back, by the reference of the bank."""

    amount_fen: Fen
    external_ref: Annotated[str, Field(max_length=200)]
    reason: Annotated[str, Field(max_length=1000)] = ""


class RefundAnswer(Answer):
    """A refund that was recorded."""

    entry_id: str
    payment_id: str
    amount_fen: Fen
    external_ref: str
    reason: str
    recorded_at: Instant


class AgeingAnswer(Answer):
    """What one payer owes one host: open amounts by days since the statement became final, and unused credit."""

    host_id: str
    payer_org: str
    payer_name_zh: str
    payer_name_en: str
    days_0_30_fen: Fen
    days_31_60_fen: Fen
    days_61_90_fen: Fen
    days_over_90_fen: Fen
    open_fen: Fen
    credit_fen: Fen


class TermsAsked(Question):
    """For how many days payers may object, from an instant on."""

    dispute_days: Annotated[int, Field(ge=0, le=60)]
    valid_from: Instant


class TermsAnswer(Answer):
    """The dispute window of a host's statements from an instant on."""

    host_id: str
    terms_no: int
    valid_from: Instant
    dispute_days: int


class OpenPointAnswer(Answer):
    """Something that must be done before a month can be closed; at most 50 subjects are listed."""

    what: str
    zh: str
    en: str
    count: int
    subjects: list[str]


class ChecklistAnswer(Answer):
    """What is still open for a host's month. It may be closed where nothing is, once it is over."""

    host_id: str
    month: int
    state: str
    open: list[OpenPointAnswer]


class ChainSealAnswer(Answer):
    """One chain as it was sealed: rows, their sum (fen, or milliseconds of use) and hash."""

    chain: str
    row_count: int
    row_sum: int
    sha256: str


class ClosedMonthAnswer(Answer):
    """A month of a host that is locked."""

    host_id: str
    month: int
    already: bool
    charge_count: int
    sum_fen: Fen
    sha256: str
    chains: list[ChainSealAnswer]
