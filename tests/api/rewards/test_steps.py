"""From the preparation of a run to its lock: notice, objections, two people; what the database refuses by itself."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from api.errors import Refused
from api.rewards.objections import answer_objection, object_to_run, objections_seen
from api.rewards.policies import publish_policy
from api.rewards.policy_body import parse_policy, policy_document
from api.rewards.steps import approve_run, check_run, lock_run, publish_notice, withdraw_run
from api.rewards.steps_repository import notice_until_of, stage_of, steps_of
from api.work import system_actor
from store.database import Database
from store.errors import AppendOnly, OutOfOrder, StillReferenced
from store.periods import SHANGHAI, PeriodKind
from store.tables.accounts import Role
from store.tables.reward_steps import (
    ObjectionOutcome,
    RewardObjection,
    RewardObjectionAnswer,
    RewardPayment,
    RewardStep,
    RunStage,
)
from store.tables.rewards import RewardRun
from tests.api.charging.building import CUSTOMER, FINANCE, HOST, MANAGER, OFFICER, RIVAL, actor
from tests.api.rewards.building import FLAT10, SECOND_OFFICER, RewardCounty
from wire.ids import new_ulid

AUDITOR = actor("auditor", Role.AUDITOR)


def refused(county: RewardCounty, step, *args: object, who=OFFICER) -> Refused:
    """What a step answers where it cannot be done."""
    with pytest.raises(Refused) as caught:
        county.do(step, *args, who=who)
    return caught.value


def stage(county: RewardCounty, run: RewardRun) -> RunStage:
    with county.database.read() as session:
        return stage_of(session, session.get_one(RewardRun, run.run_id))


def test_a_run_goes_its_way_and_leaves_a_row_for_each_step(county: RewardCounty) -> None:
    county.paid()
    run = county.prepare()
    assert stage(county, run) is RunStage.PREPARED
    locked = county.lock(run)
    assert stage(county, locked) is RunStage.LOCKED
    with county.database.read() as session:
        rows = steps_of(session, run.run_id)
    assert [(row.step_no, row.from_stage, row.action, row.to_stage, row.done_by) for row in rows] == [
        (1, "prepared", "check", "checked", "officer-2"),
        (2, "checked", "publish", "noticed", "officer"),
        (3, "noticed", "approve", "approved", "officer-2"),
        (4, "approved", "lock", "locked", "officer-2"),
    ]


def test_nobody_approves_before_the_seventh_day_is_over(county: RewardCounty) -> None:
    county.paid()
    run = county.prepare()
    county.now = datetime(2026, 4, 24, 16, 30, tzinfo=SHANGHAI)
    county.notice(run)
    with county.database.read() as session:
        until = notice_until_of(session, run.run_id)
    assert until == datetime(2026, 5, 2, tzinfo=SHANGHAI)
    county.now = until - timedelta(milliseconds=1)
    error = refused(county, approve_run, run.run_id, run.result_sha256, who=SECOND_OFFICER)
    assert (error.status, error.code, error.facts["notice_until"]) == (
        409,
        "notice_not_over",
        "2026-05-02T00:00:00+08:00",
    )
    county.now = until
    county.do(approve_run, run.run_id, run.result_sha256, who=SECOND_OFFICER)


def test_how_long_a_notice_goes_on_is_the_policys(county: RewardCounty) -> None:
    county.publish("AT-ONCE", notice_days=0)
    county.paid()
    run = county.prepare("AT-ONCE")
    county.notice(run)
    county.do(approve_run, run.run_id, run.result_sha256, who=FINANCE)
    assert county.do(lock_run, run.run_id, run.result_sha256, who=FINANCE).state == "locked"


def test_the_same_second_person_may_sign_all_but_never_the_preparer(county: RewardCounty) -> None:
    county.paid()
    run = county.prepare()
    read = (run.run_id, run.result_sha256)
    assert refused(county, check_run, *read, who=OFFICER).code == "same_person"
    county.notice(run)
    county.later(8)
    assert refused(county, approve_run, *read, who=OFFICER).code == "same_person"
    county.do(approve_run, *read, who=SECOND_OFFICER)
    assert refused(county, lock_run, *read, who=OFFICER).code == "same_person"
    for who in (MANAGER, CUSTOMER, AUDITOR, system_actor("worker")):
        assert refused(county, lock_run, *read, who=who).status == 403


def test_no_step_is_skipped_and_none_is_taken_twice(county: RewardCounty) -> None:
    county.paid()
    run = county.prepare()
    read = (run.run_id, run.result_sha256)
    assert refused(county, publish_notice, run.run_id).code == "not_possible_now"
    assert refused(county, approve_run, *read, who=SECOND_OFFICER).code == "not_possible_now"
    assert refused(county, lock_run, *read, who=SECOND_OFFICER).facts["possible"] == "check, withdraw"
    county.notice(run)
    assert refused(county, check_run, *read, who=SECOND_OFFICER).code == "not_possible_now"
    assert refused(county, publish_notice, run.run_id).code == "not_possible_now"
    assert refused(county, check_run, "NONE", "0" * 64, who=SECOND_OFFICER).status == 404


@pytest.mark.slow_on_postgresql
def test_a_run_by_a_version_that_is_no_longer_in_force_for_its_period_is_not_locked(county: RewardCounty) -> None:
    county.publish("MONTHLY", period_kind="month")
    run = county.approve(county.prepare("MONTHLY", PeriodKind.MONTH, 202604))
    capped = parse_policy(policy_document(FLAT10) | {"period_kind": "month", "host_cap_fen": 1})
    county.do(publish_policy, "MONTHLY", capped, 202604, "officer", "officer-2", who=SECOND_OFFICER)
    assert refused(county, lock_run, run.run_id, run.result_sha256, who=SECOND_OFFICER).code == "run_outdated"
    county.do(withdraw_run, run.run_id, "another version", who=OFFICER)
    assert county.lock(county.prepare("MONTHLY", PeriodKind.MONTH, 202604)).policy_version == 2


@pytest.mark.parametrize("how_far", ["prepare", "notice", "approve"])
def test_a_run_is_withdrawn_with_a_reason_wherever_it_stands_before_the_lock(
    county: RewardCounty, how_far: str
) -> None:
    county.paid()
    run = county.prepare()
    if how_far != "prepare":
        getattr(county, how_far)(run)
    assert refused(county, withdraw_run, run.run_id, " ").code == "reason_missing"
    assert refused(county, withdraw_run, run.run_id, "no", who=FINANCE).status == 403
    gone = county.do(withdraw_run, run.run_id, "a fee was wrong", who=OFFICER)
    assert (gone.state, gone.close_reason, stage(county, run)) == ("withdrawn", "a fee was wrong", RunStage.WITHDRAWN)
    assert refused(county, check_run, run.run_id, run.result_sha256, who=SECOND_OFFICER).code == "not_possible_now"
    assert county.lock(county.prepare()).payable_fen == 4_000


def test_each_objection_is_answered_before_the_approval_and_by_somebody_else(county: RewardCounty) -> None:
    county.paid()
    run = county.prepare()
    read = (run.run_id, run.result_sha256)
    assert refused(county, object_to_run, run.run_id, "too little", who=MANAGER).code == "not_announced"
    county.notice(run)
    ours = county.do(object_to_run, run.run_id, "a fee of ours is missing", HOST, who=MANAGER)
    firms = county.do(object_to_run, run.run_id, "this test was never done", who=CUSTOMER)
    officers = county.do(object_to_run, run.run_id, "the grade is of last year", who=SECOND_OFFICER)
    assert [ours.objection_no, firms.objection_no, officers.objection_no] == [1, 2, 3]
    assert refused(county, object_to_run, run.run_id, " ", who=CUSTOMER).code == "reason_missing"
    assert refused(county, object_to_run, run.run_id, "who?", "h99", who=CUSTOMER).status == 404
    assert refused(county, object_to_run, run.run_id, "no", who=AUDITOR).status == 403

    county.later(8)
    assert refused(county, object_to_run, run.run_id, "too late", who=MANAGER).code == "notice_over"
    paper = county.do(object_to_run, run.run_id, "a letter of the last day", who=OFFICER)
    error = refused(county, approve_run, *read, who=SECOND_OFFICER)
    assert (error.code, len(error.facts["objections"])) == ("objections_open", 4)

    no = ObjectionOutcome.REJECTED
    assert refused(county, answer_objection, ours.objection_id, no, "no", who=MANAGER).status == 403
    assert refused(county, answer_objection, ours.objection_id, no, " ").code == "answer_missing"
    assert refused(county, answer_objection, "NONE", no, "no").status == 404
    assert refused(county, answer_objection, officers.objection_id, no, "no", who=SECOND_OFFICER).code == "same_person"
    for objection in (ours, firms, officers):
        county.do(answer_objection, objection.objection_id, no, "looked at, nothing found", who=OFFICER)
    assert refused(county, approve_run, *read, who=SECOND_OFFICER).code == "objections_open"
    county.do(answer_objection, paper.objection_id, no, "it is of another year", who=SECOND_OFFICER)
    assert refused(county, answer_objection, ours.objection_id, no, "again").code == "objection_answered"
    county.do(approve_run, *read, who=SECOND_OFFICER)
    assert refused(county, object_to_run, run.run_id, "still", who=OFFICER).code == "not_announced"
    assert refused(county, answer_objection, ours.objection_id, no, "again").code == "not_announced"

    def seen(who) -> list[int]:
        return [one.objection.objection_no for one in county.do(objections_seen, run.run_id, who=who)]

    assert seen(FINANCE) == [1, 2, 3, 4]
    assert (seen(CUSTOMER), seen(RIVAL)) == ([2], [])


def test_an_upheld_objection_leaves_only_the_withdrawal(county: RewardCounty) -> None:
    county.paid()
    run = county.prepare()
    county.notice(run)
    objection = county.do(object_to_run, run.run_id, "that was our own sample", who=MANAGER)
    county.do(answer_objection, objection.objection_id, ObjectionOutcome.UPHELD, "so it was", who=OFFICER)
    county.later(8)
    error = refused(county, approve_run, run.run_id, run.result_sha256, who=SECOND_OFFICER)
    assert (error.code, error.facts["objections"]) == ("objection_upheld", [objection.objection_id])
    # The database agrees, whoever writes.
    with pytest.raises(OutOfOrder, match="reward_step"):
        insert_step(county.database, run, 3, "noticed", "approve", "approved", at=county.now)
    county.do(withdraw_run, run.run_id, "an objection was right", who=OFFICER)


def insert_step(
    database: Database, run: RewardRun, no: int, before: str, action: str, after: str, *, by: str = "officer-2", **given
) -> None:
    """Write a step as an administrator of the database would."""
    row = {
        "run_id": run.run_id,
        "step_no": no,
        "prev_no": no - 1 if no > 1 else None,
        "from_stage": before,
        "action": action,
        "to_stage": after,
        "reason": "because",
        "notice_until": None,
        "prepared_by": run.prepared_by,
        "done_by": by,
        "done_at": given.pop("at", run.prepared_at),
    }
    with database.write() as session:
        session.add(RewardStep(**(row | given)))


def test_the_database_keeps_the_order_and_the_two_people_whoever_writes(county: RewardCounty) -> None:
    county.paid()
    run = county.prepare()
    data = county.database

    def locks() -> None:
        with data.write() as session:
            session.execute(text("UPDATE reward_run SET state = 'locked', closed_by = 'officer-2', closed_at = 1"))

    for match, no, before, action, after, given in (
        ("two_people", 1, "prepared", "check", "checked", {"by": "officer"}),
        ("step_known", 1, "prepared", "lock", "locked", {}),
        ("step_follows", 1, "checked", "withdraw", "withdrawn", {}),
        ("step_follows", 2, "prepared", "check", "checked", {"prev_no": None}),
        ("says_why", 1, "prepared", "withdraw", "withdrawn", {"reason": ""}),
        ("notice_has_an_end", 1, "prepared", "check", "checked", {"notice_until": county.now}),
    ):
        with pytest.raises(IntegrityError, match=match):
            insert_step(data, run, no, before, action, after, **given)
    # The preparer's name is the run's, and a step begins where the one before it ended.
    with pytest.raises(StillReferenced):
        insert_step(data, run, 1, "prepared", "check", "checked", by="officer", prepared_by="officer-2")
    with pytest.raises(StillReferenced):
        insert_step(data, run, 2, "checked", "withdraw", "withdrawn")
    with pytest.raises(OutOfOrder, match="reward_step"):
        insert_step(data, run, 1, "locked", "pay", "paid")
    with pytest.raises(OutOfOrder, match="reward_run"):
        locks()
    with pytest.raises(OutOfOrder, match="reward_objection"):
        objection(county, run, new_ulid())

    county.notice(run)
    with pytest.raises(StillReferenced):
        insert_step(data, run, 3, "approved", "lock", "locked")
    with pytest.raises(OutOfOrder, match="reward_step"):  # the notice goes on
        insert_step(data, run, 3, "noticed", "approve", "approved", at=county.now)
    key = new_ulid()
    objection(county, run, key)
    county.later(8)
    with pytest.raises(OutOfOrder, match="reward_step"):  # nobody has answered
        insert_step(data, run, 3, "noticed", "approve", "approved", at=county.now)
    with pytest.raises(IntegrityError, match="two_people"):
        answer(county, key, raised_by="officer", answered_by="officer")
    with pytest.raises(StillReferenced):
        answer(county, key, raised_by="officer-2", answered_by="officer")
    answer(county, key, raised_by="officer", answered_by="officer-2")
    with pytest.raises(OutOfOrder, match="reward_run"):
        locks()
    county.do(approve_run, run.run_id, run.result_sha256, who=SECOND_OFFICER)
    with pytest.raises(OutOfOrder, match="reward_payment"):
        payment(county, run, 1, fen=1)

    county.do(lock_run, run.run_id, run.result_sha256, who=SECOND_OFFICER)
    with pytest.raises(OutOfOrder, match="reward_step"):
        insert_step(data, run, 5, "locked", "check", "checked")
    insert_step(data, run, 5, "locked", "pay-part", "locked")
    with pytest.raises(OutOfOrder, match="reward_payment"):
        payment(county, run, 5, fen=4_001)
    payment(county, run, 5, fen=3_999)
    for fen in (2, -4_000):
        with pytest.raises(OutOfOrder, match="reward_payment"):
            payment(county, run, 5, fen=fen, no=2, ref="B-2")
    for statement in (
        "UPDATE reward_step SET reason = 'other'",
        "DELETE FROM reward_step",
        "UPDATE reward_objection SET objection = 'nothing'",
        "DELETE FROM reward_objection",
        "DELETE FROM reward_objection_answer",
        "UPDATE reward_payment SET amount_fen = 1",
        "DELETE FROM reward_payment",
    ):
        with pytest.raises(AppendOnly), data.write() as session:
            session.execute(text(statement))
    with data.read() as session:
        assert len(session.execute(select(RewardObjection)).all()) == 1


def objection(county: RewardCounty, run: RewardRun, key: str) -> None:
    row = {"objection_no": 1, "host_id": None, "org_id": "org-h01", "objection": "no", "raised_by": "officer"}
    with county.database.write() as session:
        session.add(RewardObjection(objection_id=key, run_id=run.run_id, raised_at=county.now, **row))


def answer(county: RewardCounty, key: str, *, raised_by: str, answered_by: str) -> None:
    people = {"raised_by": raised_by, "answered_by": answered_by}
    with county.database.write() as session:
        session.add(
            RewardObjectionAnswer(objection_id=key, outcome="rejected", answer="no", answered_at=county.now, **people)
        )


def payment(county: RewardCounty, run: RewardRun, step: int, *, fen: int, no: int = 1, ref: str = "B-1") -> None:
    row = {"host_id": HOST, "payment_no": no, "step_no": step, "amount_fen": fen, "external_ref": ref}
    with county.database.write() as session:
        session.add(
            RewardPayment(run_id=run.run_id, paid_at=county.now, recorded_by="finance", recorded_at=county.now, **row)
        )
