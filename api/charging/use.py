"""What is known of a booking's use when it is about to be charged, and what is still missing. Reads only."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from api.charging.bridged import Holes, bridge
from api.charging.corrections_rules import corrected_ms, decided_sessions
from api.charging.evidence import UseSpan, records_of, use_spans
from api.charging.rating import CURRENT_CALC_VERSION
from api.work import Work
from store.series import SeriesStore
from store.tables.calendar import Booking, BookingUse, Due, DueKind
from store.tables.charging import Charge, ChargePurpose
from store.tables.registry import Certificate, Instrument, UseDetection
from store.tables.usage import UsageSession
from store.types import UtcDateTime
from wire.clock import from_ms, to_ms

PATIENCE = timedelta(hours=24)

# Put together once: building a statement costs more than the database's answer to it.
_MATCHED_MS = select(func.coalesce(func.sum(BookingUse.running_ms), 0)).where(
    BookingUse.booking_id == bindparam("booking")
)
_LAST_CHARGED = (
    select(Charge)
    .where(
        Charge.booking_id == bindparam("booking"),
        Charge.purpose == ChargePurpose.USE.value,
        Charge.revision % 2 == 1,
    )
    .order_by(Charge.revision.desc())
    .limit(1)
)
_LATE = (
    select(BookingUse.session_id)
    .join(UsageSession, UsageSession.session_id == BookingUse.session_id)
    .where(
        BookingUse.booking_id == bindparam("booking"),
        BookingUse.matched_at > bindparam("after", type_=UtcDateTime),
        BookingUse.running_ms > 0,
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
        Certificate.withdrawn_at.is_(None),
    )
    .limit(1)
)


@dataclass(frozen=True)
class Use:
    """The parts of sessions, the metered time to bill (what was bridged is in it) and the end of use (exclusive, UTC
    milliseconds)."""

    spans: tuple[UseSpan, ...]
    metered_ms: int
    end_ms: int
    holes: Holes = field(default_factory=Holes)


def use_of(session: Session, booking: Booking, instrument: Instrument) -> Use:
    """Return the matched use, as corrected; without any session it ends at the check-out, or else with the slot."""
    spans = tuple(use_spans(session, booking.booking_id))
    metered_ms = session.execute(_MATCHED_MS, {"booking": booking.booking_id}).scalar_one()
    present_ms, holes = _present_ms(booking), Holes()
    if not told_by_presence(session, booking, instrument):
        holes = _holes(session, booking.booking_id, spans)
    elif present_ms is not None:
        metered_ms = present_ms
    metered_ms = max(0, int(metered_ms) + holes.bridged_ms + corrected_ms(session, booking.booking_id))
    end_ms = max((span.to_ms for span in spans), default=to_ms(booking.checked_out_at or booking.slot_to))
    return Use(spans, metered_ms, end_ms, holes)


def told_by_presence(session: Session, booking: Booking, instrument: Instrument) -> bool:
    """Whether the time between check-in and check-out is a booking's use: where nothing measures the instrument. Once
    charged it stays as it was charged: an instrument may be measured afterwards, and no correction meters anew."""
    asked = {"booking": booking.booking_id}
    charge = session.execute(_LAST_CHARGED, asked).scalar_one_or_none() if _present_ms(booking) is not None else None
    if charge is None:
        return instrument.use_detection == UseDetection.CHECKIN.value
    return charged_by_presence(session, charge, booking, instrument)


def charged_by_presence(session: Session, charge: Charge, booking: Booking, instrument: Instrument) -> bool:
    """Whether a charge for use was metered by check-in and check-out, as corrected until it was posted."""
    present_ms = _present_ms(booking)
    if present_ms is None:
        return instrument.use_detection == UseDetection.CHECKIN.value
    return charge.metered_ms == max(0, present_ms + corrected_ms(session, charge.booking_id, charge.revision))


def _present_ms(booking: Booking) -> int | None:
    came, left = booking.checked_in_at, booking.checked_out_at
    return None if came is None or left is None else max(0, to_ms(left) - to_ms(came))


def _holes(session: Session, booking_id: str, spans: Sequence[UseSpan]) -> Holes:
    with_holes = {span.session_id for span in spans if span.unknown_ms}
    if not with_holes:
        return Holes()
    records = records_of(session, with_holes)
    return bridge(spans, records, CURRENT_CALC_VERSION, decided_sessions(session, booking_id))


def late_sessions(session: Session, booking: Booking, charge: Charge) -> list[str]:
    """Return the sessions that ran for this booking and were matched after the charge was posted, by their start.

    Empty where its use is the presence: the charge knows that.
    """
    if told_by_presence(session, booking, session.get_one(Instrument, booking.instrument_id)):
        return []
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
    """Whether a traceability certificate of the instrument that nobody withdrew covers the last instant of use."""
    asked = {"instrument": instrument_id, "moment": from_ms(end_ms - 1)}
    return session.execute(_CERTIFICATE, asked).first() is not None
