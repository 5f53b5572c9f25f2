"""What the county office records: organisations, agents, meterings; each refusal has its own code."""

from hashlib import sha256

import pytest

from api.accounts.uscc import make
from edge_agents.detector import DetectorProfile
from store.liveness import Heard, note_heard
from store.tables.accounts import Role
from store.tables.registry import Agent
from tests.support.api_client import ApiClient
from tests.support.county import MONDAY_NINE_MS

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


def test_a_meter_speaks_for_one_instrument_at_a_time(officer: ApiClient) -> None:
    first, second = "/instruments/xc-h01-01/meterings", "/instruments/xc-h01-02/meterings"

    def record(path: str, hour: int, serial: str) -> tuple[int, str]:
        agent = path.split("/")[2].replace("xc-", "a-")
        asked = _metering(agent, f"2026-03-02T{hour:02d}:00:00+08:00")
        return _code(officer.post(path, asked | {"meter_serial": serial}))

    assert record(first, 1, "SN-7") == (201, "")
    refused = officer.post(second, _metering("a-h01-02", "2026-03-02T02:00:00+08:00") | {"meter_serial": " sn-7 "})
    assert (_code(refused), refused.json()["facts"]["instrument_id"]) == ((409, "meter_taken"), "xc-h01-01")
    assert record(first, 5, "SN-8") == (201, "")
    assert record(second, 2, "SN-7") == (409, "meter_taken")  # it is still on the first one at that time
    assert record(second, 5, "SN-7") == (201, "")
    assert record(first, 6, "SN-7") == (409, "meter_taken")
    assert record(first, 6, "SN-8") == (201, "")  # its own meter again, with another profile say
    assert record(second, 7, "-") == record(first, 7, "-") == (201, "")


def test_the_hash_of_a_metering_is_that_of_its_profile_however_it_is_written(officer: ApiClient) -> None:
    path = "/instruments/xc-h01-01/meterings"
    texts = ('{"on_w":1025,"off_w":600,"standby_w":20}', '{ "standby_w": 20.0, "off_w": 6e2, "on_w": 1025.0 }', PROFILE)
    hashes = []
    for hour, text in enumerate(texts):
        asked = _metering("a-h01-01", f"2026-03-02T0{hour}:00:00+08:00") | {"profile": text}
        hashes.append(officer.post(path, asked).json()["profile_sha256"])
    assert hashes[0] == hashes[1] == DetectorProfile(on_w=1025.0, off_w=600.0, standby_w=20.0).sha256
    assert hashes[2] == sha256(PROFILE.encode()).hexdigest()  # what says no profile is cited as it is written


def test_revoking_an_agent_says_what_is_lost_with_it(officer: ApiClient) -> None:
    lost = officer.post("/agents/a-h01-02/revocation").json()["cautions"]
    assert [each["code"] for each in lost] == ["still_metering"]
    assert "xc-h01-02" in lost[0]["zh"]
    assert "xc-h01-02" in lost[0]["en"]
    with officer.parts.database.write() as session:
        note_heard(session, Heard("a-h01-01", True, MONDAY_NINE_MS, "b1", "test", 7, 0, 0))
    officer.post("/agents", {"agent_id": "a-h01-99", "host_id": "h01"})
    officer.post("/instruments/xc-h01-01/meterings", _metering("a-h01-99", "2026-03-02T08:00:00+08:00"))
    lost = officer.post("/agents/a-h01-01/revocation").json()["cautions"]
    assert [(each["code"], " 7 " in each["en"]) for each in lost] == [("backlog", True)]
    assert officer.post("/agents/a-h01-99/revocation").json()["cautions"][0]["code"] == "still_metering"
