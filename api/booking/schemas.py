"""What the booking endpoints take and give. Instants, money and pages as in api.schemas."""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import Field

from api.booking.offers import Offer
from api.booking.rules import BookingRequest, OrderedItem
from api.booking.schemas_changes import Hash, ProposalAnswer
from api.booking.slots import Interval
from api.booking.states import BookingAction
from api.booking.steps import StepInput
from api.charging.rating import RatedLine
from api.charging.tariff_body import UserCategory
from api.schemas import Answer, Fen, Instant, Question
from store.tables.booking_rules import BookingItem, BookingProposal
from store.tables.calendar import Booking, BookingEvent, BookingMode, BookingState, BookingUse, UsePurpose
from store.tables.charging import Component
from store.types import AnyRow

Id = Annotated[str, Field(min_length=1, max_length=64)]
Text = Annotated[str, Field(max_length=2000)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]


class ItemAsked(Question):
    """A test item of the instrument, and on how many of the samples it is wanted (0: not said)."""

    test_item_id: Id
    samples: Count = 0


class BookingAsked(Question):
    """A booking to quote or to make. For a sample order the slot is the time expected on the instrument.

    Who books on a firm's behalf names it (`payer_org`), may name its member who will come (`for_person`), and says how
    it agreed (`consent`); without that word the firm is asked, and the slot is held meanwhile.
    """

    instrument_id: Id
    mode: BookingMode = BookingMode.SELF_OPERATED
    slot_from: Instant
    slot_to: Instant
    quantity: Count = 0
    purpose: UsePurpose = UsePurpose.CUSTOMER
    payer_org: Id | None = Field(None, description="Only for a lab manager who books on a customer's behalf")
    note: Text = ""
    rush: Annotated[str, Field(max_length=30, description="A rush level of the price list, by its code")] = ""
    options: Annotated[
        tuple[Annotated[str, Field(max_length=30)], ...],
        Field(max_length=50, description="Options of the price list, by their codes"),
    ] = ()
    items: Annotated[tuple[ItemAsked, ...], Field(max_length=50, description="What is to be tested")] = ()
    needed_by: Instant | None = Field(None, description="Samples: when the results are needed")
    for_person: Id | None = Field(None, description="On behalf: the member of the firm who will come")
    consent: Text = Field("", description="On behalf: how the firm agreed, for example an order number and its date")
    quote_sha256: Hash = Field("", description="The quote that was agreed to; booked only if the price is still that")

    def request(self) -> BookingRequest:
        """Return it as the service takes it."""
        return BookingRequest(
            self.instrument_id,
            self.mode,
            Interval(self.slot_from, self.slot_to),
            self.quantity,
            self.purpose,
            self.payer_org,
            self.note,
            self.rush,
            self.options,
            tuple(OrderedItem(item.test_item_id, item.samples) for item in self.items),
            self.needed_by,
            self.for_person,
            self.consent,
            self.quote_sha256,
        )


class StepAsked(Question):
    """What is said with an event. Each event asks for its own fields; the refusal names a missing one."""

    reason: Text = ""
    slot_from: Instant | None = Field(None, description="schedule: start on the instrument")
    slot_to: Instant | None = Field(None, description="schedule: end on the instrument")
    quantity: Count | None = Field(None, description="confirm-results: how many were tested")
    samples: Annotated[tuple[Text, ...], Field(max_length=500)] = Field((), description="receive: one line a sample")
    report_number: Annotated[str, Field(max_length=100)] = Field("", description="report: its number")
    report_date: Annotated[str, Field(pattern=r"^(\d{4}-\d{2}-\d{2})?$")] = Field("", description="report: YYYY-MM-DD")
    report_sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = Field("", description="report: file hash")

    def said(self) -> StepInput:
        """Return it as the service takes it. A slot needs both ends."""
        both = self.slot_from is not None and self.slot_to is not None
        return StepInput(
            reason=self.reason,
            slot=Interval(self.slot_from, self.slot_to) if both and self.slot_from and self.slot_to else None,
            quantity=self.quantity,
            samples=self.samples,
            report_number=self.report_number,
            report_date=self.report_date,
            report_sha256=self.report_sha256,
        )


class NoteAsked(Question):
    """A booking's note, as it shall be from now on."""

    note: Text


class OutageAsked(Question):
    """When an instrument is out of service, and why."""

    from_at: Instant
    to_at: Instant
    note: Annotated[str, Field(min_length=1, max_length=2000)]
    move: bool = Field(True, description="Offer customers the next free slot; false: cancel what is in the way")


class PriceLine(Answer):
    """One line of a price: quantity x unit_fen / per_quantity, rounded half up to the fen."""

    component: Component
    item_code: str
    quantity: int
    per_quantity: int
    unit_fen: Fen
    amount_fen: Fen
    rule: str


class QuoteAnswer(Answer):
    """What a booking will cost if exactly the booked slot is used. VAT is included in every amount.

    `list_fen`: the same by the list; `saving_fen`: how much less than that it is. Cancelling is free until
    `cancel_free_until` (null: until the slot begins), later it costs `late_cancel_fee_fen`; not coming costs
    `no_show_fee_fen`. `confirms_itself`: no manager has to approve it, by `approval_rule`.
    """

    instrument_id: str
    payer_org: str
    category: UserCategory
    tariff_id: str
    tariff_version: int
    lines: list[PriceLine]
    total_fen: Fen
    net_fen: Fen
    vat_fen: Fen
    list_fen: Fen
    saving_fen: Fen
    sha256: str
    warnings: list[str]
    cancel_free_until: Instant | None
    late_cancel_fee_fen: Fen
    no_show_fee_fen: Fen
    confirms_itself: bool
    approval_rule: str

    @classmethod
    def of(cls, offer: Offer) -> Self:
        """Show an offer."""
        price, terms = offer.price, offer.terms()
        return cls(
            instrument_id=offer.instrument_id,
            payer_org=offer.payer_org,
            category=price.category,
            tariff_id=price.tariff_id,
            tariff_version=price.tariff_version,
            lines=[_line(line) for line in price.rated.lines],
            total_fen=price.rated.total_fen,
            net_fen=price.rated.net_fen,
            vat_fen=price.rated.vat_fen,
            list_fen=price.rated.list_fen,
            saving_fen=price.rated.saving_fen,
            sha256=price.sha256,
            warnings=list(offer.warnings),
            cancel_free_until=terms.free_until,
            late_cancel_fee_fen=terms.late_fee_fen,
            no_show_fee_fen=terms.no_show_fee_fen,
            confirms_itself=offer.decision.automatic,
            approval_rule=offer.decision.why,
        )


class BookingAnswer(Answer):
    """A booking. `possible` is what the caller can do to it now; `held_until` counts while it is requested."""

    booking_id: str
    instrument_id: str
    host_id: str
    mode: BookingMode
    purpose: UsePurpose
    payer_org: str
    person_id: str
    state: BookingState
    slot_from: Instant
    slot_to: Instant
    tariff_id: str
    tariff_version: int
    category: UserCategory
    quantity: int
    confirmed_quantity: int | None
    quoted_fen: Fen
    quote_sha256: str
    checked_in_at: Instant | None
    checked_out_at: Instant | None
    held_until: Instant | None
    needed_by: Instant | None
    note: str
    created_at: Instant
    row_version: int
    possible: list[BookingAction]
    warnings: list[str] = []

    @classmethod
    def of(cls, booking: Booking, possible: tuple[BookingAction, ...], warnings: tuple[str, ...] = ()) -> Self:
        """Show a booking."""
        return cls.model_validate(_shown(booking, possible, warnings))

    @classmethod
    def of_row(cls, row: AnyRow, possible: tuple[BookingAction, ...]) -> Self:
        """Show a row of `SHOWN_COLUMNS`."""
        shown = dict(zip(_COLUMNS, row, strict=False))  # the quote comes last
        return cls.model_validate(shown | _derived(row.quote, possible, ()))


class EventAnswer(Answer):
    """One event of a booking."""

    event_no: int
    at: Instant
    actor: str
    from_state: str
    to_state: str
    reason: str
    facts: dict[str, Any]

    @classmethod
    def of(cls, event: BookingEvent) -> Self:
        """Show an event."""
        return cls(
            event_no=event.event_no,
            at=event.at,
            actor=event.actor,
            from_state=event.from_state,
            to_state=event.to_state,
            reason=event.reason,
            facts=json.loads(event.facts),
        )


class UseAnswer(Answer):
    """The part of a session that was used under a booking."""

    session_id: str
    from_at: Instant
    to_at: Instant
    running_ms: int
    unknown_ms: int


class ItemAnswer(Answer):
    """A test item that was ordered."""

    test_item_id: str
    samples: int


class BookingWhole(BookingAnswer):
    """A booking with its frozen price, what was ordered, what happened to it, its proposals and its metered use."""

    quote_lines: list[PriceLine]
    items: list[ItemAnswer]
    proposals: list[ProposalAnswer]
    events: list[EventAnswer]
    uses: list[UseAnswer]

    @classmethod
    def whole(
        cls,
        booking: Booking,
        possible: tuple[BookingAction, ...],
        events: Sequence[BookingEvent],
        uses: Sequence[BookingUse],
        items: Sequence[BookingItem],
        proposals: Sequence[BookingProposal],
    ) -> Self:
        """Show everything that is kept of a booking."""
        shown = _shown(booking, possible, ())
        shown["quote_lines"] = json.loads(booking.quote)["lines"]
        shown["events"] = [EventAnswer.of(event) for event in events]
        shown["items"] = [ItemAnswer.model_validate(item) for item in items]
        shown["proposals"] = [ProposalAnswer.model_validate(proposal) for proposal in proposals]
        shown["uses"] = [UseAnswer.model_validate(use) for use in uses]
        return cls.model_validate(shown)


class Busy(Answer):
    """Time during which an instrument is taken. By whom is not said."""

    from_at: Instant
    to_at: Instant


class CalendarAnswer(Answer):
    """When an instrument is taken, buffers included."""

    instrument_id: str
    busy: list[Busy]


class OutageAnswer(Answer):
    """An outage, the bookings that had to make way, and the host's own reservations (row ids) that were cut."""

    row_id: str
    cancelled: list[str]
    moved: list[str]
    unscheduled: list[str]
    shortened: list[str]
    reservations: list[str]


def _line(line: RatedLine) -> PriceLine:
    return PriceLine.model_validate(line)


_COLUMNS = tuple(name for name in BookingAnswer.model_fields if hasattr(Booking, name))
SHOWN_COLUMNS = tuple(Booking.__table__.c[name] for name in (*_COLUMNS, "quote"))
"""What a list reads: an object of the ORM for each booking costs as much again as showing it."""


def _shown(booking: Booking, possible: tuple[BookingAction, ...], warnings: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(booking, name) for name in _COLUMNS} | _derived(booking.quote, possible, warnings)


def _derived(quote: str, possible: tuple[BookingAction, ...], warnings: tuple[str, ...]) -> dict[str, Any]:
    quoted = json.loads(quote)["total_fen"]
    return {"quoted_fen": quoted, "possible": list(possible), "warnings": list(warnings)}
