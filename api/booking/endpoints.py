"""HTTP of the booking domain. Each endpoint calls one service function; no rule lives here."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.booking import outages, repository, service, steps
from api.booking.schemas import (
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

router = APIRouter(tags=["booking"])

_BOOKERS = (Role.SME, Role.LAB_MANAGER)
_READERS = (*_BOOKERS, Role.COUNTY_OFFICER, Role.FINANCE, Role.ADMIN)


@router.post("/quotes", summary="Price a booking without making it", responses=problems(403, 404, 409))
def price_booking(asked: BookingAsked, work: Annotated[Work, reads(*_BOOKERS)]) -> QuoteAnswer:
    """Everything that would refuse the booking refuses the quote, but for the slot being taken."""
    return QuoteAnswer.of(service.quote(work, asked.request()))


@router.post(
    "/bookings",
    status_code=201,
    response_model=BookingAnswer,
    summary="Book an instrument",
    responses=problems(403, 404, 409),
)
def create_booking(asked: BookingAsked, work: Annotated[Work, writes(*_BOOKERS)], once: Once) -> Response:
    """The price is frozen with the booking. A taken slot answers 409 `slot_taken` with three free ones."""

    def book() -> BookingAnswer:
        booking, offer = service.create_booking(work, asked.request())
        return BookingAnswer.of(booking, steps.possible_for(work.actor, booking), offer.warnings)

    return once(book)


@router.get("/bookings", summary="List the bookings you may see, newest slot first")
def list_bookings(
    work: Annotated[Work, reads(*_READERS)],
    page: WantedPage,
    instrument_id: Annotated[str | None, Query(max_length=64)] = None,
    state: BookingState | None = None,
    from_at: Annotated[Instant | None, Query(description="Slots that end after this")] = None,
    to_at: Annotated[Instant | None, Query(description="Slots that start before this")] = None,
) -> Page[BookingAnswer]:
    """A firm sees its own, a lab manager its host's, the county all."""
    seen = repository.bookings_seen(
        work.actor,
        instrument_id=instrument_id,
        state=None if state is None else state.value,
        from_at=from_at,
        to_at=to_at,
    )
    rows, cursor = paginate(work.session, seen, (Booking.slot_from, Booking.booking_id), page, descending=True)
    items = [BookingAnswer.of(row, steps.possible_for(work.actor, row)) for row in rows]
    return Page[BookingAnswer](items=items, next_cursor=cursor)


@router.get(
    "/bookings/{booking_id}",
    response_model=BookingWhole,
    summary="One booking with its history and use",
    responses=problems(404),
)
def show_booking(booking_id: str, work: Annotated[Work, reads(*_READERS)]) -> Response:
    """The ETag is the version that events and edits have to name."""
    booking = repository.booking_row(work.session, work.actor, booking_id)
    events = list(repository.events_of(work.session, booking_id))
    uses = list(repository.uses_of(work.session, booking_id))
    return tagged(BookingWhole.whole(booking, steps.possible_for(work.actor, booking), events, uses))


@router.patch(
    "/bookings/{booking_id}",
    response_model=BookingAnswer,
    summary="Change the note of a booking",
    responses=problems(404),
)
def edit_booking(
    booking_id: str, asked: NoteAsked, work: Annotated[Work, writes(*_BOOKERS)], version: IfMatch
) -> Response:
    """Another slot is another booking: cancel this one and book again."""
    booking = steps.change_note(work, booking_id, asked.note, version)
    return tagged(BookingAnswer.of(booking, steps.possible_for(work.actor, booking)))


@router.post(
    "/bookings/{booking_id}/{event}",
    response_model=BookingAnswer,
    summary="Take a booking one step on",
    responses=problems(404, 409),
)
def step_booking(
    booking_id: str,
    event: BookingAction,
    asked: StepAsked,
    work: Annotated[Work, writes(*_BOOKERS)],
    version: IfMatch,
) -> Response:
    """A booking says in `possible` what can be done to it. Repeating a step answers 412: the version has moved on."""
    booking = steps.perform(work, booking_id, event, asked.said(), version)
    return tagged(BookingAnswer.of(booking, steps.possible_for(work.actor, booking)))


@router.get(
    "/instruments/{instrument_id}/calendar",
    summary="When an instrument is taken",
    responses=problems(404),
)
def show_calendar(
    instrument_id: str,
    work: Annotated[Work, public_reads()],
    from_at: Annotated[Instant, Query(alias="from")],
    to_at: Annotated[Instant, Query(alias="to")],
) -> CalendarAnswer:
    """For everybody: times only, at most 92 days of them."""
    busy = service.busy_calendar(work, instrument_id, Interval(from_at, to_at))
    shown = [Busy(from_at=row.from_at, to_at=row.to_at) for row in busy]
    return CalendarAnswer(instrument_id=instrument_id, busy=shown)


@router.post(
    "/instruments/{instrument_id}/outages",
    status_code=201,
    response_model=OutageAnswer,
    summary="Take an instrument out of service for a time",
    responses=problems(404, 409),
)
def declare_outage(
    instrument_id: str, asked: OutageAsked, work: Annotated[Work, writes(Role.LAB_MANAGER)], once: Once
) -> Response:
    """Bookings in its way are cancelled, or shortened where they are under way; the answer names them."""

    def declare() -> OutageAnswer:
        window = Interval(asked.from_at, asked.to_at)
        return OutageAnswer.model_validate(outages.declare_outage(work, instrument_id, window, asked.note))

    return once(declare)
