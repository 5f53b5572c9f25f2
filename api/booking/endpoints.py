"""HTTP of the booking domain. Each endpoint calls one service function; no rule lives here."""

from enum import Enum
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from sqlalchemy import Select

from api.booking import (
    consents,
    endpoints_cards,
    endpoints_changes,
    endpoints_rules,
    outages,
    repository,
    service,
    steps,
)
from api.booking.schemas import (
    SHOWN_COLUMNS,
    BookingAnswer,
    BookingAsked,
    BookingWhole,
    Busy,
    CalendarAnswer,
    NoteAsked,
    OutageAnswer,
    OutageAsked,
    QuoteAnswer,
    StepAsked,
)
from api.booking.slots import Interval
from api.booking.states import BookingAction
from api.deps import IfMatch, Once, public_reads, reads, tagged, writes
from api.pagination import WantedPage, paginate
from api.problems import problems
from api.schemas import Instant, Page
from api.work import Work
from store.tables.accounts import Role
from store.tables.calendar import Booking, BookingState

router = APIRouter()
_TAGS: list[str | Enum] = ["booking"]

_STEPPERS = (Role.SME, Role.LAB_MANAGER)
_BOOKERS = (*_STEPPERS, Role.COUNTY_OFFICER)
_READERS = (*_BOOKERS, Role.FINANCE, Role.ADMIN)


@router.post("/quotes", tags=_TAGS, summary="Price a booking without making it", responses=problems(403, 404, 409))
def price_booking(asked: BookingAsked, work: Annotated[Work, reads(*_BOOKERS)]) -> QuoteAnswer:
    """With the terms of cancelling and whether it would be confirmed at once. Everything that would refuse the booking
    refuses the quote, but for the slot being taken."""
    return QuoteAnswer.of(service.quote(work, asked.request()))


@router.post(
    "/bookings",
    tags=_TAGS,
    status_code=201,
    response_model=BookingAnswer,
    summary="Book an instrument",
    responses=problems(403, 404, 409),
)
def create_booking(asked: BookingAsked, work: Annotated[Work, writes(*_BOOKERS)], once: Once) -> Response:
    """The price is frozen with the booking; with `quote_sha256` it has to be the one that was quoted (409
    `price_differs`). A taken slot answers 409 `slot_taken` with three free ones."""

    def book() -> BookingAnswer:
        booking, offer = service.create_booking(work, asked.request())
        return BookingAnswer.of(booking, steps.possible_for(work.actor, booking), offer.warnings)

    return once(book)


@router.get(
    "/bookings",
    tags=_TAGS,
    response_model=Page[BookingAnswer],
    summary="List the bookings you may see, newest slot first",
)
def list_bookings(
    work: Annotated[Work, reads(*_READERS)],
    page: WantedPage,
    instrument_id: Annotated[str | None, Query(max_length=64)] = None,
    state: BookingState | None = None,
    from_at: Annotated[Instant | None, Query(description="Slots that end after this")] = None,
    to_at: Annotated[Instant | None, Query(description="Slots that start before this")] = None,
) -> Response:
    """A firm sees its own, a lab manager its host's, the county all."""
    seen = repository.bookings_seen(
        work.actor,
        instrument_id=instrument_id,
        state=None if state is None else state.value,
        from_at=from_at,
        to_at=to_at,
    )
    shown: Select[Any] = seen.with_only_columns(*SHOWN_COLUMNS)
    keys = (Booking.slot_from, Booking.booking_id)
    rows, cursor = paginate(work.session, shown, keys, page, descending=True, columns=True)
    items = [BookingAnswer.of_row(row, steps.possible_for(work.actor, row)) for row in rows]
    return tagged(Page[BookingAnswer](items=items, next_cursor=cursor))


@router.get(
    "/instruments/{instrument_id}/calendar",
    tags=_TAGS,
    response_model=CalendarAnswer,
    summary="When an instrument is taken",
    responses=problems(404),
)
def show_calendar(
    instrument_id: str,
    work: Annotated[Work, public_reads()],
    from_at: Annotated[Instant, Query(alias="from")],
    to_at: Annotated[Instant, Query(alias="to")],
) -> Response:
    """For everybody: times only, at most 92 days of them."""
    busy = service.busy_calendar(work, instrument_id, Interval(from_at, to_at))
    shown = [Busy(from_at=row.from_at, to_at=row.to_at) for row in busy]
    return tagged(CalendarAnswer(instrument_id=instrument_id, busy=shown))


# After what is asked most, which is looked for first; before the steps of a booking, which take any last word.
router.include_router(endpoints_changes.router)
router.include_router(endpoints_rules.router)
router.include_router(endpoints_cards.router)


@router.get(
    "/bookings/{booking_id}",
    tags=_TAGS,
    response_model=BookingWhole,
    summary="One booking with its history and use",
    responses=problems(404),
)
def show_booking(booking_id: str, work: Annotated[Work, reads(*_READERS)]) -> Response:
    """The ETag is the version that events and edits have to name."""
    booking = repository.booking_row(work.session, work.actor, booking_id)
    events = list(repository.events_of(work.session, booking_id))
    uses = list(repository.uses_of(work.session, booking_id))
    items = repository.items_of(work.session, booking_id)
    asked = consents.proposals_of(work.session, booking_id)
    return tagged(BookingWhole.whole(booking, steps.possible_for(work.actor, booking), events, uses, items, asked))


@router.patch(
    "/bookings/{booking_id}",
    tags=_TAGS,
    response_model=BookingAnswer,
    summary="Change the note of a booking",
    responses=problems(404),
)
def edit_booking(
    booking_id: str, asked: NoteAsked, work: Annotated[Work, writes(*_STEPPERS)], version: IfMatch
) -> Response:
    """Another slot takes the other side's consent: see `proposals`."""
    booking = steps.change_note(work, booking_id, asked.note, version)
    return tagged(BookingAnswer.of(booking, steps.possible_for(work.actor, booking)))


@router.post(
    "/bookings/{booking_id}/{event}",
    tags=_TAGS,
    response_model=BookingAnswer,
    summary="Take a booking one step on",
    responses=problems(404, 409),
)
def step_booking(
    booking_id: str,
    event: BookingAction,
    asked: StepAsked,
    work: Annotated[Work, writes(*_STEPPERS)],
    version: IfMatch,
) -> Response:
    """A booking says in `possible` what can be done to it. Repeating a step answers 412: the version has moved on."""
    booking = steps.perform(work, booking_id, event, asked.said(), version)
    return tagged(BookingAnswer.of(booking, steps.possible_for(work.actor, booking)))


@router.post(
    "/instruments/{instrument_id}/outages",
    tags=_TAGS,
    status_code=201,
    response_model=OutageAnswer,
    summary="Take an instrument out of service for a time",
    responses=problems(404, 409),
)
def declare_outage(
    instrument_id: str, asked: OutageAsked, work: Annotated[Work, writes(Role.LAB_MANAGER, Role.ADMIN)], once: Once
) -> Response:
    """Bookings in its way are moved to the next free slot (which the customer answers) or cancelled; one that is under
    way is shortened, the host's own reservations are cut. The answer names them."""

    def declare() -> OutageAnswer:
        window = Interval(asked.from_at, asked.to_at)
        done = outages.declare_outage(work, instrument_id, window, asked.note, move=asked.move)
        return OutageAnswer.model_validate(done)

    return once(declare)
