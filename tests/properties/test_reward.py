"""What holds for every policy and every set of charges: laws of reward engine 1, with tier edges and ties planted."""

import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.rewards.policy_body import Coefficients, PolicyBody, Tier
from api.rewards.rules import (
    Classified,
    FrozenShares,
    Reason,
    prorate,
    reward,
    settle,
    share_again,
)
from api.rewards.snapshot import InputSums
from store.tables.rewards import Grade

NOT_TOO_MANY = settings(max_examples=80, deadline=None)
GRADES = st.none() | st.sampled_from(list(Grade))


@st.composite
def policies(draw) -> PolicyBody:
    edges = sorted(draw(st.sets(st.integers(1, 10**9) | st.sampled_from([1, 2, 10, 10**7, 5 * 10**7]), max_size=4)))
    rates = draw(st.lists(st.integers(0, 5_000), min_size=len(edges) + 1, max_size=len(edges) + 1))
    tiers = tuple(
        Tier(from_fen=low, to_fen=high, rate_bp=rate)
        for low, high, rate in zip([0, *edges], [*edges, None], rates, strict=True)
    )
    grades = st.builds(
        lambda e, g, p, f: Coefficients(excellent=e, good=g, pass_=p, fail=f), *[st.integers(0, 20_000)] * 4
    )
    return PolicyBody(
        tiers=tiers,
        coefficients=draw(st.none() | grades),
        host_cap_fen=draw(st.none() | st.integers(0, 10**8)),
        min_payout_fen=0,
    )


@st.composite
def policies_and_bases(draw) -> tuple[PolicyBody, int]:
    """A base anywhere, at an edge of the policy's own tiers, or beside one."""
    policy = draw(policies())
    edges = [tier.from_fen for tier in policy.tiers]
    near = st.builds(lambda edge, off: max(0, edge + off), st.sampled_from(edges), st.sampled_from([-1, 0, 1]))
    return policy, draw(near | st.integers(0, 2 * 10**9))


@st.composite
def exact_ties(draw) -> tuple[PolicyBody, int]:
    """A policy and a base whose reward lies exactly half-way between two fen."""
    rate, step = draw(st.sampled_from([(500, 10), (1000, 5), (2500, 2), (5000, 1), (5, 1000)]))
    base = step * (2 * draw(st.integers(0, 10**6)) + 1)
    return PolicyBody(tiers=(Tier(from_fen=0, to_fen=None, rate_bp=rate),)), base


@NOT_TOO_MANY
@given(policies_and_bases() | exact_ties(), GRADES)
def test_the_reward_is_the_exact_sum_of_its_tiers_rounded_once(case: tuple[PolicyBody, int], grade: Grade | None):
    policy, base = case
    exact = Fraction(0)
    for tier in policy.tiers:
        top = base if tier.to_fen is None else min(base, tier.to_fen)
        exact += Fraction(max(0, top - tier.from_fen) * tier.rate_bp, 10_000)
    if policy.coefficients is not None:
        by_name = policy.coefficients.model_dump(by_alias=True)
        exact *= Fraction(0 if grade is None else by_name[grade.value], 10_000)
    if policy.host_cap_fen is not None:
        exact = min(exact, Fraction(policy.host_cap_fen))
    assert reward(base, policy, grade).amount_fen == int(exact + Fraction(1, 2))


@NOT_TOO_MANY
@given(policies_and_bases(), GRADES, st.integers(0, 10**6) | st.sampled_from([0, 1]))
def test_more_fees_never_earn_less_and_one_fen_never_makes_a_jump(case, grade: Grade | None, more: int):
    policy, base = case
    lower, upper = reward(base, policy, grade).amount_fen, reward(base + more, policy, grade).amount_fen
    steepest = max(tier.rate_bp for tier in policy.tiers)
    coefficient = reward(base, policy, grade).coefficient_bp
    assert lower <= upper <= lower + more * steepest * coefficient // 10**8 + 1


@NOT_TOO_MANY
@given(policies_and_bases(), GRADES)
def test_no_reward_is_above_the_cap_and_the_parts_of_the_tiers_are_the_base(case, grade: Grade | None):
    policy, base = case
    found = reward(base, policy, grade)
    assert policy.host_cap_fen is None or found.amount_fen <= policy.host_cap_fen
    assert sum(part.part_fen for part in found.tiers) == base
    assert found.capped == (policy.host_cap_fen is not None and found.graded_e8 > policy.host_cap_fen * 10**8)


@NOT_TOO_MANY
@given(policies(), GRADES, st.integers(1, 10**6), st.integers(0, 10**9))
def test_below_the_minimum_payout_there_is_none_and_from_it_on_all(policy, grade, least: int, base: int):
    full = reward(base, policy, grade).amount_fen
    found = reward(base, policy.model_copy(update={"min_payout_fen": least}), grade).amount_fen
    assert found == (full if full >= least else 0)


hosts = st.sampled_from(["h01", "h02", "h03", "h10", "H2"])
rewards_by_host = st.dictionaries(hosts, st.integers(0, 10**9) | st.sampled_from([0, 1, 3, 7]), max_size=5)


@NOT_TOO_MANY
@given(rewards_by_host, st.integers(0, 3 * 10**9) | st.sampled_from([0, 1, 2, 5]), st.randoms())
def test_shares_add_up_to_the_smaller_of_sum_and_budget_whatever_the_order(full, budget: int, dice: random.Random):
    shares = prorate(full, budget)
    assert sum(shares.values()) == min(sum(full.values()), budget)
    assert all(0 <= shares[host] <= full[host] for host in full)
    shuffled = list(full.items())
    dice.shuffle(shuffled)
    assert prorate(dict(shuffled), budget) == shares
    for one in full:
        for other in full:
            assert full[one] < full[other] or shares[one] >= shares[other] - 1


@NOT_TOO_MANY
@given(rewards_by_host, st.integers(0, 10**9), rewards_by_host)
def test_sharing_again_moves_nobody_whose_reward_stayed(full, budget: int, later):
    shares, total = prorate(full, budget), sum(full.values())
    scale = (budget, total) if total > budget else (1, 1)
    frozen = FrozenShares(*scale, {host: (full[host], shares[host]) for host in full})
    again = share_again(full | later, frozen)
    for host, fen in (full | later).items():
        if full.get(host) == fen:
            assert again[host] == shares[host]
        else:
            assert 0 <= again[host] <= fen


@NOT_TOO_MANY
@given(
    st.lists(
        st.builds(
            lambda n, host, fen: Classified(f"c{n:03d}", host, fen, fen, Reason.ELIGIBLE),
            st.integers(0, 999),
            hosts,
            st.integers(0, 10**7),
        ),
        unique_by=lambda row: row.charge_id,
        max_size=30,
    ),
    st.randoms(),
)
def test_the_order_of_charges_changes_no_sum_and_no_hash(rows: list[Classified], dice: random.Random):
    shuffled = list(rows)
    dice.shuffle(shuffled)
    digests = []
    for order in (rows, shuffled):
        sums = InputSums()
        for row in sorted(order, key=lambda row: row.charge_id):
            sums.add(row)
        digests.append((sums.sha256, sums.count, sums.base_fen, sums.bases))
    assert digests[0] == digests[1]


@NOT_TOO_MANY
@given(
    policies(),
    GRADES,
    st.lists(st.integers(-(10**8), 10**8), min_size=1, max_size=12),
    st.sets(st.integers(0, 11)),
    st.permutations(range(12)),
)
def test_what_is_paid_in_the_end_does_not_depend_on_when_lines_came_or_runs_were_made(
    policy, grade, amounts: list[int], run_after: set[int], order
):
    """Lines come late and in any order, some are taken back; a run may follow any of them. What was paid, less what
    the host still owes, is the reward of all lines as if they had been known at once."""

    def live(lines: list[int], at: set[int]) -> tuple[int, int]:
        base = granted = owed = paid = 0
        for number, fen in enumerate(lines):
            base = max(0, base + fen) if fen < 0 else base + fen
            if number in at or number == len(lines) - 1:
                due = reward(base, policy, grade).amount_fen
                settled = settle(due, granted, owed)
                assert settled.payable_fen >= 0 >= settled.carried_out_fen
                assert settled.payable_fen == 0 or settled.carried_out_fen == 0
                granted, owed, paid = due, settled.carried_out_fen, paid + settled.payable_fen
        return paid + owed, reward(base, policy, grade).amount_fen

    got, wanted = live(amounts, run_after)
    assert got == wanted
    gains = [abs(fen) for fen in amounts]
    shuffled = [gains[i] for i in order if i < len(gains)]
    once, often = live(gains, set()), live(shuffled, run_after)
    assert once == often


@given(st.integers(-(10**9), -1))
def test_only_what_a_host_owes_is_carried(owed: int):
    assert settle(-owed, 0, owed) == settle(0, 0, 0)
    with pytest.raises(ValueError, match="carried"):
        settle(0, 0, -owed)
