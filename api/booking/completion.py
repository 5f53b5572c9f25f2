"""Finish bookings by rule: expire requests nobody answered, complete what is over, find who did not come.

Called by the worker for what is due. Each function returns when to look again, None where nothing is left to do;
repeating it is harmless.
"""

from datetime import datetime, timedelta

from sqlalchemy import bindparam, func, or_, select

from api.booking import repository
from api.booking.due import ensure_due, readings_wait
from api.booking.sources import undecided
from api.booking.states import BookingAction
from api.booking.steps import StepInput, graces_of, take_step
from api.charging.anomalies import raise_anomaly
from api.work import Work
from store.tables.calendar import Booking, BookingMode, BookingState, Due, DueKind
from store.tables.registry import Instrument, Metering, UseDetection
from store.tables.usage import MeterPosition, UsageSession
from store.types import UtcDateTime

LOOK_AGAIN = timedelta(minutes=1)
PATIENCE = timedelta(hours=24)
TELEMETRY_COVERAGE = "telemetry_coverage"

_RUNNING = (BookingState.CONFIRMED, BookingState.CHECKED_IN, BookingState.IN_USE)
_TESTED = (BookingState.RESULTS_CONFIRMED, BookingState.REPORTED)

# Put together once: building a statement costs more than the database's answer to it.
_METERED_BY = (
    select(Metering.agent_id)
    .where(
        Metering.instrument_id == bindparam("instrument"), Metering.effective_at <= bindparam("at", type_=UtcDateTime)
    )
    .order_by(Metering.effective_at.desc())
    .limit(1)
)
_NEWEST = select(func.max(MeterPosition.accounted_to)).where(
    MeterPosition.instrument_id == bindparam("instrument"), MeterPosition.agent_id == bindparam("agent")
)
_UNFINISHED = (
    select(UsageSession.session_id, UsageSession.ended_at)
    .outerjoin(Due, (Due.kind == DueKind.MATCH_SESSION.value) & (Due.subject_id == UsageSession.session_id))
    .where(
        UsageSession.instrument_id == bindparam("instrument"),
        UsageSession.started_at < bindparam("claim_end", type_=UtcDateTime),
        or_(
            UsageSession.ended_at.is_(None),
            (UsageSession.ended_at > bindparam("began", type_=UtcDateTime)) & Due.subject_id.is_not(None),
        ),
    )
    .limit(1)
)

_HELD_BACK = (
    select(UsageSession.session_id)
    .where(
        UsageSession.instrument_id == bindparam("instrument"),
        UsageSession.started_at < bindparam("claim_end", type_=UtcDateTime),
        UsageSession.ended_at > bindparam("began", type_=UtcDateTime),
        undecided(UsageSession.session_id),
    )
    .limit(1)
)


def expire_booking(work: Work, booking_id: str) -> datetime | None:
    """Give a slot back that was held for a request nobody decided in time."""
    booking = repository.booking_row(work.session, work.actor, booking_id, lock=True)
    if booking.state != BookingState.REQUESTED.value or booking.held_until is None:
        return None
    if work.now < booking.held_until:
        return booking.held_until
    take_step(work, booking, BookingAction.EXPIRE)
    return None


def complete_booking(work: Work, booking_id: str) -> datetime | None:
    """Complete a booking whose claim is over once its use is known, and leave its charge to be made.

    Waits while a session is open or unmatched, or the meter has not accounted for the whole claim; gives up 24 h
    after the meter's last word (an anomaly says so). Who neither came nor used the instrument becomes a no-show, but
    not while a session that another source tells waits for an officer.
    """
    booking = repository.booking_row(work.session, work.actor, booking_id, lock=True)
    state, self_operated = BookingState(booking.state), booking.mode == BookingMode.SELF_OPERATED.value
    if state not in (_RUNNING if self_operated else _TESTED):
        return None
    claim_end = booking.checked_out_at or booking.slot_to + graces_of(work, booking).late
    if work.now < claim_end:
        return claim_end
    instrument = work.session.get_one(Instrument, booking.instrument_id)
    accounted_to = _accounted_to(work, instrument, claim_end)
    missing = _missing(work, booking, claim_end, accounted_to)
    if missing:
        if work.now < max(claim_end, accounted_to or claim_end) + PATIENCE:
            return work.now + LOOK_AGAIN
        raise_anomaly(
            work,
            rule=TELEMETRY_COVERAGE,
            subject_kind="booking",
            subject_id=booking_id,
            host_id=booking.host_id,
            detail=missing,
            blocks_reward=False,
        )
    if state is BookingState.CONFIRMED:
        # What the meter cannot witness is a no-show without a fee.
        take_step(work, booking, BookingAction.MISS, StepInput(reason=missing))
        return None
    if self_operated:
        take_step(work, booking, BookingAction.COMPLETE)
    ensure_due(work.session, DueKind.CHARGE_BOOKING, booking_id, work.now)
    return None


def _accounted_to(work: Work, instrument: Instrument, at: datetime) -> datetime | None:
    """Up to when the meter in force at an instant has accounted for the instrument; None where none measures it."""
    if instrument.use_detection == UseDetection.CHECKIN.value:
        return None
    agent_id = work.session.scalars(_METERED_BY, {"instrument": instrument.instrument_id, "at": at}).first()
    if agent_id is None:
        return None
    asked = {"instrument": instrument.instrument_id, "agent": agent_id}
    newest: datetime | None = work.session.scalars(_NEWEST, asked).one()
    return newest or datetime.fromtimestamp(0, tz=at.tzinfo)


def _missing(work: Work, booking: Booking, claim_end: datetime, accounted_to: datetime | None) -> str:
    """Return what completing has to wait for, "" where nothing."""
    began = min(booking.slot_from - graces_of(work, booking).early, booking.checked_in_at or booking.slot_from)
    asked = {"instrument": booking.instrument_id, "began": began, "claim_end": claim_end}
    row = work.session.execute(_UNFINISHED, asked).first()
    if row is not None:
        return f"session {row.session_id} is {'open' if row.ended_at is None else 'not matched yet'}"
    if booking.state == BookingState.CONFIRMED.value:
        # Whether anybody came is what an officer has to decide first.
        held = work.session.execute(_HELD_BACK, asked).scalar()
        if held is not None:
            return f"session {held} is held back"
    if readings_wait(work.session, booking.instrument_id):
        return "a card reading is not judged yet"
    if accounted_to is not None and accounted_to < claim_end:
        return "the meter has not accounted for the whole claim"
    return ""
