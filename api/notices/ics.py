"""Bookings as iCalendar (RFC 5545), for any calendar program. Pure: rows in, bytes out, the same for the same rows.

An event keeps its UID for life; SEQUENCE is the booking's row version, so it only grows. What is off is marked
STATUS:CANCELLED rather than left out, so that a calendar program takes it away by itself.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from icalendar import Calendar, Event, Timezone, TimezoneStandard

from store.periods import SHANGHAI
from store.tables.calendar import BookingMode, BookingState

MEDIA_TYPE = "text/calendar; charset=utf-8"
_NO_TEXT = dict.fromkeys([*range(0x09), *range(0x0B, 0x20), 0x7F])
"""Control characters, which RFC 5545 (3.1) has in no text: a strict reader refuses the whole file for one."""
_OFF = frozenset({BookingState.REJECTED, BookingState.CANCELLED, BookingState.EXPIRED})
_BUSY = {"zh": "已占用", "en": "Busy"}
_STATES = {
    BookingState.REQUESTED: ("待确认", "Requested"),
    BookingState.CONFIRMED: ("已确认", "Confirmed"),
    BookingState.CHECKED_IN: ("已签到", "Checked in"),
    BookingState.SAMPLES_RECEIVED: ("样品已收到", "Samples received"),
    BookingState.SCHEDULED: ("已排期", "Scheduled"),
    BookingState.IN_USE: ("使用中", "In use"),
    BookingState.COMPLETED: ("已完成", "Completed"),
    BookingState.RESULTS_CONFIRMED: ("结果已确认", "Results confirmed"),
    BookingState.REPORTED: ("报告已出具", "Reported"),
    BookingState.CLOSED: ("已结束", "Closed"),
    BookingState.REJECTED: ("未批准", "Rejected"),
    BookingState.CANCELLED: ("已取消", "Cancelled"),
    BookingState.EXPIRED: ("已失效", "Expired"),
    BookingState.NO_SHOW: ("未到", "No-show"),
}


@dataclass(frozen=True)
class BookedEvent:
    """A booking as its reader may see it whole. `firm` is empty unless the reader is of the host (or the county)."""

    booking_id: str
    instrument: str
    place: str
    firm: str
    state: BookingState
    mode: BookingMode
    slot_from: datetime
    slot_to: datetime
    has_slot: bool
    created_at: datetime
    changed_at: datetime
    sequence: int


@dataclass(frozen=True)
class BusyEvent:
    """An instrument is taken, by whom is nobody's business. `row_id` names the row, and is not shown."""

    row_id: str
    from_at: datetime
    to_at: datetime


@dataclass(frozen=True)
class Attached:
    """A calendar as it goes along with an e-mail, and its iTIP method: PUBLISH, or CANCEL for what is off."""

    content: bytes
    method: str


def attached(booked: BookedEvent, organizer: str, language: str) -> Attached:
    """Return a booking to go along with an e-mail: the event of the feeds, with the sender's address as RFC 5546 wants
    it of what is published."""
    method = "CANCEL" if is_off(booked) else "PUBLISH"
    return Attached(calendar_file(booked.instrument, [booked], [], language, method, organizer), method)


def calendar_file(
    name: str,
    booked: Sequence[BookedEvent],
    busy: Sequence[BusyEvent],
    language: str,
    method: str = "PUBLISH",
    organizer: str = "",
) -> bytes:
    """Return a calendar: CRLF, lines folded at 75 octets, local times of Asia/Shanghai with their VTIMEZONE."""
    calendar = Calendar()
    calendar.add("prodid", "-//OpenLab//OpenLab 1//EN")
    calendar.add("version", "2.0")
    calendar.add("calscale", "GREGORIAN")
    calendar.add("method", method)
    calendar.add("x-wr-calname", name.translate(_NO_TEXT))
    calendar.add("x-wr-timezone", "Asia/Shanghai")
    calendar.add("x-published-ttl", "PT1H")
    calendar.add_component(_timezone())
    for one in sorted(booked, key=lambda each: (each.slot_from, each.booking_id)):
        event = _booked(one, language)
        if organizer:
            event.add("organizer", f"mailto:{organizer}")
        calendar.add_component(event)
    for taken in sorted(busy, key=lambda each: (each.from_at, each.row_id)):
        calendar.add_component(_taken(taken, language))
    return bytes(calendar.to_ical())


def is_off(event: BookedEvent) -> bool:
    """Whether a calendar shows the booking as cancelled. One that lost its slot, and waits for another, is too."""
    waiting = event.state is BookingState.REQUESTED or event.mode is BookingMode.SAMPLES
    return event.state in _OFF or (waiting and not event.has_slot)


def _booked(one: BookedEvent, language: str) -> Event:
    at = 1 if language == "en" else 0
    off = is_off(one)
    state = _STATES[one.state][at]
    event = _event(f"booking-{one.booking_id}@openlab", one.slot_from, one.slot_to, one.changed_at)
    event.add("created", one.created_at.astimezone(UTC))
    event.add("last-modified", one.changed_at.astimezone(UTC))
    event.add("sequence", one.sequence)
    said = f"{one.instrument}:{one.firm}" if one.firm else one.instrument
    event.add("summary", said.translate(_NO_TEXT))
    label = (f"状态:{state}\n预约号:{one.booking_id}", f"State: {state}\nBooking: {one.booking_id}")[at]
    event.add("description", label)
    if one.place:
        event.add("location", one.place.translate(_NO_TEXT))
    tentative = one.state is BookingState.REQUESTED
    event.add("status", "CANCELLED" if off else "TENTATIVE" if tentative else "CONFIRMED")
    event.add("transp", "TRANSPARENT" if off else "OPAQUE")
    return event


def _taken(taken: BusyEvent, language: str) -> Event:
    # Its row has no version: another time is another event, and the one before is not in the calendar any more.
    said = f"{taken.row_id}|{taken.from_at.timestamp()}|{taken.to_at.timestamp()}"
    uid = hashlib.sha256(said.encode()).hexdigest()[:32]
    # When somebody else made their booking is theirs to know, so the stamp is the time itself.
    event = _event(f"busy-{uid}@openlab", taken.from_at, taken.to_at, taken.from_at)
    event.add("sequence", 0)
    event.add("summary", _BUSY.get(language, _BUSY["zh"]))
    event.add("class", "PRIVATE")
    event.add("status", "CONFIRMED")
    event.add("transp", "OPAQUE")
    return event


def _event(uid: str, from_at: datetime, to_at: datetime, stamp: datetime) -> Event:
    event = Event()
    event.add("uid", uid)
    event.add("dtstamp", stamp.astimezone(UTC))
    event.add("dtstart", from_at.astimezone(SHANGHAI))
    event.add("dtend", to_at.astimezone(SHANGHAI))
    return event


def _timezone() -> Timezone:
    """UTC+8 without summer time, as it has been since 1991: no booking is older."""
    zone, standard = Timezone(), TimezoneStandard()
    zone.add("tzid", "Asia/Shanghai")
    standard.add("dtstart", datetime(1991, 9, 15, 1))  # noqa: DTZ001 - local time, as RFC 5545 3.6.5 wants it
    standard.add("tzoffsetfrom", timedelta(hours=9))
    standard.add("tzoffsetto", timedelta(hours=8))
    standard.add("tzname", "CST")
    zone.add_component(standard)
    return zone
