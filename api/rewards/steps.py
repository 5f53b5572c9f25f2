"""The steps of a reward run between preparation and lock, and its withdrawal. Decides and writes, never commits.

`states` says who may take which step; here is what else has to hold. Every step is an append-only row and an event of
the county's audit chain. The lock is what makes a run count; from then on only money moves (payments.py).
"""

from datetime import datetime

from sqlalchemy import func, select

from api.errors import conflict
from api.rewards.access import require_person
from api.rewards.lock_checks import refuse_if_damaged, refuse_if_outdated, refuse_if_rewarded_elsewhere
from api.rewards.policies import policy_version
from api.rewards.states import Transition, next_step, notice_end, who_may
from api.rewards.steps_repository import notice_until_of, objections_of, stage_of, take_run, upheld
from api.schemas import rfc3339
from api.work import Work
from store.periods import PeriodKind, format_period
from store.tables.reward_steps import RewardStep, RunAction
from store.tables.rewards import RewardPolicy, RewardRun, RunState


def check_run(work: Work, run_id: str, result_sha256: str) -> RewardRun:
    """Say as a second person that a prepared run was gone through. `result_sha256` names the result that was read.

    Refused: 403, 404, 409 `same_person`, `not_possible_now`, `other_result`, `run_damaged`.
    """
    run = _take(work, run_id, RunAction.CHECK, "复核奖励核算", "check reward runs")
    record_step(work, run, RunAction.CHECK)
    _require_result(run, result_sha256)
    refuse_if_damaged(work.session, run)
    return run


def publish_notice(work: Work, run_id: str) -> RewardRun:
    """Announce a checked run: for the whole days that its policy says, everybody may read it and object.

    Refused: 403, 404, 409 `not_possible_now`, `run_outdated`.
    """
    run = _take(work, run_id, RunAction.PUBLISH, "公示奖励核算", "announce reward runs")
    days = policy_version(work.session, run.policy_id, run.policy_version).body.notice_days
    record_step(work, run, RunAction.PUBLISH, notice_until=notice_end(work.now, days))
    refuse_if_outdated(work.session, run)
    return run


def approve_run(work: Work, run_id: str, result_sha256: str) -> RewardRun:
    """Approve an announced run as its second person, once the notice is over and every objection was rejected.

    Refused: 403, 404, 409 `same_person`, `not_possible_now`, `other_result`, `notice_not_over`, `objections_open`,
    `objection_upheld` (only withdrawal is left), `run_outdated`.
    """
    run = _take(work, run_id, RunAction.APPROVE, "批准奖励核算", "approve reward runs")
    permitted(work, run, RunAction.APPROVE)
    _refuse_unless_announced(work, run)
    record_step(work, run, RunAction.APPROVE)
    _require_result(run, result_sha256)
    refuse_if_outdated(work.session, run)
    return run


def lock_run(work: Work, run_id: str, result_sha256: str) -> RewardRun:
    """Lock an approved run as its second person: from now on it counts as granted, and nothing of it changes.

    Refused: 403, 404, 409 `same_person`, `not_possible_now`, `other_result`, `run_damaged` (its rows are not what was
    hashed), `run_outdated` (another run was locked since), `rewarded_elsewhere` (a fee counts in another policy's or
    period's locked run).
    """
    require_person(work, who_may(RunAction.LOCK), "锁定奖励核算", "lock reward runs")
    # All policies: what a host owes is carried between them, and no fee may count in two of them.
    work.session.execute(select(RewardPolicy.policy_id).order_by(RewardPolicy.policy_id).with_for_update()).all()
    run = take_run(work.session, run_id)
    record_step(work, run, RunAction.LOCK)
    _require_result(run, result_sha256)
    refuse_if_damaged(work.session, run)
    refuse_if_outdated(work.session, run)
    refuse_if_rewarded_elsewhere(work.session, run)
    _close(work, run, RunState.LOCKED, "")
    return run


def withdraw_run(work: Work, run_id: str, reason: str) -> RewardRun:
    """Take a run back before its lock; it never counts. Refused: 403, 404, 409 `not_possible_now`, 422
    `reason_missing`."""
    run = _take(work, run_id, RunAction.WITHDRAW, "撤回奖励核算", "withdraw reward runs")
    record_step(work, run, RunAction.WITHDRAW, reason=reason)
    _close(work, run, RunState.WITHDRAWN, reason.strip())
    return run


def permitted(work: Work, run: RewardRun, action: RunAction, reason: str = "") -> Transition:
    """Return the step that `action` takes from where the run stands. The caller holds it. Refused as `next_step`."""
    is_preparer = work.actor.person_id == run.prepared_by
    return next_step(stage_of(work.session, run), action, work.actor.roles, is_preparer=is_preparer, reason=reason)


def record_step(
    work: Work, run: RewardRun, action: RunAction, *, reason: str = "", notice_until: datetime | None = None
) -> RewardStep:
    """Append a step to a run that the caller holds. Refused as `next_step`."""
    step = permitted(work, run, action, reason)
    last = work.session.execute(
        select(func.max(RewardStep.step_no)).where(RewardStep.run_id == run.run_id)
    ).scalar_one_or_none()
    row = RewardStep(
        run_id=run.run_id,
        step_no=1 if last is None else last + 1,
        prev_no=last,
        from_stage=step.before.value,
        action=step.action.value,
        to_stage=step.after.value,
        reason=reason.strip(),
        notice_until=notice_until,
        prepared_by=run.prepared_by,
        done_by=work.actor.person_id,
        done_at=work.now,
    )
    work.session.add(row)
    work.session.flush()
    after = run_audited(run) | {"step": row.step_no, "reason": row.reason}
    if notice_until is not None:
        after["notice_until"] = rfc3339(notice_until)
    work.audit(step.event, f"reward_run:{run.run_id}", host_id=None, after=after)
    return row


def run_audited(run: RewardRun) -> dict[str, object]:
    """Return what an audit event says of a run."""
    return {
        "policy": f"{run.policy_id}/{run.policy_version}",
        "period": format_period(PeriodKind(run.period_kind), run.period_first),
        "run_no": run.run_no,
        "payable_fen": run.payable_fen,
        "input_sha256": run.input_sha256,
        "result_sha256": run.result_sha256,
    }


def _take(work: Work, run_id: str, action: RunAction, what_zh: str, what_en: str) -> RewardRun:
    require_person(work, who_may(action), what_zh, what_en)
    return take_run(work.session, run_id)


def _refuse_unless_announced(work: Work, run: RewardRun) -> None:
    """Raise 409 while the notice goes on or an objection stands in the way of the approval."""
    notice_until = notice_until_of(work.session, run.run_id)
    if notice_until is not None and work.now < notice_until:
        until = rfc3339(notice_until)
        raise conflict(
            "notice_not_over",
            f"公示期至 {until};请在此之后批准。",
            f"The public notice goes on until {until}; approve the run after that.",
            notice_until=until,
        )
    objections = objections_of(work.session, run.run_id)
    waiting = [seen.objection.objection_id for seen in objections if seen.answer is None]
    if waiting:
        raise conflict(
            "objections_open",
            f"还有 {len(waiting)} 条异议未答复;请逐条答复后再批准。",
            f"{len(waiting)} objections have no answer; answer each of them first.",
            objections=waiting,
        )
    agreed = [seen.objection.objection_id for seen in objections if upheld(seen)]
    if agreed:
        raise conflict(
            "objection_upheld",
            "有异议成立;请撤回本次核算,更正后重新编制。",
            "An objection was upheld; withdraw this run, put right what was wrong, and prepare it again.",
            objections=agreed,
        )


def _require_result(run: RewardRun, result_sha256: str) -> None:
    if result_sha256 != run.result_sha256:
        raise conflict(
            "other_result",
            "您所看的结果与该次核算不一致;请重新查看。",
            "What you sign is not the result of this run; look at it again.",
            result_sha256=run.result_sha256,
        )


def _close(work: Work, run: RewardRun, state: RunState, reason: str) -> None:
    run.state, run.close_reason = state.value, reason
    run.closed_by, run.closed_at = work.actor.person_id, work.now
    work.session.flush()
