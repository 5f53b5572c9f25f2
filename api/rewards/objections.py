"""Objections to a publicly announced run, and their answers. Decides and writes, never commits.

Any host, firm or officer may object while the notice goes on. Each objection gets one answer, by an officer who did not
raise it; one that is upheld leaves the run only the withdrawal. Rows are append-only.
"""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.errors import conflict, invalid, not_found
from api.rewards.access import PREPARERS, require_person
from api.rewards.steps_repository import ObjectionSeen, notice_until_of, objections_of, stage_of, take_run
from api.schemas import rfc3339
from api.work import Work
from store.tables.accounts import Role
from store.tables.reward_steps import ObjectionOutcome, RewardObjection, RewardObjectionAnswer, RunStage
from store.tables.rewards import RewardResult
from store.upsert import insert_if_absent
from wire.ids import new_ulid

OBJECTORS = (Role.SME, Role.LAB_MANAGER, Role.COUNTY_OFFICER, Role.FINANCE)
ANSWERERS = PREPARERS


def object_to_run(work: Work, run_id: str, objection: str, host_id: str | None = None) -> RewardObjection:
    """Object to a run that is announced, or to what one host gets by it.

    An officer may still record after the end of the notice what came in on paper, until the run is approved.
    Refused: 403, 404 (also for a host that the run does not name), 409 `not_announced`, `notice_over`, 422
    `reason_missing`.
    """
    require_person(work, OBJECTORS, "提出异议", "object")
    if not objection.strip():
        raise invalid("reason_missing", "请写明异议理由。", "Say what you object to.", field="objection")
    run = take_run(work.session, run_id)
    if stage_of(work.session, run) is not RunStage.NOTICED:
        raise conflict(
            "not_announced",
            "该核算不在公示期内,不能提出异议;请联系县科技局。",
            "This run is not publicly announced now; ask the county office.",
            run_id=run_id,
        )
    until = notice_until_of(work.session, run_id)
    if until is not None and work.now >= until and not work.actor.has(Role.COUNTY_OFFICER):
        raise conflict(
            "notice_over",
            f"公示期已于 {rfc3339(until)} 结束;请联系县科技局。",
            f"Ask the county office; the public notice ended at {rfc3339(until)}.",
            notice_until=rfc3339(until),
        )
    if host_id is not None and work.session.get(RewardResult, (run_id, host_id)) is None:
        raise not_found("该核算中的依托单位", "host in this run", host_id)
    last = work.session.execute(
        select(func.coalesce(func.max(RewardObjection.objection_no), 0)).where(RewardObjection.run_id == run_id)
    ).scalar_one()
    row = RewardObjection(
        objection_id=new_ulid(),
        run_id=run_id,
        objection_no=int(last) + 1,
        host_id=host_id,
        org_id=work.actor.org_id,
        objection=objection.strip(),
        raised_by=work.actor.person_id,
        raised_at=work.now,
    )
    work.session.add(row)
    work.session.flush()
    work.audit(
        "reward_objection.raised",
        f"reward_objection:{row.objection_id}",
        host_id=None,
        after={"run_id": run_id, "host_id": host_id, "org_id": row.org_id, "objection": row.objection},
    )
    return row


def answer_objection(work: Work, objection_id: str, outcome: ObjectionOutcome, answer: str) -> RewardObjectionAnswer:
    """Answer an objection, once, as an officer who did not raise it.

    Refused: 403, 404, 409 `same_person`, `objection_answered`, `not_announced` (the run went on), 422 `answer_missing`.
    """
    require_person(work, ANSWERERS, "答复异议", "answer objections")
    objection = work.session.get(RewardObjection, objection_id)
    if objection is None:
        raise not_found("异议", "objection", objection_id)
    if not answer.strip():
        raise invalid("answer_missing", "请写明答复内容。", "Write down the answer.", field="answer")
    if work.actor.person_id == objection.raised_by:
        raise conflict(
            "same_person",
            "提出异议的人不能自行答复;请由另一位人员答复。",
            "Whoever raised an objection does not answer it; ask a colleague.",
            raised_by=objection.raised_by,
        )
    run = take_run(work.session, objection.run_id)
    row = {
        "objection_id": objection_id,
        "outcome": outcome.value,
        "answer": answer.strip(),
        "raised_by": objection.raised_by,
        "answered_by": work.actor.person_id,
        "answered_at": work.now,
    }
    if stage_of(work.session, run) is not RunStage.NOTICED:
        raise conflict(
            "not_announced",
            "该核算已不在公示阶段,不能再答复异议;请刷新查看核算状态。",
            "The run has gone on; read its state again.",
            run_id=run.run_id,
        )
    if not insert_if_absent(work.session, RewardObjectionAnswer, row):
        raise conflict(
            "objection_answered",
            "该异议已经答复;请刷新查看。",
            "This objection has its answer; read it again.",
            objection_id=objection_id,
        )
    work.audit(
        "reward_objection.answered",
        f"reward_objection:{objection_id}",
        host_id=None,
        after={"run_id": run.run_id, "outcome": outcome.value, "answer": row["answer"]},
    )
    return work.session.get_one(RewardObjectionAnswer, objection_id)


def objections_seen(work: Work, run_id: str) -> list[ObjectionSeen]:
    """Return the objections to a run that the actor may read: the county all, anybody else their organisation's."""
    seen = objections_of(work.session, run_id)
    if work.actor.has(Role.COUNTY_OFFICER, Role.FINANCE, Role.AUDITOR, Role.ADMIN):
        return seen
    return [one for one in seen if one.objection.org_id == work.actor.org_id]


def find_objection(session: Session, objection_id: str) -> ObjectionSeen:
    """Return an objection with its answer. Refused 404."""
    objection = session.get(RewardObjection, objection_id)
    if objection is None:
        raise not_found("异议", "objection", objection_id)
    return ObjectionSeen(objection, session.get(RewardObjectionAnswer, objection_id))
