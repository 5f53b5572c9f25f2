"""Calendar files of one booking, and private feeds: addresses with a secret in them that a calendar program reads.

The secret is kept as a hash and shown once; a feed shows what its owner may see at the moment when it is read, so a
role that is taken away, or a person who is deactivated, ends it too. Never the name of another firm to a firm.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, exists, func, or_, select
from sqlalchemy.orm import Session

from api.booking.repository import booking_row, instrument_row, visible
from api.booking.rules import LONGEST_SLOT
from api.errors import conflict, not_found
from api.notices.ics import Attached, BookedEvent, BusyEvent, attached, calendar_file
from api.pagination import PageAsked, paginate
from api.repeats import check_version
from api.security import actor_of, token_hash
from api.work import Actor, Work
from store.tables.accounts import Person, Role
from store.tables.calendar import Booking, BookingEvent, BookingMode, BookingState, CalendarRow
from store.tables.notices import CalendarFeed
from store.tables.registry import Host, Instrument, Org
from wire.ids import new_ulid

KEPT = timedelta(days=30)
"""How long a slot stays in a feed after its end, cancelled ones too."""
AHEAD = timedelta(days=366)
EVENTS_MAX = 5_000
FEEDS_MAX = 20
"""Open feeds a person."""
_HOST_SIDE = (Role.COUNTY_OFFICER, Role.FINANCE, Role.AUDITOR, Role.ADMIN)


@dataclass(frozen=True)
class CalendarFile:
    """A calendar as it is sent, and what tells a reader whether it is new. `changed_at` None: no booking."""

    content: bytes
    etag: str
    changed_at: datetime | None


def of_booking(work: Work, booking_id: str) -> CalendarFile:
    """Return one booking. Raises 404, and 409 `not_scheduled` for samples that have no slot yet."""
    booking_row(work.session, work.actor, booking_id)
    events = _booked(work.session, work.actor, [Booking.__table__.c.booking_id == booking_id], work.actor.language)
    if not events:
        raise conflict(
            "not_scheduled",
            "样品尚未排期,没有可加入日历的时段;请等待排期后再试。",
            "These samples are not scheduled yet; there is no slot to put into a calendar; wait until the lab"
            " has scheduled them.",
        )
    return _file(events[0].instrument, events, [], work.actor.language)


def mailed_calendar(session: Session, person: Person, booking_id: str, organizer: str) -> Attached | None:
    """Return a booking as it goes along with an e-mail to somebody; None where they may not see it (any more), or it
    never had a slot."""
    actor = actor_of(session, person, frozenset({"read"}))
    events = _booked(session, actor, [Booking.__table__.c.booking_id == booking_id], person.language)
    return attached(events[0], organizer, person.language) if events else None


def make(work: Work, instrument_id: str | None, name: str) -> tuple[CalendarFeed, str]:
    """Make a feed of the caller's bookings, or of an instrument; return it with its secret. Raises 404, 409."""
    if instrument_id is not None:
        instrument_row(work.session, instrument_id)
    mine = select(func.count()).select_from(CalendarFeed)
    open_ones = (CalendarFeed.person_id == work.actor.person_id, CalendarFeed.revoked_at.is_(None))
    if int(work.session.scalar(mine.where(*open_ones)) or 0) >= FEEDS_MAX:
        raise conflict(
            "too_many_feeds",
            f"每人最多 {FEEDS_MAX} 个日历订阅;请先撤销不用的。",
            f"A person has at most {FEEDS_MAX} feeds; remove one that is not used.",
            at_most=FEEDS_MAX,
        )
    secret = secrets.token_urlsafe(32)
    feed = CalendarFeed(
        feed_id=new_ulid(),
        person_id=work.actor.person_id,
        instrument_id=instrument_id,
        name=name,
        token_sha256=token_hash(secret),
        created_at=work.now,
        revoked_at=None,
        row_version=1,
    )
    work.session.add(feed)
    work.session.flush()
    work.audit("feed_made", f"feed:{feed.feed_id}", host_id=None, after={"instrument_id": instrument_id or ""})
    return feed, secret


def listed(work: Work, page: PageAsked) -> tuple[list[CalendarFeed], str | None]:
    """Return a page of the caller's feeds, revoked ones included."""
    mine = select(CalendarFeed).where(CalendarFeed.person_id == work.actor.person_id)
    return paginate(work.session, mine, (CalendarFeed.feed_id,), page)


def rotate(work: Work, feed_id: str) -> tuple[CalendarFeed, str]:
    """Give a feed another address; the one before is worth nothing from now on. Raises 404, also where revoked."""
    feed = _own(work, feed_id)
    secret = secrets.token_urlsafe(32)
    feed.token_sha256 = token_hash(secret)
    feed.row_version += 1
    work.session.flush()
    work.audit("feed_rotated", f"feed:{feed_id}", host_id=None)
    return feed, secret


def revoke(work: Work, feed_id: str, version: int) -> None:
    """Close a feed for good. Raises 404, 412."""
    feed = _own(work, feed_id)
    check_version(feed.row_version, version)
    feed.revoked_at = work.now
    feed.row_version += 1
    work.session.flush()
    work.audit("feed_revoked", f"feed:{feed_id}", host_id=None)


def read(session: Session, secret: str, now: datetime) -> CalendarFile:
    """Return what a feed shows now. Raises 404 for an address that is not (or not any more) one."""
    wanted = select(CalendarFeed, Person).join(Person, Person.person_id == CalendarFeed.person_id)
    live = (CalendarFeed.token_sha256 == token_hash(secret), CalendarFeed.revoked_at.is_(None), Person.active)
    row = session.execute(wanted.where(*live)).one_or_none()
    if row is None:
        raise not_found("日历订阅", "calendar feed", "…")
    feed, person = row
    actor = actor_of(session, person, frozenset({"read"}))
    columns = Booking.__table__.c
    window = [
        columns.slot_to > now - KEPT,
        # No slot is longer: so the index by start serves, and the years behind are not looked through.
        columns.slot_from > now - KEPT - LONGEST_SLOT,
        columns.slot_from < now + AHEAD,
    ]
    if feed.instrument_id is None:
        events = _booked(session, actor, [*window, _own_bookings(actor)], person.language)
        return _file("OpenLab", events, [], person.language)
    events = _booked(session, actor, [*window, columns.instrument_id == feed.instrument_id], person.language)
    instrument = session.get_one(Instrument, feed.instrument_id)
    busy = _busy(session, actor, feed.instrument_id, now)
    return _file(_named(person.language, instrument.name_zh, instrument.name_en), events, busy, person.language)


def _own(work: Work, feed_id: str) -> CalendarFeed:
    mine = select(CalendarFeed).where(
        CalendarFeed.feed_id == feed_id,
        CalendarFeed.person_id == work.actor.person_id,
        CalendarFeed.revoked_at.is_(None),
    )
    feed = work.session.scalars(mine.with_for_update()).one_or_none()
    if feed is None:
        raise not_found("日历订阅", "calendar feed", feed_id)
    return feed


def _own_bookings(actor: Actor) -> ColumnElement[bool]:
    """A manager's own are those of their hosts; everybody else's those that they made."""
    made: ColumnElement[bool] = Booking.__table__.c.person_id == actor.person_id
    return or_(made, Booking.__table__.c.host_id.in_(sorted(actor.host_ids))) if actor.host_ids else made


def _booked(
    session: Session, actor: Actor, conditions: Sequence[ColumnElement[bool]], language: str
) -> list[BookedEvent]:
    """Return the bookings that the actor may see whole, newest slot first, without samples that never had a slot."""
    changed = select(func.max(BookingEvent.at)).where(BookingEvent.booking_id == Booking.booking_id).scalar_subquery()
    scheduled = exists().where(
        BookingEvent.booking_id == Booking.booking_id, BookingEvent.to_state == BookingState.SCHEDULED.value
    )
    had_slot = or_(Booking.mode != BookingMode.SAMPLES.value, Booking.calendar_row_id.is_not(None), scheduled)
    statement: Any = (
        select(Booking, Instrument, Host, Org, changed)
        .join(Instrument, Instrument.instrument_id == Booking.instrument_id)
        .join(Host, Host.host_id == Booking.host_id)
        .join(Org, Org.org_id == Booking.payer_org)
        .where(visible(actor), had_slot, *conditions)
        .order_by(Booking.slot_from.desc(), Booking.booking_id)
        .limit(EVENTS_MAX)
    )
    return [
        BookedEvent(
            booking.booking_id,
            _named(language, instrument.name_zh, instrument.name_en),
            " ".join(part for part in (_named(language, host.town_zh, host.town_en), host.address) if part),
            _named(language, org.name_zh, org.name_en) if _may_name(actor, booking.host_id) else "",
            BookingState(booking.state),
            BookingMode(booking.mode),
            booking.slot_from,
            booking.slot_to,
            booking.calendar_row_id is not None,
            booking.created_at,
            changed_at or booking.created_at,
            booking.row_version,
        )
        for booking, instrument, host, org, changed_at in session.execute(statement)
    ]


def _busy(session: Session, actor: Actor, instrument_id: str, now: datetime) -> list[BusyEvent]:
    """Return when the instrument is taken by what the actor does not see whole: others' bookings, outages."""
    seen = exists().where(Booking.calendar_row_id == CalendarRow.row_id, visible(actor))
    rows = session.execute(
        select(CalendarRow.row_id, CalendarRow.from_at, CalendarRow.to_at)
        .where(
            CalendarRow.instrument_id == instrument_id,
            CalendarRow.active,
            CalendarRow.to_at > now - KEPT,
            CalendarRow.from_at < now + AHEAD,
            ~seen,
        )
        .order_by(CalendarRow.from_at)
        .limit(EVENTS_MAX)
    )
    return [BusyEvent(*row) for row in rows]


def _may_name(actor: Actor, host_id: str) -> bool:
    return actor.manages(host_id) or actor.has(*_HOST_SIDE)


def _named(language: str, zh: str, en: str) -> str:
    return en if language == "en" else zh


def _file(name: str, booked: Sequence[BookedEvent], busy: Sequence[BusyEvent], language: str) -> CalendarFile:
    content = calendar_file(name, booked, busy, language)
    changed_at = max((each.changed_at for each in booked), default=None)
    return CalendarFile(content, f'"{hashlib.sha256(content).hexdigest()[:32]}"', changed_at)
