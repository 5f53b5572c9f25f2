"""Who may look at what was metered, and the reading of it. A curve shows what a firm does: each sees its own only.

The host's managers and the county see an instrument; a firm sees the parts of sessions that were its bookings'.
"""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Select, select

from api.booking import repository
from api.booking.rules import check_slot_forward
from api.booking.slots import Interval
from api.booking.sources import SECOND_SOURCE, held_back
from api.charging.access import SEE_ALL, is_system
from api.charging.bridged import bridge
from api.charging.evidence import UseSpan, records_of
from api.charging.rating import CURRENT_CALC_VERSION
from api.errors import forbidden, invalid
from api.usage.schemas import (
    CurveAnswer,
    CurvePoint,
    HourAnswer,
    HoursAnswer,
    QuantitiesAnswer,
    ReadingPoint,
    ReadingsAnswer,
    SessionAnswer,
)
from api.work import Work
from store.series import SeriesStore
from store.tables.calendar import BookingUse
from store.tables.registry import Instrument
from store.tables.usage import UsageSession
from wire.clock import from_ms, to_ms

CURVE_SPAN = timedelta(days=31)
HOURS_SPAN = timedelta(days=366)


def instrument_to_watch(work: Work, instrument_id: str) -> Instrument:
    """Return an instrument whose use the actor may watch. Raises 404, and 403 for another host's manager."""
    instrument = repository.instrument_row(work.session, instrument_id)
    actor = work.actor
    if not (is_system(actor) or actor.has(*SEE_ALL) or actor.manages(instrument.host_id)):
        raise forbidden(
            "只能查看本单位仪器的使用记录;其他单位的请联系县科技局。",
            "The use of an instrument is for its own host and the county to see; ask one of them.",
            instrument_id=instrument_id,
        )
    return instrument


def sessions_between(instrument_id: str, window: Interval) -> Select[UsageSession]:
    """Return the selection of sessions that share an instant with a window."""
    return select(UsageSession).where(
        UsageSession.instrument_id == instrument_id,
        UsageSession.started_at < window.to_at,
        UsageSession.last_at >= window.from_at,
    )


def show_sessions(work: Work, rows: Sequence[UsageSession]) -> list[SessionAnswer]:
    """Show sessions with the bookings they were matched to."""
    found: dict[str, list[str]] = {row.session_id: [] for row in rows}
    held = set(
        work.session.scalars(
            select(UsageSession.session_id).where(
                UsageSession.session_id.in_(found), held_back(UsageSession.session_id)
            )
        )
    )
    matched = select(BookingUse.session_id, BookingUse.booking_id).where(BookingUse.session_id.in_(found))
    for session_id, booking_id in work.session.execute(matched.order_by(BookingUse.from_at)):
        found[session_id].append(booking_id)
    return [
        SessionAnswer(
            session_id=row.session_id,
            instrument_id=row.instrument_id,
            agent_id=row.agent_id,
            started_at=row.started_at,
            last_at=row.last_at,
            ended_at=row.ended_at,
            running_ms=row.odo_running_last_ms - row.odo_running_first_ms,
            unknown_ms=row.odo_unknown_last_ms - row.odo_unknown_first_ms,
            bridged_ms=(bridged_ms := _bridged_ms(work, row)),
            flags=[
                *row.flags.split(),
                *(["bridged"] if bridged_ms else []),
                *([SECOND_SOURCE] if row.session_id in held else []),
            ],
            booking_ids=found[row.session_id],
        )
        for row in rows
    ]


def _bridged_ms(work: Work, row: UsageSession) -> int:
    """What of a session's holes the rule counts as use; what was billed of them stands in the charge."""
    unknown_ms = row.odo_unknown_last_ms - row.odo_unknown_first_ms
    if not unknown_ms:
        return 0
    whole = UseSpan(row.session_id, to_ms(row.started_at), to_ms(row.last_at), 1, unknown_ms)
    return bridge([whole], records_of(work.session, [row.session_id]), CURRENT_CALC_VERSION).bridged_ms


def instrument_curve(
    work: Work, series: SeriesStore, instrument_id: str, window: Interval, buckets: int
) -> CurveAnswer:
    """Return the power of an instrument, in at most `buckets` slices. Raises 403, 404, 422 (beyond 31 days)."""
    instrument_to_watch(work, instrument_id)
    _check(window, CURVE_SPAN)
    return CurveAnswer(instrument_id=instrument_id, points=_points(series, instrument_id, window, buckets))


def booking_curve(work: Work, series: SeriesStore, booking_id: str, buckets: int) -> CurveAnswer:
    """Return the power during the use of a booking the actor may see, each part in at most `buckets` slices."""
    booking = repository.booking_row(work.session, work.actor, booking_id)
    points: list[CurvePoint] = []
    for use in repository.uses_of(work.session, booking_id):
        points += _points(series, booking.instrument_id, Interval(use.from_at, use.to_at), buckets)
    return CurveAnswer(instrument_id=booking.instrument_id, points=points)


def instrument_hours(work: Work, series: SeriesStore, instrument_id: str, window: Interval) -> HoursAnswer:
    """Return hour by hour what an instrument did. Raises 403, 404, 422 (beyond 366 days)."""
    instrument_to_watch(work, instrument_id)
    _check(window, HOURS_SPAN)
    hours = [
        HourAnswer(
            hour=from_ms(row.hour_ms),
            samples=row.samples,
            power_avg_mw=row.power_avg_mw,
            power_max_mw=row.power_max_mw,
            off_ms=row.off_ms,
            standby_ms=row.standby_ms,
            running_ms=row.running_ms,
            unknown_ms=row.unknown_ms,
            hole_ms=row.hole_ms,
        )
        for row in series.hourly([instrument_id], to_ms(window.from_at), to_ms(window.to_at))
    ]
    return HoursAnswer(instrument_id=instrument_id, hours=hours)


def quantities(work: Work, series: SeriesStore, instrument_id: str, window: Interval) -> QuantitiesAnswer:
    """Return what else the meter of an instrument showed. Raises 403, 404, 422 (beyond 31 days)."""
    instrument_to_watch(work, instrument_id)
    _check(window, CURVE_SPAN)
    found = series.quantities(instrument_id, to_ms(window.from_at), to_ms(window.to_at))
    return QuantitiesAnswer(instrument_id=instrument_id, quantities=found)


def instrument_readings(
    work: Work, series: SeriesStore, instrument_id: str, quantity: str, window: Interval, buckets: int
) -> ReadingsAnswer:
    """Return one of these quantities, in at most `buckets` slices. Raises 403, 404, 422 (beyond 31 days)."""
    instrument_to_watch(work, instrument_id)
    _check(window, CURVE_SPAN)
    points = [
        ReadingPoint(
            start=from_ms(slice_.start_ms),
            readings=slice_.readings,
            mean=slice_.mean,
            lowest=slice_.lowest,
            highest=slice_.highest,
        )
        for slice_ in series.thinned_readings(
            instrument_id, quantity, to_ms(window.from_at), to_ms(window.to_at), buckets
        )
    ]
    return ReadingsAnswer(instrument_id=instrument_id, quantity=quantity, points=points)


def _points(series: SeriesStore, instrument_id: str, window: Interval, buckets: int) -> list[CurvePoint]:
    return [
        CurvePoint(
            start=from_ms(slice_.start_ms),
            samples=slice_.samples,
            power_mean_mw=slice_.power_mean_mw,
            power_max_mw=slice_.power_max_mw,
        )
        for slice_ in series.thinned(instrument_id, to_ms(window.from_at), to_ms(window.to_at), buckets)
    ]


def _check(window: Interval, longest: timedelta) -> None:
    check_slot_forward(window)
    if window.to_at - window.from_at > longest:
        raise invalid(
            "window_too_long",
            f"请分次查询,一次最多 {longest.days} 天。",
            f"Ask for at most {longest.days} days at a time.",
            field="to",
            days=longest.days,
        )
