"""What the county office records: organisations, agents, meterings; each refusal has its own code."""

import pytest

from api.accounts.uscc import make
from store.tables.accounts import Role
from store.tables.registry import Agent
from tests.support.api_client import ApiClient

PROFILE = '{"on_w":1025.0,"off_w":600.0}'


@pytest.fixture
def officer(county: ApiClient) -> ApiClient:
    return county.signed_in(Role.COUNTY_OFFICER)


def _metering(agent: str, at: str) -> dict:
    return {
        "agent_id": agent,
        "effective_at": at,
        "meter_serial": "SN-7",
        "profile": PROFILE,
        "installed_by": "安装人员",
    }


def _code(answer) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


def test_an_organisation_needs_a_code_whose_check_fits_and_that_is_new(officer: ApiClient) -> None:
    asked = {"uscc": make("91990000555555555"), "kind": "sme", "name_zh": "示例企业 丙"}
    made = officer.post("/orgs", asked | {"uscc": asked["uscc"].lower() + " "})
    assert made.status_code == 201, made.text
    assert made.json()["uscc"] == asked["uscc"]
    assert _code(officer.post("/orgs", asked)) == (409, "uscc_taken")
    wrong = asked["uscc"][:-1] + ("0" if asked["uscc"][-1] != "0" else "1")
    assert _code(officer.post("/orgs", asked | {"uscc": wrong})) == (422, "uscc_invalid")


def test_an_agent_is_registered_once_for_one_host(officer: ApiClient) -> None:
    made = officer.post("/agents", {"agent_id": "a-h01-99", "host_id": "h01"})
    assert (made.status_code, made.json()["registered_by"]) == (201, officer.person_id)
    assert _code(officer.post("/agents", {"agent_id": "a-h01-99", "host_id": "h01"})) == (409, "agent_exists")
    assert _code(officer.post("/agents", {"agent_id": "A_99", "host_id": "h01"})) == (422, "bad_wire_id")
    assert _code(officer.post("/agents", {"agent_id": "a-h77-01", "host_id": "h77"})) == (404, "not_found")


def test_a_metering_is_added_after_the_last_one_and_never_before(officer: ApiClient) -> None:
    path = "/instruments/xc-h01-01/meterings"
    officer.post("/agents", {"agent_id": "a-h01-99", "host_id": "h01"})
    made = officer.post(path, _metering("a-h01-99", "2026-03-02T08:00:00+08:00"))
    assert made.status_code == 201, made.text
    assert made.json()["effective_at"] == "2026-03-02T08:00:00+08:00"
    assert len(made.json()["profile_sha256"]) == 64
    for at in ("2026-03-02T00:00:00Z", "2026-02-01T00:00:00+08:00"):
        assert _code(officer.post(path, _metering("a-h01-99", at))) == (409, "metering_not_later")
    assert officer.get("/instruments/xc-h01-01").json()["witness"]["agent_id"] == "a-h01-99"
    listed = officer.get(path, params={"limit": 1}).json()
    assert listed["items"][0]["agent_id"] == "a-h01-99"
    following = officer.get(path, params={"limit": 1, "cursor": listed["next_cursor"]}).json()
    assert (following["items"][0]["agent_id"], following["next_cursor"]) == ("a-h01-01", None)


def test_a_metering_that_lies_ahead_does_not_speak_yet(officer: ApiClient) -> None:
    officer.post("/agents", {"agent_id": "a-h01-99", "host_id": "h01"})
    officer.post("/instruments/xc-h01-01/meterings", _metering("a-h01-99", "2026-03-02T09:00:01+08:00"))
    assert officer.get("/instruments/xc-h01-01").json()["witness"]["agent_id"] == "a-h01-01"


def test_an_agent_meters_its_own_host_only_and_not_once_revoked(officer: ApiClient) -> None:
    path = "/instruments/xc-h01-01/meterings"
    at = "2026-03-02T08:00:00+08:00"
    assert _code(officer.post(path, _metering("a-h02-01", at))) == (422, "other_host")
    assert _code(officer.post(path, _metering("a-nowhere", at))) == (404, "not_found")
    assert _code(officer.post("/instruments/xc-h99-01/meterings", _metering("a-h01-02", at))) == (404, "not_found")
    revoked = officer.post("/agents/a-h01-02/revocation")
    assert revoked.json()["revoked_at"] == "2026-03-02T09:00:00+08:00"
    assert officer.post("/agents/a-h01-02/revocation").json() == revoked.json()
    assert _code(officer.post(path, _metering("a-h01-02", at))) == (422, "agent_revoked")


def test_a_time_without_a_zone_is_refused(officer: ApiClient) -> None:
    answer = officer.post("/instruments/xc-h01-01/meterings", _metering("a-h01-01", "2026-03-02T08:00:00"))
    assert _code(answer) == (422, "invalid_request")
    assert answer.json()["facts"]["fields"][0]["field"] == "body.effective_at"


def test_a_lab_manager_sees_the_agents_of_their_own_host(county: ApiClient) -> None:
    manager = county.signed_in(Role.LAB_MANAGER, host_id="h01")
    agents = manager.get("/agents", params={"limit": 200}).json()["items"]
    assert {each["host_id"] for each in agents} == {"h01"}
    assert len(county.signed_in(Role.AUDITOR).get("/agents", params={"limit": 200}).json()["items"]) == 82
    with county.parts.database.read() as session:
        assert session.get(Agent, "a-h01-01") is not None


def test_who_meters_an_instrument_is_shown_to_its_host_and_the_county(county: ApiClient) -> None:
    path = "/instruments/xc-h01-01/meterings"
    own = county.signed_in(Role.LAB_MANAGER, host_id="h01")
    assert [each["agent_id"] for each in own.get(path).json()["items"]] == ["a-h01-01"]
    assert _code(county.signed_in(Role.LAB_MANAGER, host_id="h02").get(path)) == (403, "forbidden")
    for role in (Role.COUNTY_OFFICER, Role.FINANCE, Role.ADMIN, Role.AUDITOR):
        assert county.signed_in(role).get(path).status_code == 200
