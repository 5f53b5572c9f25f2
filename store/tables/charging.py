"""Prices, charges with their evidence, statements, invoices and payments. Rows of money are never edited:
a correction reverses the whole charge (even revision) and posts a new one (odd revision)."""

import json
from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from store.database import Base
from store.tables.columns import IntegerKey, TextKey, one_of, refers_to, revision_chain


class ChargePurpose(StrEnum):
    """What a charge is for; a booking has one live charge per purpose."""

    USE = "use"
    CANCELLATION = "cancellation"
    NO_SHOW = "no_show"
    MANUAL = "manual"


class Component(StrEnum):
    """What a line of a charge prices."""

    SETUP = "setup"
    TIME = "time"
    SAMPLE = "sample"
    ITEM = "item"
    PACKAGE = "package"
    MINIMUM = "minimum"
    SURCHARGE = "surcharge"
    PREPARATION = "preparation"
    REPORT = "report"
    DISCOUNT = "discount"
    CANCELLATION = "cancellation"
    NO_SHOW = "no_show"
    MANUAL = "manual"


class EvidenceKind(StrEnum):
    """What was frozen beside a charge."""

    SAMPLES = "samples"
    RECORDS = "records"


class StatementKind(StrEnum):
    """A credit note is a statement whose total is negative."""

    STATEMENT = "statement"
    CREDIT_NOTE = "credit_note"


class StatementState(StrEnum):
    """A draft collects; a final statement never changes."""

    DRAFT = "draft"
    FINAL = "final"


class InvoiceKind(StrEnum):
    """A red invoice reverses a blue one."""

    BLUE = "blue"
    RED = "red"


class Tender(StrEnum):
    """With what a statement was settled; a voucher is a tender, never a discount."""

    CASH = "cash"
    VOUCHER = "voucher"
    WAIVER = "waiver"


class PeriodState(StrEnum):
    """A locked month takes no further money rows."""

    OPEN = "open"
    CLOSING = "closing"
    LOCKED = "locked"


class Tariff(Base):
    """The fee schedule of one instrument; its prices are in its versions."""

    __tablename__ = "tariff"
    tariff_id: Mapped[TextKey]
    instrument_id: Mapped[str] = refers_to("instrument.instrument_id", unique=True)
    host_id: Mapped[str] = refers_to("host.host_id", index=True)
    created_at: Mapped[datetime]


class TariffVersion(Base):
    """A whole price list as one canonical document, in force from `valid_from` until the next version's."""

    __tablename__ = "tariff_version"
    tariff_id: Mapped[str] = refers_to("tariff.tariff_id", primary_key=True)
    version: Mapped[IntegerKey]
    valid_from: Mapped[datetime]
    body: Mapped[str]
    body_sha256: Mapped[str]
    prepared_by: Mapped[str] = refers_to("person.person_id")
    approved_by: Mapped[str] = refers_to("person.person_id")
    published_at: Mapped[datetime]
    __table_args__ = (
        UniqueConstraint("tariff_id", "valid_from"),
        CheckConstraint("prepared_by <> approved_by", name="two_people"),
    )


class Charge(Base):
    """The header of a charge. Odd revisions charge, even ones reverse the one before, component for component.

    What a reward run must know and what was true at posting is stored here and never looked up again:
    internal, has_session, coverage_bp, certificate_valid, fee_kind (the purpose).
    """

    __tablename__ = "charge"
    charge_id: Mapped[TextKey]
    booking_id: Mapped[str] = refers_to("booking.booking_id")
    purpose: Mapped[str]
    revision: Mapped[int]
    prev_revision: Mapped[int | None]
    host_id: Mapped[str] = refers_to("host.host_id")
    payer_org: Mapped[str] = refers_to("org.org_id")
    instrument_id: Mapped[str] = refers_to("instrument.instrument_id")
    category: Mapped[str]
    tariff_id: Mapped[str]
    tariff_version: Mapped[int]
    calc_version: Mapped[str]
    input: Mapped[str]
    input_sha256: Mapped[str]
    service_at: Mapped[datetime]
    service_month: Mapped[int]
    posting_month: Mapped[int]
    total_fen: Mapped[int]
    net_fen: Mapped[int]
    line_count: Mapped[int]
    metered_ms: Mapped[int]
    internal: Mapped[bool]
    has_session: Mapped[bool]
    certificate_valid: Mapped[bool]
    coverage_bp: Mapped[int]
    reason: Mapped[str]
    recorded_by: Mapped[str]
    recorded_at: Mapped[datetime]
    row_hash: Mapped[str] = mapped_column(unique=True)
    __table_args__ = (
        one_of("purpose", ChargePurpose),
        *revision_chain(),
        CheckConstraint(
            "(revision % 2 = 1 AND total_fen >= 0) OR (revision % 2 = 0 AND total_fen <= 0 AND reason <> '')",
            name="odd_charges_even_reverses",
        ),
        CheckConstraint("posting_month >= service_month", name="posted_not_before_service"),
        CheckConstraint("coverage_bp >= 0 AND coverage_bp <= 10000", name="coverage_share"),
        UniqueConstraint("booking_id", "purpose", "revision"),
        UniqueConstraint("charge_id", "line_count"),
        ForeignKeyConstraint(
            ["booking_id", "purpose", "prev_revision"],
            ["charge.booking_id", "charge.purpose", "charge.revision"],
            name="fk_charge_prev_revision",
            ondelete="RESTRICT",
        ),
        ForeignKeyConstraint(
            ["tariff_id", "tariff_version"],
            ["tariff_version.tariff_id", "tariff_version.version"],
            name="fk_charge_tariff_version",
            ondelete="RESTRICT",
        ),
        Index(None, "posting_month", "host_id"),
        Index(None, "service_month", "host_id"),
    )

    @property
    def bridged_ms(self) -> int:
        """How much of the metered time are holes that were bridged by rule: its input names them."""
        return sum(hole[-1] for hole in json.loads(self.input).get("bridged", ()))


class ChargeLine(Base):
    """One line. It carries its header's `line_count`: when that many lines exist, no further one fits."""

    __tablename__ = "charge_line"
    charge_id: Mapped[TextKey]
    line_no: Mapped[IntegerKey]
    line_count: Mapped[int]
    component: Mapped[str]
    item_code: Mapped[str]
    quantity: Mapped[int]
    per_quantity: Mapped[int]
    unit_fen: Mapped[int]
    amount_fen: Mapped[int]
    rule: Mapped[str]
    __table_args__ = (
        one_of("component", Component),
        CheckConstraint("line_no >= 1 AND line_no <= line_count", name="line_fits"),
        CheckConstraint("per_quantity > 0", name="per_quantity_positive"),
        UniqueConstraint("charge_id", "component", "item_code"),
        ForeignKeyConstraint(
            ["charge_id", "line_count"], ["charge.charge_id", "charge.line_count"], ondelete="RESTRICT"
        ),
    )


class ChargeEvidence(Base):
    """What a charge rests on, frozen with it: canonical bytes (zlib), their hash and what they span."""

    __tablename__ = "charge_evidence"
    charge_id: Mapped[str] = refers_to("charge.charge_id", primary_key=True)
    kind: Mapped[TextKey]
    item_count: Mapped[int]
    content_sha256: Mapped[str]
    content: Mapped[bytes] = mapped_column(LargeBinary)
    __table_args__ = (one_of("kind", EvidenceKind),)


class Statement(Base):
    """What one payer owes one host for one month of posting. Numbered without gaps within a host and year.

    A draft that was issued is seen by its payer, who may object until `dispute_until`; one that was made final without
    that may be objected to for as long afterwards.
    """

    __tablename__ = "statement"
    statement_id: Mapped[TextKey]
    host_id: Mapped[str] = refers_to("host.host_id")
    payer_org: Mapped[str] = refers_to("org.org_id", index=True)
    month: Mapped[int]
    kind: Mapped[str]
    part: Mapped[int]
    state: Mapped[str]
    number: Mapped[str | None] = mapped_column(unique=True)
    total_fen: Mapped[int]
    line_count: Mapped[int]
    content_sha256: Mapped[str]
    prepared_by: Mapped[str]
    prepared_at: Mapped[datetime]
    finalized_by: Mapped[str | None]
    finalized_at: Mapped[datetime | None]
    issued_at: Mapped[datetime | None]
    dispute_until: Mapped[datetime | None]
    __table_args__ = (
        one_of("kind", StatementKind),
        one_of("state", StatementState),
        CheckConstraint(
            "(state = 'draft' AND number IS NULL AND finalized_at IS NULL AND finalized_by IS NULL)"
            " OR (state = 'final' AND number IS NOT NULL AND finalized_at IS NOT NULL AND finalized_by IS NOT NULL)",
            name="final_is_numbered",
        ),
        UniqueConstraint("host_id", "payer_org", "month", "kind", "part"),
        UniqueConstraint("statement_id", "line_count"),
    )


class StatementLine(Base):
    """A charge on a statement; a charge is billed once."""

    __tablename__ = "statement_line"
    statement_id: Mapped[TextKey]
    line_no: Mapped[IntegerKey]
    line_count: Mapped[int]
    charge_id: Mapped[str] = refers_to("charge.charge_id", unique=True)
    amount_fen: Mapped[int]
    __table_args__ = (
        CheckConstraint("line_no >= 1 AND line_no <= line_count", name="line_fits"),
        ForeignKeyConstraint(
            ["statement_id", "line_count"], ["statement.statement_id", "statement.line_count"], ondelete="RESTRICT"
        ),
    )


class NumberSeries(Base):
    """The last number given out in a series; taken in the transaction that uses it, so none is lost."""

    __tablename__ = "number_series"
    series: Mapped[TextKey]
    last_no: Mapped[int]


class Invoice(Base):
    """The number of the tax invoice that the host's own system issued: 20 digits, used once, ever.

    Red invoices take back a blue one, in one or several parts.
    """

    __tablename__ = "invoice"
    invoice_no: Mapped[TextKey]
    statement_id: Mapped[str] = refers_to("statement.statement_id", index=True)
    kind: Mapped[str]
    reverses: Mapped[str | None] = refers_to("invoice.invoice_no", index=True)
    amount_fen: Mapped[int]
    issued_at: Mapped[datetime]
    recorded_by: Mapped[str]
    recorded_at: Mapped[datetime]
    __table_args__ = (
        one_of("kind", InvoiceKind),
        CheckConstraint("(kind = 'red') = (reverses IS NOT NULL)", name="red_reverses"),
        CheckConstraint("length(invoice_no) = 20", name="twenty_digits"),
    )


class Payment(Base):
    """Money (or a voucher) received against a statement, by its reference at the bank or the scheme."""

    __tablename__ = "payment"
    payment_id: Mapped[TextKey]
    statement_id: Mapped[str] = refers_to("statement.statement_id", index=True)
    tender: Mapped[str]
    amount_fen: Mapped[int]
    external_ref: Mapped[str]
    received_at: Mapped[datetime]
    recorded_by: Mapped[str]
    recorded_at: Mapped[datetime]
    __table_args__ = (
        one_of("tender", Tender),
        CheckConstraint("amount_fen > 0", name="amount_positive"),
        UniqueConstraint("tender", "external_ref"),
    )


class Settlement(Base):
    """The part of a payment that settles one charge."""

    __tablename__ = "settlement"
    payment_id: Mapped[str] = refers_to("payment.payment_id", primary_key=True)
    charge_id: Mapped[str] = refers_to("charge.charge_id", primary_key=True, index=True)
    amount_fen: Mapped[int]
    __table_args__ = (CheckConstraint("amount_fen > 0", name="amount_positive"),)


class PostingPeriod(Base):
    """Whether a month still takes money rows of a host; a missing row means open."""

    __tablename__ = "posting_period"
    host_id: Mapped[str] = refers_to("host.host_id", primary_key=True)
    month: Mapped[IntegerKey]
    state: Mapped[str]
    seal: Mapped[str | None]
    locked_by: Mapped[str | None]
    locked_at: Mapped[datetime | None]
    __table_args__ = (
        one_of("state", PeriodState),
        CheckConstraint("state <> 'locked' OR (seal IS NOT NULL AND locked_at IS NOT NULL)", name="locked_is_sealed"),
    )
