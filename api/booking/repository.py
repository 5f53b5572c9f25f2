"""SQL of the booking domain. Reads and locks rows, decides nothing, commits nothing.

Order of locks, everywhere: due row, instrument, booking, audit chain.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import Session

from api.booking.slots import Interval
from api.charging.access import visible_to
from api.errors import not_found
from api.work import Actor
from store.tables.calendar import Booking, BookingEvent, BookingUse, CalendarRow
from store.tables.registry import Affiliation, AffiliationEvent, Certificate, Host, Instrument, Org


def instrument_row(session: Session, instrument_id: str, *, lock: bool = False) -> Instrument:
    """Return an instrument, locked against other bookings of it if asked. Raises 404."""
    statement = select(Instrument).where(Instrument.instrument_id == instrument_id)
    if lock:
        # The weaker row lock: rows that refer to the instrument can still be written beside us.
        statement = statement.with_for_update(key_share=True).execution_options(populate_existing=True)
    found = session.execute(statement).scalar_one_or_none()
    if found is None:
        raise not_found("仪器", "instrument", instrument_id)
    return found


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


def has_certificate(session: Session, instrument_id: str, slot: Interval) -> bool:
    """Whether one certificate is valid during the whole slot."""
    statement = select(Certificate.certificate_id).where(
        Certificate.instrument_id == instrument_id,
        Certificate.valid_from <= slot.from_at,
        Certificate.valid_to >= slot.to_at,
    )
    return session.execute(statement.limit(1)).first() is not None


def calendar_between(session: Session, instrument_id: str, window: Interval) -> Sequence[CalendarRow]:
    """Return the active rows that share an instant with `window`, by start."""
    return session.scalars(
        select(CalendarRow)
        .where(
            CalendarRow.instrument_id == instrument_id,
            CalendarRow.active,
            CalendarRow.from_at < window.to_at,
            CalendarRow.to_at > window.from_at,
        )
        .order_by(CalendarRow.from_at)
    ).all()


def busy_between(session: Session, instrument_id: str, window: Interval) -> tuple[Interval, ...]:
    """Return when an instrument is taken within a window: times only, whoever took it."""
    return tuple(Interval(row.from_at, row.to_at) for row in calendar_between(session, instrument_id, window))


def booking_on_row(session: Session, row_id: str) -> Booking | None:
    """Return the booking that holds a calendar row."""
    return session.scalars(select(Booking).where(Booking.calendar_row_id == row_id)).one_or_none()


def visible(actor: Actor) -> ColumnElement[bool]:
    """Return which bookings an actor sees whole: its organisation's, its host's, or all."""
    host_id: ColumnElement[str] = Booking.__table__.c.host_id
    return visible_to(actor, host_id, Booking.__table__.c.payer_org)


def booking_row(session: Session, actor: Actor, booking_id: str, *, lock: bool = False) -> Booking:
    """Return a booking the actor may see, with its instrument's and its own lock if asked. Raises 404."""
    statement = select(Booking).where(Booking.booking_id == booking_id, visible(actor))
    found = session.execute(statement).scalar_one_or_none()
    if found is None:
        raise not_found("预约", "booking", booking_id)
    if lock:
        instrument_row(session, found.instrument_id, lock=True)
        statement = statement.with_for_update().execution_options(populate_existing=True)
        found = session.execute(statement).scalar_one()
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
        statement = statement.where(Booking.slot_to > from_at)
    if to_at is not None:
        statement = statement.where(Booking.slot_from < to_at)
    return statement


def events_of(session: Session, booking_id: str) -> Sequence[BookingEvent]:
    """Return what happened to a booking, oldest first."""
    return session.scalars(
        select(BookingEvent).where(BookingEvent.booking_id == booking_id).order_by(BookingEvent.event_no)
    ).all()


def last_event_no(session: Session, booking_id: str) -> int:
    """Return the number of a booking's newest event, 0 where it has none."""
    statement = select(func.coalesce(func.max(BookingEvent.event_no), 0)).where(BookingEvent.booking_id == booking_id)
    return int(session.execute(statement).scalar_one())


def uses_of(session: Session, booking_id: str) -> Sequence[BookingUse]:
    """Return the parts of sessions that were used under a booking, by time."""
    return session.scalars(
        select(BookingUse)
        .where(BookingUse.booking_id == booking_id)
        .order_by(BookingUse.from_at, BookingUse.session_id)
    ).all()
