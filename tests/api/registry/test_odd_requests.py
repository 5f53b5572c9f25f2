"""Requests that a person would never write: each is refused with a reason, and none ends in a fault of the server.

Each of these once did. They are kept one by one, because no generator finds them again in the time that a suite has.
"""

import base64
import json
from uuid import uuid4

import pytest

from store.tables.accounts import Role
from tests.support.api_client import ApiClient

END_OF_TIME = "9999-12-31T23:59:59Z"
BEGINNING_OF_TIME = "0001-01-01T00:00:00+14:00"
INSTRUMENT = "xc-h01-03"
SLOT = {"instrument_id": INSTRUMENT, "mode": "self_operated", "slot_from": "2026-03-03T09:00:00+08:00"}


def cursor(*values: object) -> str:
    """A cursor as somebody else would write it."""
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode()


def code(answer) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


@pytest.fixture
def officer(sqlite_county: ApiClient) -> ApiClient:
    return sqlite_county.signed_in(Role.COUNTY_OFFICER)


@pytest.fixture
def customer(sqlite_county: ApiClient) -> ApiClient:
    return sqlite_county.signed_in(Role.SME)


@pytest.mark.parametrize("as_of", [10**39, -(10**39), 2**63, True])
def test_a_cursor_of_the_catalogue_from_outside_our_era_is_refused(sqlite_county: ApiClient, as_of: int) -> None:
    given = cursor("relevance", as_of, 0, "x")
    assert code(sqlite_county.get("/catalogue", params={"cursor": given})) == (422, "bad_cursor")


@pytest.mark.parametrize("sort", ["relevance", "earliest"])
def test_a_cursor_of_the_catalogue_with_a_number_past_all_is_refused(sqlite_county: ApiClient, sort: str) -> None:
    now_ms = sqlite_county.parts.clock.now_ms()
    given = cursor(sort, now_ms, 2**63, "x")
    assert code(sqlite_county.get("/catalogue", params={"sort": sort, "cursor": given})) == (422, "bad_cursor")


def test_a_cursor_with_a_text_that_no_database_keeps_is_refused(county: ApiClient) -> None:
    officer = county.signed_in(Role.COUNTY_OFFICER)
    for text in ("\ud800", "h01\udfff", "\0", "h\0x"):
        assert code(county.get("/hosts", params={"cursor": cursor(text)})) == (422, "bad_cursor")
        assert code(officer.get("/inbox", params={"cursor": cursor(0, text)})) == (422, "bad_cursor")
        given = cursor("relevance", county.parts.clock.now_ms(), 0, text)
        assert code(county.get("/catalogue", params={"cursor": given})) == (422, "bad_cursor")


def test_a_cursor_with_an_instant_past_all_is_refused(officer: ApiClient) -> None:
    for instant in (2**63, 10**30, -(10**30)):
        given = cursor(instant, "x")
        assert code(officer.get("/tokens", params={"cursor": given})) == (422, "bad_cursor")


def test_a_calendar_at_the_end_of_time_is_refused(officer: ApiClient) -> None:
    asked = {"from": "9999-12-31T23:00:00Z", "to": "9999-12-31T22:00:00Z"}
    assert code(officer.get(f"/instruments/{INSTRUMENT}/calendar", params=asked)) == (422, "invalid_request")
    asked = {"from": BEGINNING_OF_TIME, "to": END_OF_TIME}
    assert code(officer.get(f"/instruments/{INSTRUMENT}/calendar", params=asked)) == (422, "invalid_request")


@pytest.mark.parametrize("body", [b"[" * 200_000, b'{"a":' * 100_000, b"\xff\xfe", b"9" * 5000])
def test_a_body_that_no_reader_gets_to_the_end_of_is_refused(sqlite_county: ApiClient, body: bytes) -> None:
    headers = {"Content-Type": "text/plain", "Idempotency-Key": uuid4().hex}
    answer = sqlite_county.request("POST", "/registrations", content=body, headers=headers)
    assert code(answer) == (422, "invalid_request")


@pytest.mark.parametrize("body", [b"[" * 200_000, b'{"a":' * 100_000, b'{"uscc":"\\ud800"}', b"9" * 5000])
def test_the_same_as_json_is_refused_too(sqlite_county: ApiClient, body: bytes) -> None:
    headers = {"Content-Type": "application/json", "Idempotency-Key": uuid4().hex}
    answer = sqlite_county.request("POST", "/registrations", content=body, headers=headers)
    assert answer.status_code in (400, 422), answer.text


@pytest.mark.parametrize("path", ["/quotes", "/bookings"])
def test_a_slot_to_the_end_of_time_is_refused(customer: ApiClient, path: str) -> None:
    assert code(customer.post(path, SLOT | {"slot_to": END_OF_TIME})) == (422, "invalid_request")
    assert code(customer.post(path, SLOT | {"slot_from": BEGINNING_OF_TIME, "slot_to": END_OF_TIME}))[0] == 422


def test_an_outage_to_the_end_of_time_is_refused(sqlite_county: ApiClient) -> None:
    manager = sqlite_county.signed_in(Role.LAB_MANAGER, host_id="h01")
    outage = {"from_at": "2026-03-03T08:00:00+08:00", "to_at": END_OF_TIME, "reason": "检修"}
    answer = manager.post(f"/instruments/{INSTRUMENT}/outages", outage)
    assert code(answer) == (422, "invalid_request")


def test_a_certificate_that_never_ends_is_refused_and_the_longest_one_is_shown(officer: ApiClient) -> None:
    path = f"/instruments/{INSTRUMENT}/certificates"
    paper = {"kind": "calibration", "number": "C-9", "body": "示例机构", "valid_from": "2026-01-01T00:00:00+08:00"}
    refused = officer.post(path, paper | {"valid_to": END_OF_TIME})
    assert code(refused) == (422, "invalid_request")
    assert "2199" in refused.json()["facts"]["fields"][0]["problem"], "says how far it may go"
    kept = officer.post(path, paper | {"valid_to": "2199-12-31T00:00:00+08:00"})
    assert kept.status_code == 201, kept.text
    assert officer.get(path).status_code == 200


@pytest.mark.parametrize("number", ["1e999999", "-1e999999", "1e-999999", "NaN", "sNaN", "Infinity", "9" * 400])
def test_an_import_with_a_number_that_nobody_means_names_the_cell(officer: ApiClient, number: str) -> None:
    exported = officer.get("/registry/export/hosts").text.removeprefix("﻿")
    header, first, *_ = exported.split("\r\n")
    cells = first.split(",")
    cells[header.split(",").index("latitude")] = number
    for dry_run in (True, False):
        answer = officer.post("/registry/import", {"hosts": f"{header}\r\n{','.join(cells)}\r\n", "dry_run": dry_run})
        assert answer.status_code == (200 if dry_run else 422), answer.text
        findings = answer.json()["findings"] if dry_run else answer.json()["facts"]["findings"]
        assert [(each["line"], each["column"]) for each in findings] == [(2, "latitude")]


def test_a_search_for_what_is_free_at_the_end_of_time_is_refused(officer: ApiClient) -> None:
    record = officer.get(f"/instruments/{INSTRUMENT}/record").json()
    weekly = record["record"] | {"open_hours": "1-5 08:30-17:30"}
    assert officer.edit("PUT", f"/instruments/{INSTRUMENT}", record["row_version"], weekly).status_code == 200
    for asked in ({"free_from": END_OF_TIME}, {"free_from": BEGINNING_OF_TIME, "free_to": END_OF_TIME}):
        assert code(officer.get("/catalogue", params=asked)) == (422, "invalid_request")
    assert officer.get("/catalogue", params={"free_from": "2199-12-31T09:00:00+08:00"}).status_code == 200


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
def test_a_special_day_at_the_end_of_time_is_refused(officer: ApiClient, day: str) -> None:
    assert code(officer.post("/special-days", {"day": day, "name_zh": "节假日"})) == (422, "invalid_request")
