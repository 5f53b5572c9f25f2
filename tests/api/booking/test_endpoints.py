"""The booking and usage endpoints: who sees what, idempotent creation, versions, pages."""

from typing import Any

import pytest

from api.booking.matching_service import match_session
from store.series import STATE_CODES, Reading, Sample
from store.tables.accounts import Role
from store.tables.calendar import Booking
from tests.support.api_client import ApiClient
from tests.support.builders_booking import HOUR, WORKER, Office, open_office
from tests.support.usage import StreamWriter
from wire.clock import to_ms
from wire.messages import PowerState

pytestmark = pytest.mark.slow_on_postgresql

SLOT = {"slot_from": "2026-03-02T10:00:00+08:00", "slot_to": "2026-03-02T11:00:00+08:00"}
WINDOW = {"from": "2026-03-02T00:00:00+08:00", "to": "2026-03-03T00:00:00+08:00"}


@pytest.fixture
def office(client: ApiClient) -> Office:
    return open_office(client.parts.database, client.parts.clock)  # type: ignore[arg-type]


@pytest.fixture
def firm_a(client: ApiClient, office: Office) -> ApiClient:
    return client.signed_in(Role.SME, org_id="org-a")


@pytest.fixture
def firm_b(client: ApiClient, office: Office) -> ApiClient:
    return client.signed_in(Role.SME, org_id="org-b")


@pytest.fixture
def manager(client: ApiClient, office: Office) -> ApiClient:
    return client.signed_in(Role.LAB_MANAGER, org_id="org-h01", host_id="h01")


def asked(**changes: Any) -> dict[str, Any]:
    return {"instrument_id": "xc-h01-01"} | SLOT | changes


def booked(who: ApiClient, **changes: Any) -> dict[str, Any]:
    answer = who.post("/bookings", asked(**changes))
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_quote_shows_its_lines_and_books_nothing(firm_a: ApiClient, office: Office) -> None:
    answer = firm_a.post("/quotes", asked())
    assert answer.status_code == 200, answer.text
    quote = answer.json()
    assert (quote["total_fen"], quote["total_yuan"]) == (45_000, "450.00")
    assert [line["component"] for line in quote["lines"]] == ["setup", "time"]
    assert quote["net_fen"] + quote["vat_fen"] == quote["total_fen"]
    assert office.all_of(Booking) == []


def test_booking_twice_with_one_key_books_once(firm_a: ApiClient, office: Office) -> None:
    first = firm_a.post("/bookings", asked(), key="k-1")
    again = firm_a.post("/bookings", asked(), key="k-1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    other = firm_a.post("/bookings", asked(note="other"), key="k-1")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
    assert len(office.all_of(Booking)) == 1


def test_a_taken_slot_is_refused_in_both_languages_without_saying_whose(firm_a: ApiClient, firm_b: ApiClient) -> None:
    booked(firm_a)
    answer = firm_b.post("/bookings", asked())
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (409, "slot_taken")
    assert len(problem["facts"]["alternatives"]) == 3
    assert problem["zh"]
    assert problem["en"]
    assert "org-a" not in answer.text


def test_a_firm_sees_its_own_bookings_whole_and_others_not_at_all(
    client: ApiClient, firm_a: ApiClient, firm_b: ApiClient, manager: ApiClient
) -> None:
    mine = booked(firm_a)["booking_id"]
    other_manager = client.signed_in(Role.LAB_MANAGER, host_id="h02")
    officer = client.signed_in(Role.COUNTY_OFFICER)
    seen = {
        name: (who.get(f"/bookings/{mine}").status_code, len(who.get("/bookings").json()["items"]))
        for name, who in {
            "a": firm_a,
            "b": firm_b,
            "manager": manager,
            "other": other_manager,
            "officer": officer,
        }.items()
    }
    assert seen == {"a": (200, 1), "b": (404, 0), "manager": (200, 1), "other": (404, 0), "officer": (200, 1)}
    assert client.get("/bookings").status_code == 401


def test_everybody_sees_when_an_instrument_is_taken_and_nobody_by_whom(client: ApiClient, firm_a: ApiClient) -> None:
    booked(firm_a)
    answer = client.get("/instruments/xc-h01-01/calendar", params=WINDOW)
    assert answer.json() == {
        "instrument_id": "xc-h01-01",
        "busy": [{"from_at": SLOT["slot_from"], "to_at": SLOT["slot_to"]}],
    }
    assert client.get("/instruments/no-such/calendar", params=WINDOW).status_code == 404
    too_long = client.get("/instruments/xc-h01-01/calendar", params=WINDOW | {"to": "2027-03-03T00:00:00+08:00"})
    assert too_long.json()["code"] == "window_too_long"


def test_a_step_names_the_version_that_was_read(firm_a: ApiClient) -> None:
    booking = booked(firm_a)
    path = f"/bookings/{booking['booking_id']}"
    read = firm_a.get(path)
    assert read.headers["etag"] == f'"{booking["row_version"]}"'
    assert booking["possible"] == ["cancel", "check-in"]
    assert firm_a.post(f"{path}/cancel", {}).json()["code"] == "if_match_missing"
    done = firm_a.edit("POST", f"{path}/cancel", booking["row_version"], {"reason": "changed plans"})
    assert (done.status_code, done.json()["state"], done.json()["possible"]) == (200, "cancelled", [])
    assert firm_a.edit("POST", f"{path}/cancel", booking["row_version"], {}).status_code == 412
    events = firm_a.get(path).json()["events"]
    assert [event["to_state"] for event in events] == ["requested", "confirmed", "cancelled"]
    assert events[-1]["reason"] == "changed plans"


def test_a_step_that_is_not_possible_says_what_is(firm_a: ApiClient) -> None:
    booking = booked(firm_a)
    answer = firm_a.edit("POST", f"/bookings/{booking['booking_id']}/report", booking["row_version"], {})
    assert (answer.status_code, answer.json()["code"]) == (409, "not_possible_now")
    assert answer.json()["facts"]["possible"] == "cancel, check-in"
    unknown = firm_a.edit("POST", f"/bookings/{booking['booking_id']}/dance", booking["row_version"], {})
    assert unknown.status_code == 422


def test_a_note_is_edited_with_its_version(firm_a: ApiClient, client: ApiClient) -> None:
    booking = booked(firm_a)
    path = f"/bookings/{booking['booking_id']}"
    assert firm_a.edit("PATCH", path, booking["row_version"] + 1, {"note": "x"}).status_code == 412
    edited = firm_a.edit("PATCH", path, booking["row_version"], {"note": "two rings"})
    assert edited.json()["note"] == "two rings"
    assert edited.headers["etag"] == f'"{booking["row_version"] + 1}"'


def test_bookings_come_in_pages_newest_slot_first(firm_a: ApiClient) -> None:
    for hour in range(10, 15):
        booked(firm_a, slot_from=f"2026-03-02T{hour}:00:00+08:00", slot_to=f"2026-03-02T{hour}:30:00+08:00")
    found, cursor = [], None
    while True:
        page = firm_a.get("/bookings", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        found += [item["slot_from"][11:13] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == ["14", "13", "12", "11", "10"]
    some = firm_a.get("/bookings", params={"state": "confirmed", "from_at": "2026-03-02T13:10:00+08:00"}).json()
    assert len(some["items"]) == 2


def test_a_naive_time_and_an_unknown_field_are_refused(firm_a: ApiClient) -> None:
    assert firm_a.post("/bookings", asked(slot_from="2026-03-02T10:00:00")).status_code == 422
    assert firm_a.post("/bookings", asked(discount=1)).status_code == 422


def test_an_outage_answers_with_the_bookings_it_hit(firm_a: ApiClient, manager: ApiClient) -> None:
    booking = booked(firm_a)
    outage = {"from_at": SLOT["slot_from"], "to_at": SLOT["slot_to"], "note": "pump broken", "move": False}
    assert firm_a.post("/instruments/xc-h01-01/outages", outage).status_code == 403
    answer = manager.post("/instruments/xc-h01-01/outages", outage)
    assert (answer.status_code, answer.json()["cancelled"]) == (201, [booking["booking_id"]])
    shown = firm_a.get(f"/bookings/{booking['booking_id']}").json()
    assert (shown["state"], shown["events"][-1]["reason"]) == ("cancelled", "outage: pump broken")


def test_use_is_shown_to_the_host_and_the_county_and_to_a_firm_its_own_part(
    client: ApiClient, office: Office, firm_a: ApiClient, firm_b: ApiClient, manager: ApiClient
) -> None:
    booking_id = booked(firm_a)["booking_id"]
    start = to_ms(office.now)
    writer = StreamWriter(office.instrument, start_ms=start)
    writer.tick(PowerState.STANDBY, 3600)
    name = writer.run(30, standby_s=0)
    state = STATE_CODES[PowerState.RUNNING]
    client.parts.series.write(
        [Sample(office.instrument, at, 750_000, state) for at in range(start, start + 7_200_000, 60_000)]
    )
    office.advance(3 * HOUR)
    office.record(writer)
    with office.work(WORKER) as work:
        match_session(work, name)
    page = manager.get(f"/instruments/{office.instrument}/sessions", params=WINDOW).json()
    assert [(row["session_id"], row["running_ms"], row["booking_ids"]) for row in page["items"]] == [
        (name, 1_800_000, [booking_id])
    ]
    assert firm_a.get(f"/instruments/{office.instrument}/sessions", params=WINDOW).status_code == 403
    stranger = client.signed_in(Role.LAB_MANAGER, host_id="h02")
    assert stranger.get(f"/instruments/{office.instrument}/curve", params=WINDOW).status_code == 403
    whole = manager.get(f"/instruments/{office.instrument}/curve", params=WINDOW).json()["points"]
    own = firm_a.get(f"/bookings/{booking_id}/curve").json()["points"]
    assert sum(point["samples"] for point in whole) == 120
    assert sum(point["samples"] for point in own) == 30
    assert firm_b.get(f"/bookings/{booking_id}/curve").status_code == 404
    client.parts.series.write_readings(
        [Reading(office.instrument, start + i * 60_000, "celsius", 4.0 + i) for i in range(4)]
    )
    shown = manager.get(f"/instruments/{office.instrument}/readings", params=WINDOW).json()
    assert shown == {"instrument_id": office.instrument, "quantities": ["celsius"]}
    one = f"/instruments/{office.instrument}/readings/celsius"
    [point] = manager.get(one, params=WINDOW | {"buckets": 1}).json()["points"]
    assert {name: point[name] for name in point if name != "start"} == {
        "readings": 4,
        "mean": 5.5,
        "lowest": 4.0,
        "highest": 7.0,
    }
    assert manager.get(one.replace("celsius", "Celsius!"), params=WINDOW).status_code == 422
    assert [who.get(one, params=WINDOW).status_code for who in (firm_a, stranger)] == [403, 403]
    hours = manager.get(f"/instruments/{office.instrument}/hours", params=WINDOW).json()["hours"]
    assert [hour["samples"] for hour in hours] == [60, 60]
    assert firm_a.get(f"/bookings/{booking_id}").json()["uses"][0]["running_ms"] == 1_800_000
