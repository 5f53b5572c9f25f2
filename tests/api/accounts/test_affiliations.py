"""Affiliation by two people: claimed, decided, dated, never edited, and seen by rewards."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, text

from store.database import Database
from store.errors import AppendOnly
from store.tables.accounts import AffiliationClaim, AffiliationDecision, Role
from store.tables.registry import AffiliationEvent
from tests.api.charging.building import FIRM, NINE, OTHER_FIRM
from tests.api.rewards.building import DAY, RewardCounty, build_rewards
from tests.support.api_client import ApiClient, in_process, test_parts
from wire.clock import ManualClock, from_ms, to_ms

HOST_ORG = "org-h01"


class Office:
    """The reward county with two officers who sign in."""

    def __init__(self, county: RewardCounty, client: ApiClient) -> None:
        self.county, self.client = county, client
        self.one, self.two = client.signed_in(Role.COUNTY_OFFICER), client.signed_in(Role.COUNTY_OFFICER)

    def claim(self, day: int, until: int | None = None, other: str = FIRM, **changed):
        """The first officer claims, from the day counted from the county's first on."""
        asked = {
            "host_org": HOST_ORG,
            "other_org": other,
            "state": "affiliated",
            "ground": "holding",
            "from_at": from_ms(NINE + day * DAY).isoformat(),
            "until_at": None if until is None else from_ms(NINE + until * DAY).isoformat(),
            "evidence": "企业信用公示系统 2026-03",
            "evidence_sha256": "ab" * 32,
            "reason": "年度核查",
        }
        return self.one.post("/affiliations", asked | changed)

    def agree(self, claim_id: str, approved: bool = True, who: ApiClient | None = None):
        return (who or self.two).post(f"/affiliations/{claim_id}/decision", {"approved": approved})

    def fact(self, day: int, until: int | None = None, **changed) -> None:
        made = self.claim(day, until, **changed)
        assert made.status_code == 201, made.text
        assert self.agree(made.json()["claim_id"]).status_code == 201


def _office(database: Database, folder: Path) -> Iterator[Office]:
    county = build_rewards(database, folder)
    parts = test_parts(database, county.series, ManualClock(to_ms(county.now)))
    with in_process(parts) as client:
        yield Office(county, client)
    county.series.close()


@pytest.fixture
def office(database: Database, tmp_path: Path) -> Iterator[Office]:
    yield from _office(database, tmp_path)


@pytest.fixture
def sqlite_office(sqlite_database: Database, tmp_path: Path) -> Iterator[Office]:
    yield from _office(sqlite_database, tmp_path)


def code(answer) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


def test_a_fact_of_two_people_keeps_a_charge_out_of_the_reward_between_its_dates(office: Office) -> None:
    before, during, after = (office.county.tested(NINE + day * DAY) for day in (0, 4, 8))
    office.fact(3, until=7)
    office.county.pay(office.county.bill())
    reasons = office.county.reasons(office.county.prepare())
    assert [reasons[charge] for charge in (before, during, after)] == ["eligible", "affiliated", "eligible"]
    [affiliated, independent] = office.one.get(f"/orgs/{HOST_ORG}/affiliations").json()["items"]
    assert affiliated["until_at"] == independent["from_at"]
    assert (affiliated["state"], independent["state"], independent["until_at"]) == ("affiliated", "independent", None)
    assert affiliated["recorded_by"] == office.two.person_id
    assert "holding: 企业信用公示系统 2026-03 sha256:abab" in affiliated["evidence"]


def test_a_claim_alone_changes_nothing_and_its_author_cannot_agree(sqlite_office: Office) -> None:
    charge = sqlite_office.county.tested()
    claim_id = sqlite_office.claim(0).json()["claim_id"]
    sqlite_office.county.pay(sqlite_office.county.bill())
    assert code(sqlite_office.agree(claim_id, who=sqlite_office.one)) == (403, "forbidden")
    assert sqlite_office.county.reasons(sqlite_office.county.prepare())[charge] == "eligible"
    assert sqlite_office.agree(claim_id, approved=False).json()["approved"] is False
    assert code(sqlite_office.agree(claim_id)) == (409, "claim_decided")
    assert sqlite_office.one.get(f"/orgs/{HOST_ORG}/affiliations").json()["items"] == []
    [listed] = sqlite_office.one.get(f"/affiliations?org={FIRM}").json()["items"]
    assert (listed["approved"], listed["decided_by"]) == (False, sqlite_office.two.person_id)


def test_a_later_fact_ends_an_earlier_one_and_none_is_edited(office: Office) -> None:
    office.fact(0)
    office.fact(5, state="independent", ground="holding", reason="股权已转让")
    items = office.one.get(f"/orgs/{HOST_ORG}/affiliations").json()["items"]
    assert [each["state"] for each in items] == ["affiliated", "independent"]
    assert items[0]["until_at"] == items[1]["from_at"]
    assert code(office.claim(5)) == (409, "affiliation_same_instant")
    assert code(office.claim(3, until=6)) == (409, "affiliation_overlaps")
    for table in ("affiliation_claim", "affiliation_decision", "affiliation_event"):
        for statement in (f"UPDATE {table} SET host_org = host_org", f"DELETE FROM {table}"):
            wanted = statement.replace("host_org", "note") if table == "affiliation_decision" else statement
            with pytest.raises(AppendOnly), office.county.database.write() as session:
                session.execute(text(wanted))


def test_a_ground_that_ends_does_not_end_the_one_that_stood_before(sqlite_office: Office) -> None:
    sqlite_office.fact(0)
    sqlite_office.fact(3, until=7, ground="same_controller")
    items = sqlite_office.one.get(f"/orgs/{HOST_ORG}/affiliations").json()["items"]
    assert [each["state"] for each in items] == ["affiliated"] * 3


def test_the_facts_come_in_pages_and_each_ends_where_the_next_begins(sqlite_office: Office) -> None:
    sqlite_office.fact(0, until=2)
    sqlite_office.fact(5)
    path = f"/orgs/{HOST_ORG}/affiliations"
    whole = sqlite_office.one.get(path).json()["items"]
    assert [each["until_at"] for each in whole] == [whole[1]["from_at"], whole[2]["from_at"], None]
    seen, cursor = [], None
    for _ in range(3):
        page = sqlite_office.one.get(path, params={"limit": 1} | ({"cursor": cursor} if cursor else {})).json()
        seen, cursor = seen + page["items"], page["next_cursor"]
    assert (seen, cursor) == (whole, None)


def test_two_claims_of_one_instant_cannot_both_be_agreed_to(sqlite_office: Office) -> None:
    first, second = sqlite_office.claim(0).json(), sqlite_office.claim(0).json()
    assert sqlite_office.agree(first["claim_id"]).status_code == 201
    assert code(sqlite_office.agree(second["claim_id"])) == (409, "affiliation_same_instant")
    with sqlite_office.county.database.read() as session:
        assert session.get(AffiliationDecision, second["claim_id"]) is None, "nothing was decided"
        assert len(session.scalars(select(AffiliationEvent)).all()) == 1


def test_between_two_hosts_the_fact_holds_both_ways(sqlite_office: Office) -> None:
    with sqlite_office.county.database.write() as session:
        session.execute(
            text(
                "INSERT INTO host SELECT 'h77', :org, host_type, cluster_zh, cluster_en, town_zh, town_en, latitude_e6,"
                " longitude_e6, row_version, address, contact_name, contact_phone, contact_email, retired_at"
                " FROM host WHERE host_id = 'h01'"
            ),
            {"org": OTHER_FIRM},
        )
    sqlite_office.fact(0, other=OTHER_FIRM)
    with sqlite_office.county.database.read() as session:
        pairs = {(row.host_org, row.other_org) for row in session.scalars(select(AffiliationEvent))}
    assert pairs == {(HOST_ORG, OTHER_FIRM), (OTHER_FIRM, HOST_ORG)}


NO_CLAIMS: list[tuple[dict, tuple[int, str]]] = [
    ({"other_org": HOST_ORG}, (422, "same_organisation")),
    ({"other_org": "nobody"}, (404, "not_found")),
    ({"host_org": OTHER_FIRM}, (422, "not_a_host")),
    ({"until_at": "2020-01-01T00:00:00+08:00"}, (422, "ends_before_it_starts")),
    ({"state": "independent", "until_at": "2030-01-01T00:00:00+08:00"}, (422, "ends_before_it_starts")),
    ({"evidence": ""}, (422, "invalid_request")),
    ({"reason": ""}, (422, "invalid_request")),
    ({"evidence_sha256": "xyz"}, (422, "invalid_request")),
]


def test_what_is_no_claim(sqlite_office: Office) -> None:
    for changed, said in NO_CLAIMS:
        assert code(sqlite_office.claim(0, **changed)) == said, changed
    with sqlite_office.county.database.read() as session:
        assert session.scalars(select(AffiliationClaim)).all() == []


def test_a_manager_sees_their_own_host_only_and_claims_nothing(sqlite_office: Office) -> None:
    sqlite_office.fact(0)
    manager = sqlite_office.client.signed_in(Role.LAB_MANAGER, org_id=HOST_ORG, host_id="h01")
    assert len(manager.get(f"/orgs/{HOST_ORG}/affiliations").json()["items"]) == 1
    assert manager.get(f"/orgs/{FIRM}/affiliations").status_code == 403
    assert manager.get("/affiliations").status_code == 403
    assert manager.post("/affiliations", {}).status_code == 403
