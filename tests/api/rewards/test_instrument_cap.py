"""Of one instrument's fees no more than the cap counts in a period: by line, whatever the order of facts and runs."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.rewards.instrument_cap import capped, is_cut_of
from api.rewards.policy_body import PolicyBody, canonical_policy, parse_policy, policy_document
from api.rewards.rules import Classified, Reason, reward, settle
from store.tables.rewards import Grade
from tests.api.charging.building import NINE
from tests.api.rewards.building import DAY, FLAT10, RewardCounty
from tests.api.rewards.test_marks import nothing_is_found

CAP = 1_000


def line(number: int, fen: int, reason: Reason = Reason.ELIGIBLE, host: str = "h01") -> Classified:
    return Classified(f"c{number:03d}", host, fen, fen if reason is Reason.ELIGIBLE else 0, reason)


def policy(**fields: object) -> PolicyBody:
    return parse_policy(policy_document(FLAT10) | fields)


def cut(rows: list[Classified], instruments: list[str], cap: int = CAP) -> list[tuple[int, str]]:
    named = iter([(row.charge_id, name) for row, name in zip(rows, instruments, strict=True)])
    return [(row.eligible_fen, row.reason.value) for row in capped(rows, named, cap)]


@pytest.mark.parametrize(
    ("fees", "cap", "counted"),
    [
        ([600, 400], 1_000, [(600, "eligible"), (400, "eligible")]),
        ([600, 401], 1_000, [(600, "eligible"), (400, "eligible")]),
        ([1_000, 1], 1_000, [(1_000, "eligible"), (0, "instrument_cap")]),
        ([5_000, 5_000], 1_000, [(1_000, "eligible"), (0, "instrument_cap")]),
        ([0, 7, 0], 5, [(0, "eligible"), (5, "eligible"), (0, "eligible")]),
        ([3, 4], 0, [(0, "instrument_cap"), (0, "instrument_cap")]),
    ],
)
def test_lines_count_in_order_until_the_cap_is_full(fees: list[int], cap: int, counted: list[tuple[int, str]]) -> None:
    rows = [line(number, fen) for number, fen in enumerate(fees)]
    assert cut(rows, ["i-1"] * len(rows), cap) == counted


def test_instruments_and_hosts_fill_their_own_caps_and_other_reasons_stay() -> None:
    rows = [line(1, 900), line(2, 900), line(3, 900, host="h02"), line(4, 900, Reason.UNPAID), line(5, 900)]
    assert cut(rows, ["i-1", "i-2", "i-1", "i-1", "i-1"]) == [
        (900, "eligible"),
        (900, "eligible"),
        (900, "eligible"),
        (0, "unpaid"),
        (100, "eligible"),
    ]


def test_the_cap_comes_before_tiers_coefficient_host_cap_rounding_and_minimum() -> None:
    """Two instruments with 350,000.00 and 50,000.00 yuan, capped at 60,000.00: 110,000.00 go through the tiers."""
    xc = policy(
        tiers=[
            {"from_fen": 0, "to_fen": 10_000_000, "rate_bp": 2_000},
            {"from_fen": 10_000_000, "to_fen": None, "rate_bp": 1_500},
        ],
        coefficients={"excellent": 12_000, "good": 10_000, "pass": 8_000, "fail": 0},
        instrument_fee_cap_fen=6_000_000,
    )
    rows = [line(1, 35_000_000), line(2, 5_000_000)]
    counted = sum(fen for fen, _ in cut(rows, ["i-1", "i-2"], 6_000_000))
    assert counted == 11_000_000
    assert reward(counted, xc, Grade.EXCELLENT).amount_fen == 2_580_000


def test_a_policy_without_a_cap_is_written_as_before() -> None:
    assert canonical_policy(policy(instrument_fee_cap_fen=None, area_codes=[])) == canonical_policy(FLAT10)
    assert b"instrument_fee_cap_fen" not in canonical_policy(FLAT10)
    assert policy(instrument_fee_cap_fen=7).instrument_fee_cap_fen == 7


fees = st.sampled_from([0, 1, CAP - 1, CAP, CAP + 1]) | st.integers(0, 3 * CAP)
some_lines = st.lists(
    st.tuples(fees, st.sampled_from(["i-1", "i-2", "i-3"]), st.sampled_from(["h01", "h02"])), max_size=25
)


@settings(max_examples=150, deadline=None)
@given(some_lines, st.sampled_from([0, 1, CAP, CAP * 4]), st.randoms())
def test_of_each_instrument_the_smaller_of_fees_and_cap_counts_whichever_lines_come_first(
    lines: list[tuple[int, str, str]], cap: int, dice: random.Random
) -> None:
    def counted(some: list[tuple[int, str, str]]) -> dict[str, int]:
        rows = [line(number, fen, host=host) for number, (fen, _, host) in enumerate(some)]
        found: dict[str, int] = {}
        body = policy(instrument_fee_cap_fen=cap)
        names = iter([(row.charge_id, name) for row, (_, name, _) in zip(rows, some, strict=True)])
        for row, before in zip(capped(rows, names, cap), rows, strict=True):
            assert is_cut_of(row, before, body)
            assert (row.eligible_fen, row.reason) == (before.eligible_fen, before.reason) or (
                0 <= row.eligible_fen < before.eligible_fen
            )
            found[row.host_id] = found.get(row.host_id, 0) + row.eligible_fen
        return found

    sums: dict[tuple[str, str], int] = {}
    for fen, name, host in lines:
        sums[host, name] = sums.get((host, name), 0) + fen
    wanted = {
        host: sum(min(fen, cap) for (of, _), fen in sums.items() if of == host) for host in {host for host, _ in sums}
    }
    shuffled = list(lines)
    dice.shuffle(shuffled)
    assert counted(lines) == counted(shuffled) == wanted


@settings(max_examples=80, deadline=None)
@given(some_lines, st.sets(st.integers(0, 24)), st.randoms())
def test_what_is_paid_under_a_cap_does_not_depend_on_when_lines_came(
    lines: list[tuple[int, str, str]], run_after: set[int], dice: random.Random
) -> None:
    body = policy(instrument_fee_cap_fen=CAP)

    def paid(order: list[tuple[int, str, str]], at: set[int]) -> int:
        granted = owed = total = 0
        for number in range(len(order)):
            if number in at or number == len(order) - 1:
                known = [(fen, name, "h01") for fen, name, _ in order[: number + 1]]
                rows = [line(n, fen) for n, (fen, _, _) in enumerate(known)]
                base = sum(fen for fen, _ in cut(rows, [name for _, name, _ in known]))
                settled = settle(reward(base, body, None).amount_fen, granted, owed)
                granted, owed = reward(base, body, None).amount_fen, settled.carried_out_fen
                total += settled.payable_fen
        return total + owed

    shuffled = list(lines)
    dice.shuffle(shuffled)
    assert paid(lines, run_after) == paid(shuffled, set())


def test_a_row_that_no_cap_explains_is_no_cut() -> None:
    judged = line(1, 900)
    capping = policy(instrument_fee_cap_fen=CAP)
    assert not is_cut_of(judged._replace(eligible_fen=899), judged, FLAT10)
    assert not is_cut_of(judged._replace(eligible_fen=901), judged, capping)
    assert not is_cut_of(judged._replace(eligible_fen=0), judged, capping)
    assert not is_cut_of(judged._replace(eligible_fen=1, reason=Reason.INSTRUMENT_CAP), judged, capping)
    assert not is_cut_of(judged._replace(amount_fen=1), judged, capping)


def test_runs_under_a_cap_add_up_and_are_verified_by_everybody(county: RewardCounty, tmp_path) -> None:
    """400 yuan each; 1,000 yuan of the instrument count."""
    county.publish("CAPPED", instrument_fee_cap_fen=100_000)
    for day in range(2):
        county.paid(NINE + day * DAY)
    first = county.lock(county.prepare("CAPPED"))
    late = [county.paid(NINE + day * DAY) for day in (3, 4)]
    county.later()
    second = county.lock(county.prepare("CAPPED"))
    assert [run.payable_fen for run in (first, second)] == [8_000, 2_000]
    assert county.result(second).base_fen == 100_000
    reasons = county.reasons(second)
    assert [reasons[charge] for charge in late] == ["eligible", "instrument_cap"]
    for run in (first, second):
        nothing_is_found(county, run, tmp_path)
