"""The published examples, in yuan, and policy documents that must be refused."""

import json

import pytest

from api.rewards.policy_body import (
    BadPolicy,
    PolicyBody,
    canonical_policy,
    parse_policy,
    policy_document,
    read_policy,
    shipped_policies,
)
from api.rewards.rules import prorate, reward
from store.canonical import sha256_hex
from store.money import yuan
from store.tables.rewards import Grade

SHIPPED = {policy.policy_id: policy.body for policy in shipped_policies()}
PINNED = {"FLAT10": "fe49a5bff158fad1", "FLAT20": "2329c85dfd247b4c", "XC-DEMO": "4cd553285d0babd4"}


@pytest.mark.parametrize(
    ("policy", "grade", "base", "wanted"),
    [
        ("FLAT10", None, 350_000, "35000.00"),
        ("FLAT10", None, 25_000_000, "2000000.00"),
        ("FLAT20", None, 350_000, "70000.00"),
        ("FLAT20", None, 25_000_001, "5000000.00"),
        ("XC-DEMO", Grade.GOOD, 80_000, "16000.00"),
        ("XC-DEMO", Grade.GOOD, 350_000, "57500.00"),
        ("XC-DEMO", Grade.EXCELLENT, 350_000, "69000.00"),
        ("XC-DEMO", Grade.PASS, 350_000, "46000.00"),
        ("XC-DEMO", Grade.FAIL, 350_000, "0.00"),
        ("XC-DEMO", Grade.EXCELLENT, 2_500_000, "300000.00"),
        ("XC-DEMO", Grade.GOOD, 2_500_000, "280000.00"),
    ],
)
def test_a_published_example_comes_out_to_the_fen(policy: str, grade: Grade | None, base: int, wanted: str) -> None:
    assert yuan(reward(base * 100, SHIPPED[policy], grade).amount_fen) == wanted


def test_the_cap_is_told_and_what_it_cut_is_in_the_explanation() -> None:
    capped = reward(250_000_000, SHIPPED["XC-DEMO"], Grade.EXCELLENT)
    assert (capped.capped, capped.graded_e8) == (True, 33_600_000 * 10**8)
    assert [part.part_fen for part in capped.tiers] == [10_000_000, 40_000_000, 200_000_000]
    assert not reward(250_000_000, SHIPPED["XC-DEMO"], Grade.GOOD).capped


def test_a_short_budget_is_shared_to_the_fen_by_largest_remainder() -> None:
    shares = prorate({"a": 6_900_000, "b": 5_750_000, "c": 30_000_000}, 40_000_000)
    assert {host: yuan(fen) for host, fen in shares.items()} == {"a": "64712.78", "b": "53927.31", "c": "281359.91"}
    assert sum(shares.values()) == 40_000_000


def test_equal_remainders_are_decided_by_host_and_never_by_order() -> None:
    assert prorate({"b": 1, "a": 1, "c": 1}, 2) == {"a": 1, "b": 1, "c": 0}
    assert prorate({"c": 1, "a": 1, "b": 1}, 2) == {"a": 1, "b": 1, "c": 0}


def test_half_a_fen_is_rounded_up_once_and_at_the_end() -> None:
    body = flat(rate_bp=500)
    assert reward(9, body, None).amount_fen == 0
    assert reward(10, body, None).amount_fen == 1
    two_tiers = changed(
        tiers=[{"from_fen": 0, "to_fen": 5, "rate_bp": 1000}, {"from_fen": 5, "to_fen": None, "rate_bp": 1000}]
    )
    # Two halves are one: rounding each tier would give two.
    assert reward(10, two_tiers, None).amount_fen == 1


def test_a_reward_below_the_minimum_payout_is_none() -> None:
    body = changed(min_payout_fen=100)
    assert (reward(994, body, None).amount_fen, reward(994, body, None).below_minimum) == (0, True)
    assert (reward(1000, body, None).amount_fen, reward(1000, body, None).below_minimum) == (100, False)
    assert not reward(0, body, None).below_minimum


def test_a_negative_base_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        reward(-1, SHIPPED["FLAT10"], None)


def test_shipped_policies_read_back_to_the_same_bytes() -> None:
    assert sorted(SHIPPED) == ["FLAT10", "FLAT20", "XC-DEMO"]
    for body in SHIPPED.values():
        assert read_policy(canonical_policy(body).decode()) == body
        assert json.loads(canonical_policy(body)) == policy_document(body)


def test_the_shipped_policies_have_the_hashes_they_had() -> None:
    hashes = {name: sha256_hex(canonical_policy(body))[:16] for name, body in SHIPPED.items()}
    assert hashes == PINNED


def test_a_policy_that_lists_no_exclusions_has_the_usual_ones_and_no_later_one() -> None:
    document = policy_document(SHIPPED["FLAT10"])
    del document["exclusions"]
    assert canonical_policy(parse_policy(document)) == canonical_policy(SHIPPED["FLAT10"])


def changed(**fields: object) -> PolicyBody:
    return parse_policy(policy_document(SHIPPED["FLAT10"]) | fields)


def flat(rate_bp: int) -> PolicyBody:
    return changed(tiers=[{"from_fen": 0, "to_fen": None, "rate_bp": rate_bp}])


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"tiers": []}, "tiers"),
        ({"tiers": [{"from_fen": 1, "to_fen": None, "rate_bp": 1}]}, "body"),
        ({"tiers": [{"from_fen": 0, "to_fen": 5, "rate_bp": 1}]}, "body"),
        (
            {"tiers": [{"from_fen": 0, "to_fen": 0, "rate_bp": 1}, {"from_fen": 0, "to_fen": None, "rate_bp": 1}]},
            "body",
        ),
        (
            {"tiers": [{"from_fen": 0, "to_fen": 5, "rate_bp": 1}, {"from_fen": 6, "to_fen": None, "rate_bp": 1}]},
            "body",
        ),
        ({"tiers": [{"from_fen": 0, "to_fen": None, "rate_bp": 0.1}]}, "tiers.0.rate_bp"),
        ({"host_cap_fen": -1}, "host_cap_fen"),
        ({"host_cap_fen": "1"}, "host_cap_fen"),
        ({"basis": "promised"}, "basis"),
        ({"period_kind": "week"}, "period_kind"),
        ({"exclusions": ["internal"]}, "exclusions.0"),
        ({"exclusions": ["coverage", "coverage"]}, "body"),
        ({"on_budget_short": "prorate"}, "body"),
        ({"rounding": "down_yuan"}, "rounding"),
        ({"schema": "openlab.reward-policy/2"}, "schema"),
        ({"surprise": 1}, "surprise"),
        ({"instrument_fee_cap_fen": -1}, "instrument_fee_cap_fen"),
        ({"exclusions": ["out_of_area"]}, "body"),
        ({"area_codes": ["3306"]}, "body"),
        ({"exclusions": ["out_of_area"], "area_codes": ["3306", "33"]}, "body"),
        ({"exclusions": ["out_of_area"], "area_codes": ["330"]}, "area_codes.0"),
        ({"exclusions": ["statutory", "bulk"]}, "body"),
    ],
)
def test_a_faulty_policy_is_refused_by_the_name_of_its_field(fields: dict[str, object], field: str) -> None:
    with pytest.raises(BadPolicy) as refused:
        changed(**fields)
    assert refused.value.field == field
