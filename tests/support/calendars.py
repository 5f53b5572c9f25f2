"""A strict reader of calendar files: what the standard has, down to line ends and octets, and as two readers have it.

`icalendar` writes our files, so that it reads them proves little; `ical`, which shares nothing with it, checks every
property of an event against its type and has to understand the same.
"""

from datetime import timedelta

from ical.calendar_stream import IcsCalendarStream
from icalendar import Calendar


def strictly(content: bytes) -> Calendar:
    """Read a calendar as the standard has it, down to line ends and octets."""
    assert content.endswith(b"\r\n")
    lines = content.split(b"\r\n")[:-1]
    assert all(b"\n" not in line and b"\r" not in line for line in lines)
    assert max(len(line) for line in lines) <= 75
    for line in lines:
        line.decode()  # no character is cut in two
    calendar = Calendar.from_ical(content)
    assert calendar["version"] == "2.0"
    assert calendar["prodid"]
    zones = [zone["tzid"] for zone in calendar.walk("VTIMEZONE")]
    assert zones == ["Asia/Shanghai"]
    uids = []
    for event in calendar.walk("VEVENT"):
        assert event.errors == []
        for name in ("uid", "dtstamp", "dtstart", "dtend", "sequence", "status", "summary"):
            assert name in event, name
        assert event["dtstart"].params["TZID"] == "Asia/Shanghai"
        assert event.decoded("dtstart").utcoffset() == timedelta(hours=8)
        assert event.decoded("dtend") > event.decoded("dtstart")
        assert event.decoded("dtstamp").utcoffset() == timedelta(0)
        uids.append(str(event["uid"]))
    assert len(set(uids)) == len(uids)
    _another_reader_agrees(content, calendar)
    return calendar


def _another_reader_agrees(content: bytes, calendar: Calendar) -> None:
    read = IcsCalendarStream.calendar_from_ics(content.decode())
    ours = [
        (str(one["uid"]), one.decoded("dtstart"), one.decoded("dtend"), str(one["summary"]), str(one["status"]))
        for one in calendar.walk("VEVENT")
    ]
    theirs = [(one.uid, one.dtstart, one.dtend, one.summary, one.status) for one in read.events]
    assert theirs == ours
    assert [one.sequence for one in read.events] == [one["sequence"] for one in calendar.walk("VEVENT")]
    assert [zone.tz_id for zone in read.timezones] == ["Asia/Shanghai"]
