"""Editing the registry: who may, with which version, what is refused, and what the audit chain keeps of it."""

import json

import pytest
from sqlalchemy import select

from api.booking.states import BookingAction
from api.registry import repository
from store.database import Database
from store.tables.accounts import Role
from store.tables.audit import AuditEvent
from store.tables.calendar import BookingMode
from tests.support.api_client import ApiClient
from tests.support.builders_booking import MANAGER, firm, open_office
from wire.clock import ManualClock


@pytest.fixture
def officer(sqlite_county: ApiClient) -> ApiClient:
    return sqlite_county.signed_in(Role.COUNTY_OFFICER)


@pytest.fixture
def manager(sqlite_county: ApiClient) -> ApiClient:
    return sqlite_county.signed_in(Role.LAB_MANAGER, host_id="h01")


def _code(answer) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


def _record(client: ApiClient, path: str) -> tuple[dict, int]:
    answer = client.get(f"{path}/record")
    assert answer.status_code == 200, answer.text
    return answer.json()["record"], answer.json()["row_version"]


def _events(client: ApiClient, action: str) -> list[tuple[dict, dict]]:
    with client.parts.database.read() as session:
        rows = session.scalars(select(AuditEvent).where(AuditEvent.action == action)).all()
    bodies = [json.loads(row.body) for row in rows]
    return [(body["before"] or {}, body["after"] or {}) for body in bodies]


def test_a_record_that_is_sent_back_changes_nothing_on_both_engines(county: ApiClient) -> None:
    office = county.signed_in(Role.COUNTY_OFFICER)
    for path in ("/hosts/h01", "/labs/l01", "/instruments/xc-h01-01", "/test-items/xc-h01-01-t1"):
        record, version = _record(office, path)
        answer = office.edit("PUT", path, version, record)
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"record": record, "row_version": version}
        assert answer.headers["etag"] == f'"{version}"'
    assert _events(county, "instrument_changed") == []


def test_an_edit_is_audited_with_what_it_changed_and_needs_the_version_it_was_made_on(officer: ApiClient) -> None:
    record, version = _record(officer, "/instruments/xc-h01-03")
    changed = record | {"open_hours": "1-5 8:30-17:30"}
    assert _code(officer.edit("PUT", "/instruments/xc-h01-03", version, changed)) == (422, "invalid_request")
    changed["open_hours"] = "1-5 08:30-17:30;6 09:00-11:00"
    answer = officer.edit("PUT", "/instruments/xc-h01-03", version, changed)
    assert answer.json()["record"]["open_hours"] == "1-5 08:30-17:30; 6 09:00-11:00"
    assert answer.json()["row_version"] == version + 1
    assert _events(officer, "instrument_changed") == [
        ({"open_hours": "1-7 00:00-24:00"}, {"open_hours": "1-5 08:30-17:30; 6 09:00-11:00"})
    ]
    assert _code(officer.edit("PUT", "/instruments/xc-h01-03", version, record)) == (412, "stale_version")
    assert officer.request("PUT", "/instruments/xc-h01-03", json=record).status_code == 428
    assert _code(officer.edit("PUT", "/instruments/xc-h01-04", 1, record)) == (422, "key_differs")


def test_a_lab_manager_edits_the_own_host_and_not_what_money_hangs_on(manager: ApiClient) -> None:
    record, version = _record(manager, "/instruments/xc-h01-03")
    mine = record | {"technical": "0.025 um", "lead_minutes": 60}
    assert manager.edit("PUT", "/instruments/xc-h01-03", version, mine).status_code == 200
    for field, value in (("use_detection", "checkin"), ("run_threshold_w", 1), ("original_value_fen", 1)):
        refused = manager.edit("PUT", "/instruments/xc-h01-03", version + 1, mine | {field: value})
        assert _code(refused) == (403, "office_only")
        assert refused.json()["facts"]["field"] == field
    theirs, version = _record(manager, "/instruments/xc-h02-01")
    assert _code(manager.edit("PUT", "/instruments/xc-h02-01", version, theirs | {"model": "x"})) == (403, "forbidden")
    host, version = _record(manager, "/hosts/h01")
    assert manager.edit("PUT", "/hosts/h01", version, host | {"contact_name": "张工"}).status_code == 200
    assert _code(manager.edit("PUT", "/hosts/h01", version + 1, host | {"name_zh": "x"})) == (403, "office_only")


def test_a_lab_manager_records_labs_instruments_and_tests_of_the_own_host(manager: ApiClient) -> None:
    lab = {
        "lab_id": "l01-new",
        "host_id": "h01",
        "name_zh": "新实验室",
        "latitude_e6": 29_500_000,
        "longitude_e6": 120_900_000,
    }
    assert manager.post("/labs", lab).status_code == 201
    assert _code(manager.post("/labs", lab)) == (409, "lab_exists")
    assert _code(manager.post("/labs", lab | {"lab_id": "l02-new", "host_id": "h02"})) == (403, "forbidden")
    for field, value in (("latitude_e6", 90_000_001), ("longitude_e6", -180_000_001), ("longitude_e6", None)):
        assert _code(manager.post("/labs", lab | {"lab_id": "l9", field: value})) == (422, "invalid_request")
    record, _ = _record(manager, "/instruments/xc-h01-01")
    new = record | {"instrument_id": "xc-h01-77", "code": "XC-H01-77", "lab_id": "l01-new"}
    new |= {"use_detection": "checkin", "run_threshold_w": 0, "original_value_fen": 0}
    for field, value in (("use_detection", "power"), ("run_threshold_w", 500), ("original_value_fen", 10**12)):
        refused = manager.post("/instruments", new | {field: value})
        assert _code(refused) == (403, "office_only"), "what an edit may not say, a new record may not either"
        assert refused.json()["facts"]["field"] == field
    assert manager.post("/instruments", new).status_code == 201
    assert _code(manager.post("/instruments", new | {"instrument_id": "xc-h01-78"})) == (422, "code_differs")
    item = {"test_item_id": "t-77", "instrument_id": "xc-h01-77", "name_zh": "试验", "typical_session_minutes": 30}
    assert manager.post("/test-items", item | {"report_type": "cnas", "turnaround_days": 3}).status_code == 201
    assert _code(manager.post("/test-items", item | {"test_item_id": "t-78", "instrument_id": "xc-h02-01"}))[0] == 403
    assert manager.get("/instruments/xc-h01-77/test-items").json()["items"][0]["report_type"] == "cnas"
    assert manager.get("/catalogue/xc-h01-77").json()["lab"]["latitude_e6"] == 29_500_000
    assert manager.get("/catalogue", params={"q": "xc-h01-77"}).json()["total"] == 1


def test_hosts_are_the_countys_to_record(officer: ApiClient, manager: ApiClient) -> None:
    record, _ = _record(officer, "/hosts/h01")
    assert manager.post("/hosts", record).status_code == 403
    assert _code(officer.post("/hosts", record)) == (409, "host_exists")
    assert _code(officer.post("/hosts", record | {"host_id": "h77"})) == (409, "host_exists")
    assert _code(officer.post("/hosts", record | {"host_id": "h77", "uscc": "1"})) == (422, "uscc_invalid")


def test_what_has_parts_that_are_open_is_not_retired(officer: ApiClient) -> None:
    host, version = _record(officer, "/hosts/h01")
    assert _code(officer.edit("PUT", "/hosts/h01", version, host | {"retired": True})) == (409, "still_open")
    lab, lab_version = _record(officer, "/labs/l01")
    assert _code(officer.edit("PUT", "/labs/l01", lab_version, lab | {"retired": True})) == (409, "still_open")
    instrument, version = _record(officer, "/instruments/xc-h01-01")
    gone = instrument | {"run_status": "retired"}
    assert officer.edit("PUT", "/instruments/xc-h01-01", version, gone).status_code == 200
    assert officer.edit("PUT", "/labs/l01", lab_version, lab | {"retired": True}).status_code == 200
    assert officer.get("/catalogue", params={"q": "xc-h01-01"}).json()["total"] == 0
    assert _code(officer.edit("PUT", "/instruments/xc-h01-01", version + 1, instrument)) == (409, "retired")


def test_a_certificate_is_withdrawn_not_edited_and_then_does_not_count(manager: ApiClient) -> None:
    path = "/instruments/xc-h01-03/certificates"
    [old] = manager.get(path).json()["items"]
    assert old["valid_now"]
    gone = manager.post(f"/certificates/{old['certificate_id']}/withdrawal", {"reason": "编号有误"})
    assert (gone.status_code, gone.json()["valid_now"]) == (201, False)
    detail = manager.get("/catalogue/xc-h01-03").json()
    assert detail["certificates_now"] == "none"
    assert [each["verdict"] for each in detail["items_now"]] == ["refuse"], "the county centre reports with CMA"
    paper = {"kind": "calibration", "number": "C-2", "body": "示例机构", "valid_from": "2026-01-01T00:00:00+08:00"}
    ended = paper | {"valid_to": "2026-03-02T09:00:00+08:00"}
    assert manager.post(path, ended).status_code == 201
    assert manager.get("/catalogue/xc-h01-03").json()["certificates_now"] == "expired"
    assert _code(manager.post(path, paper | {"valid_to": paper["valid_from"]})) == (422, "validity_reversed")
    assert manager.post("/instruments/xc-h02-01/certificates", ended).status_code == 403
    listed = manager.get("/certificates", params={"within_days": 0}).json()["items"]
    assert [each["number"] for each in listed] == ["C-2"]


def test_special_days_are_the_countys_for_all_and_the_hosts_for_itself(officer: ApiClient, manager: ApiClient) -> None:
    day = {"day": "2026-03-04", "name_zh": "节假日"}
    assert manager.post("/special-days", day).status_code == 403
    assert officer.post("/special-days", day).status_code == 201
    own = manager.post("/special-days", day | {"host_id": "h01", "like_weekday": 3})
    assert own.json()["special_day_id"] == "h01-2026-03-04"
    assert manager.post("/special-days", day | {"host_id": "h02"}).status_code == 403
    noon = {"free_from": "2026-03-04T12:00:00+08:00", "limit": 200}
    assert {hit["host_id"] for hit in officer.get("/catalogue", params=noon).json()["items"]} == {"h01"}
    assert len(officer.get("/special-days", params={"host": "h01"}).json()["items"]) == 2
    assert officer.edit("DELETE", "/special-days/county-2026-03-04", 7).status_code == 412
    assert officer.edit("DELETE", "/special-days/county-2026-03-04", 1).status_code == 204
    assert officer.get("/catalogue", params=noon).json()["total"] == 82
    assert [before["day"] for before, _ in _events(officer, "special_day_dropped")] == ["2026-03-04"]


@pytest.mark.parametrize("role", [Role.SME, Role.FINANCE, Role.AUDITOR])
def test_others_read_and_do_not_write(sqlite_county: ApiClient, role: Role) -> None:
    person = sqlite_county.signed_in(role)
    record, version = _record(sqlite_county.signed_in(Role.COUNTY_OFFICER), "/labs/l01")
    assert person.edit("PUT", "/labs/l01", version, record).status_code == 403
    assert person.get("/catalogue").status_code == 200


def test_an_instrument_with_samples_on_the_way_is_not_retired(sqlite_database: Database, clock: ManualClock) -> None:
    """A sample order holds no time until the lab schedules it, and is open all the same."""
    office = open_office(sqlite_database, clock)
    office.change_instrument(approval="manager")
    order = office.book(firm("a"), mode=BookingMode.SAMPLES, quantity=2)

    def ahead() -> int:
        with sqlite_database.read() as session:
            return repository.bookings_ahead(session, office.instrument, office.now)

    assert (office.booking(order).state, ahead()) == ("requested", 1)
    office.do(MANAGER, order, BookingAction.CONFIRM)
    assert (office.booking(order).state, ahead()) == ("confirmed", 1)
    office.do(MANAGER, order, BookingAction.RECEIVE, samples=("a", "b"))
    assert (office.booking(order).state, ahead()) == ("samples_received", 1)
    other = office.book(firm("b"), office.slot(2, 1))
    assert ahead() == 2
    for booking_id, who in ((other, firm("b")), (order, MANAGER)):
        office.do(who, booking_id, BookingAction.CANCEL, reason="改做其他仪器")
    assert ahead() == 0
