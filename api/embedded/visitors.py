"""The people of the demo: firms that book for the days to come and check in when they arrive, managers who approve.

Through the same services as everybody else. What they do depends on the date alone, so a restarted demo goes on
with the same story; nobody books a day twice.
"""

import random
from datetime import datetime, timedelta

import structlog
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.booking.rules import BookingRequest
from api.booking.service import create_booking
from api.booking.slots import Interval
from api.booking.states import BookingAction
from api.booking.steps import take_step
from api.errors import Refused
from api.seeding.people import host_manager
from api.work import Actor, Work, system_actor
from store.database import Database
from store.periods import SHANGHAI
from store.tables.accounts import Person, Role, RoleGrant
from store.tables.calendar import Booking, BookingMode, BookingState
from store.tables.registry import Instrument, Org, OrgKind, TestItem, UseDetection

log = structlog.get_logger(__name__)

STORY = "demo visitor"
BOOKINGS_A_DAY = 24
DAYS_AHEAD = 2
_STARTS = ((9, 0), (10, 30), (13, 30), (15, 0))
_LONGEST_MINUTES = 90


class Visitors:
    """Acts whenever it is asked to; cheap when there is nothing to do."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._booked_to: datetime | None = None

    def act(self, now: datetime) -> None:
        """Book the coming days, approve what waits for approval, and check in who is due."""
        today = midnight(now)
        last = today + timedelta(days=DAYS_AHEAD)
        if self._booked_to is None or self._booked_to < last:
            with self._database.write() as session:
                for ahead in range(DAYS_AHEAD + 1):
                    book_day(session, today + timedelta(days=ahead), now)
            self._booked_to = last
        with self._database.write() as session:
            approve_requests(session, now)
            check_in_arrivals(session, now)


def midnight(moment: datetime) -> datetime:
    """Return the beginning of the Asia/Shanghai day of an instant."""
    return moment.astimezone(SHANGHAI).replace(hour=0, minute=0, second=0, microsecond=0)


def is_working_day(day: datetime) -> bool:
    """Whether the labs are open that day."""
    return day.astimezone(SHANGHAI).weekday() < 5


def book_day(session: Session, day: datetime, now: datetime) -> int:
    """Make the bookings of one day, unless it has them already; return how many were made.

    Slots that lie before `now`, or are taken, are left out: the visitors are as late as anybody.
    """
    if not is_working_day(day):
        return 0
    made = session.scalar(
        select(func.count())
        .select_from(Booking)
        .where(Booking.note == STORY, Booking.slot_from >= day, Booking.slot_from < day + timedelta(days=1))
    )
    if made:
        return 0
    dice = random.Random(f"visitors/{day.date().isoformat()}")
    instruments = session.execute(
        select(Instrument, TestItem.typical_session_minutes)
        .join(TestItem, TestItem.instrument_id == Instrument.instrument_id)
        .order_by(Instrument.instrument_id)
    ).all()
    people = firm_people(session)
    count = 0
    for instrument, typical_minutes in dice.sample(list(instruments), min(BOOKINGS_A_DAY, len(instruments))):
        hour, minute = dice.choice(_STARTS)
        start = day.replace(hour=hour, minute=minute)
        length = min(max(typical_minutes, 30), _LONGEST_MINUTES, instrument.max_slot_minutes)
        person = dice.choice(people)
        quantity = dice.randint(1, 6)
        if start <= now:
            continue
        request = BookingRequest(
            instrument_id=instrument.instrument_id,
            mode=BookingMode.SELF_OPERATED,
            slot=Interval(start, start + timedelta(minutes=length)),
            quantity=quantity,
            note=STORY,
        )
        try:
            create_booking(Work(session, actor_of(session, person), now), request)
        except Refused as refused:
            # Taken, closed, out of order: whoever plays with the demo may have changed any rule.
            log.info("a visitor could not book", instrument=instrument.instrument_id, code=refused.code)
            continue
        count += 1
    return count


def approve_requests(session: Session, now: datetime) -> int:
    """Let each host's manager confirm what the visitors asked for; return how many bookings that were."""
    waiting = session.scalars(
        select(Booking)
        .where(Booking.note == STORY, Booking.state == BookingState.REQUESTED.value, Booking.slot_from > now)
        .with_for_update()
    ).all()
    managers: dict[str, Actor] = {}
    for booking in waiting:
        if booking.host_id not in managers:
            manager = session.get_one(Person, host_manager(booking.host_id))
            managers[booking.host_id] = actor_of(session, manager)
        take_step(Work(session, managers[booking.host_id], now), booking, BookingAction.CONFIRM)
    return len(waiting)


def check_in_arrivals(session: Session, now: datetime) -> int:
    """Check in the visitors whose slot has begun, where use is not proven by power alone; return how many."""
    rows = session.scalars(
        select(Booking)
        .join(Instrument, Instrument.instrument_id == Booking.instrument_id)
        .where(
            Booking.note == STORY,
            Booking.state == BookingState.CONFIRMED.value,
            Instrument.use_detection != UseDetection.POWER.value,
            Booking.slot_from <= now,
            Booking.slot_to > now,
        )
        .with_for_update(of=Booking)
    ).all()
    for booking in rows:
        take_step(Work(session, system_actor("demo"), now), booking, BookingAction.CHECK_IN)
    return len(rows)


def firm_people(session: Session) -> list[Person]:
    """Return the people of the demo's firms, in a fixed order."""
    return list(
        session.scalars(
            select(Person)
            .join(Org, Org.org_id == Person.org_id)
            .where(Org.kind == OrgKind.SME.value, Person.active)
            .order_by(Person.login)
        )
    )


def actor_of(session: Session, person: Person) -> Actor:
    """Return a person as somebody who acts."""
    grants = session.scalars(select(RoleGrant).where(RoleGrant.person_id == person.person_id)).all()
    return Actor(
        person.person_id,
        person.name,
        person.org_id,
        frozenset(Role(grant.role) for grant in grants),
        frozenset(grant.host_scope for grant in grants if grant.host_scope),
    )
