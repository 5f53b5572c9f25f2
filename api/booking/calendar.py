"""Put rows on an instrument's calendar and take them off. The database refuses an overlap; this file explains it.

Called by the service, the steps and the outages, always under the instrument's row lock: contenders queue up instead
of meeting in the constraint, which alone would be right but can stall in deadlocks.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy.exc import DBAPIError

from api.booking import repository
from api.booking.opening_rules import alternatives
from api.booking.rules import occupied, times
from api.booking.slots import REACH, Interval
from api.errors import Refused, conflict
from api.registry.slot_terms import SlotTerms
from api.schemas import rfc3339
from api.work import Work
from store.database import refusal_of
from store.errors import CalendarOverlap
from store.tables.calendar import CalendarKind, CalendarRow
from store.tables.registry import Instrument
from store.upsert import insert_if_absent
from wire.ids import new_ulid


def occupy(work: Work, instrument: Instrument, slot: Interval, terms: SlotTerms, note: str = "") -> str:
    """Take a slot and the buffer after it, under the instrument's lock; return the row's id. Refused: 409
    `slot_taken`.

    It is the database that says whether the slot is free, by taking the row or not.
    """
    values = _values(work, instrument.instrument_id, CalendarKind.BOOKING, occupied(slot, instrument), note)
    if not _is_taken_up(work, lambda: insert_if_absent(work.session, CalendarRow, values)):
        raise slot_taken(work, instrument, slot, terms)
    return str(values["row_id"])


def occupy_unchanged(work: Work, instrument: Instrument, slot: Interval) -> str | None:
    """Lock an instrument and take a slot of it in one statement, as `occupy`; return the row's id. None where the slot
    is taken or the instrument is no longer what it was when it was read: then nothing was written."""
    values = _values(work, instrument.instrument_id, CalendarKind.BOOKING, occupied(slot, instrument), "")
    if not _is_taken_up(work, lambda: repository.add_row_if_unchanged(work.session, values, instrument.row_version)):
        return None
    return str(values["row_id"])


def _is_taken_up(work: Work, insert: Callable[[], bool]) -> bool:
    try:
        return insert()
    except DBAPIError as error:
        # One engine passes over the row like over a repeat, the other one raises; both leave the transaction usable.
        if not isinstance(refusal_of(work.session, error), CalendarOverlap):
            raise
        return False


def insert_row(work: Work, instrument_id: str, kind: CalendarKind, taken: Interval, note: str) -> str:
    """Add an active calendar row. Raises CalendarOverlap, leaving the transaction usable."""
    row = CalendarRow(**_values(work, instrument_id, kind, taken, note))
    try:
        with work.session.begin_nested():
            work.session.add(row)
    except DBAPIError as error:
        meaning = refusal_of(work.session, error)
        if meaning is None:
            raise
        raise meaning from error
    return row.row_id


def _values(work: Work, instrument_id: str, kind: CalendarKind, taken: Interval, note: str) -> dict[str, Any]:
    return {
        "row_id": new_ulid(),
        "instrument_id": instrument_id,
        "kind": kind.value,
        "from_at": taken.from_at,
        "to_at": taken.to_at,
        "active": True,
        "note": note,
        "created_by": work.actor.person_id,
        "created_at": work.now,
    }


def release(work: Work, row_id: str | None) -> None:
    """Free the time of a row; None and a row that is free already are fine. The row stays as history."""
    if row_id is not None:
        work.session.get_one(CalendarRow, row_id).active = False
        work.session.flush()


def slot_taken(work: Work, instrument: Instrument, slot: Interval, terms: SlotTerms, but: str | None = None) -> Refused:
    """Return the refusal of a slot that, or the buffer after it, is taken: with the clash as times only (never whose
    it is) and up to three free alternatives that break no term. `but` is a row that would be given up."""
    taken = occupied(slot, instrument)
    busy = busy_ahead(work, instrument, slot, but)
    clash = [row for row in busy if row.overlaps(taken)]
    others = alternatives(slot, busy, terms, work.now)
    starts = ", ".join(rfc3339(other.from_at) for other in others)
    return conflict(
        "slot_taken",
        f"该时段已被占用;请改选以下开始时间:{starts or '无'}。",
        f"The instrument is taken at that time; choose one of these starts, each free for as long: {starts or 'none'}.",
        instrument_id=instrument.instrument_id,
        clash=[times(row) for row in clash],
        alternatives=[times(other) for other in others],
    )


def busy_ahead(work: Work, instrument: Instrument, slot: Interval, but: str | None = None) -> tuple[Interval, ...]:
    """Return when the instrument is taken from a slot's start as far as alternatives to it are looked for."""
    length = slot.to_at - slot.from_at
    window = Interval(slot.from_at, slot.to_at + REACH + length)
    return repository.busy_between(work.session, instrument.instrument_id, window, but)
