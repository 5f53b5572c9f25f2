"""Late and reversed lines come out in a further run: it says what it stands on and what came in, and in whatever order
and however split runs are made, the same is granted in all."""

from hypothesis import given
from hypothesis import strategies as st

from api.charging.reversal import reverse_charge
from api.pagination import PageAsked
from api.rewards.adjustments import change_sums, line_changes, stands_on
from api.rewards.computing import HostName, Situation, host_results
from api.rewards.policy_body import PolicyBody, parse_policy, policy_document, shipped_policies
from api.rewards.rules import ENGINE_VERSION
from api.rewards.run_view import run_detail
from store.tables.rewards import Grade, RewardRun
from tests.api.charging.building import HOST, OFFICER
from tests.api.rewards.building import DAY, FLAT10, RewardCounty
from tests.support.usage import NINE

POLICIES = [
    *(shipped.body for shipped in shipped_policies()),
    parse_policy(policy_document(FLAT10) | {"host_cap_fen": 1_500, "min_payout_fen": 300}),
]
HOSTS = ("h01", "h02", "h03")
NAMES = {host: HostName(host, host, host) for host in HOSTS}
GRADES = {"h01": Grade.EXCELLENT, "h02": Grade.PASS, "h03": Grade.FAIL}


def granted_by(policy: PolicyBody, bases: list[dict[str, int]]) -> tuple[dict[str, int], dict[str, int]]:
    """Make a run for each of these states of the county, locked in turn; return what each host was granted in all
    (differences of its rewards) and what it was paid and still owes."""
    granted: dict[str, int] = {}
    owed: dict[str, int] = {}
    paid: dict[str, int] = {}
    for base in bases:
        situation = Situation(base, GRADES, granted, {host: fen for host, fen in owed.items() if fen}, NAMES, None)
        for row in host_results(situation, policy, ENGINE_VERSION):
            granted[row.host_id] = granted.get(row.host_id, 0) + row.reward_fen - row.granted_before_fen
            owed[row.host_id] = owed.get(row.host_id, 0) + row.carried_out_fen - row.carried_in_fen
            paid[row.host_id] = paid.get(row.host_id, 0) + row.payable_fen
    return granted, {host: paid[host] + owed[host] for host in paid}


amounts = st.one_of(st.integers(0, 50_000_000), st.sampled_from([0, 1, 10_000_000, 50_000_000]))
lines = st.lists(st.tuples(st.sampled_from(HOSTS), amounts), min_size=1, max_size=12)


@given(st.sampled_from(POLICIES), lines, st.data())
def test_any_order_and_split_of_runs_grants_the_same_total(
    policy: PolicyBody, told: list[tuple[str, int]], data: st.DataObject
) -> None:
    """Lines come in one by one, in any order; some are reversed at once, some later; runs are made wherever."""
    order = data.draw(st.permutations(range(len(told))))
    taken_back = data.draw(st.sets(st.sampled_from(range(len(told)))))
    events = [(index, 1) for index in order]
    for index in sorted(taken_back):
        after = next(place for place, (event, _) in enumerate(events) if event == index)
        events.insert(data.draw(st.integers(after + 1, len(events))), (index, -1))
    runs_after = data.draw(st.sets(st.integers(0, len(events) - 1)))
    base = dict.fromkeys(HOSTS, 0)
    states = []
    for place, (index, sign) in enumerate(events):
        host, fen = told[index]
        base[host] += sign * fen
        if place in runs_after:
            states.append(dict(base))
    final = dict(base)
    once, _ = granted_by(policy, [final])
    granted, settled = granted_by(policy, [*states, final])
    assert granted == once
    # What was paid, less what a host still owes, is exactly what was granted.
    assert settled == once


def test_a_further_run_says_what_it_stands_on_and_what_came_in(county: RewardCounty) -> None:
    kept = county.paid()
    reversed_ = county.paid(NINE + DAY, 30)
    unpaid = county.tested(NINE + 2 * DAY, 60)
    first = county.lock(county.prepare())
    county.pay(county.bill())
    late = county.paid(NINE + 4 * DAY, 90)
    county.do(reverse_charge, reversed_, "wrong meter", who=OFFICER)
    run = county.prepare()
    with county.database.read() as session:
        assert stands_on(session, session.get_one(RewardRun, first.run_id)) == []
        assert line_changes(session, first, PageAsked())[0] == change_sums(session, first) == []
        [earlier] = stands_on(session, run)
        changed, _ = line_changes(session, run, PageAsked())
        other, _ = line_changes(session, run, PageAsked(), "h02")
        sums = change_sums(session, run)
        detail = run_detail(county.work(session, OFFICER), run)
    assert (earlier.run_id, run.policy_version) == (first.run_id, first.policy_version)
    kinds = {one.charge_id: (one.kind, one.reason_before, one.reason, one.difference_fen) for one in changed}
    assert kept not in kinds
    assert kinds[reversed_] == ("reversed", "eligible", "reversed", -20_000)
    assert kinds[unpaid] == ("changed", "unpaid", "eligible", 40_000)
    assert kinds[late] == ("late", None, "eligible", 60_000)
    assert len(kinds) == 4  # and the reversal itself
    assert {(one.host_id, one.kind): (one.count, one.difference_fen) for one in sums} == {
        (HOST, "changed"): (1, 40_000),
        (HOST, "late"): (1, 60_000),
        (HOST, "reversed"): (2, -20_000),
    }
    assert sum(one.difference_fen for one in sums) == run.base_fen - first.base_fen
    assert other == []
    assert ([one.run_id for one in detail.stands_on], len(detail.changes)) == ([first.run_id], 3)


def test_runs_in_between_grant_no_more_and_no_less_than_one_at_the_end(county: RewardCounty) -> None:
    county.publish("STEPWISE", host_cap_fen=7_000)
    county.publish("AT-THE-END", host_cap_fen=7_000)
    in_all = 0
    for day, minutes in enumerate((60, 30, 90)):
        county.paid(NINE + day * DAY, minutes)
        in_all += county.lock(county.prepare("STEPWISE")).payable_fen
    assert in_all == county.prepare("AT-THE-END").payable_fen == 7_000
