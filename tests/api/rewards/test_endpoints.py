"""Rewards and exports over HTTP: who may, what is refused, what the answers say."""

import pytest

from api.deps import Parts
from api.exports.csv_file import parse_export
from api.rewards.policy_body import policy_document
from store.tables.accounts import Role
from tests.api.rewards.building import FLAT10, RewardCounty
from tests.support.api_client import ApiClient, in_process, test_parts
from wire.clock import ManualClock, to_ms

pytestmark = pytest.mark.slow_on_postgresql


@pytest.fixture
def clock(county: RewardCounty) -> ManualClock:
    """A clock that shows the county's instant."""
    return ManualClock(to_ms(county.now))


@pytest.fixture
def parts(county: RewardCounty, clock: ManualClock) -> Parts:
    """The parts of an API over the county's database, at its instant."""
    return test_parts(county.database, county.series, clock)


@pytest.fixture
def client(parts: Parts):
    with in_process(parts) as anonymous:
        yield anonymous


def test_a_run_goes_from_preparation_to_an_exported_file(
    county: RewardCounty, client: ApiClient, clock: ManualClock
) -> None:
    charge = county.paid(minutes=80)
    officer, second, finance, auditor = (
        client.signed_in(role) for role in (Role.COUNTY_OFFICER, Role.COUNTY_OFFICER, Role.FINANCE, Role.AUDITOR)
    )
    missing = finance.get("/reward-exports/FLAT10/2026.csv")
    assert (missing.status_code, missing.json()["code"]) == (404, "no_run")

    prepared = officer.post("/reward-runs", {"policy_id": "FLAT10", "period": "2026"}, key="once")
    assert prepared.status_code == 201, prepared.text
    run = prepared.json()
    assert (run["period"], run["payable_fen"], run["payable_yuan"], run["state"]) == (
        "2026",
        6_000,
        "60.00",
        "prepared",
    )
    assert [row["reward_yuan"] for row in run["results"]] == ["60.00"]
    assert officer.post("/reward-runs", {"policy_id": "FLAT10", "period": "2026"}, key="once").json() == run
    again = officer.post("/reward-runs", {"policy_id": "FLAT10", "period": "2026"})
    assert (again.status_code, again.json()["code"]) == (409, "run_pending")

    inputs = auditor.get(f"/reward-runs/{run['run_id']}/inputs?reason=eligible&limit=1").json()
    assert [one["charge_id"] for one in inputs["items"]] == [charge]
    assert auditor.get(f"/reward-runs/{run['run_id']}/inputs?reason=unpaid").json()["items"] == []

    named = {"result_sha256": run["result_sha256"]}
    assert second.post(f"/reward-runs/{run['run_id']}/check", named).status_code == 201
    assert officer.post(f"/reward-runs/{run['run_id']}/notice", {}).status_code == 201
    clock.advance(8 * 24 * 3_600_000)
    assert second.post(f"/reward-runs/{run['run_id']}/approval", named).status_code == 201
    own = officer.post(f"/reward-runs/{run['run_id']}/lock", named)
    assert (own.status_code, own.json()["code"]) == (409, "same_person")
    assert second.post(f"/reward-runs/{run['run_id']}/lock", named).json()["state"] == "locked"
    assert auditor.get("/reward-runs?state=locked").json()["items"][0]["run_id"] == run["run_id"]
    assert auditor.get(f"/reward-runs/{run['run_id']}").json()["results"][0]["payable_fen"] == 6_000

    for path in (f"/reward-runs/{run['run_id']}/export.csv", "/reward-exports/FLAT10/2026.csv"):
        file = finance.get(path)
        assert file.status_code == 200
        assert file.headers["content-type"] == "text/csv; charset=utf-8"
        assert file.headers["content-disposition"] == 'attachment; filename="openlab-reward-FLAT10-2026-run1.csv"'
        assert len(parse_export(file.content)) == 4


def test_a_policy_goes_from_proposal_to_publication(client: ApiClient, county: RewardCounty) -> None:
    officer, finance = client.signed_in(Role.COUNTY_OFFICER), client.signed_in(Role.FINANCE)
    asked = {
        "policy_id": "NEW",
        "name_zh": "新",
        "name_en": "New",
        "from_month": 202701,
        "body": policy_document(FLAT10),
    }
    wrong = officer.post("/reward-policies/proposals", asked | {"body": {"tiers": []}})
    assert (wrong.status_code, wrong.json()["code"], wrong.json()["facts"]["field"]) == (422, "policy_invalid", "tiers")
    proposal = officer.post("/reward-policies/proposals", asked).json()
    read = finance.get(f"/reward-policies/proposals/{proposal['proposal_id']}").json()
    assert read == proposal
    approval = f"/reward-policies/proposals/{proposal['proposal_id']}/approval"
    approved = finance.post(approval, {"body_sha256": read["body_sha256"]})
    assert (approved.status_code, approved.json()["version"]) == (201, 1)
    listed = finance.get("/reward-policies").json()["items"]
    assert [one["policy_id"] for one in listed] == ["FLAT10", "FLAT20", "NEW", "XC-DEMO"]


def test_a_run_is_withdrawn_with_a_reason(client: ApiClient, county: RewardCounty) -> None:
    officer = client.signed_in(Role.COUNTY_OFFICER)
    run = officer.post("/reward-runs", {"policy_id": "FLAT10", "period": "2026"}).json()
    answer = officer.post(f"/reward-runs/{run['run_id']}/withdrawal", {"reason": "to be done again"})
    assert (answer.json()["state"], answer.json()["close_reason"]) == ("withdrawn", "to be done again")
    gone = officer.get(f"/reward-runs/{run['run_id']}/export.csv")
    assert (gone.status_code, gone.json()["code"]) == (409, "run_withdrawn")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/reward-runs", {"policy_id": "FLAT10", "period": "2026-13"}, 422, "bad_period"),
        ("POST", "/reward-runs", {"policy_id": "FLAT10", "period": "2026-03"}, 422, "other_period_kind"),
        ("POST", "/reward-runs", {"policy_id": "NONE", "period": "2026"}, 404, "not_found"),
        ("GET", "/reward-runs/NONE", None, 404, "not_found"),
        ("GET", "/reward-runs/NONE/inputs", None, 404, "not_found"),
        ("GET", "/reward-runs/NONE/export.csv", None, 404, "not_found"),
        ("GET", "/reward-exports/FLAT10/soon.csv", None, 422, "bad_period"),
        ("GET", "/reward-policies/proposals/NONE", None, 404, "not_found"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_code(
    client: ApiClient, county: RewardCounty, method: str, path: str, body: object, status: int, code: str
) -> None:
    officer = client.signed_in(Role.COUNTY_OFFICER)
    answer = officer.post(path, body) if method == "POST" else officer.get(path)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
