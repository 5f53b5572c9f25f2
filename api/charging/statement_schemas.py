"""What the endpoints of statements, invoices and payments take and give."""

from typing import Annotated

from pydantic import Field

from api.schemas import Answer, Fen, Instant, Question
from store.tables.charging import InvoiceKind, Statement, StatementLine, Tender


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
    finalized_at: Instant | None


class StatementLineAnswer(Answer):
    """A charge on a statement."""

    line_no: int
    charge_id: str
    amount_fen: Fen


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
        lines: list[StatementLine],
        invoices: list[InvoiceAnswer],
        payments: list[PaymentAnswer],
    ) -> "StatementWhole":
        return StatementWhole(
            **dict(StatementAnswer.model_validate(statement)),
            open_fen=open_fen,
            lines=[StatementLineAnswer.model_validate(line) for line in lines],
            invoices=invoices,
            payments=payments,
        )


class InvoiceAsked(Question):
    """A tax invoice of the host's own system. Without an amount a blue one takes what is not invoiced yet."""

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
