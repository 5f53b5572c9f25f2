"""Charging over HTTP: who sees what, and the way from a price list to a paid statement."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from api.schemas import rfc3339
from store.database import Database
from store.tables.accounts import Role
from tests.api.charging.building import FIRM, HOST, INSTRUMENT, OTHER_FIRM, County, build
from tests.support.api_client import ApiClient, in_process, test_parts
from wire.clock import ManualClock, to_ms

MONTH = 202603


@pytest.fixture
def web(database: Database, tmp_path) -> Iterator[tuple[County, ApiClient]]:
    county = build(database, tmp_path)
    parts = test_parts(database, county.series, ManualClock(to_ms(county.now)))
    with in_process(parts) as nobody:
        yield county, nobody
    county.series.close()


def manager_of(nobody: ApiClient, host: str = HOST) -> ApiClient:
    return nobody.signed_in(Role.LAB_MANAGER, org_id="org-h01", host_id=host)


def test_from_a_charge_to_a_paid_statement(web):
    county, nobody = web
    charge_id = county.charged(80)
    manager, firm = manager_of(nobody), nobody.signed_in(Role.SME, org_id=FIRM)
    draft = manager.post("/statements", {"host_id": HOST, "payer_org": FIRM, "month": MONTH})
    assert draft.status_code == 201, draft.text
    where = f"/statements/{draft.json()['statement_id']}"
    assert firm.get(where).status_code == 404
    final = manager.post(f"{where}/finalization")
    assert (final.json()["number"], final.json()["total_yuan"]) == ("H01-2026-0001", "600.00")
    number = "26330000000000000001"
    invoice = {"invoice_no": number, "kind": "blue", "issued_at": rfc3339(county.now)}
    assert manager.post(f"{where}/invoices", invoice).json()["amount_fen"] == 60_000
    money = {
        "tender": "cash",
        "amount_fen": 60_000,
        "external_ref": "bank-1",
        "received_at": rfc3339(county.now),
    }
    first = manager.post(f"{where}/payments", money, key="one")
    assert first.status_code == 201, first.text
    assert manager.post(f"{where}/payments", money, key="one").json() == first.json()
    again = manager.post(f"{where}/payments", money, key="two")
    assert (again.status_code, again.json()["code"]) == (409, "payment_already_recorded")
    whole = firm.get(where).json()
    assert (whole["open_fen"], whole["lines"][0]["charge_id"], len(whole["payments"])) == (0, charge_id, 1)
    assert [row["number"] for row in firm.get("/statements").json()["items"]] == ["H01-2026-0001"]


def test_a_charge_explains_itself_down_to_the_curve(web):
    county, nobody = web
    charge_id = county.charged(80)
    firm = nobody.signed_in(Role.SME, org_id=FIRM)
    told = firm.get(f"/charges/{charge_id}/explain").json()
    assert told["charge"]["total_yuan"] == "600.00"
    assert told["tariff"]["body"]["schema"] == "openlab.tariff/1"
    [line] = told["lines"]
    assert "80 min 0 s" in line["en"]
    assert "1 h 30 min" in line["zh"]
    [use] = told["uses"]
    assert (use["running_ms"], use["open_seq"]) == (80 * 60_000, 1)
    by_kind = {each["kind"]: each for each in told["evidence"]}
    assert by_kind["records"]["item_count"] == 2
    assert by_kind["samples"]["curve"]["samples"] == 80 * 60 // 5
    assert [each["rule"] for each in told["anomalies"]] == ["coverage_below_95"]
    assert firm.get(f"/charges/{charge_id}").json()["lines"][0]["amount_fen"] == 60_000


def test_everybody_sees_their_own_charges_and_nobody_elses(web):
    county, nobody = web
    charge_id = county.charged(80)
    seen = {
        "payer": nobody.signed_in(Role.SME, org_id=FIRM),
        "manager": manager_of(nobody),
        "officer": nobody.signed_in(Role.COUNTY_OFFICER),
        "finance": nobody.signed_in(Role.FINANCE),
        "auditor": nobody.signed_in(Role.AUDITOR),
    }
    for name, client in seen.items():
        assert [row["charge_id"] for row in client.get("/charges").json()["items"]] == [charge_id], name
        assert client.get(f"/charges/{charge_id}").status_code == 200, name
    for client in (nobody.signed_in(Role.SME, org_id=OTHER_FIRM), manager_of(nobody, "h02")):
        assert client.get("/charges").json()["items"] == []
        for path in (f"/charges/{charge_id}", f"/charges/{charge_id}/explain"):
            assert client.get(path).status_code == 404
    assert nobody.get("/charges").status_code == 401


def test_prices_are_public_and_published_by_two_people(web):
    county, nobody = web
    [published] = nobody.get(f"/instruments/{INSTRUMENT}/tariffs").json()
    assert published["body"]["default"]["time"]["unit_fen"] == 40_000
    first, second = manager_of(nobody), manager_of(nobody)
    asked = {"valid_from": rfc3339(county.now + timedelta(days=1)), "body": published["body"]}
    proposal = first.post(f"/instruments/{INSTRUMENT}/tariff-proposals", asked)
    assert proposal.status_code == 201, proposal.text
    where = f"/tariff-proposals/{proposal.json()['proposal_id']}"
    approval = {"body_sha256": second.get(where).json()["body_sha256"]}
    refused = first.post(f"{where}/approval", approval)
    assert (refused.status_code, refused.json()["code"]) == (409, "same_person")
    assert second.post(f"{where}/approval", approval).json()["version"] == 2
    assert len(nobody.get(f"/instruments/{INSTRUMENT}/tariffs").json()) == 2


def test_a_faulty_price_list_is_refused_by_its_field(web):
    county, nobody = web
    body = {"default": {"time": {"per": "hour", "unit_fen": 40_000, "step_s": 0}}}
    asked = {"valid_from": rfc3339(county.now), "body": body}
    answer = manager_of(nobody).post(f"/instruments/{INSTRUMENT}/tariff-proposals", asked)
    assert answer.status_code == 422
    assert "step_s" in answer.text


def test_nobody_takes_a_charge_back_alone_and_its_anomaly_is_decided(web):
    county, nobody = web
    charge_id = county.charged(80)
    officer = nobody.signed_in(Role.COUNTY_OFFICER)
    first, second = manager_of(nobody), manager_of(nobody)
    withdrawal = {"kind": "withdrawal", "reason": "wrong party", "evidence": "the order names another firm"}
    proposal = first.post(f"/charges/{charge_id}/corrections", withdrawal)
    assert proposal.status_code == 201, proposal.text
    where = f"/corrections/{proposal.json()['correction_id']}/decision"
    decision = {"approved": True, "note": "as said", "body_sha256": proposal.json()["body_sha256"]}
    refused = first.post(where, decision)
    assert (refused.status_code, refused.json()["code"]) == (409, "same_person")
    assert second.post(where, decision).status_code == 201
    assert first.post(f"/charges/{charge_id}/reversal", {"reason": "alone"}).status_code == 404
    [anomaly] = officer.get(f"/charges/{charge_id}/explain").json()["anomalies"]
    decision = {"verdict": "cleared", "note": "the meter was away"}
    decided = officer.post(f"/anomalies/{anomaly['anomaly_id']}/decision", decision)
    assert decided.json()["verdict"] == "cleared"
    assert officer.get(f"/anomalies/{anomaly['anomaly_id']}").json()["note"] == "the meter was away"
    assert officer.get(f"/charges?posting_month={MONTH}&host_id={HOST}").json()["items"][0]["revision"] in (1, 2)


def test_what_looked_wrong_is_listed_for_the_host_and_the_county_until_somebody_decides(web):
    county, nobody = web
    charge_ids = {county.charged(80), county.charged(30)}
    officer, manager = nobody.signed_in(Role.COUNTY_OFFICER), manager_of(nobody)

    def listed(who: ApiClient, **asked: object) -> list[dict]:
        query = "&".join(f"{name}={value}" for name, value in asked.items())
        return who.get(f"/anomalies?{query}").json()["items"]

    found = listed(manager, open_only=True)
    assert {(each["rule"], each["subject_kind"], each["host_id"]) for each in found} == {
        ("coverage_below_95", "charge", HOST)
    }
    assert {each["subject_id"] for each in found} == charge_ids
    assert listed(officer, host_id=HOST, rule="coverage_below_95") == found
    assert listed(officer, rule="price_above_list") == []
    first = nobody.signed_in(Role.AUDITOR).get("/anomalies?limit=1").json()
    assert (first["items"], first["next_cursor"] is None) == (found[:1], False)
    stranger = manager_of(nobody, "h02")
    assert listed(stranger) == []
    assert stranger.get(f"/anomalies/{found[0]['anomaly_id']}").status_code == 404
    assert nobody.signed_in(Role.SME, org_id=FIRM).get("/anomalies").status_code == 403
    officer.post(f"/anomalies/{found[0]['anomaly_id']}/decision", {"verdict": "confirmed", "note": "no power cut"})
    assert listed(manager, open_only=True) == found[1:]
    assert [each["verdict"] for each in listed(manager)] == ["confirmed", None]
