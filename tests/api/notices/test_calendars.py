"""Calendar files and private feeds: valid for a strict reader, the same event for life, nobody's name to strangers."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from api.booking import outages
from api.booking.states import BookingAction
from api.errors import Refused
from api.notices import feeds
from api.notices.ics import BookedEvent, BusyEvent, calendar_file
from api.work import Work
from store.database import Database
from store.tables.accounts import Person, RoleGrant
from store.tables.calendar import BookingMode, BookingState
from store.tables.notices import CalendarFeed
from store.tables.registry import Org
from tests.support.api_client import ApiClient, client_as
from tests.support.builders_booking import FIRM_A, FIRM_B, MANAGER, Office
from tests.support.calendars import strictly

NOON = datetime(2026, 3, 2, 4, tzinfo=UTC)
ONE = BookedEvent(
    "01B", "万能试验机", "新昌县某路 1 号", "", BookingState.CONFIRMED, BookingMode.SELF_OPERATED,
    NOON, NOON + timedelta(hours=2), True, NOON - timedelta(days=1), NOON - timedelta(hours=3), 7,
)  # fmt: skip


def events(content: bytes) -> list[Any]:
    return list(strictly(content).walk("VEVENT"))


def file_of(office: Office, actor: Any, booking_id: str) -> feeds.CalendarFile:
    with office.database.read() as session:
        return feeds.of_booking(Work(session, actor, office.now), booking_id)


def feed_of(office: Office, actor: Any, instrument_id: str | None = None) -> str:
    with office.work(actor) as work:
        return feeds.make(work, instrument_id, "")[1]


def read(database: Database, secret: str, now: datetime) -> feeds.CalendarFile:
    with database.read() as session:
        return feeds.read(session, secret, now)


@settings(max_examples=40, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=("Cs", "Cc")), max_size=200), st.text(',;:\\"', max_size=5))
@example("泵\u2028房\x85", "\\n")
def test_any_name_is_folded_and_comes_back(name: str, tail: str) -> None:
    shown = name + tail
    one = BookedEvent(**(vars(ONE) | {"instrument": shown or "x"}))
    (event,) = events(calendar_file("OpenLab", [one], [], "zh"))
    assert str(event["summary"]) == (shown or "x")


def test_a_control_character_in_a_name_keeps_no_reader_from_the_calendar() -> None:
    odd = "".join(map(chr, [*range(1, 0x0A), *range(0x0B, 0x20), 0x7F]))
    one = BookedEvent(**(vars(ONE) | {"instrument": f"a{odd}b", "place": odd, "firm": "c\x0cd"}))
    (event,) = events(calendar_file(f"x{odd}", [one], [], "zh"))
    assert str(event["summary"]) == "a\tb:cd"


@pytest.mark.parametrize("state", list(BookingState))
@pytest.mark.parametrize("language", ["zh", "en"])
def test_every_state_has_its_status(state: BookingState, language: str) -> None:
    one = BookedEvent(**(vars(ONE) | {"state": state}))
    (event,) = events(calendar_file("OpenLab", [one], [], language))
    off = state in {BookingState.CANCELLED, BookingState.REJECTED, BookingState.EXPIRED}
    wanted = "CANCELLED" if off else "TENTATIVE" if state is BookingState.REQUESTED else "CONFIRMED"
    assert (event["status"], event["transp"]) == (wanted, "TRANSPARENT" if off else "OPAQUE")


def test_a_booking_without_its_slot_is_off_until_it_has_another() -> None:
    lost = BookedEvent(**(vars(ONE) | {"state": BookingState.REQUESTED, "has_slot": False}))
    samples = BookedEvent(**(vars(ONE) | {"mode": BookingMode.SAMPLES, "has_slot": False, "booking_id": "01C"}))
    used = BookedEvent(**(vars(ONE) | {"state": BookingState.COMPLETED, "has_slot": False, "booking_id": "01D"}))
    shown = events(calendar_file("OpenLab", [lost, samples, used], [], "zh"))
    assert [event["status"] for event in shown] == ["CANCELLED", "CANCELLED", "CONFIRMED"]


def test_a_busy_time_says_nothing_else() -> None:
    busy = BusyEvent("row-1", NOON, NOON + timedelta(hours=1))
    content = calendar_file("OpenLab", [], [busy], "en")
    (event,) = events(content)
    assert (event["summary"], event["class"]) == ("Busy", "PRIVATE")
    assert b"row-1" not in content
    assert not {"description", "location", "created"} & {name.lower() for name in event}
    assert calendar_file("OpenLab", [], [busy], "en") == content


def test_a_booking_is_one_event_for_life_with_a_sequence_that_grows(office: Office) -> None:
    booking_id = office.book(FIRM_A)
    first = file_of(office, FIRM_A, booking_id)
    assert file_of(office, FIRM_A, booking_id).etag == first.etag
    office.advance(timedelta(minutes=5))
    office.do(MANAGER, booking_id, BookingAction.CANCEL, reason="broken")
    second = file_of(office, FIRM_A, booking_id)
    (before,), (after,) = events(first.content), events(second.content)
    assert before["uid"] == after["uid"] == f"booking-{booking_id}@openlab"
    assert after["sequence"] > before["sequence"]
    assert (before["status"], after["status"]) == ("CONFIRMED", "CANCELLED")
    assert second.etag != first.etag
    assert second.changed_at == office.now
    assert before.decoded("dtstart").isoformat() == "2026-03-02T10:00:00+08:00"
    assert after.decoded("last-modified") == office.now


def test_an_instruments_feed_shows_a_firm_its_own_and_others_as_busy_and_the_host_all(office: Office) -> None:
    with office.database.write() as session:
        for org, name in (("org-a", "甲企业"), ("org-b", "乙企业")):
            session.execute(update(Org).where(Org.org_id == org).values(name_zh=name, name_en=name))
    mine = office.book(FIRM_A, office.slot(1, 1))
    theirs = office.book(FIRM_B, office.slot(3, 1))
    with office.work(MANAGER) as work:
        outages.declare_outage(work, office.instrument, office.slot(6, 1), "泵坏了", move=True)
    content = read(office.database, feed_of(office, FIRM_A, office.instrument), office.now).content
    shown = sorted(events(content), key=lambda event: event.decoded("dtstart"))
    assert [event["uid"].startswith("booking-") for event in shown] == [True, False, False]
    assert mine in shown[0]["uid"]
    text = content.replace(b"\r\n ", b"").decode()
    for word in (theirs, "乙企业", "甲企业", "泵坏了", "org-b", "p-b"):
        assert word not in text
    office.do(MANAGER, theirs, BookingAction.CANCEL, reason="broken")
    later = events(read(office.database, feed_of(office, FIRM_A, office.instrument), office.now).content)
    assert len(later) == 2
    hosts = events(read(office.database, feed_of(office, MANAGER, office.instrument), office.now).content)
    names = {str(event["summary"]).rpartition(":")[2]: str(event["status"]) for event in hosts}
    assert names["甲企业"] == "CONFIRMED"
    assert names["乙企业"] == "CANCELLED"


def test_ones_own_feed_keeps_what_was_cancelled_for_a_time(office: Office) -> None:
    kept = office.book(FIRM_A, office.slot(1, 1))
    office.book(FIRM_B, office.slot(3, 1))
    secret = feed_of(office, FIRM_A)
    office.do(MANAGER, kept, BookingAction.CANCEL, reason="broken")
    (event,) = events(read(office.database, secret, office.now).content)
    assert (event["status"], event["uid"]) == ("CANCELLED", f"booking-{kept}@openlab")
    assert events(read(office.database, secret, office.now + feeds.KEPT + timedelta(hours=3)).content) == []
    assert len(events(read(office.database, feed_of(office, MANAGER), office.now).content)) == 2


def test_a_feed_ends_with_its_owner_and_shrinks_with_their_roles(sqlite_office: Office) -> None:
    sqlite_office.book(FIRM_A)
    secret = feed_of(sqlite_office, MANAGER)
    assert len(events(read(sqlite_office.database, secret, sqlite_office.now).content)) == 1
    with sqlite_office.database.write() as session:
        session.delete(session.get_one(RoleGrant, ("p-m", "lab_manager", "h01")))
    assert events(read(sqlite_office.database, secret, sqlite_office.now).content) == []
    with sqlite_office.database.write() as session:
        session.execute(update(Person).where(Person.person_id == "p-m").values(active=False))
    with pytest.raises(Refused, match="calendar feed"):
        read(sqlite_office.database, secret, sqlite_office.now)


def test_samples_are_in_a_calendar_once_they_are_scheduled_and_off_when_they_no_longer_are(
    sqlite_office: Office,
) -> None:
    booking_id = sqlite_office.book(FIRM_A, mode=BookingMode.SAMPLES, quantity=1)
    secret = feed_of(sqlite_office, FIRM_A)

    def statuses() -> list[str]:
        shown = read(sqlite_office.database, secret, sqlite_office.now).content
        return [str(event["status"]) for event in events(shown)]

    with pytest.raises(Refused) as told:
        file_of(sqlite_office, FIRM_A, booking_id)
    assert told.value.code == "not_scheduled"
    assert statuses() == []
    if sqlite_office.booking(booking_id).state == BookingState.REQUESTED:
        sqlite_office.do(MANAGER, booking_id, BookingAction.CONFIRM)
    sqlite_office.do(MANAGER, booking_id, BookingAction.RECEIVE, samples=("one",))
    assert statuses() == []
    sqlite_office.do(MANAGER, booking_id, BookingAction.SCHEDULE, slot=sqlite_office.slot(4, 1))
    assert statuses() == ["CONFIRMED"]
    sqlite_office.do(MANAGER, booking_id, BookingAction.UNSCHEDULE, reason="the pump is broken")
    assert statuses() == ["CANCELLED"]


def test_feeds_over_http_are_made_read_turned_and_closed(http: ApiClient, sqlite_office: Office) -> None:
    booking_id = sqlite_office.book(FIRM_A)
    firm, stranger = client_as(http, "p-a"), client_as(http, "p-b")
    made = firm.post("/feeds", {"instrument_id": sqlite_office.instrument, "name": "日历"}, key="k1")
    assert made.status_code == 201, made.text
    url = made.json()["url"]
    assert (
        firm.post("/feeds", {"instrument_id": sqlite_office.instrument, "name": "日历"}, key="k1").json()["url"] is None
    )
    secret = url.rpartition("/")[2].removesuffix(".ics")
    (row,) = sqlite_office.all_of(CalendarFeed)
    assert secret not in repr(vars(row))
    got = http.http.get(url)
    assert got.status_code == 200
    assert got.headers["content-type"].startswith("text/calendar")
    assert booking_id in got.text
    assert got.headers["last-modified"] == "Mon, 02 Mar 2026 01:00:00 GMT"
    again = http.http.get(url, headers={"If-None-Match": got.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    feed_id = made.json()["feed_id"]
    assert stranger.post(f"/feeds/{feed_id}/rotation").status_code == 404
    turned = firm.post(f"/feeds/{feed_id}/rotation").json()
    assert http.http.get(url).json()["code"] == "not_found"
    assert http.http.get(turned["url"]).status_code == 200
    assert [each["feed_id"] for each in firm.get("/feeds").json()["items"]] == [feed_id]
    assert stranger.get("/feeds").json()["items"] == []
    assert firm.edit("DELETE", f"/feeds/{feed_id}", 1).status_code == 412
    assert firm.edit("DELETE", f"/feeds/{feed_id}", turned["row_version"]).status_code == 204
    assert http.http.get(turned["url"]).status_code == 404
    assert firm.post(f"/feeds/{feed_id}/rotation").status_code == 404
    assert firm.post("/feeds", {"instrument_id": "nothing"}).status_code == 404


def test_a_bookings_calendar_file_is_for_who_may_see_it(http: ApiClient, sqlite_office: Office) -> None:
    booking_id = sqlite_office.book(FIRM_A)
    got = client_as(http, "p-a").get(f"/bookings/{booking_id}/calendar.ics")
    assert got.status_code == 200
    assert len(events(got.content)) == 1
    assert client_as(http, "p-b").get(f"/bookings/{booking_id}/calendar.ics").status_code == 404
    assert http.get(f"/bookings/{booking_id}/calendar.ics").status_code == 401
