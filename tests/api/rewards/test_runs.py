"""Runs: prepared by one person, locked by another, never changed; what comes late comes out in the next one."""

import json
from datetime import timedelta

import pytest
from sqlalchemy import select, text

from api.charging.reversal import reverse_charge
from api.errors import Refused
from api.rewards.assessments import record_assessment
from api.rewards.policies import approve_proposal, propose_policy, publish_policy, seed_policies
from api.rewards.policy_body import parse_policy, policy_document
from api.rewards.service import BUDGET_SHORT, prepare_run
from api.rewards.steps import approve_run, check_run, lock_run, withdraw_run
from api.work import system_actor
from store.errors import AppendOnly
from store.periods import PeriodKind
from store.tables.audit import AuditEvent
from store.tables.rewards import Grade, RewardPolicyVersion, RewardResult, RewardRun
from store.tables.usage import Alert
from tests.api.charging.building import FINANCE, NINE
from tests.api.rewards.building import (
    DAY,
    FLAT10,
    HOST,
    MANAGER,
    OFFICER,
    SECOND_OFFICER,
    SEED,
    YEAR,
    RewardCounty,
)
from wire.clock import from_ms


def refused(county: RewardCounty, step, *args, who=OFFICER, **named) -> Refused:
    with pytest.raises(Refused) as caught:
        county.do(lambda work: step(work, *args, **named), who=who)
    assert caught.value.zh
    assert caught.value.en
    return caught.value


def test_ten_per_cent_of_what_was_paid_is_granted_and_locked_by_a_second_person(county: RewardCounty) -> None:
    charge = county.paid(minutes=80)
    run = county.prepare()
    assert (run.state, run.run_no, run.charge_count, run.base_fen, run.payable_fen) == ("prepared", 1, 1, 60_000, 6_000)
    row = county.result(run)
    assert (row.base_fen, row.reward_fen, row.granted_before_fen, row.payable_fen) == (60_000, 6_000, 0, 6_000)
    explained = json.loads(row.explanation)
    assert explained["host"]["uscc"]
    assert explained["tiers"] == [{"from_fen": 0, "to_fen": None, "rate_bp": 1000, "part_fen": 60_000}]
    locked = county.lock(run)
    assert (locked.state, locked.closed_by, locked.closed_at) == ("locked", "officer-2", county.now)
    assert county.reasons(run) == {charge: "eligible"}
    with county.database.read() as session:
        actions = session.execute(
            select(AuditEvent.action).where(AuditEvent.subject == f"reward_run:{run.run_id}").order_by(AuditEvent.seq)
        )
        steps = ("prepared", "checked", "noticed", "approved", "locked")
        assert actions.scalars().all() == [f"reward_run.{step}" for step in steps]


def test_late_lines_come_out_in_the_next_run_and_nothing_is_paid_twice(county: RewardCounty) -> None:
    county.paid()
    first = county.lock(county.prepare())
    county.later()
    county.paid(NINE + 2 * DAY, 30)
    second = county.lock(county.prepare())
    assert (first.payable_fen, second.payable_fen) == (4_000, 2_000)
    row = county.result(second)
    assert (row.reward_fen, row.granted_before_fen, second.run_no) == (6_000, 4_000, 2)
    county.later()
    assert county.lock(county.prepare()).payable_fen == 0


def test_what_was_granted_for_a_charge_that_was_taken_back_is_carried_and_shown(county: RewardCounty) -> None:
    taken_back = county.paid(minutes=120)
    county.paid(NINE + 2 * DAY, 30)
    county.lock(county.prepare())
    county.later()
    county.do(reverse_charge, taken_back, "samples were exchanged", who=OFFICER)
    assert county.bill().total_fen == -80_000
    negative = county.lock(county.prepare())
    row = county.result(negative)
    assert (row.reward_fen, row.granted_before_fen, row.payable_fen, row.carried_out_fen) == (2_000, 10_000, 0, -8_000)
    county.later()
    county.paid(NINE + 5 * DAY, 60)
    smaller = county.lock(county.prepare())
    row = county.result(smaller)
    assert (row.carried_in_fen, row.payable_fen, row.carried_out_fen) == (-8_000, 0, -4_000)
    county.later()
    county.paid(NINE + 6 * DAY, 120)
    row = county.result(county.lock(county.prepare()))
    assert (row.carried_in_fen, row.payable_fen, row.carried_out_fen) == (-4_000, 4_000, 0)
    # Paid in all: 10,000 + 4,000 = ten per cent of 20,000 + 40,000 + 80,000.


def test_what_a_host_owes_follows_it_into_another_period(county: RewardCounty) -> None:
    county.publish("MONTHLY", period_kind="month")
    march = county.paid()
    county.lock(county.prepare("MONTHLY", PeriodKind.MONTH, 202603))
    county.do(reverse_charge, march, "wrong payer", who=OFFICER)
    county.later()
    county.lock(county.prepare("MONTHLY", PeriodKind.MONTH, 202603))
    county.paid(NINE + 32 * DAY, 120, month=202604)
    county.later()
    row = county.result(county.lock(county.prepare("MONTHLY", PeriodKind.MONTH, 202604)))
    assert (row.reward_fen, row.carried_in_fen, row.payable_fen) == (8_000, -4_000, 4_000)


def test_two_runs_that_use_the_same_debt_cannot_both_be_locked(county: RewardCounty) -> None:
    county.publish("MONTHLY", period_kind="month")
    march = county.paid()
    county.paid(NINE + 32 * DAY, 120, month=202604)
    april = county.approve(county.prepare("MONTHLY", PeriodKind.MONTH, 202604))
    county.lock(county.prepare("MONTHLY", PeriodKind.MONTH, 202603))
    county.do(reverse_charge, march, "wrong payer", who=OFFICER)
    county.lock(county.prepare("MONTHLY", PeriodKind.MONTH, 202603))
    error = refused(county, lock_run, april.run_id, april.result_sha256, who=SECOND_OFFICER)
    assert (error.status, error.code) == (409, "run_outdated")


def test_a_fee_is_rewarded_once_whatever_the_policy(county: RewardCounty) -> None:
    charge = county.paid()
    county.lock(county.prepare("FLAT10"))
    other = county.approve(county.prepare("FLAT20"))
    error = refused(county, lock_run, other.run_id, other.result_sha256, who=SECOND_OFFICER)
    assert (error.code, error.facts["charge_id"]) == ("rewarded_elsewhere", charge)


def test_whoever_prepared_a_run_cannot_lock_it(county: RewardCounty) -> None:
    county.paid()
    run = county.approve(county.prepare())
    error = refused(county, lock_run, run.run_id, run.result_sha256, who=OFFICER)
    assert (error.status, error.code) == (409, "same_person")
    assert county.do(lock_run, run.run_id, run.result_sha256, who=FINANCE).closed_by == "finance"


def test_a_signature_names_the_result_that_was_read(county: RewardCounty) -> None:
    county.paid()
    run = county.prepare()
    assert refused(county, check_run, run.run_id, "0" * 64, who=SECOND_OFFICER).code == "other_result"
    county.notice(run)
    county.later(8)
    assert refused(county, approve_run, run.run_id, "0" * 64, who=SECOND_OFFICER).code == "other_result"
    county.do(approve_run, run.run_id, run.result_sha256, who=SECOND_OFFICER)
    assert refused(county, lock_run, run.run_id, "0" * 64, who=SECOND_OFFICER).code == "other_result"


@pytest.mark.parametrize("who", [MANAGER, FINANCE], ids=["manager", "finance"])
def test_only_a_county_officer_prepares(county: RewardCounty, who) -> None:
    assert refused(county, prepare_run, "FLAT10", PeriodKind.YEAR, YEAR, who=who).status == 403


def test_a_manager_locks_and_withdraws_nothing(county: RewardCounty) -> None:
    county.paid()
    run = county.prepare()
    assert refused(county, lock_run, run.run_id, run.result_sha256, who=MANAGER).status == 403
    assert refused(county, withdraw_run, run.run_id, "no", who=MANAGER).status == 403


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE reward_input SET eligible_fen = 1",
        "DELETE FROM reward_input",
        "UPDATE reward_result SET payable_fen = 1, carried_out_fen = 0",
        "DELETE FROM reward_result",
        "UPDATE reward_run SET close_reason = 'changed'",
        "UPDATE reward_run SET state = 'withdrawn', close_reason = 'x'",
        "DELETE FROM reward_run",
    ],
)
def test_a_locked_run_never_changes(county: RewardCounty, statement: str) -> None:
    county.paid()
    county.lock(county.prepare())
    with pytest.raises(AppendOnly), county.database.write() as session:
        session.execute(text(statement))


def test_a_run_is_closed_once(county: RewardCounty) -> None:
    county.paid()
    run = county.lock(county.prepare())
    assert refused(county, withdraw_run, run.run_id, "changed our mind").code == "not_possible_now"
    error = refused(county, lock_run, run.run_id, run.result_sha256, who=SECOND_OFFICER)
    assert (error.code, error.facts["stage"]) == ("not_possible_now", "locked")


def test_a_withdrawn_run_counts_nothing_and_says_why(county: RewardCounty) -> None:
    county.paid()
    run = county.prepare()
    assert refused(county, prepare_run, "FLAT10", PeriodKind.YEAR, YEAR).code == "run_pending"
    assert refused(county, withdraw_run, run.run_id, "  ").code == "reason_missing"
    withdrawn = county.do(withdraw_run, run.run_id, "an invoice was missing", who=OFFICER)
    assert (withdrawn.state, withdrawn.close_reason) == ("withdrawn", "an invoice was missing")
    again = county.lock(county.prepare())
    assert (again.run_no, again.payable_fen) == (2, 4_000)


def test_rows_that_are_not_what_was_hashed_cannot_be_locked(county: RewardCounty) -> None:
    county.paid()
    checked = county.prepare()
    county.tamper("UPDATE reward_input SET amount_fen = amount_fen + 1")
    assert refused(county, check_run, checked.run_id, checked.result_sha256, who=SECOND_OFFICER).code == "run_damaged"
    county.do(withdraw_run, checked.run_id, "damaged", who=OFFICER)
    run = county.approve(county.prepare())
    county.tamper("UPDATE reward_input SET amount_fen = amount_fen + 1")
    assert refused(county, lock_run, run.run_id, run.result_sha256, who=SECOND_OFFICER).code == "run_damaged"


def test_a_period_goes_on_under_the_policy_that_granted_it_first(county: RewardCounty) -> None:
    county.publish("OURS", from_month=202501)
    county.paid()
    county.lock(county.prepare("OURS"))
    body = parse_policy(policy_document(FLAT10) | {"host_cap_fen": 1})
    error = refused(county, publish_policy, "OURS", body, 202512, "officer", "officer-2", who=SEED)
    assert error.code == "period_already_granted"
    county.do(publish_policy, "OURS", body, 202602, "officer", "officer-2", who=SEED)
    county.later()
    run = county.prepare("OURS")
    assert (run.policy_version, run.payable_fen) == (1, 0)


def test_the_version_of_a_period_is_the_last_that_starts_at_or_before_it(county: RewardCounty) -> None:
    county.publish("STEP", from_month=202601)
    county.publish("STEP", from_month=202602, host_cap_fen=1)
    county.paid()
    assert county.prepare("STEP").policy_version == 1
    error = refused(county, prepare_run, "STEP", PeriodKind.YEAR, 202501)
    assert (error.status, error.code) == (409, "no_policy_in_force")


@pytest.mark.parametrize(
    ("policy", "kind", "first", "status", "code"),
    [
        ("NONE", PeriodKind.YEAR, YEAR, 404, "not_found"),
        ("FLAT10", PeriodKind.MONTH, 202603, 422, "other_period_kind"),
        ("FLAT10", PeriodKind.YEAR, 202603, 422, "bad_period"),
        ("FLAT10", PeriodKind.QUARTER, 202613, 422, "bad_period"),
        ("FLAT10", PeriodKind.YEAR, 202701, 409, "period_not_begun"),
    ],
)
def test_a_run_that_makes_no_sense_is_refused(county: RewardCounty, policy, kind, first, status, code) -> None:
    error = refused(county, prepare_run, policy, kind, first)
    assert (error.status, error.code) == (status, code)


def test_a_policy_with_grades_waits_for_the_assessment_and_multiplies_by_it(county: RewardCounty) -> None:
    county.paid()
    error = refused(county, prepare_run, "XC-DEMO", PeriodKind.YEAR, YEAR)
    assert (error.code, error.facts["hosts"]) == ("assessment_missing", [HOST])
    county.assess(Grade.PASS)
    county.assess(Grade.EXCELLENT)
    run = county.prepare("XC-DEMO")
    row = county.result(run)
    # 400.00 with 6 % VAT is 377.36 net; 20 % times 1.2 of that, rounded once: 90.5664.
    assert (row.base_fen, row.grade, row.coefficient_bp, row.reward_fen) == (37_736, "excellent", 12_000, 9_057)


def test_a_short_budget_is_told_and_nothing_is_cut(county: RewardCounty) -> None:
    county.publish("TIGHT", budget_fen=3_999)
    county.paid()
    assert county.prepare("TIGHT").payable_fen == 4_000
    with county.database.read() as session:
        [alert] = session.execute(select(Alert).where(Alert.rule == BUDGET_SHORT)).scalars()
        assert (alert.subject, "40.00" in alert.detail, "39.99" in alert.detail) == ("TIGHT:2026", True, True)


def test_a_budget_that_is_just_met_is_no_alert(county: RewardCounty) -> None:
    county.publish("MET", budget_fen=4_000)
    county.paid()
    county.prepare("MET")
    with county.database.read() as session:
        assert session.execute(select(Alert).where(Alert.rule == BUDGET_SHORT)).first() is None


def test_a_shared_budget_is_frozen_by_the_first_grant_after_the_end(county: RewardCounty) -> None:
    county.publish("SHARED", budget_fen=3_000, on_budget_short="prorate", period_kind="month")
    county.paid()
    run = county.lock(county.prepare("SHARED", PeriodKind.MONTH, 202603))
    assert run.payable_fen == 3_000
    county.later()
    county.paid(NINE + 2 * DAY, 30)
    row = county.result(county.lock(county.prepare("SHARED", PeriodKind.MONTH, 202603)))
    # Three quarters of each fen, as the first time: nobody else's share is touched by a late line.
    assert (row.reward_fen, row.payable_fen) == (4_500, 1_500)
    assert json.loads(row.explanation)["scale"] == {"numerator": 3_000, "denominator": 4_000}


def test_an_interim_run_of_a_period_that_is_not_over_freezes_nothing(county: RewardCounty) -> None:
    county.publish("SHARED", budget_fen=3_000, on_budget_short="prorate")
    county.paid()
    assert county.lock(county.prepare("SHARED")).payable_fen == 3_000
    county.later()
    county.paid(NINE + 2 * DAY, 120)
    assert county.lock(county.prepare("SHARED")).payable_fen == 0


def test_a_host_without_charges_has_no_row_and_an_empty_period_grants_nothing(county: RewardCounty) -> None:
    run = county.prepare()
    assert (run.charge_count, run.payable_fen) == (0, 0)
    with county.database.read() as session:
        assert session.execute(select(RewardResult)).first() is None
    county.lock(run)


def test_policies_are_published_by_two_people_and_never_dated_back(county: RewardCounty) -> None:
    body = FLAT10
    assert refused(county, publish_policy, "NEW", body, 202605, "officer", "officer", who=OFFICER).code == "same_person"
    error = refused(county, publish_policy, "NEW", body, 202603, "officer", "officer-2", who=SECOND_OFFICER)
    assert error.code == "policy_backdated"
    error = refused(county, publish_policy, "NEW", body, 202605, "manager", "officer-2", who=SECOND_OFFICER)
    assert error.code == "signer_not_entitled"
    assert refused(county, publish_policy, "NEW", body, 202605, "officer", "manager", who=MANAGER).status == 403
    assert refused(county, publish_policy, "N W", body, 202605, "officer", "officer-2", who=SEED).status == 422
    proposal = county.do(propose_policy, "NEW", "新政策", "New policy", body, 202605, who=OFFICER)
    assert refused(county, approve_proposal, proposal.proposal_id, "0" * 64, who=SECOND_OFFICER).code == "other_body"
    own = refused(county, approve_proposal, proposal.proposal_id, proposal.body_sha256, who=OFFICER)
    assert own.code == "same_person"
    published = county.do(approve_proposal, proposal.proposal_id, proposal.body_sha256, who=FINANCE)
    assert (published.version, published.prepared_by, published.approved_by) == (1, "officer", "finance")
    late = refused(county, publish_policy, "NEW", body, 202605, "officer", "officer-2", who=SEED)
    assert late.code == "not_after_latest"


def test_seeding_policies_again_publishes_nothing(county: RewardCounty) -> None:
    assert county.do(seed_policies, "officer", "officer-2", who=SEED) == 0
    with county.database.read() as session:
        assert len(session.execute(select(RewardPolicyVersion)).scalars().all()) == 3


def test_an_assessment_takes_two_people_and_its_evidence(county: RewardCounty) -> None:
    args = (HOST, 2026, Grade.GOOD)
    assert refused(county, record_assessment, *args, "minutes", "officer", "officer").code == "same_person"
    assert refused(county, record_assessment, *args, " ", "officer", "officer-2", who=SEED).code == "evidence_missing"
    missing = refused(county, record_assessment, "h99", 2026, Grade.GOOD, "minutes", "officer", "officer-2", who=SEED)
    assert missing.status == 404
    assert county.do(record_assessment, *args, "minutes", "officer", "officer-2", who=SEED).version == 1


def test_a_part_of_the_system_prepares_nothing_in_its_own_name(county: RewardCounty) -> None:
    county.paid()
    assert refused(county, prepare_run, "FLAT10", PeriodKind.YEAR, YEAR, who=system_actor("worker")).status == 403
    with county.database.read() as session:
        assert session.execute(select(RewardRun)).first() is None
    assert from_ms(NINE) + timedelta(days=39, hours=3) == county.now
