"""Put rows on an instrument's calendar and take them off. The database refuses an overlap; this file explains it.

Called by the service, the steps and the outages, always under the instrument's row lock: contenders queue up instead
of meeting in the constraint, which alone would be right but can stall in deadlocks.
"""

from sqlalchemy.exc import DBAPIError

from api.booking import repository
from api.booking.opening_rules import alternatives
from api.booking.rules import occupied, times
from api.booking.slots import LOOK_AHEAD, Interval
from api.errors import Refused, conflict
from api.registry.slot_terms import SlotTerms
from api.schemas import rfc3339
from api.work import Work
from store.database import refusal_of
from store.tables.calendar import CalendarKind, CalendarRow
from store.tables.registry import Instrument
from wire.ids import new_ulid


def check_free(work: Work, instrument: Instrument, slot: Interval, terms: SlotTerms) -> None:
    """Raise 409 `slot_taken` where the slot or the buffer after it is taken, with the clash as times only (never whose
    it is) and up to three free alternatives that break no term."""
    if repository.is_taken(work.session, instrument.instrument_id, occupied(slot, instrument)):
        raise slot_taken(work, instrument, slot, terms)


def occupy(work: Work, instrument: Instrument, slot: Interval, terms: SlotTerms, note: str = "") -> str:
    """Take a slot and the buffer after it, under the instrument's lock; return the row's id. Refused as `check_free`.

    Whoever writes a calendar holds that lock, so what is free at the look is free at the insert; should somebody not,
    the database refuses the overlap when the transaction is written, and the answer is a 409 without alternatives.
    """
    check_free(work, instrument, slot, terms)
    row = _row(work, instrument.instrument_id, CalendarKind.BOOKING, occupied(slot, instrument), note)
    work.session.add(row)
    work.session.flush()
    return row.row_id


def insert_row(work: Work, instrument_id: str, kind: CalendarKind, taken: Interval, note: str) -> str:
    """Add an active calendar row. Raises CalendarOverlap, leaving the transaction usable."""
    row = _row(work, instrument_id, kind, taken, note)
    try:
        with work.session.begin_nested():
            work.session.add(row)
    except DBAPIError as error:
        meaning = refusal_of(work.session, error)
        if meaning is None:
            raise
        raise meaning from error
    return row.row_id


def _row(work: Work, instrument_id: str, kind: CalendarKind, taken: Interval, note: str) -> CalendarRow:
    return CalendarRow(
        row_id=new_ulid(),
        instrument_id=instrument_id,
        kind=kind.value,
        from_at=taken.from_at,
        to_at=taken.to_at,
        active=True,
        note=note,
        created_by=work.actor.person_id,
        created_at=work.now,
    )


def release(work: Work, row_id: str | None) -> None:
    """Free the time of a row; None and a row that is free already are fine. The row stays as history."""
    if row_id is not None:
        work.session.get_one(CalendarRow, row_id).active = False
        work.session.flush()


def slot_taken(work: Work, instrument: Instrument, slot: Interval, terms: SlotTerms, but: str | None = None) -> Refused:
    """Return the refusal of a slot that is taken, naming three others. `but` is a row that would be given up."""
    taken = occupied(slot, instrument)
    busy = busy_ahead(work, instrument, slot, but)
    clash = [row for row in busy if row.overlaps(taken)]
    others = alternatives(slot, busy, terms, work.now)
    starts = ", ".join(rfc3339(other.from_at) for other in others)
    return conflict(
        "slot_taken",
        f"该时段已被占用;可改选以下开始时间:{starts or '无'}。",
        f"The instrument is taken at that time. Free slots as long as that start at: {starts or 'none'}.",
        instrument_id=instrument.instrument_id,
        clash=[times(row) for row in clash],
        alternatives=[times(other) for other in others],
    )


def busy_ahead(work: Work, instrument: Instrument, slot: Interval, but: str | None = None) -> tuple[Interval, ...]:
    """Return when the instrument is taken from a slot's start as far as alternatives to it are looked for."""
    length = slot.to_at - slot.from_at
    window = Interval(slot.from_at, slot.to_at + LOOK_AHEAD + length)
    rows = repository.calendar_between(work.session, instrument.instrument_id, window)
    return tuple(Interval(row.from_at, row.to_at) for row in rows if row.row_id != but)
