"""The doors of booking rules and changes over HTTP: versions, what is shown to whom, wrong codes that are counted."""

from typing import Any

import pytest

from api.booking import reservations
from store.tables.accounts import Role
from store.tables.booking_rules import WrongCode
from tests.support.api_client import ApiClient
from tests.support.builders_booking import HOUR, MANAGER, Office, open_office

SLOT = {"slot_from": "2026-03-02T10:00:00+08:00", "slot_to": "2026-03-02T11:00:00+08:00"}
LATER = {"slot_from": "2026-03-02T15:00:00+08:00", "slot_to": "2026-03-02T16:00:00+08:00"}
ONE = "xc-h01-01"


@pytest.fixture
def office(sqlite_client: ApiClient) -> Office:
    return open_office(sqlite_client.parts.database, sqlite_client.parts.clock)  # type: ignore[arg-type]


@pytest.fixture
def firm(sqlite_client: ApiClient, office: Office) -> ApiClient:
    return sqlite_client.signed_in(Role.SME, org_id="org-a")


@pytest.fixture
def manager(sqlite_client: ApiClient, office: Office) -> ApiClient:
    return sqlite_client.signed_in(Role.LAB_MANAGER, org_id="org-h01", host_id="h01")


def booked(who: ApiClient, **changes: Any) -> dict[str, Any]:
    answer = who.post("/bookings", {"instrument_id": ONE} | SLOT | changes)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_quote_tells_the_terms_and_whether_it_would_be_confirmed(firm: ApiClient, manager: ApiClient) -> None:
    quote = firm.post("/quotes", {"instrument_id": ONE} | SLOT).json()
    assert (quote["cancel_free_until"], quote["late_cancel_fee_fen"], quote["no_show_fee_fen"]) == (None, 0, 0)
    assert (quote["confirms_itself"], quote["approval_rule"]) == (True, "automatic")
    samples = firm.post("/quotes", {"instrument_id": ONE, "mode": "samples", "quantity": 3} | SLOT)
    assert samples.status_code == 200, samples.text
    shown = manager.get(f"/instruments/{ONE}/booking-rule")
    assert (shown.json()["row_version"], shown.headers["etag"]) == (0, '"0"')
    rule = {"approval": "manager", "auto_up_to_minutes": 30}
    assert manager.edit("PUT", f"/instruments/{ONE}/booking-rule", 0, rule).json()["row_version"] == 1
    assert manager.edit("PUT", f"/instruments/{ONE}/booking-rule", 0, rule).status_code == 412
    assert firm.post("/quotes", {"instrument_id": ONE} | SLOT).json()["confirms_itself"] is False


def test_training_is_granted_listed_and_revoked(firm: ApiClient, manager: ApiClient) -> None:
    path = f"/instruments/{ONE}/qualifications/{firm.person_id}"
    granted = manager.post(f"{path}/grant", {"training": "day course", "expires_at": "2026-09-01T00:00:00+08:00"})
    assert (granted.status_code, granted.json()["qualified"]) == (201, True)
    assert [row["person_id"] for row in firm.get("/qualifications").json()["items"]] == [firm.person_id]
    assert firm.post(f"{path}/grant", {"training": "x"}).status_code == 403
    assert manager.post(f"{path}/revoke", {"reason": "left it running"}).json()["qualified"] is False
    (newest,) = manager.get(f"/qualifications?instrument_id={ONE}").json()["items"]
    assert (newest["state"], newest["qualified"]) == ("revoked", False)


def test_a_proposal_goes_its_way_over_http(firm: ApiClient, manager: ApiClient) -> None:
    booking = booked(firm)
    path = f"/bookings/{booking['booking_id']}"
    made = manager.edit("POST", f"{path}/proposals", booking["row_version"], LATER | {"reason": "power cut"})
    assert made.status_code == 201, made.text
    assert manager.edit("POST", f"{path}/proposals", booking["row_version"], LATER | {"reason": "x"}).status_code == 412
    proposal = made.json()
    assert (proposal["state"], proposal["difference_fen"], proposal["difference_yuan"]) == ("open", 0, "0.00")
    (listed,) = firm.get(f"{path}/proposals").json()["items"]
    done = firm.edit("POST", f"/proposals/{listed['proposal_id']}/answer", listed["row_version"], {"accept": True})
    assert (done.status_code, done.json()["state"]) == (200, "accepted")
    whole = firm.get(path).json()
    assert whole["slot_from"] == LATER["slot_from"]
    assert [each["state"] for each in whole["proposals"]] == ["accepted"]


def test_proposals_of_a_booking_come_in_pages(firm: ApiClient, manager: ApiClient) -> None:
    path, made = f"/bookings/{booked(firm)['booking_id']}", []
    for _ in range(3):
        version = firm.get(path).json()["row_version"]
        made.append(manager.edit("POST", f"{path}/proposals", version, LATER | {"reason": "delayed"}).json())
        manager.edit("POST", f"/proposals/{made[-1]['proposal_id']}/withdraw", 1, {})
    first = firm.get(f"{path}/proposals?limit=2").json()
    rest = firm.get(f"{path}/proposals", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    found = [each["proposal_id"] for each in first["items"] + rest["items"]]
    assert (found, rest["next_cursor"]) == ([each["proposal_id"] for each in made], None)


def test_a_booking_names_the_quote_it_agrees_to(firm: ApiClient, office: Office) -> None:
    asked = {"instrument_id": ONE} | SLOT
    shown = firm.post("/quotes", asked).json()["sha256"]
    other = firm.post("/quotes", asked | LATER | {"slot_to": "2026-03-02T17:00:00+08:00"}).json()["sha256"]
    refused = firm.post("/bookings", asked | {"quote_sha256": other})
    assert (refused.status_code, refused.json()["code"]) == (409, "price_differs")
    assert refused.json()["facts"] == {"total_fen": 45_000, "quote_sha256": shown}
    assert office.active_rows() == []
    assert booked(firm, quote_sha256=shown)["quote_sha256"] == shown


@pytest.mark.parametrize("end", ["2199-12-31T00:00:00+08:00", "9999-12-31T23:59:59Z"])
def test_what_never_ends_is_refused_and_an_outage_takes_it(firm: ApiClient, manager: ApiClient, end: str) -> None:
    asked = {"instrument_id": ONE} | SLOT
    for path in ("/quotes", "/bookings"):
        assert firm.post(path, asked | {"slot_to": end}).status_code == 422
    hit = booked(firm)["booking_id"]
    answer = manager.post(f"/instruments/{ONE}/outages", {"from_at": SLOT["slot_from"], "to_at": end, "note": "pump"})
    if end < "2200":
        assert (answer.status_code, answer.json()["cancelled"]) == (201, [hit])
    else:
        assert answer.status_code == 422


def test_an_admin_takes_an_instrument_out_of_service_and_ends_that(sqlite_client: ApiClient, office: Office) -> None:
    admin = sqlite_client.signed_in(Role.ADMIN, org_id="org-h01")
    window = {"from_at": SLOT["slot_from"], "to_at": SLOT["slot_to"], "note": "flood"}
    made = admin.post(f"/instruments/{ONE}/outages", window)
    assert made.status_code == 201, made.text
    end = f"/instruments/{ONE}/closures/{made.json()['row_id']}/end"
    assert admin.post(end, {"reason": "dry"}).json()["active"] is False
    with office.work(MANAGER) as work:
        kept = reservations.reserve(work, ONE, office.slot(5, 1), "own work").row_id
    assert admin.post(f"/instruments/{ONE}/closures/{kept}/end", {"reason": "dry"}).status_code == 403


def test_a_wrong_code_is_counted_though_it_is_refused(firm: ApiClient, manager: ApiClient, office: Office) -> None:
    booking = booked(firm)
    office.advance(HOUR)
    path, version = f"/bookings/{booking['booking_id']}/check-in-by-code", booking["row_version"]
    wrong = firm.edit("POST", path, version, {"code": "999999x"})
    assert (wrong.status_code, wrong.json()["code"], wrong.json()["facts"]) == (403, "wrong_code", {"tries_left": 4})
    assert len(office.all_of(WrongCode)) == 1
    issued = manager.post(f"/instruments/{ONE}/check-in-codes", {"one_time": True}, key="k")
    assert manager.post(f"/instruments/{ONE}/check-in-codes", {"one_time": True}, key="k").json()["code"] is None
    assert firm.edit("POST", path, version, {"code": issued.json()["code"]}).json()["state"] == "checked_in"


def test_reservations_and_outages_are_listed_for_the_host_and_ended(firm: ApiClient, manager: ApiClient) -> None:
    asked = {"from_at": LATER["slot_from"], "to_at": LATER["slot_to"], "note": "own tests"}
    made = manager.post(f"/instruments/{ONE}/reservations", asked)
    assert (made.status_code, made.json()["kind"]) == (201, "reservation")
    assert firm.get(f"/instruments/{ONE}/closures").status_code == 403
    (row,) = manager.get(f"/instruments/{ONE}/closures").json()["items"]
    ended = manager.post(f"/instruments/{ONE}/closures/{row['row_id']}/end", {"reason": "not needed"})
    assert ended.json()["active"] is False
    assert manager.get(f"/instruments/{ONE}/closures").json()["items"] == []


def test_strikes_are_shown_to_the_firm_and_the_host(firm: ApiClient, manager: ApiClient) -> None:
    rule = {"strikes": 2, "window_days": 90, "effect": "blocked", "effect_days": 30}
    assert manager.edit("PUT", "/hosts/h01/strike-rule", 0, rule).json()["row_version"] == 1
    assert firm.get("/hosts/h01/strike-rule").json()["effect"] == "blocked"
    assert firm.get("/strikes").json()["items"] == []
    standing = firm.get("/hosts/h01/standing").json()
    assert (standing["org_id"], standing["effect"]) == ("org-a", None)
    assert manager.post("/strikes/none/lift", {"reason": "x"}).status_code == 404


def test_unbooked_use_and_claims_have_their_lists(firm: ApiClient, manager: ApiClient) -> None:
    assert manager.get("/unbooked-uses").json()["items"] == []
    assert firm.get("/unbooked-uses").status_code == 403
    assert firm.get("/use-claims?state=open").json()["items"] == []
    named = {"session_id": "none", "from_at": SLOT["slot_from"], "note": "x"}
    assert manager.post("/unbooked-uses/classify", named | {"purpose": "internal"}).status_code == 404
    assert manager.post("/use-claims", named | {"payer_org": "org-a"}).status_code == 404


def test_an_officer_books_for_a_firm_over_http(sqlite_client: ApiClient, firm: ApiClient) -> None:
    officer = sqlite_client.signed_in(Role.COUNTY_OFFICER)
    asked = {"instrument_id": ONE, "payer_org": "org-a"} | SLOT
    made = officer.post("/bookings", asked)
    assert (made.status_code, made.json()["state"]) == (201, "requested")
    (proposal,) = firm.get(f"/bookings/{made.json()['booking_id']}/proposals").json()["items"]
    assert (proposal["kind"], proposal["by_party"]) == ("on_behalf", "officer")
    firm.edit("POST", f"/proposals/{proposal['proposal_id']}/answer", 1, {"accept": True})
    assert firm.get(f"/bookings/{made.json()['booking_id']}").json()["state"] == "confirmed"


def test_cards_are_issued_listed_and_taken_back_over_http(
    sqlite_client: ApiClient, firm: ApiClient, manager: ApiClient
) -> None:
    card = {"card_sha256": "a" * 64, "person_id": "p-a", "host_id": "h01", "label": "17"}
    issued = manager.post("/access-cards", card)
    assert (issued.status_code, issued.json()["valid"], issued.json()["host_scope"]) == (201, True, "h01")
    assert manager.post("/access-cards", card).json()["code"] == "card_in_use"
    assert manager.post("/access-cards", card | {"host_id": None}).status_code == 403
    assert manager.post("/access-cards", card | {"card_sha256": "0012345678"}).status_code == 422
    assert firm.post("/access-cards", card).status_code == 403
    back = manager.post(f"/access-cards/{issued.json()['card_id']}/revoke", {"reason": "lost"})
    assert (back.status_code, back.json()["valid"]) == (201, False)
    [listed] = manager.get("/access-cards?person_id=p-a").json()["items"]
    assert (listed["card_id"], listed["valid"]) == (issued.json()["card_id"], False)
    assert manager.get("/card-readings").json()["items"] == []
    officer = sqlite_client.signed_in(Role.COUNTY_OFFICER, org_id="org-h01")
    assert officer.post("/access-cards", card | {"host_id": None}).json()["host_scope"] == ""
    assert manager.get("/access-cards").json()["items"] == [listed]
    assert len(officer.get("/access-cards").json()["items"]) == 2
