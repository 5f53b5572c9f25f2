"""Judging many charges at a time gives what the rule gives for each of them, however the rows are cut into batches."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from api.rewards.facts import FactsRow, charge_facts, facts_of
from api.rewards.judging import judge_batches, judged
from api.rewards.policy_body import Attribution, PolicyBody, parse_policy, policy_document
from api.rewards.rules import ENGINE_VERSION, judge
from api.verify.checks import run_checks, verify
from store.database import Database
from store.tables.charging import Charge, Tender
from store.tables.rewards import RewardInput
from tests.api.charging.building import NINE
from tests.api.rewards.building import DAY, FLAT10, MARCH, RewardCounty, build_rewards

COVERAGE, FLAGS, PURPOSE, MARKS = 14, 11, 4, 9
amounts = st.sampled_from([0, 1, 99, 100, 101]) | st.integers(0, 10**9)
WITH_AREA = {"exclusions": ["affiliated", "bulk", "filming", "out_of_area"], "area_codes": ["310000", "33"]}
policies = st.builds(
    lambda basis, amount, vouchers, more: parse_policy(
        policy_document(FLAT10) | {"basis": basis, "amount": amount, "voucher_counts": vouchers} | more
    ),
    st.sampled_from(["paid", "invoiced"]),
    st.sampled_from(["gross", "net"]),
    st.booleans(),
    st.sampled_from([{}, WITH_AREA]),
)


@st.composite
def some_rows(draw: Any) -> list[FactsRow]:
    """Charges in order, with none to three settlements each, of whatever tender, known or not."""
    rows: list[FactsRow] = []
    for number in range(draw(st.integers(0, 8))):
        flags = draw(st.sampled_from([4 | 8, 4 | 8, 4 | 8 | 1024]) | st.integers(0, (1 << FLAGS) - 1))
        revision = draw(st.sampled_from([1, 1, 2, 3]))
        purpose = draw(st.integers(0, 3))
        coverage = draw(st.sampled_from([0, 9_499, 9_500, 10_000]))
        marks = draw(st.just(0) | st.integers(0, (1 << MARKS) - 1))
        key = (((revision << MARKS | marks) << PURPOSE | purpose) << FLAGS | flags) << COVERAGE | coverage
        region = draw(st.sampled_from(["330624", "330624", "310000", "310101"]))
        total = draw(amounts) + 1
        moved = draw(st.sampled_from([(None, None, None), (None, None, None), (1, 0, 0), (0, total, 0)]))
        for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
            tender = draw(st.sampled_from([0, 0, 0, None, 1, 2]))
            fen = draw(st.sampled_from([total, total - 1, 1]))
            rows.append(FactsRow(f"c{number}", "h1", total, total * 100 // 106, key, fen, tender, *moved, region))
    return rows


@settings(max_examples=300, deadline=None)
@given(some_rows(), st.integers(1, 5), policies)
def test_every_charge_is_judged_as_alone(rows: list[FactsRow], size: int, policy: PolicyBody) -> None:
    # More waived or paid by voucher than the charge is cannot be; the rule does not promise anything there.
    by_charge: dict[str, list[FactsRow]] = {}
    for row in rows:
        by_charge.setdefault(row.charge_id, []).append(row)
    wanted = [judge(facts_of(group), policy) for group in by_charge.values()]
    batches = [[tuple(row) for row in rows[at : at + size]] for at in range(0, len(rows), size)]
    found = [one for batch in judge_batches(batches, policy, ENGINE_VERSION) for one in batch]
    assert found == wanted


def test_charges_that_differ_in_the_payers_region_alone_are_judged_each() -> None:
    key = (1 << MARKS + PURPOSE + FLAGS | 4 | 8) << COVERAGE | 10_000
    rows = [("c1", "330624"), ("c2", "310101"), ("c3", "330624"), ("c4", "330624")]
    batch = [(charge, "h1", 100, 100, key, 100, 0, None, None, None, region) for charge, region in rows]
    policy = parse_policy(policy_document(FLAT10) | {"exclusions": ["out_of_area"], "area_codes": ["33"]})
    [found] = [batch for batch in judge_batches([batch], policy, ENGINE_VERSION) if batch][:1]
    assert [one.reason for one in found][:3] == ["eligible", "out_of_area", "eligible"]


@pytest.fixture
def county(sqlite_database: Database, tmp_path: Any) -> Iterator[RewardCounty]:
    """The county of the reward tests, on one engine."""
    built = build_rewards(sqlite_database, tmp_path)
    yield built
    built.series.close()


def test_a_charge_paid_in_parts_and_by_voucher_is_judged_as_its_facts_are(county: RewardCounty) -> None:
    county.tested()
    statement = county.bill()
    county.pay(statement, 10_000)
    county.pay(statement, 5_000, Tender.VOUCHER)
    county.pay(statement, statement.total_fen - 15_000)
    with county.database.read() as session:
        facts = list(charge_facts(session, (MARCH,), Attribution.SERVICE, county.now))
        found = list(judged(session, (MARCH,), FLAT10, ENGINE_VERSION, county.now))
    assert found == [judge(one, FLAT10) for one in facts]
    assert [row.eligible_fen for row in found] == [statement.total_fen - 5_000]


def test_no_object_is_built_for_a_charge_by_a_run_or_its_verification(county: RewardCounty) -> None:
    for number in range(3):
        county.paid(NINE + number * DAY)
    built: list[object] = []

    def loaded(target: object, context: object) -> None:
        built.append(target)

    tables = (Charge, RewardInput)
    for table in tables:
        event.listen(table, "load", loaded)
    try:
        run = county.prepare()
        with county.database.read() as session:
            assert [one.finding for one in verify(session, run_checks(run.run_id)) if one.finding] == []
    finally:
        for table in tables:
            event.remove(table, "load", loaded)
    assert run.charge_count == 3
    assert built == []
