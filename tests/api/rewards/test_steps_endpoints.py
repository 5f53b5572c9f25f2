"""A run's way, its notice, the money and the grades over HTTP; and that a lab manager sees the own host's alone."""

import pytest

from api.deps import Parts
from api.rewards.policy_body import policy_document
from store.tables.accounts import Role
from tests.api.charging.building import FIRM, HOST
from tests.api.rewards.building import DAY, FLAT10, RewardCounty
from tests.support.api_client import ApiClient, in_process, test_parts
from tests.support.usage import NINE
from wire.clock import ManualClock, from_ms, to_ms


@pytest.fixture
def clock(county: RewardCounty) -> ManualClock:
    return ManualClock(to_ms(county.now))


@pytest.fixture
def parts(county: RewardCounty, clock: ManualClock) -> Parts:
    return test_parts(county.database, county.series, clock)


@pytest.fixture
def nobody(parts: Parts):
    with in_process(parts) as anonymous:
        yield anonymous


def done(answer, status: int = 201):
    assert answer.status_code == status, answer.text
    return answer.json()


def code(answer) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_a_run_is_announced_objected_to_approved_locked_and_paid(
    county: RewardCounty, nobody: ApiClient, clock: ManualClock
) -> None:
    charge = county.paid(minutes=80)
    officer, second = nobody.signed_in(Role.COUNTY_OFFICER), nobody.signed_in(Role.COUNTY_OFFICER)
    finance, auditor = nobody.signed_in(Role.FINANCE), nobody.signed_in(Role.AUDITOR)
    manager = nobody.signed_in(Role.LAB_MANAGER, host_id=HOST, org_id="org-h01")
    stranger = nobody.signed_in(Role.LAB_MANAGER, host_id="h02")
    firm = nobody.signed_in(Role.SME, org_id=FIRM)
    run = done(officer.post("/reward-runs", {"policy_id": "FLAT10", "period": "2026"}))
    path, read = f"/reward-runs/{run['run_id']}", {"result_sha256": run["result_sha256"]}
    assert run["stage"] == "prepared"

    # Before the notice nobody outside the county sees anything of it.
    assert nobody.get("/reward-notices").json()["items"] == []
    assert manager.get(f"/hosts/{HOST}/rewards").json()["items"] == []
    assert code(manager.get(f"/hosts/{HOST}/rewards/{run['run_id']}/lines")) == (404, "not_found")
    assert code(officer.post(f"{path}/check", read)) == (409, "same_person")
    assert done(second.post(f"{path}/check", read))["stage"] == "checked"
    assert done(officer.post(f"{path}/notice", {}))["stage"] == "noticed"

    # Everybody reads the notice; a host its own lines, and never another's.
    [notice] = nobody.get("/reward-notices").json()["items"]
    assert (notice["period"], notice["hosts"][0]["payable_yuan"], notice["notice_until"]) == (
        "2026",
        "60.00",
        "2026-04-18T00:00:00+08:00",
    )
    [own] = manager.get(f"/hosts/{HOST}/rewards").json()["items"]
    assert (own["stage"], own["result"]["reward_fen"], own["paid"]) == ("noticed", 6_000, None)
    lines = manager.get(f"/hosts/{HOST}/rewards/{run['run_id']}/lines?reason=eligible").json()["items"]
    assert [one["charge_id"] for one in lines] == [charge]
    for path_of_host in (f"/hosts/{HOST}/rewards", f"/hosts/{HOST}/rewards/{run['run_id']}/lines"):
        assert code(stranger.get(path_of_host)) == (403, "forbidden")
        assert firm.get(path_of_host).status_code == 403
        assert auditor.get(path_of_host).status_code == 200
    assert stranger.get(f"/hosts/h02/rewards/{run['run_id']}/lines").json()["items"] == []
    assert stranger.get("/hosts/h02/rewards").json()["items"] == []
    assert manager.get(path).status_code == 403
    assert manager.get(f"{path}/inputs").status_code == 403

    # The firm objects; the answer is there for it to read, and for nobody else's firm.
    objections = f"/reward-notices/{run['run_id']}/objections"
    objection = done(firm.post(objections, {"objection": "this was never done", "host_id": HOST}))
    assert auditor.post(objections, {"objection": "no"}).status_code == 403
    clock.advance(8 * DAY)
    assert code(second.post(f"{path}/approval", read)) == (409, "objections_open")
    reply = {"outcome": "rejected", "answer": "the samples are on file"}
    assert done(officer.post(f"/reward-objections/{objection['objection_id']}/answer", reply))["outcome"] == "rejected"
    assert [one["answer"] for one in firm.get(objections).json()["items"]] == ["the samples are on file"]
    assert manager.get(objections).json()["items"] == []
    assert len(auditor.get(objections).json()["items"]) == 1

    assert done(second.post(f"{path}/approval", read))["stage"] == "approved"
    assert nobody.get("/reward-notices").json()["items"] == []
    locked = done(finance.post(f"{path}/lock", read))
    assert (locked["state"], locked["stage"]) == ("locked", "locked")

    clock.advance(3 * DAY)
    transfer = {"paid_on": "2026-04-21", "external_ref": "B-1", "amounts": [{"host_id": HOST, "amount_fen": 6_000}]}
    twice = transfer | {"amounts": transfer["amounts"] * 2}
    assert finance.post(f"{path}/payments", twice).status_code == 422
    assert officer.post(f"{path}/payments", transfer).status_code == 403
    money = done(finance.post(f"{path}/payments", transfer))
    assert (money["unpaid_fen"], money["days_to_pay"], money["approved_yuan"]) == (0, 3, "60.00")
    back = {
        "paid_on": "2026-04-21",
        "external_ref": "B-2",
        "host_id": HOST,
        "amount_fen": 1,
        "reason": "a fen too much",
    }
    assert done(finance.post(f"{path}/payment-returns", back))["unpaid_fen"] == 1
    seen = done(auditor.get(path), 200)
    assert [step["action"] for step in seen["steps"]] == [
        "check",
        "publish",
        "approve",
        "lock",
        "pay",
        "return",
    ]
    assert (seen["stage"], seen["possible"], seen["stands_on"], len(seen["objections"])) == ("locked", [], [], 1)
    assert done(finance.get(path), 200)["possible"] == ["pay-part", "pay", "return"]
    assert finance.get(f"{path}/payments").json()["hosts"][0]["payments"][1]["amount_fen"] == -1
    assert manager.get(f"/hosts/{HOST}/rewards").json()["items"][0]["paid"]["paid_fen"] == 5_999

    # An adjustment run shows what it stands on.
    county.now = from_ms(clock.now_ms())
    late = county.paid(NINE + DAY, 30)
    further = done(officer.post("/reward-runs", {"policy_id": "FLAT10", "period": "2026"}))
    shown = done(auditor.get(f"/reward-runs/{further['run_id']}"), 200)
    assert ([one["run_id"] for one in shown["stands_on"]], shown["changes"][0]["kind"]) == ([run["run_id"]], "late")
    [change] = auditor.get(f"/reward-runs/{further['run_id']}/changes").json()["items"]
    assert (change["charge_id"], change["reason_before"], change["difference_yuan"]) == (late, None, "200.00")


def test_a_policy_is_tried_without_writing(county: RewardCounty, nobody: ApiClient) -> None:
    county.paid()
    finance, reader = nobody.signed_in(Role.FINANCE), nobody.signed_in(Role.AUDITOR, scopes="read")
    body = policy_document(FLAT10) | {"budget_fen": 1_000}
    tried = done(
        finance.post("/reward-runs/what-if", {"period": "2026", "body": body, "against_policy": "FLAT20"}), 200
    )
    assert (tried["difference_yuan"], tried["losers"], tried["asked"]["shortfall_yuan"]) == ("-40.00", 1, "30.00")
    assert done(reader.post("/reward-runs/what-if", {"period": "2026", "policy_id": "FLAT10"}), 200)["winners"] == 0
    wrong = finance.post("/reward-runs/what-if", {"period": "2026", "body": {"tiers": []}})
    assert (code(wrong), wrong.json()["facts"]["field"]) == ((422, "policy_invalid"), "tiers")
    assert finance.get("/reward-runs").json()["items"] == []


def test_bookings_are_marked_decided_about_and_read(county: RewardCounty, nobody: ApiClient) -> None:
    charge = county.tested()
    officer, finance = nobody.signed_in(Role.COUNTY_OFFICER), nobody.signed_in(Role.FINANCE)
    auditor, manager = nobody.signed_in(Role.AUDITOR), nobody.signed_in(Role.LAB_MANAGER, host_id=HOST)
    asked = {"charge_id": charge, "code": "statutory", "evidence": "order no. 7", "evidence_sha256": "a" * 64}
    mark = done(officer.post("/reward-marks", asked))
    path = f"/reward-marks/{mark['mark_id']}"
    assert (mark["approved"], mark["stands"], mark["evidence_sha256"]) == (None, False, "a" * 64)
    assert auditor.get("/reward-marks?open_only=true").json()["items"] == [mark]
    assert code(officer.post(f"{path}/decision", {"approved": True})) == (409, "same_person")
    decided = done(finance.post(f"{path}/decision", {"approved": True}))
    assert (decided["approved"], decided["stands"], decided["decided_by"]) == (True, True, finance.person_id)
    assert code(officer.post("/reward-marks", asked)) == (409, "already_marked")
    away = done(officer.post(f"{path}/withdrawal", {"evidence": "it was another order"}))
    assert (away["withdraws"], away["code"], away["booking_id"]) == (mark["mark_id"], "statutory", mark["booking_id"])
    done(finance.post(f"/reward-marks/{away['mark_id']}/decision", {"approved": True}))
    assert finance.get(path).json()["stands"] is False
    found = finance.get(f"/reward-marks?booking_id={mark['booking_id']}&code=statutory").json()["items"]
    assert [one["mark_id"] for one in found] == [away["mark_id"], mark["mark_id"]]
    assert officer.post("/reward-marks", {"code": "bulk", "evidence": "x"}).status_code == 422
    for who in (manager, auditor):
        assert who.post("/reward-marks", asked).status_code == 403
    assert manager.get("/reward-marks").status_code == 403


def test_grades_are_proposed_decided_and_read(county: RewardCounty, nobody: ApiClient) -> None:
    officer, finance = nobody.signed_in(Role.COUNTY_OFFICER), nobody.signed_in(Role.FINANCE)
    manager = nobody.signed_in(Role.LAB_MANAGER, host_id=HOST)
    stranger = nobody.signed_in(Role.LAB_MANAGER, host_id="h02")
    asked = {"host_id": HOST, "year": 2026, "grade": "excellent", "evidence": "minutes of 3 March"}
    proposal = done(officer.post("/assessments/proposals", asked))
    path = f"/assessments/proposals/{proposal['proposal_id']}"
    assert finance.get("/assessments/proposals?open_only=true").json()["items"] == [proposal]
    assert finance.get(path).json() == proposal
    assert code(officer.post(f"{path}/decision", {"approved": True})) == (409, "same_person")
    decided = done(finance.post(f"{path}/decision", {"approved": True}))
    assert (decided["approved"], decided["version"]) == (True, 1)
    assert finance.get("/assessments/proposals?open_only=true").json()["items"] == []
    [grade] = finance.get(f"/assessments?year=2026&host_id={HOST}").json()["items"]
    assert (grade["grade"], grade["evidence"], grade["approved_by"]) == (
        "excellent",
        asked["evidence"],
        finance.person_id,
    )
    assert [one["host_id"] for one in manager.get("/assessments").json()["items"]] == [HOST]
    assert stranger.get("/assessments").json()["items"] == []
