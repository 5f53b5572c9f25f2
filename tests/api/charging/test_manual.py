"""Charges by hand need a reason and a second person; discounts are granted with a reason and reach the charge."""

from collections.abc import Iterator

import pytest

from api.booking.discounts import grant_discount
from api.charging.documents import read_input
from api.charging.explain import explain_charge
from api.charging.manual import approve_manual_charge, find_manual_proposal, propose_manual_charge
from api.charging.rating import ManualItem, rate
from api.charging.service import reverse_charge
from api.errors import Refused
from api.schemas import FEN_MAX
from store.audit import check_audit_chain
from store.database import Database
from store.tables.accounts import Role
from store.tables.audit import Anomaly
from store.tables.calendar import Booking, BookingState, UsePurpose
from store.tables.charging import Charge
from tests.api.charging.building import (
    CUSTOMER,
    FINANCE,
    HOST,
    MANAGER,
    OFFICER,
    SECOND,
    STRANGER,
    County,
    build,
)
from tests.support.api_client import ApiClient, in_process, test_parts
from wire.clock import ManualClock, to_ms

pytestmark = pytest.mark.slow_on_postgresql

ITEMS = (ManualItem("filament", "钨灯丝", 2, 15_000), ManualItem("gas", "液氮", 1, 5_000))


def refusal(county: County, step, *args, **who) -> str:
    with pytest.raises(Refused) as caught:
        county.do(step, *args, **who)
    return caught.value.code


def proposed(county: County, booking_id: str, items=ITEMS) -> str:
    return county.do(propose_manual_charge, booking_id, items, "a filament was broken", who=MANAGER).proposal_id


def test_items_that_come_to_more_than_any_amount_may_be_are_refused(county):
    booking_id = county.book()
    largest = [ManualItem("gas", "液氮", 100, FEN_MAX // 100)]
    assert county.do(propose_manual_charge, booking_id, largest, "why", who=MANAGER).total_fen == FEN_MAX
    more = (*largest, ManualItem("fee", "手续费", 1, 1))
    assert refusal(county, propose_manual_charge, booking_id, more, "why", who=MANAGER) == "bad_amount"


def test_a_second_person_posts_what_the_first_one_proposed(county):
    booking_id = county.book()
    proposal_id = proposed(county, booking_id)
    with county.database.read() as session:
        proposal = find_manual_proposal(session, proposal_id)
        assert session.query(Charge).count() == 0
    assert (proposal.total_fen, proposal.prepared_by, proposal.decided) == (35_000, "manager", False)
    charge = county.do(approve_manual_charge, proposal_id, who=SECOND)
    assert (charge.purpose, charge.total_fen, charge.net_fen) == ("manual", 35_000, 33_019)
    assert (charge.reason, charge.recorded_by, charge.metered_ms) == ("a filament was broken", "second", 0)
    with county.database.read() as session:
        assert find_manual_proposal(session, proposal_id).decided
        told = explain_charge(county.work(session, MANAGER), charge.charge_id)
        assert [(line.item_code, line.amount_fen) for line, _ in told.lines] == [("filament", 30_000), ("gas", 5_000)]
        assert "钨灯丝" in told.lines[0][1].zh
        given = read_input(charge.input, told.tariff.body)
        assert rate(given, charge.calc_version).lines == tuple(line for line, _ in told.lines)
        assert check_audit_chain(session, f"host:{HOST}") is None


def test_who_proposed_does_not_approve_and_others_may_do_neither(county):
    booking_id = county.book()
    proposal_id = proposed(county, booking_id)
    assert refusal(county, approve_manual_charge, proposal_id, who=MANAGER) == "same_person"
    for who in (STRANGER, FINANCE, CUSTOMER):
        assert refusal(county, approve_manual_charge, proposal_id, who=who) == "forbidden"
        assert refusal(county, propose_manual_charge, booking_id, ITEMS, "x", who=who) == "forbidden"
    assert refusal(county, approve_manual_charge, "nothing", who=SECOND) == "not_found"


def test_a_proposal_is_posted_once_and_a_booking_has_one_live_manual_charge(county):
    booking_id = county.book()
    first, second = proposed(county, booking_id), proposed(county, booking_id, ITEMS[:1])
    charge = county.do(approve_manual_charge, first, who=OFFICER)
    assert refusal(county, approve_manual_charge, first, who=SECOND) == "already_decided"
    assert refusal(county, approve_manual_charge, second, who=SECOND) == "charge_is_live"
    county.do(reverse_charge, charge.charge_id, "counted wrongly", who=SECOND)
    assert refusal(county, approve_manual_charge, first, who=SECOND) == "already_decided"
    again = county.do(approve_manual_charge, second, who=SECOND)
    assert (again.revision, again.total_fen) == (3, 30_000)


@pytest.mark.parametrize(
    ("items", "reason", "code"),
    [(ITEMS, " ", "reason_missing"), ((), "x", "no_items"), ((ITEMS[0], ITEMS[0]), "x", "item_twice")],
)
def test_a_proposal_without_reason_or_items_is_refused(county, items, reason, code):
    assert refusal(county, propose_manual_charge, county.book(), items, reason, who=MANAGER) == code


def test_a_hosts_own_use_is_not_charged_by_hand_either(county):
    booking_id = county.book(purpose=UsePurpose.INTERNAL, payer="org-h01")
    assert refusal(county, propose_manual_charge, booking_id, ITEMS, "x", who=MANAGER) == "not_a_customers"


@pytest.mark.parametrize("wrong", [{"text": " "}, {"quantity": 0}, {"unit_fen": 0}])
def test_an_item_has_a_text_a_quantity_and_a_price(wrong):
    with pytest.raises(ValueError, match="manual item"):
        ManualItem(**{"code": "a", "text": "b", "quantity": 1, "unit_fen": 1} | wrong)


def granted(county: County, booking_id: str, bp: int, fen: int, reason: str = "a pilot", who=MANAGER) -> Booking:
    with county.database.read() as session:
        version = session.get_one(Booking, booking_id).row_version
    return county.do(grant_discount, booking_id, bp, fen, reason, version, who=who)


@pytest.mark.parametrize(
    ("steps", "total"),
    [([(1_000, 0)], 54_000), ([(0, 5_000)], 55_000), ([(0, 10**9)], 0), ([(10_000, 0), (500, 0)], 57_000),
     ([(1_000, 0), (0, 0)], 60_000)],
)  # fmt: skip
def test_the_latest_discount_reaches_the_charge_with_its_reason(county, steps, total):
    booking_id = county.book()
    county.use(booking_id, 77)
    for bp, fen in steps:
        granted(county, booking_id, bp, fen)
    charge_id = county.charge(booking_id).charge_id
    with county.database.read() as session:
        told = explain_charge(county.work(session, MANAGER), charge_id)
        assert session.query(Anomaly).count() == 0
    assert (told.charge.total_fen, told.list_fen, told.saving_fen) == (total, 60_000, 60_000 - total)
    assert ("a pilot" in told.lines[-1][1].en) == (total < 60_000)


def test_a_discount_is_the_managers_before_the_charge_with_a_reason(county):
    booking_id = county.book()
    for who in (STRANGER, OFFICER, CUSTOMER):
        assert refusal(county, grant_discount, booking_id, 1, 0, "x", 1, who=who) in ("forbidden", "not_found")
    assert refusal(county, grant_discount, booking_id, 1, 0, " ", 1, who=MANAGER) == "reason_missing"
    assert refusal(county, grant_discount, booking_id, 1, 1, "x", 1, who=MANAGER) == "bad_discount"
    assert refusal(county, grant_discount, booking_id, 10_001, 0, "x", 1, who=MANAGER) == "bad_discount"
    assert refusal(county, grant_discount, booking_id, 1, 0, "x", 9, who=MANAGER) == "stale_version"
    county.use(booking_id, 77)
    county.charge(booking_id)
    assert refusal(county, grant_discount, booking_id, 1, 0, "x", 1, who=MANAGER) == "charged_already"
    over = county.book(state=BookingState.NO_SHOW)
    assert refusal(county, grant_discount, over, 1, 0, "x", 1, who=MANAGER) == "not_possible_now"


@pytest.fixture
def web(sqlite_database: Database, tmp_path) -> Iterator[tuple[County, ApiClient]]:
    county = build(sqlite_database, tmp_path)
    with in_process(test_parts(sqlite_database, county.series, ManualClock(to_ms(county.now)))) as nobody:
        yield county, nobody
    county.series.close()


def test_over_http_two_people_charge_by_hand_and_a_stranger_sees_nothing(web):
    county, nobody = web
    first, second = (nobody.signed_in(Role.LAB_MANAGER, org_id="org-h01", host_id=HOST) for _ in range(2))
    body = {
        "booking_id": county.book(),
        "items": [{"code": "gas", "text": "氦气", "quantity": 2, "unit_fen": 1_000}],
        "reason": "two bottles",
    }
    made = first.post("/manual-charge-proposals", body)
    assert (made.status_code, made.json()["total_yuan"]) == (201, "20.00"), made.text
    where = f"/manual-charge-proposals/{made.json()['proposal_id']}"
    assert second.get(where).json()["reason"] == "two bottles"
    stranger = nobody.signed_in(Role.LAB_MANAGER, org_id="org-h01", host_id="h02")
    assert stranger.get(where).status_code == 403
    assert first.post(f"{where}/approval").json()["code"] == "same_person"
    posted = second.post(f"{where}/approval", key="one")
    assert (posted.status_code, posted.json()["purpose"]) == (201, "manual")
    assert second.post(f"{where}/approval", key="one").json() == posted.json()


def test_over_http_a_discount_names_the_version_it_was_decided_on(web):
    county, nobody = web
    manager = nobody.signed_in(Role.LAB_MANAGER, org_id="org-h01", host_id=HOST)
    where = f"/bookings/{county.book()}/discount"
    asked = {"bp": 1_000, "reason": "a pilot"}
    done = manager.request("PUT", where, json=asked, headers={"If-Match": '"1"'})
    assert (done.status_code, done.json()["row_version"]) == (200, 2), done.text
    assert manager.request("PUT", where, json=asked, headers={"If-Match": '"1"'}).status_code == 412
    firm = nobody.signed_in(Role.SME, org_id="org-firm")
    assert firm.request("PUT", where, json=asked, headers={"If-Match": '"2"'}).status_code == 403
