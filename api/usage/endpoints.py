"""HTTP of metered use: sessions, power curves, hours, what else meters show. Reads only."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from api.booking.slots import Interval
from api.deps import AppParts, reads
from api.pagination import WantedPage, paginate
from api.problems import problems
from api.schemas import Instant, Page
from api.usage import service
from api.usage.schemas import CurveAnswer, HoursAnswer, QuantitiesAnswer, ReadingsAnswer, SessionAnswer
from api.work import Work
from store.tables.accounts import Role
from store.tables.usage import UsageSession
from wire.ids import QUANTITY

router = APIRouter(tags=["usage"])

_WATCHERS = (Role.LAB_MANAGER, Role.COUNTY_OFFICER, Role.FINANCE, Role.ADMIN)
From = Annotated[Instant, Query(alias="from")]
To = Annotated[Instant, Query(alias="to")]
Buckets = Annotated[int, Query(ge=1, le=2000, description="Slices of the curve, at most")]
Quantity = Annotated[str, Path(pattern=QUANTITY, description="As its meter names it, like volts_l1")]


@router.get(
    "/instruments/{instrument_id}/sessions",
    summary="The metered sessions of an instrument, newest first",
    responses=problems(403, 404),
)
def list_sessions(
    instrument_id: str, work: Annotated[Work, reads(*_WATCHERS)], page: WantedPage, from_at: From, to_at: To
) -> Page[SessionAnswer]:
    """A lab manager sees the instruments of its own host."""
    service.instrument_to_watch(work, instrument_id)
    found = service.sessions_between(instrument_id, Interval(from_at, to_at))
    keys = (UsageSession.started_at, UsageSession.session_id)
    rows, cursor = paginate(work.session, found, keys, page, descending=True)
    return Page[SessionAnswer](items=service.show_sessions(work, rows), next_cursor=cursor)


@router.get(
    "/instruments/{instrument_id}/curve",
    summary="The power of an instrument over time",
    responses=problems(403, 404),
)
def instrument_curve(
    instrument_id: str,
    work: Annotated[Work, reads(*_WATCHERS)],
    parts: AppParts,
    from_at: From,
    to_at: To,
    buckets: Buckets = 500,
) -> CurveAnswer:
    """At most 31 days, thinned for a chart."""
    return service.instrument_curve(work, parts.series, instrument_id, Interval(from_at, to_at), buckets)


@router.get(
    "/instruments/{instrument_id}/hours",
    summary="What an instrument did, hour by hour",
    responses=problems(403, 404),
)
def instrument_hours(
    instrument_id: str, work: Annotated[Work, reads(*_WATCHERS)], parts: AppParts, from_at: From, to_at: To
) -> HoursAnswer:
    """At most 366 days; hours without any sample are left out."""
    return service.instrument_hours(work, parts.series, instrument_id, Interval(from_at, to_at))


@router.get(
    "/instruments/{instrument_id}/readings",
    summary="What else the meter of an instrument showed: the names of the quantities",
    responses=problems(403, 404),
)
def list_quantities(
    instrument_id: str, work: Annotated[Work, reads(*_WATCHERS)], parts: AppParts, from_at: From, to_at: To
) -> QuantitiesAnswer:
    """At most 31 days. Voltages, temperatures and the like: for people to look at; no fee rests on them."""
    return service.quantities(work, parts.series, instrument_id, Interval(from_at, to_at))


@router.get(
    "/instruments/{instrument_id}/readings/{quantity}",
    summary="One quantity that the meter of an instrument showed, over time",
    responses=problems(403, 404),
)
def instrument_readings(
    instrument_id: str,
    quantity: Quantity,
    work: Annotated[Work, reads(*_WATCHERS)],
    parts: AppParts,
    from_at: From,
    to_at: To,
    buckets: Buckets = 500,
) -> ReadingsAnswer:
    """At most 31 days, thinned for a chart; about one reading a minute is kept."""
    return service.instrument_readings(work, parts.series, instrument_id, quantity, Interval(from_at, to_at), buckets)


@router.get(
    "/bookings/{booking_id}/curve",
    summary="The power during the use of a booking",
    responses=problems(404),
)
def booking_curve(
    booking_id: str, work: Annotated[Work, reads(Role.SME, *_WATCHERS)], parts: AppParts, buckets: Buckets = 500
) -> CurveAnswer:
    """A firm sees the curve of its own use and nothing before or after it."""
    return service.booking_curve(work, parts.series, booking_id, buckets)
