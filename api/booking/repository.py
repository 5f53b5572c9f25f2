"""SQL of the booking domain. Reads and locks rows, decides nothing, commits nothing.

Order of locks, everywhere: due row, instrument, booking, audit chain.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, func, select
from sqlalchemy.orm import Session

from api.booking.rules import LONGEST_SLOT
from api.booking.slots import REACH, Interval
from api.charging.access import may_see, visible_to
from api.errors import not_found
from api.registry.opening import merge_special
from api.registry.repository import special_days
from api.registry.slot_terms import SlotTerms, terms_of
from api.work import Actor
from store.periods import SHANGHAI
from store.tables.accounts import Role, RoleGrant
from store.tables.booking_rules import BookingItem
from store.tables.calendar import Booking, BookingEvent, BookingState, BookingUse, CalendarRow
from store.tables.registry import Affiliation, AffiliationEvent, Host, Instrument, Org, TestItem
from store.types import UtcDateTime
from store.upsert import insert_where

# What every booking asks is put together once: building a statement costs more than the database's answer to it.
_INSTRUMENT = select(Instrument).where(Instrument.instrument_id == bindparam("instrument"))
# The weaker row lock: rows that refer to the instrument can still be written beside us.
_INSTRUMENT_LOCKED = _INSTRUMENT.with_for_update(key_share=True).execution_options(populate_existing=True)
# Over the table, which costs half of what it costs over the class.
_ITS = Instrument.__table__.c
_LOCK = select(_ITS.row_version).where(_ITS.instrument_id == bindparam("instrument")).with_for_update(key_share=True)
_LOCK_UNCHANGED = _LOCK.where(_ITS.row_version == bindparam("seen"))

_BOOKING = select(Booking).where(Booking.booking_id == bindparam("booking"))
_BOOKING_ALONE = _BOOKING.with_for_update().execution_options(populate_existing=True)
_LAST_EVENT = select(func.coalesce(func.max(BookingEvent.event_no), 0)).where(
    BookingEvent.booking_id == bindparam("booking")
)
_EVENTS = select(BookingEvent).where(BookingEvent.booking_id == bindparam("booking")).order_by(BookingEvent.event_no)


def instrument_row(session: Session, instrument_id: str, *, lock: bool = False) -> Instrument:
    """Return an instrument, locked against other bookings of it if asked. Raises 404."""
    statement = _INSTRUMENT_LOCKED if lock else _INSTRUMENT
    found = session.execute(statement, {"instrument": instrument_id}).scalar_one_or_none()
    if found is None:
        raise not_found("仪器", "instrument", instrument_id)
    return found


def lock_instrument(session: Session, instrument_id: str) -> int:
    """Lock an instrument against other bookings of it; return the version that it has now."""
    return int(session.execute(_LOCK, {"instrument": instrument_id}).scalar_one())


def add_row_if_unchanged(session: Session, row: dict[str, Any], version: int) -> bool:
    """Lock an instrument and add a row to its calendar in one statement, if it still has that version and the time is
    free; return whether it was added. The driver's error, where the engine raises one for a taken time."""
    asked = {"instrument": row["instrument_id"], "seen": version}
    return insert_where(session, CalendarRow, row, _LOCK_UNCHANGED, asked)


def manages_host(session: Session, person_id: str, host_id: str) -> bool:
    """Whether a person is a lab manager of a host."""
    return session.get(RoleGrant, (person_id, Role.LAB_MANAGER.value, host_id)) is not None


def was_confirmed(session: Session, booking_id: str) -> bool:
    """Whether a booking has been confirmed at any time, whatever happened to it since."""
    confirmed = select(BookingEvent.event_no).where(
        BookingEvent.booking_id == booking_id, BookingEvent.to_state == BookingState.CONFIRMED.value
    )
    return session.scalars(confirmed.limit(1)).first() is not None


def taken_back_by_lab(session: Session, booking: Booking) -> bool:
    """Whether the lab itself, not an outage, took the slot that a sample order had been given."""
    if booking.state != BookingState.SAMPLES_RECEIVED.value:
        return False
    taken_back = (
        select(BookingEvent.actor)
        .where(
            BookingEvent.booking_id == booking.booking_id,
            BookingEvent.from_state == BookingState.SCHEDULED.value,
            BookingEvent.to_state == BookingState.SAMPLES_RECEIVED.value,
        )
        .order_by(BookingEvent.event_no.desc())
    )
    by = session.scalars(taken_back.limit(1)).first()
    return by is not None and not by.startswith("system:")


def host_org(session: Session, host_id: str) -> Org:
    """Return the organisation of a host."""
    return session.execute(
        select(Org).join(Host, Host.org_id == Org.org_id).where(Host.host_id == host_id)
    ).scalar_one()


def org_row(session: Session, org_id: str) -> Org:
    """Return an organisation. Raises 404."""
    found = session.get(Org, org_id)
    if found is None:
        raise not_found("单位", "organisation", org_id)
    return found


def is_affiliated(session: Session, host_org_id: str, other_org_id: str, at: datetime) -> bool:
    """Whether two organisations are affiliated at an instant, by the newest fact until then."""
    state = session.scalars(
        select(AffiliationEvent.state)
        .where(
            AffiliationEvent.host_org == host_org_id,
            AffiliationEvent.other_org == other_org_id,
            AffiliationEvent.effective_at <= at,
        )
        .order_by(AffiliationEvent.effective_at.desc())
        .limit(1)
    ).first()
    return state == Affiliation.AFFILIATED.value


def slot_terms(session: Session, instrument: Instrument, slot: Interval) -> SlotTerms:
    """Return when an instrument can be booked, with the special days of a slot and of what may be proposed instead."""
    rows = special_days(session, instrument.host_id, *days_around(slot))
    return terms_of(instrument, merge_special(rows, instrument.host_id))


def days_around(slot: Interval) -> tuple[str, str]:
    """Return the first and the last day (YYYY-MM-DD) of a slot and of what may be proposed instead."""
    length = min(slot.to_at - slot.from_at, LONGEST_SLOT)  # a longer one is refused, and has no alternatives
    until = slot.from_at + 2 * length + REACH
    return slot.from_at.astimezone(SHANGHAI).date().isoformat(), until.astimezone(SHANGHAI).date().isoformat()


def instruments_of(host_ids: Sequence[str]) -> Select[str]:
    """Return the selection of the ids of hosts' instruments."""
    return select(Instrument.instrument_id).where(Instrument.host_id.in_(sorted(host_ids)))


def test_items(session: Session, instrument_id: str) -> Sequence[TestItem]:
    """Return what an instrument tests."""
    return session.scalars(
        select(TestItem).where(TestItem.instrument_id == instrument_id).order_by(TestItem.test_item_id)
    ).all()


def items_of(session: Session, booking_id: str) -> Sequence[BookingItem]:
    """Return the test items that were ordered with a booking."""
    return session.scalars(
        select(BookingItem).where(BookingItem.booking_id == booking_id).order_by(BookingItem.test_item_id)
    ).all()


def report_types(session: Session, booking_id: str) -> Sequence[str]:
    """Return the report types of the test items that were ordered with a booking."""
    return session.scalars(
        select(TestItem.report_type)
        .join(BookingItem, BookingItem.test_item_id == TestItem.test_item_id)
        .where(BookingItem.booking_id == booking_id)
    ).all()


_TAKING = (
    CalendarRow.instrument_id == bindparam("instrument"),
    CalendarRow.active,
    CalendarRow.from_at < bindparam("until", type_=UtcDateTime),
    CalendarRow.to_at > bindparam("since", type_=UtcDateTime),
)
_ROWS = select(CalendarRow).where(*_TAKING).order_by(CalendarRow.from_at)
_TIMES = _ROWS.with_only_columns(CalendarRow.from_at, CalendarRow.to_at)
_TIMES_BUT = _TIMES.where(CalendarRow.row_id != bindparam("but"))


def calendar_between(session: Session, instrument_id: str, window: Interval) -> Sequence[CalendarRow]:
    """Return the active rows that share an instant with `window`, by start."""
    return session.scalars(_ROWS, _asked(instrument_id, window)).all()


def busy_between(
    session: Session, instrument_id: str, window: Interval, but: str | None = None
) -> tuple[Interval, ...]:
    """Return when an instrument is taken within a window: times only, whoever took it. `but`: a row left out."""
    asked = _asked(instrument_id, window)
    rows = session.execute(_TIMES, asked) if but is None else session.execute(_TIMES_BUT, asked | {"but": but})
    return tuple(Interval(*row) for row in rows)


def _asked(instrument_id: str, window: Interval) -> dict[str, object]:
    return {"instrument": instrument_id, "since": window.from_at, "until": window.to_at}


def booking_on_row(session: Session, row_id: str) -> Booking | None:
    """Return the booking that holds a calendar row."""
    return session.scalars(select(Booking).where(Booking.calendar_row_id == row_id)).one_or_none()


def visible(actor: Actor) -> ColumnElement[bool]:
    """Return which bookings an actor sees whole: its organisation's, its host's, or all."""
    host_id: ColumnElement[str] = Booking.__table__.c.host_id
    return visible_to(actor, host_id, Booking.__table__.c.payer_org)


def booking_row(session: Session, actor: Actor, booking_id: str, *, lock: bool = False) -> Booking:
    """Return a booking the actor may see, with its instrument's and its own lock if asked. Raises 404."""
    found = session.execute(_BOOKING, {"booking": booking_id}).scalar_one_or_none()
    if found is None or not may_see(actor, found.host_id, found.payer_org):
        raise not_found("预约", "booking", booking_id)
    if lock:
        instrument_row(session, found.instrument_id, lock=True)
        found = session.execute(_BOOKING_ALONE, {"booking": booking_id}).scalar_one()
    return found


def bookings_seen(
    actor: Actor,
    *,
    instrument_id: str | None = None,
    state: str | None = None,
    from_at: datetime | None = None,
    to_at: datetime | None = None,
) -> Select[Booking]:
    """Return the selection of visible bookings whose slot shares an instant with [from_at, to_at)."""
    statement = select(Booking).where(visible(actor))
    if instrument_id is not None:
        statement = statement.where(Booking.instrument_id == instrument_id)
    if state is not None:
        statement = statement.where(Booking.state == state)
    if from_at is not None:
        # No slot is longer: so the index by start serves, and the years behind are not looked through.
        statement = statement.where(Booking.slot_to > from_at, Booking.slot_from > from_at - LONGEST_SLOT)
    if to_at is not None:
        statement = statement.where(Booking.slot_from < to_at)
    return statement


def events_of(session: Session, booking_id: str) -> Sequence[BookingEvent]:
    """Return what happened to a booking, oldest first."""
    return session.scalars(_EVENTS, {"booking": booking_id}).all()


def last_event_no(session: Session, booking_id: str) -> int:
    """Return the number of a booking's newest event, 0 where it has none."""
    return int(session.execute(_LAST_EVENT, {"booking": booking_id}).scalar_one())


def uses_of(session: Session, booking_id: str) -> Sequence[BookingUse]:
    """Return the parts of sessions that were used under a booking, by time."""
    return session.scalars(
        select(BookingUse)
        .where(BookingUse.booking_id == booking_id)
        .order_by(BookingUse.from_at, BookingUse.session_id)
    ).all()
