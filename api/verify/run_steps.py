"""The way of reward runs walked again: every step from where the one before ended, by whom and when it may be taken,
and the money between nothing and what was granted. What the database refuses by itself is looked at as well: whoever
can switch its guards off is whom this is for."""

from collections.abc import Iterator
from itertools import groupby, pairwise

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from api.rewards.policies import PolicyInForce
from api.rewards.states import TRANSITIONS, notice_end
from api.rewards.steps_repository import objections_of, steps_of
from api.verify.finding import Check, Finding
from api.verify.runs import over_runs
from store.tables.reward_steps import ObjectionOutcome, RewardPayment, RewardStep, RunAction, RunStage
from store.tables.rewards import RewardMark, RewardMarkDecision, RewardResult, RewardRun, RunState

_SECOND_PERSON = {step.action.value for step in TRANSITIONS if step.second_person}
_KNOWN = {(step.before.value, step.action.value, step.after.value) for step in TRANSITIONS}
_MONEY = {RunAction.PAY_PART.value, RunAction.PAY.value, RunAction.RETURN.value}
_STATE = {RunStage.LOCKED.value: RunState.LOCKED, RunStage.PAID.value: RunState.LOCKED} | {
    RunStage.WITHDRAWN.value: RunState.WITHDRAWN
}


def run_steps(run_id: str | None = None) -> Check:
    """Return the check that each run came to where it stands by the steps that are kept of it."""
    return over_runs(run_id, _steps_differ)


def run_payments(run_id: str | None = None) -> Check:
    """Return the check that what was paid of each run was never below nothing nor above what it grants a host."""
    return over_runs(run_id, _payments_differ)


def _steps_differ(session: Session, run: RewardRun, policy: PolicyInForce) -> Finding | None:
    steps = steps_of(session, run.run_id)
    if not steps:  # not begun, or closed before steps were kept
        return None
    for step in steps:
        wrong = _alone(step, run)
        if wrong:
            return _of_step(step, wrong)
    if steps[0].step_no != 1 or steps[0].from_stage not in (RunStage.PREPARED.value, RunStage.LOCKED.value):
        return _of_step(steps[0], "there is none before it")
    for before, step in pairwise(steps):
        if (step.step_no, step.prev_no, step.from_stage) != (before.step_no + 1, before.step_no, before.to_stage):
            return _of_step(step, f"it does not begin where step {before.step_no} ended ({before.to_stage})")
        if step.done_at < before.done_at:
            return _of_step(step, f"it is dated before step {before.step_no}")
    if run.state != _STATE.get(steps[-1].to_stage, RunState.PREPARED).value:
        return Finding("reward_run", run.run_id, f"it is {run.state}, its last step left it {steps[-1].to_stage}")
    return _notice_differs(session, run, policy, {step.action: step for step in steps}) or _close_differs(run, steps)


def _alone(step: RewardStep, run: RewardRun) -> str:
    """What is wrong with a step whatever stands before it; "" for nothing."""
    if (step.from_stage, step.action, step.to_stage) not in _KNOWN:
        return f"{step.action} does not lead from {step.from_stage} to {step.to_stage}"
    if step.prepared_by != run.prepared_by:
        return f"it says that {step.prepared_by} prepared the run, the run says {run.prepared_by}"
    if step.action in _SECOND_PERSON and step.done_by == run.prepared_by:
        return f"{step.done_by} prepared the run and took it"
    if step.done_at < run.prepared_at:
        return "it is dated before the run"
    return ""


def _notice_differs(
    session: Session, run: RewardRun, policy: PolicyInForce, by_action: dict[str, RewardStep]
) -> Finding | None:
    publish, approve = by_action.get(RunAction.PUBLISH.value), by_action.get(RunAction.APPROVE.value)
    if publish is None:
        return None
    until = notice_end(publish.done_at, policy.body.notice_days)
    if publish.notice_until != until:
        return _of_step(publish, f"the notice ends {publish.notice_until}, by the policy it ends {until}")
    if approve is None:
        return None
    if approve.done_at < until:
        return _of_step(approve, f"the notice went on until {until}")
    for seen in objections_of(session, run.run_id):
        answer = seen.answer
        if answer is None or answer.outcome != ObjectionOutcome.REJECTED.value or answer.answered_at > approve.done_at:
            return _of_step(approve, f"objection {seen.objection.objection_id} stood in its way")
        if answer.answered_by == seen.objection.raised_by:
            key = seen.objection.objection_id
            return Finding("reward_objection_answer", key, f"{answer.answered_by} raised it and answered it")
    return None


def _close_differs(run: RewardRun, steps: list[RewardStep]) -> Finding | None:
    for step in steps:
        if step.action in (RunAction.LOCK.value, RunAction.WITHDRAW.value) and (step.done_by, step.done_at) != (
            run.closed_by,
            run.closed_at,
        ):
            return Finding("reward_run", run.run_id, f"closed by {run.closed_by}, its step says {step.done_by}")
    return None


def _payments_differ(session: Session, run: RewardRun, policy: PolicyInForce) -> Finding | None:
    results = select(RewardResult.host_id, RewardResult.payable_fen).where(RewardResult.run_id == run.run_id)
    granted: dict[str, int] = {row.host_id: row.payable_fen for row in session.execute(results)}
    rows = session.execute(
        select(RewardPayment, RewardStep)
        .outerjoin(
            RewardStep, (RewardStep.run_id == RewardPayment.run_id) & (RewardStep.step_no == RewardPayment.step_no)
        )
        .where(RewardPayment.run_id == run.run_id)
        .order_by(RewardPayment.host_id, RewardPayment.step_no, RewardPayment.payment_no)
    ).all()
    paid: dict[str, int] = {}
    for host, of_host in groupby(rows, key=lambda row: row[0].host_id):
        total = 0
        for payment, step in of_host:
            total += payment.amount_fen
            key = f"{run.run_id}/{host}/{payment.payment_no}"
            if run.state != RunState.LOCKED.value or not 0 <= total <= granted.get(host, 0):
                said = f"with it {total} fen are paid of {granted.get(host, 0)}; the run is {run.state}"
                return Finding("reward_payment", key, said)
            if (
                step is None
                or step.action not in _MONEY
                or (step.action == RunAction.RETURN) != (payment.amount_fen < 0)
            ):
                return Finding("reward_payment", key, "no step of the run moved this money")
        paid[host] = total
    last = next(iter(reversed(steps_of(session, run.run_id))), None)
    if last is not None and last.to_stage == RunStage.PAID.value:
        for host, fen in sorted(granted.items()):
            if paid.get(host, 0) != fen:
                return _of_step(last, f"{host} was paid {paid.get(host, 0)} of {fen} fen")
    return None


def _of_step(step: RewardStep, what: str) -> Finding:
    return Finding("reward_step", f"{step.run_id}/{step.step_no}", what)


def marks(session: Session) -> Iterator[Finding]:
    """No mark of a booking was decided by who prepared it, and each withdrawal is of a mark of the same booking."""
    later = aliased(RewardMark)
    rows = session.execute(
        select(RewardMark, RewardMarkDecision, later)
        .outerjoin(RewardMarkDecision, RewardMarkDecision.mark_id == RewardMark.mark_id)
        .outerjoin(later, later.mark_id == RewardMark.withdraws)
        .order_by(RewardMark.mark_id)
    )
    for mark, decision, withdrawn in rows:
        if decision is not None and decision.decided_by in (mark.prepared_by, decision.prepared_by):
            yield Finding("reward_mark_decision", mark.mark_id, "it is not by a second person")
        if mark.withdraws is not None and (
            withdrawn is None or (withdrawn.booking_id, withdrawn.code) != (mark.booking_id, mark.code)
        ):
            yield Finding("reward_mark", mark.mark_id, f"it withdraws {mark.withdraws}, which is no such mark")
