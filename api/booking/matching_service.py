"""Match a closed session to the bookings of its instrument and keep what came out.

Called by the worker when the ledger has closed a session. Rows of use are written once and never changed: repeating
it finds them and does nothing. Under the instrument's lock, so that no booking moves meanwhile.
"""

from datetime import datetime, timedelta

from sqlalchemy import bindparam, or_, select

from api.booking import repository
from api.booking.due import ensure_due, move_due, readings_wait
from api.booking.matching import FORGOTTEN_CHECK_OUT, Claim, MeteredSession, OdometerPoint, Part, apportion
from api.booking.odometer import odometer_points
from api.booking.sources import SECOND_SOURCE, find_second_source, is_matched
from api.booking.states import CHARGEABLE, CLAIMING, BookingAction
from api.booking.steps import graces_of, take_step
from api.charging.anomalies import raise_anomaly
from api.charging.fees import no_show_is_questioned
from api.charging.repository import last_charge
from api.work import Work
from store.alerts import raise_alert
from store.ledger import DATED_TOO_LATE, DATES_WRONG, EDGES_LOST, WAITS_FOR_A_CLOCK, session_records
from store.tables.calendar import Booking, BookingMode, BookingState, BookingUse, DueKind, UnbookedUse
from store.tables.registry import Instrument, UseDetection
from store.tables.usage import UsageRecordRow, UsageSession
from store.types import UtcDateTime
from wire.clock import from_ms, to_ms

SESSION_WITHOUT_BOOKING = "session_without_booking"
USE_AFTER_COMPLETION = "use_after_completion"
SESSION_IN_DOUBT = "session_in_doubt"
DOUBTFUL = EDGES_LOST | WAITS_FOR_A_CLOCK | {"indicative"}
"""Flags of a session that keep its fees out of a reward until an officer has looked: not all of its time is proved."""
FORGOTTEN = FORGOTTEN_CHECK_OUT
UNBOOKED_ALLOWED_MS = 60_000

_GRACE_MAX = timedelta(days=1)
"""The longest grace a tariff can agree; wide enough to find every claim that matters."""
_READINGS_FIRST = timedelta(seconds=1)
_ANSWER_FIRST = timedelta(minutes=5)
_CLOCK_PATIENCE = timedelta(hours=24)
"""How long a session without a date, or with a hole of unknown length, waits for its agent's clock to be set, from when
its end was received."""
_INSTANT = timedelta(milliseconds=1)
_STILL_GOING = (BookingState.CONFIRMED, BookingState.CHECKED_IN, BookingState.IN_USE)
_VOIDED = BookingState.NO_SHOW

# Put together once: building a statement costs more than the database's answer to it.
_CLAIMING = (
    select(Booking)
    .where(
        Booking.instrument_id == bindparam("instrument"),
        Booking.state.in_([state.value for state in CLAIMING]),
        Booking.calendar_row_id.is_not(None),
        Booking.slot_from <= bindparam("until", type_=UtcDateTime),
        or_(
            Booking.slot_to >= bindparam("since", type_=UtcDateTime),
            Booking.checked_out_at >= bindparam("start", type_=UtcDateTime),
        ),
    )
    .order_by(Booking.booking_id)
    .with_for_update()
    .execution_options(populate_existing=True)
)


def match_session(work: Work, session_id: str) -> datetime | None:
    """Divide a closed session among bookings; return None, nothing is left to do, or when to look again.

    It waits while a card that was held to a reader there is not judged yet: that decides whose use it was. It waits a
    day for a date, or the length of a hole in it, where the agent's clock was not set, or is ahead of the receipt: then
    somebody has to look, and one whose begin is dated wrong is nobody's until a person says whose. Where
    it voids a no-show it waits for the answer to a dispute about its fee. An open session is left alone: closing it
    makes the matching due again. One that another source tells as well is held back until an officer decides (see
    sources.py): then it is due again, or stays unbilled. Raises LookupError for an unknown one.
    """
    metered = work.session.get(UsageSession, session_id)
    if metered is None:
        raise LookupError(f"there is no session {session_id}")
    if metered.ended_at is None:
        return None
    if not WAITS_FOR_A_CLOCK.isdisjoint(metered.flags.split()):
        until = _received(work, metered) + _CLOCK_PATIENCE
        if work.now < until:
            return until  # dated again, or told how long its hole was, it is due at once
    instrument = repository.instrument_row(work.session, metered.instrument_id, lock=True)
    flags = metered.flags.split()
    if is_matched(work.session, session_id):
        if DATED_TOO_LATE in flags:
            detail = "its dates were told to be wrong after it was matched"
            _found(work, DATED_TOO_LATE, session_id, instrument, detail, blocks_reward=True)
        return None
    why = find_second_source(work.session, metered)
    if why is not None:
        _hold_back(work, metered, instrument, why)
        return None
    if readings_wait(work.session, instrument.instrument_id):
        return work.now + _READINGS_FIRST
    # By a date that is known to be wrong it would be given to somebody who was not there.
    claiming = _claiming(work, metered) if DATES_WRONG.isdisjoint(flags) else []
    bookings = {booking.booking_id: booking for booking in claiming}
    parts = apportion(
        _metered(work, metered),
        [_claim(work, booking) for booking in bookings.values()],
        needs_check_in=instrument.use_detection != UseDetection.POWER.value,
    )
    used = [bookings[part.booking_id] for part in parts if part.booking_id is not None and part.running_ms > 0]
    if any(no_show_is_questioned(work.session, booking) for booking in used):
        return work.now + _ANSWER_FIRST
    for part in parts:
        if part.booking_id is None:
            _keep_unbooked(work, metered, part)
        else:
            _keep_booked(work, metered, bookings[part.booking_id], part)
    unbooked_ms = sum(part.running_ms for part in parts if part.booking_id is None)
    if unbooked_ms > UNBOOKED_ALLOWED_MS:
        _found(work, SESSION_WITHOUT_BOOKING, session_id, instrument, f"{unbooked_ms} ms running without a booking")
    for part in parts:
        if FORGOTTEN_CHECK_OUT in part.flags:
            _found(work, FORGOTTEN, session_id, instrument, f"booking {part.booking_id} has no check-out")
    doubts = DOUBTFUL.intersection(flags)
    if doubts:
        _found(work, SESSION_IN_DOUBT, session_id, instrument, ", ".join(sorted(doubts)), blocks_reward=True)
    return None


def _received(work: Work, metered: UsageSession) -> datetime:
    record = (metered.agent_id, metered.stream, metered.close_seq)
    return work.session.get_one(UsageRecordRow, record).received_at


def _claiming(work: Work, metered: UsageSession) -> list[Booking]:
    """The bookings, locked, whose claims may touch the session; earlier slots come along, they bound later claims."""
    start, end = metered.started_at, metered.ended_at or metered.last_at
    return list(
        work.session.scalars(
            _CLAIMING,
            {
                "instrument": metered.instrument_id,
                "until": end + _GRACE_MAX,
                "since": start - _GRACE_MAX,
                "start": start,
            },
        )
    )


def _claim(work: Work, booking: Booking) -> Claim:
    graces = graces_of(work, booking)
    came, left = booking.checked_in_at, booking.checked_out_at
    return Claim(
        booking.booking_id,
        to_ms(booking.slot_from),
        to_ms(booking.slot_to),
        None if came is None else to_ms(came),
        None if left is None else to_ms(left),
        graces.early // timedelta(milliseconds=1),
        graces.late // timedelta(milliseconds=1),
    )


def _metered(work: Work, row: UsageSession) -> MeteredSession:
    first = OdometerPoint(to_ms(row.started_at), row.odo_running_first_ms, row.odo_unknown_first_ms)
    last = OdometerPoint(to_ms(row.last_at), row.odo_running_last_ms, row.odo_unknown_last_ms)
    return MeteredSession(row.session_id, odometer_points(session_records(work.session, row.session_id), first, last))


def _hold_back(work: Work, metered: UsageSession, instrument: Instrument, why: str) -> None:
    """Have an officer decide; where that was asked before there is nothing to do."""
    if not why:
        return
    _found(work, SECOND_SOURCE, metered.session_id, instrument, why, blocks_reward=True)
    running_ms = metered.odo_running_last_ms - metered.odo_running_first_ms
    told = f"session {metered.session_id}, {running_ms} ms running, is not billed until an officer decides: {why}"
    raise_alert(work.session, SECOND_SOURCE, metered.instrument_id, told, to_ms(work.now), instrument.host_id)


def _keep_unbooked(work: Work, metered: UsageSession, part: Part) -> None:
    work.session.add(
        UnbookedUse(
            session_id=metered.session_id,
            from_at=from_ms(part.from_ms),
            instrument_id=metered.instrument_id,
            to_at=from_ms(part.to_ms),
            running_ms=part.running_ms,
            unknown_ms=part.unknown_ms,
            found_at=work.now,
            purpose=None,
            classified_by=None,
            classified_at=None,
        )
    )


def _keep_booked(work: Work, metered: UsageSession, booking: Booking, part: Part) -> None:
    state = BookingState(booking.state)
    # Use that is known only now is later than the charge that did not know it, whatever two clocks say.
    charged = last_charge(work.session, booking.booking_id) if state in CHARGEABLE else None
    work.session.add(
        BookingUse(
            session_id=metered.session_id,
            booking_id=booking.booking_id,
            from_at=from_ms(part.from_ms),
            to_at=from_ms(part.to_ms),
            running_ms=part.running_ms,
            unknown_ms=part.unknown_ms,
            matched_at=work.now if charged is None else max(work.now, charged.recorded_at + _INSTANT),
        )
    )
    work.session.flush()
    if state in (BookingState.CONFIRMED, BookingState.CHECKED_IN, BookingState.SCHEDULED, _VOIDED):
        if part.running_ms > 0:
            take_step(work, booking, BookingAction.USE_FOUND, facts={"session": metered.session_id})
    elif state is not BookingState.IN_USE:
        instrument = work.session.get_one(Instrument, booking.instrument_id)
        detail = f"booking {booking.booking_id} was {state} already"
        _found(work, USE_AFTER_COMPLETION, metered.session_id, instrument, detail)
    _leave_work(work, booking, is_charged=charged is not None)


def _leave_work(work: Work, booking: Booking, *, is_charged: bool) -> None:
    state = BookingState(booking.state)
    if state is BookingState.COMPLETED or is_charged:
        move_due(work.session, DueKind.CHARGE_BOOKING, booking.booking_id, work.now)
    elif booking.mode == BookingMode.SELF_OPERATED.value and state in _STILL_GOING:
        at = booking.checked_out_at or booking.slot_to + graces_of(work, booking).late
        ensure_due(work.session, DueKind.COMPLETE_BOOKING, booking.booking_id, at)


def _found(
    work: Work, rule: str, session_id: str, instrument: Instrument, detail: str, *, blocks_reward: bool = False
) -> None:
    raise_anomaly(
        work,
        rule=rule,
        subject_kind="session",
        subject_id=session_id,
        host_id=instrument.host_id,
        detail=detail,
        blocks_reward=blocks_reward,
    )
