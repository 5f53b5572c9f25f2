"""What is known of a booking's use when it is about to be charged, and what is still missing. Reads only."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from api.charging.corrections_rules import corrected_ms
from api.charging.evidence import UseSpan, use_spans
from api.work import Work
from store.series import SeriesStore
from store.tables.calendar import Booking, BookingUse, Due, DueKind
from store.tables.charging import Charge
from store.tables.registry import Certificate, Instrument, UseDetection
from store.tables.usage import UsageSession
from store.types import UtcDateTime
from wire.clock import from_ms, to_ms

PATIENCE = timedelta(hours=24)

# Put together once: building a statement costs more than the database's answer to it.
_MATCHED_MS = select(func.coalesce(func.sum(BookingUse.running_ms), 0)).where(
    BookingUse.booking_id == bindparam("booking")
)
_LATE = (
    select(BookingUse.session_id)
    .join(UsageSession, UsageSession.session_id == BookingUse.session_id)
    .join(Instrument, Instrument.instrument_id == UsageSession.instrument_id)
    .where(
        BookingUse.booking_id == bindparam("booking"),
        BookingUse.matched_at > bindparam("after", type_=UtcDateTime),
        BookingUse.running_ms > 0,
        Instrument.use_detection != UseDetection.CHECKIN.value,
    )
    .order_by(BookingUse.from_at, BookingUse.session_id)
)
_OVERLAPPING = (
    UsageSession.instrument_id == bindparam("instrument"),
    UsageSession.started_at < bindparam("until", type_=UtcDateTime),
    UsageSession.last_at > bindparam("since", type_=UtcDateTime),
)
_OPEN = select(UsageSession.session_id).where(*_OVERLAPPING, UsageSession.ended_at.is_(None)).limit(1)
_UNMATCHED = (
    select(UsageSession.session_id)
    .join(Due, (Due.kind == DueKind.MATCH_SESSION.value) & (Due.subject_id == UsageSession.session_id))
    .where(*_OVERLAPPING)
    .limit(1)
)
_MOMENT = bindparam("moment", type_=UtcDateTime)
_CERTIFICATE = (
    select(Certificate.certificate_id)
    .where(
        Certificate.instrument_id == bindparam("instrument"),
        Certificate.valid_from <= _MOMENT,
        Certificate.valid_to > _MOMENT,
    )
    .limit(1)
)


@dataclass(frozen=True)
class Use:
    """The parts of sessions, the metered time to bill and the end of use (exclusive, UTC milliseconds)."""

    spans: tuple[UseSpan, ...]
    metered_ms: int
    end_ms: int


def use_of(session: Session, booking: Booking, instrument: Instrument) -> Use:
    """Return the matched use, as corrected; without any session it ends at the check-out, or else with the slot."""
    spans = tuple(use_spans(session, booking.booking_id))
    metered_ms = session.execute(_MATCHED_MS, {"booking": booking.booking_id}).scalar_one()
    came, left = booking.checked_in_at, booking.checked_out_at
    if instrument.use_detection == UseDetection.CHECKIN.value and came is not None and left is not None:
        # Nothing measures such an instrument: the time between check-in and check-out is the use.
        metered_ms = max(0, to_ms(left) - to_ms(came))
    metered_ms = max(0, int(metered_ms) + corrected_ms(session, booking.booking_id))
    end_ms = max((span.to_ms for span in spans), default=to_ms(left or booking.slot_to))
    return Use(spans, metered_ms, end_ms)


def late_sessions(session: Session, booking: Booking, charge: Charge) -> list[str]:
    """Return the sessions that ran for this booking and were matched after the charge was posted, by their start.

    Empty where nothing measures the instrument: its use is the presence, and the charge knows that.
    """
    asked = {"booking": booking.booking_id, "after": charge.recorded_at}
    return list(session.execute(_LATE, asked).scalars())


def what_is_missing(work: Work, booking: Booking, use: Use, series: SeriesStore) -> str:
    """Return what a charge has to wait for, "" where nothing."""
    asked = {"instrument": booking.instrument_id, "since": booking.slot_from, "until": booking.slot_to}
    if work.session.execute(_OPEN, asked).first() is not None:
        return "session_open"
    if work.session.execute(_UNMATCHED, asked).first() is not None:
        return "session_unmatched"
    if work.now - from_ms(use.end_ms) >= PATIENCE:
        return ""
    newest = series.latest([booking.instrument_id]).get(booking.instrument_id)
    slack_ms = max((span.period_ms for span in use.spans), default=0)
    return "" if newest is not None and newest.at_ms >= use.end_ms - slack_ms else "samples_late"


def certificate_valid(session: Session, instrument_id: str, end_ms: int) -> bool:
    """Whether a traceability certificate of the instrument covers the last instant of use."""
    asked = {"instrument": instrument_id, "moment": from_ms(end_ms - 1)}
    return session.execute(_CERTIFICATE, asked).first() is not None
