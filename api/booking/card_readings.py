"""What a card held to a reader does: find the card, its person, the booking it fits, and check in or out.

Called by the worker for each `checkin` record of the ledger. Each record is judged once; what is judged stands, and
judging it again finds that. What fits nothing changes nothing and is told to the host as an alert. Order of locks as
everywhere: due row, instrument, booking, audit chain.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select

from api.booking import cards, repository
from api.booking.due import earlier_reading_waits
from api.booking.matching import FORGOTTEN_CHECK_OUT
from api.booking.states import BookingAction
from api.booking.steps import StepInput, graces_of, perform
from api.charging.anomalies import raise_anomaly
from api.errors import Refused
from api.schemas import rfc3339
from api.work import Work
from store.alerts import raise_alert
from store.tables.accounts import Person
from store.tables.calendar import Booking, BookingMode, BookingState
from store.tables.cards import AccessCard, CardReading, ReadingOutcome
from store.tables.registry import Agent, Instrument
from store.tables.usage import UsageRecordRow
from wire.clock import from_ms, to_ms
from wire.messages import ClockQuality, RecordKind, UsageRecord, timestamp_ms
from wire.topics import AGENT_ITSELF

SKEW_MOST = timedelta(seconds=60)
"""How far a reader's clock may be off before its word about a time is not taken."""
PROOF_WITHIN = timedelta(minutes=10)
"""How long a reading that came late waits for a record that proves its clock right."""
IN, OUT, TAP = "in", "out", "tap"
_PRESENT = (BookingState.CHECKED_IN, BookingState.IN_USE)
_EXPECTED = (BookingState.CONFIRMED, BookingState.IN_USE)
_IN_ORDER = timedelta(seconds=1)
_GRACE_MAX = timedelta(days=1)
"""The longest grace a tariff can agree."""
_HASH_SHOWN = 12
_KEPT_RIGHT = (ClockQuality.NTP, ClockQuality.HOLDOVER)


@dataclass(frozen=True)
class _Verdict:
    """What a reading comes to. `booking_id` only where it was checked in or out."""

    outcome: ReadingOutcome
    detail: str = ""
    card: AccessCard | None = None
    booking_id: str | None = None


def when_held(record: UsageRecord, received_at: datetime, proved: bool = False) -> datetime | None:
    """Return when a card was held to the reader, never later than it was received; None where its clock says nothing.

    A clock that was never set is not believed. One that was set once and runs by itself is where it agrees with the
    arrival, or was `proved` right later on; a synchronised one (or one that was, and nobody has set since) about the
    past too, however long the record waited in the spool. Pure.
    """
    at = from_ms(timestamp_ms(record.ts))
    if record.ts_q is ClockQuality.UNSET or at > received_at + SKEW_MOST:
        return None
    if record.ts_q not in _KEPT_RIGHT and received_at - at > SKEW_MOST and not proved:
        return None
    return min(at, received_at)


def judge_reading(work: Work, subject_id: str) -> datetime | None:
    """Let a `checkin` record have its effect; return None, nothing is left to do, or when to look again for the proof
    that its clock was right. Raises LookupError for an unknown record.
    """
    agent_id, stream, seq = subject_id.split("/")
    key = (agent_id, stream, int(seq))
    row = work.session.get(UsageRecordRow, key)
    if row is None:
        raise LookupError(f"there is no record {subject_id}")
    if work.session.get(CardReading, key) is not None:
        return None
    if earlier_reading_waits(work.session, agent_id, stream, row.seq):
        return work.now + _IN_ORDER
    record = UsageRecord.model_validate_json(row.payload)
    proved = False
    if when_held(record, row.received_at) is None and when_held(record, row.received_at, proved=True) is not None:
        proved = _clock_proved(work, row, record)
        if not proved and work.now < row.received_at + PROOF_WITHIN:
            return work.now + SKEW_MOST / 2
    instrument = None
    if record.inst != AGENT_ITSELF:
        instrument = repository.instrument_row(work.session, record.inst, lock=True)
    verdict = _judged(work, record, when_held(record, row.received_at, proved), instrument)
    host_id = work.session.get_one(Agent, agent_id).host_id if instrument is None else instrument.host_id
    reading = CardReading(
        agent_id=agent_id,
        stream=stream,
        seq=row.seq,
        instrument_id=None if instrument is None else instrument.instrument_id,
        host_id=host_id,
        card_sha256=record.user_hint or "",
        card_id=None if verdict.card is None else verdict.card.card_id,
        said=record.reason or "",
        at=from_ms(timestamp_ms(record.ts)),
        outcome=verdict.outcome.value,
        booking_id=verdict.booking_id,
        detail=verdict.detail,
        judged_at=work.now,
    )
    work.session.add(reading)
    work.session.flush()
    if verdict.booking_id is None:
        told = f"card {reading.card_sha256[:_HASH_SHOWN]} at {rfc3339(reading.at)}: {verdict.detail}"
        rule = f"reading_{verdict.outcome.value}"
        raise_alert(work.session, rule, reading.instrument_id or agent_id, told, to_ms(work.now), host_id)
    return None


def _clock_proved(work: Work, row: UsageRecordRow, record: UsageRecord) -> bool:
    """Whether the stream's newest record is of the same boot, arrived when its own clock said, and the clock was not
    set in between."""
    later = (
        select(UsageRecordRow)
        .where(UsageRecordRow.agent_id == row.agent_id, UsageRecordRow.stream == row.stream)
        .where(UsageRecordRow.seq > row.seq, UsageRecordRow.kind.in_([kind.value for kind in RecordKind]))
        .order_by(UsageRecordRow.seq.desc())
        .limit(1)
    )
    newest = work.session.scalars(later).first()
    if newest is None or abs(newest.received_at - newest.at) > SKEW_MOST:
        return False
    was_set = work.session.scalars(later.where(UsageRecordRow.kind == RecordKind.CLOCK.value)).first() is not None
    return not was_set and UsageRecord.model_validate_json(newest.payload).boot == record.boot


def _judged(work: Work, record: UsageRecord, at: datetime | None, instrument: Instrument | None) -> _Verdict:
    if instrument is None or record.user_hint is None or record.reason not in (IN, OUT, TAP):
        return _Verdict(ReadingOutcome.BAD_RECORD, "it names no instrument, no card, or neither in, out nor tap")
    if at is None:
        return _Verdict(ReadingOutcome.CLOCK_NOT_TRUSTED, f"the reader's clock ({record.ts_q.value}) proves nothing")
    known = cards.known_at(work.session, record.user_hint, instrument.host_id)
    if not known:
        return _Verdict(ReadingOutcome.UNKNOWN_CARD, "nobody was given this card")
    card = next((card for card in known if cards.is_valid(work.session, card, at)), None)
    if card is None:
        return _Verdict(ReadingOutcome.CARD_NOT_VALID, "it had expired or was taken back", known[0])
    person = work.session.get_one(Person, card.person_id)
    if not person.active:
        return _Verdict(ReadingOutcome.CARD_NOT_VALID, "its person is no longer active", card)
    return _act(work, record.reason, card, person, instrument, at)


def _act(work: Work, said: str, card: AccessCard, person: Person, instrument: Instrument, at: datetime) -> _Verdict:
    bookings = _around(work, instrument.instrument_id, at)
    theirs = [booking for booking in bookings if booking.payer_org == person.org_id]
    # A firm's people stand in for each other; their own booking comes first.
    theirs.sort(key=lambda booking: (booking.person_id != person.person_id, booking.slot_from, booking.booking_id))
    leaving = next((booking for booking in theirs if _is_there(booking, at)), None)
    coming = next((booking for booking in theirs if _may_come(work, booking, at)), None)
    if said == TAP:
        still_theirs = leaving is not None and (at < leaving.slot_to or coming is None)
        said = OUT if still_theirs else IN
    booking = leaving if said == OUT else coming
    if booking is None:
        what = "to check out of" if said == OUT else "to check in to"
        return _Verdict(ReadingOutcome.NO_BOOKING, f"{person.org_id} has no booking {what} then", card)
    facts = StepInput(present=True, at=at)
    try:
        if said == OUT:
            perform(work, booking.booking_id, BookingAction.CHECK_OUT, facts, None)
            return _Verdict(ReadingOutcome.CHECKED_OUT, "", card, booking.booking_id)
        perform(work, booking.booking_id, BookingAction.CHECK_IN, facts, None)
    except Refused as refused:
        return _Verdict(ReadingOutcome.NO_BOOKING, f"booking {booking.booking_id}: {refused.en}", card)
    for other in bookings:
        if other.booking_id != booking.booking_id and _is_there(other, at):
            _end(work, other, booking, at)
    return _Verdict(ReadingOutcome.CHECKED_IN, "", card, booking.booking_id)


def _around(work: Work, instrument_id: str, at: datetime) -> list[Booking]:
    """The bookings of an instrument that somebody may come to or is at. Not locked: the step itself locks, behind the
    due row, and looks again."""
    states = sorted({state.value for state in (*_PRESENT, *_EXPECTED)})
    return list(
        work.session.scalars(
            select(Booking)
            .where(
                Booking.instrument_id == instrument_id,
                Booking.mode == BookingMode.SELF_OPERATED.value,
                Booking.state.in_(states),
                Booking.slot_from <= at + _GRACE_MAX,
            )
            .order_by(Booking.slot_from, Booking.booking_id)
            .execution_options(populate_existing=True)
        )
    )


def _is_there(booking: Booking, at: datetime) -> bool:
    came = booking.checked_in_at
    return came is not None and came <= at and booking.checked_out_at is None


def _may_come(work: Work, booking: Booking, at: datetime) -> bool:
    if booking.checked_in_at is not None or booking.state not in _EXPECTED:
        return False
    return booking.slot_from - graces_of(work, booking).early <= at < booking.slot_to


def _end(work: Work, forgotten: Booking, by: Booking, at: datetime) -> None:
    """Check somebody out who is still there when the next one comes: the design's end of a forgotten check-out."""
    perform(work, forgotten.booking_id, BookingAction.CHECK_OUT, StepInput(at=at), None)
    raise_anomaly(
        work,
        rule=FORGOTTEN_CHECK_OUT,
        subject_kind="booking",
        subject_id=forgotten.booking_id,
        host_id=forgotten.host_id,
        detail=f"ended at {rfc3339(at)} by the check-in of booking {by.booking_id}",
        blocks_reward=False,
    )
