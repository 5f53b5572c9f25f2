"""Put rows on an instrument's calendar and take them off. The database refuses an overlap; this file explains it.

Called by the service, the steps and the outages, always under the instrument's row lock: contenders queue up instead
of meeting in the constraint, which alone would be right but can stall in deadlocks.
"""

from sqlalchemy.exc import DBAPIError

from api.booking import repository
from api.booking.rules import occupied, times
from api.booking.slots import LOOK_AHEAD, Interval, free_slots
from api.errors import Refused, conflict
from api.schemas import rfc3339
from api.work import Work
from store.database import refusal_of
from store.errors import CalendarOverlap
from store.tables.calendar import CalendarKind, CalendarRow
from store.tables.registry import Instrument
from wire.ids import new_ulid


def occupy(work: Work, instrument: Instrument, slot: Interval, note: str = "") -> str:
    """Take a slot and the buffer after it; return the row's id.

    Refused: 409 `slot_taken`, with the clash as times only (never whose it is) and up to three free alternatives.
    """
    try:
        return insert_row(work, instrument.instrument_id, CalendarKind.BOOKING, occupied(slot, instrument), note)
    except CalendarOverlap:
        raise slot_taken(work, instrument, slot) from None


def insert_row(work: Work, instrument_id: str, kind: CalendarKind, taken: Interval, note: str) -> str:
    """Add an active calendar row. Raises CalendarOverlap, leaving the transaction usable."""
    row_id = new_ulid()
    row = CalendarRow(
        row_id=row_id,
        instrument_id=instrument_id,
        kind=kind.value,
        from_at=taken.from_at,
        to_at=taken.to_at,
        active=True,
        note=note,
        created_by=work.actor.person_id,
        created_at=work.now,
    )
    try:
        with work.session.begin_nested():
            work.session.add(row)
    except DBAPIError as error:
        meaning = refusal_of(work.session, error)
        if meaning is None:
            raise
        raise meaning from error
    return row_id


def release(work: Work, row_id: str | None) -> None:
    """Free the time of a row; None and a row that is free already are fine. The row stays as history."""
    if row_id is not None:
        work.session.get_one(CalendarRow, row_id).active = False
        work.session.flush()


def slot_taken(work: Work, instrument: Instrument, slot: Interval) -> Refused:
    """Return the refusal of a slot that is taken, naming three others."""
    length = slot.to_at - slot.from_at
    window = Interval(slot.from_at, slot.to_at + LOOK_AHEAD + length)
    busy = repository.busy_between(work.session, instrument.instrument_id, window)
    taken = occupied(slot, instrument)
    buffer = taken.to_at - slot.to_at
    clash = [row for row in busy if row.overlaps(taken)]
    others = free_slots(busy, slot, buffer, work.now)
    starts = ", ".join(rfc3339(other.from_at) for other in others)
    return conflict(
        "slot_taken",
        f"该时段已被占用;可改选以下开始时间:{starts or '无'}。",
        f"The instrument is taken at that time. Free slots as long as that start at: {starts or 'none'}.",
        instrument_id=instrument.instrument_id,
        clash=[times(row) for row in clash],
        alternatives=[times(other) for other in others],
    )
