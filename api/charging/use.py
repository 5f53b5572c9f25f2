"""What is known of a booking's use when it is about to be charged, and what is still missing. Reads only."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.charging.corrections_rules import corrected_ms
from api.charging.evidence import UseSpan, use_spans
from api.work import Work
from store.series import SeriesStore
from store.tables.calendar import Booking, BookingUse, Due, DueKind
from store.tables.registry import Certificate, Instrument, UseDetection
from store.tables.usage import UsageSession
from wire.clock import from_ms, to_ms

PATIENCE = timedelta(hours=24)


@dataclass(frozen=True)
class Use:
    """The parts of sessions, the metered time to bill and the end of use (exclusive, UTC milliseconds)."""

    spans: tuple[UseSpan, ...]
    metered_ms: int
    end_ms: int


def use_of(session: Session, booking: Booking, instrument: Instrument) -> Use:
    """Return the matched use, as corrected; without any session it ends at the check-out, or else with the slot."""
    spans = tuple(use_spans(session, booking.booking_id))
    metered_ms = session.execute(
        select(func.coalesce(func.sum(BookingUse.running_ms), 0)).where(BookingUse.booking_id == booking.booking_id)
    ).scalar_one()
    came, left = booking.checked_in_at, booking.checked_out_at
    if instrument.use_detection == UseDetection.CHECKIN.value and came is not None and left is not None:
        # Nothing measures such an instrument: the time between check-in and check-out is the use.
        metered_ms = max(0, to_ms(left) - to_ms(came))
    metered_ms = max(0, int(metered_ms) + corrected_ms(session, booking.booking_id))
    end_ms = max((span.to_ms for span in spans), default=to_ms(left or booking.slot_to))
    return Use(spans, metered_ms, end_ms)


def what_is_missing(work: Work, booking: Booking, use: Use, series: SeriesStore) -> str:
    """Return what a charge has to wait for, "" where nothing."""
    overlapping = (
        UsageSession.instrument_id == booking.instrument_id,
        UsageSession.started_at < booking.slot_to,
        UsageSession.last_at > booking.slot_from,
    )
    is_open = select(UsageSession.session_id).where(*overlapping, UsageSession.ended_at.is_(None)).limit(1)
    if work.session.execute(is_open).first() is not None:
        return "session_open"
    unmatched = (
        select(UsageSession.session_id)
        .join(Due, (Due.kind == DueKind.MATCH_SESSION.value) & (Due.subject_id == UsageSession.session_id))
        .where(*overlapping)
        .limit(1)
    )
    if work.session.execute(unmatched).first() is not None:
        return "session_unmatched"
    if work.now - from_ms(use.end_ms) >= PATIENCE:
        return ""
    newest = series.latest([booking.instrument_id]).get(booking.instrument_id)
    slack_ms = max((span.period_ms for span in use.spans), default=0)
    return "" if newest is not None and newest.at_ms >= use.end_ms - slack_ms else "samples_late"


def certificate_valid(session: Session, instrument_id: str, end_ms: int) -> bool:
    """Whether a traceability certificate of the instrument covers the last instant of use."""
    moment = from_ms(end_ms - 1)
    valid = select(Certificate.certificate_id).where(
        Certificate.instrument_id == instrument_id, Certificate.valid_from <= moment, Certificate.valid_to > moment
    )
    return session.execute(valid.limit(1)).first() is not None
