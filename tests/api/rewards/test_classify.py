"""One row a reason, and their order: the first that holds is the one that is kept."""

import pytest

from api.rewards.policy_body import Exclusion, PolicyBody, parse_policy, policy_document, shipped_policies
from api.rewards.rules import ChargeFacts, Reason, UnknownEngine, classify, counted_fen, engine, judge
from store.tables.charging import ChargePurpose
from store.tables.rewards import MarkCode

FLAT10, _, XC = (policy.body for policy in shipped_policies())
GOOD = ChargeFacts(
    charge_id="c-1",
    host_id="h01",
    purpose=ChargePurpose.USE.value,
    revision=1,
    reversed=False,
    internal=False,
    has_session=True,
    coverage_bp=9_500,
    certificate_valid=True,
    affiliated=False,
    session_cleared=False,
    coverage_cleared=False,
    certificate_cleared=False,
    anomaly_confirmed=False,
    anomaly_open=False,
    invoiced=True,
    total_fen=90_000,
    net_fen=84_906,
    cash_fen=90_000,
    voucher_fen=0,
    waived_fen=0,
    payer_region="330624",
)
# In the order in which they are looked at.
ALONE = [
    (Reason.REVERSED, {"reversed": True}),
    (Reason.INTERNAL, {"internal": True}),
    (Reason.NO_SHOW_OR_CANCELLATION, {"purpose": ChargePurpose.NO_SHOW.value}),
    (Reason.AFFILIATED, {"affiliated": True}),
    (Reason.OUT_OF_AREA, {"payer_region": "310101"}),
    *((Reason(code.value), {"marks": (code.value,)}) for code in MarkCode),
    (Reason.NO_SESSION, {"has_session": False}),
    (Reason.COVERAGE, {"coverage_bp": 9_499}),
    (Reason.CERTIFICATE, {"certificate_valid": False}),
    (Reason.ANOMALY_CONFIRMED, {"anomaly_confirmed": True}),
    (Reason.ANOMALY_OPEN, {"anomaly_open": True}),
    (Reason.UNPAID, {"cash_fen": 89_999}),
]


def policy(**fields: object) -> PolicyBody:
    return parse_policy(policy_document(FLAT10) | fields)


ALL_ON = policy(exclusions=[one.value for one in Exclusion], area_codes=["3306"])


def test_a_paid_outside_test_with_all_its_evidence_is_eligible() -> None:
    assert judge(GOOD, FLAT10) == ("c-1", "h01", 90_000, 90_000, Reason.ELIGIBLE)
    assert judge(GOOD, XC).eligible_fen == 84_906


@pytest.mark.parametrize(("reason", "facts"), ALONE)
def test_each_fact_alone_gives_its_own_reason_and_counts_nothing(reason: Reason, facts: dict[str, object]) -> None:
    judged = judge(GOOD._replace(**facts), ALL_ON)
    assert (judged.reason, judged.eligible_fen, judged.amount_fen) == (reason, 0, 90_000)


@pytest.mark.parametrize("first", range(len(ALONE)))
def test_of_several_reasons_the_first_in_the_order_is_kept(first: int) -> None:
    facts = GOOD
    for _, fields in reversed(ALONE[first:]):
        if "marks" in fields:
            fields = {"marks": (*fields["marks"], *facts.marks)}
        facts = facts._replace(**fields)
    if not facts.has_session and ALONE[first][0] is Reason.COVERAGE:
        facts = facts._replace(has_session=True)
    assert classify(facts, ALL_ON) is ALONE[first][0]


def test_a_reversal_itself_counts_nothing_either() -> None:
    assert judge(GOOD._replace(revision=2, total_fen=-90_000, net_fen=-84_906), FLAT10)[2:] == (-90_000, 0, "reversed")


def test_a_cancellation_fee_is_no_testing_fee() -> None:
    facts = GOOD._replace(purpose=ChargePurpose.CANCELLATION.value)
    assert classify(facts, FLAT10) is Reason.NO_SHOW_OR_CANCELLATION


def test_an_invoiced_policy_looks_at_invoices_and_not_at_payments() -> None:
    invoiced = policy(basis="invoiced")
    assert classify(GOOD._replace(cash_fen=0), invoiced) is Reason.ELIGIBLE
    assert classify(GOOD._replace(invoiced=False), invoiced) is Reason.UNINVOICED
    assert classify(GOOD._replace(invoiced=False), FLAT10) is Reason.ELIGIBLE


@pytest.mark.parametrize(
    ("facts", "cleared"),
    [
        ({"has_session": False, "coverage_bp": 0}, "session_cleared"),
        ({"coverage_bp": 0}, "coverage_cleared"),
        ({"certificate_valid": False}, "certificate_cleared"),
    ],
)
def test_what_a_person_reviewed_and_cleared_no_longer_excludes(facts: dict[str, object], cleared: str) -> None:
    assert classify(GOOD._replace(**facts), FLAT10) is not Reason.ELIGIBLE
    assert classify(GOOD._replace(**facts, **{cleared: True}), FLAT10) is Reason.ELIGIBLE


@pytest.mark.parametrize(
    ("exclusion", "facts"),
    [
        (Exclusion.AFFILIATED, {"affiliated": True}),
        (Exclusion.ANOMALY_OPEN, {"anomaly_open": True}),
        (Exclusion.CERTIFICATE, {"certificate_valid": False}),
        (Exclusion.COVERAGE, {"coverage_bp": 0}),
        (Exclusion.NO_SESSION, {"has_session": False}),
        (Exclusion.NO_SHOW_OR_CANCELLATION, {"purpose": ChargePurpose.NO_SHOW.value}),
        (Exclusion.OUT_OF_AREA, {"payer_region": "310101"}),
        *((Exclusion(code.value), {"marks": (code.value,)}) for code in MarkCode),
    ],
)
def test_an_exclusion_that_is_switched_off_excludes_nothing(exclusion: Exclusion, facts: dict[str, object]) -> None:
    left = [one.value for one in Exclusion if one is not exclusion]
    without = policy(exclusions=left, area_codes=[] if exclusion is Exclusion.OUT_OF_AREA else ["3306"])
    assert classify(GOOD._replace(**facts), ALL_ON).value == exclusion.value
    assert classify(GOOD._replace(**facts), without) is Reason.ELIGIBLE


@pytest.mark.parametrize(
    "facts", [{"internal": True}, {"reversed": True}, {"anomaly_confirmed": True}, {"cash_fen": 0}]
)
def test_some_reasons_cannot_be_switched_off(facts: dict[str, object]) -> None:
    assert classify(GOOD._replace(**facts), policy(exclusions=[])) is not Reason.ELIGIBLE


def test_a_voucher_settles_but_is_no_fee_unless_the_policy_counts_it() -> None:
    half = GOOD._replace(cash_fen=45_000, voucher_fen=45_000)
    assert judge(half, FLAT10).eligible_fen == 45_000
    assert judge(half, policy(voucher_counts=True)).eligible_fen == 90_000
    assert counted_fen(half, XC) == 42_453
    assert judge(GOOD._replace(cash_fen=0, voucher_fen=90_000), FLAT10)[3:] == (0, Reason.ELIGIBLE)


def test_a_waived_fee_is_never_an_actual_fee() -> None:
    waived = GOOD._replace(cash_fen=50_000, waived_fen=40_000)
    assert judge(waived, policy(voucher_counts=True)).eligible_fen == 50_000


def test_a_charge_of_nothing_counts_nothing() -> None:
    free = GOOD._replace(total_fen=0, net_fen=0, cash_fen=0)
    assert judge(free, XC)[2:] == (0, 0, Reason.ELIGIBLE)


def test_what_the_shipped_policies_do_not_look_at_keeps_nothing_out() -> None:
    marked = GOOD._replace(payer_region="310101", marks=tuple(code.value for code in MarkCode))
    for shipped in (FLAT10, XC):
        assert classify(marked, shipped) is Reason.ELIGIBLE


@pytest.mark.parametrize(
    ("region", "areas", "inside"),
    [
        ("330624", ["330624"], True),
        ("330624", ["3306"], True),
        ("330624", ["33"], True),
        ("330624", ["310000", "3307"], False),
        ("330600", ["330624"], False),
        ("", ["33"], False),
    ],
)
def test_an_area_is_its_code_and_everything_below_it(region: str, areas: list[str], inside: bool) -> None:
    found = classify(GOOD._replace(payer_region=region), policy(exclusions=["out_of_area"], area_codes=sorted(areas)))
    assert (found is Reason.ELIGIBLE) == inside


def test_a_run_of_an_engine_that_is_not_here_is_refused() -> None:
    with pytest.raises(UnknownEngine, match="this program has"):
        engine("0")
