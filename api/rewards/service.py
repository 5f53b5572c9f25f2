"""Prepare reward runs. Decides and writes, never commits. What happens to a run afterwards is in steps.py.

A run is a snapshot: every charge of the period with one reason, every host with what it earns, hashes over both, and
the watermark up to which facts were known. It counts as granted once it has been locked; what comes later comes out in
the next run of the same period. Locked and withdrawn runs never change.
"""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.errors import conflict, invalid, not_found
from api.rewards import repository
from api.rewards.access import PREPARERS, require_person
from api.rewards.computing import (
    HostResult,
    Situation,
    full_fen,
    host_results,
    result_document,
    run_head,
)
from api.rewards.judging import judged_batches
from api.rewards.policies import PolicyInForce, policy_for_period, policy_version, take_policy
from api.rewards.repository import RunLine, shares_of_first_grant
from api.rewards.rules import ENGINE_VERSION
from api.rewards.snapshot import InputSums, snapshot
from api.rewards.steps import run_audited
from api.work import Work
from store.alerts import raise_alert
from store.canonical import sha256_hex
from store.money import yuan
from store.periods import PeriodKind, format_period, month_bounds, months_of_period
from store.tables.rewards import RewardResult, RewardRun, RunState
from wire.clock import to_ms
from wire.ids import new_ulid

BUDGET_SHORT = "reward_budget_short"


def prepare_run(work: Work, policy_id: str, kind: PeriodKind, first: int) -> RewardRun:
    """Compute what a policy grants for a period (its kind and first month, yyyymm) out of all that is known now.

    Interim runs of a period that is not over are cumulative. Refused: 403, 404, 409 `no_policy_in_force`,
    `run_pending` (one waits for its lock), `period_not_begun`, `assessment_missing` (the policy has coefficients and a
    host with eligible fees has no grade), 422 `bad_period`, `other_period_kind`.
    """
    require_person(work, PREPARERS, "编制奖励核算", "prepare reward runs")
    line = _line(policy_id, kind, first)
    take_policy(work.session, policy_id)
    _check_may_prepare(work, line)
    policy = _policy_of(work.session, line)
    run_no = _next_run_no(work.session, line)
    judged = judged_batches(work.session, months_of_period(kind, first), policy.body, ENGINE_VERSION, work.now)
    with snapshot(judged) as taken:
        situation = _situation(work, line, run_no, taken.sums.bases)
        _require_grades(policy, situation)
        results = host_results(situation, policy.body, ENGINE_VERSION)
        run = _new_run(work, line, run_no, policy, taken.sums, results)
        work.session.add(run)
        work.session.flush()
        taken.store(work.session, run.run_id)
        work.session.add_all(RewardResult(run_id=run.run_id, **vars(one)) for one in results)
        work.session.flush()
    _alert_if_short(work, run, policy, results)
    work.audit("reward_run.prepared", f"reward_run:{run.run_id}", host_id=None, after=run_audited(run))
    return run


def find_run(session: Session, run_id: str) -> RewardRun:
    """Return a run. Refused 404."""
    run = session.get(RewardRun, run_id)
    if run is None:
        raise not_found("奖励核算", "reward run", run_id)
    return run


def _situation(work: Work, line: RunLine, run_no: int, bases: dict[str, int]) -> Situation:
    session = work.session
    granted = repository.granted_before(session, line, run_no)
    owed = repository.owed_by_host(session)
    names = repository.host_names(session, {*bases, *granted, *owed})
    grades = repository.grades(session, line.first // 100, work.now)
    return Situation(bases, grades, granted, owed, names, shares_of_first_grant(session, line, run_no))


def _line(policy_id: str, kind: PeriodKind, first: int) -> RunLine:
    try:
        months_of_period(kind, first)
    except ValueError as error:
        raise invalid(
            "bad_period",
            f"{first} 不是{kind.value}期间的首月;请写成 2026、2026-Q4 或 2026-11。",
            f"{error}; write 2026, 2026-Q4 or 2026-11.",
            field="period",
        ) from None
    return RunLine(policy_id, kind, first)


def _policy_of(session: Session, line: RunLine) -> PolicyInForce:
    """What was granted once stays under the policy it was granted by."""
    locked = repository.newest_run(session, line, RunState.LOCKED)
    if locked is not None:
        return policy_version(session, line.policy_id, locked.policy_version)
    return policy_for_period(session, line.policy_id, line.kind, line.first)


def _check_may_prepare(work: Work, line: RunLine) -> None:
    if work.now < month_bounds(line.first)[0]:
        raise conflict(
            "period_not_begun",
            "该期间尚未开始;请选择已开始的期间。",
            "This period has not begun; choose one that has.",
            period=format_period(line.kind, line.first),
        )
    pending = repository.newest_run(work.session, line, RunState.PREPARED)
    if pending is not None:
        raise conflict(
            "run_pending",
            f"核算 {pending.run_id} 尚未办结;请先锁定或撤回。",
            f"Run {pending.run_id} is not closed; lock or withdraw it first.",
            run_id=pending.run_id,
        )


def _next_run_no(session: Session, line: RunLine) -> int:
    last = session.execute(select(func.max(RewardRun.run_no)).where(line.matches())).scalar_one()
    return 1 if last is None else int(last) + 1


def _require_grades(policy: PolicyInForce, situation: Situation) -> None:
    if policy.body.coefficients is None:
        return
    missing = sorted(host for host, fen in situation.bases.items() if fen and host not in situation.grades)
    if missing:
        raise conflict(
            "assessment_missing",
            f"以下依托单位尚无本年度考核等级:{'、'.join(missing)};请先登记考核结果。",
            f"These hosts have no grade for the year: {', '.join(missing)}; record their assessments first.",
            hosts=missing,
        )


def _new_run(
    work: Work, line: RunLine, run_no: int, policy: PolicyInForce, sums: InputSums, results: list[HostResult]
) -> RewardRun:
    run = RewardRun(
        run_id=new_ulid(),
        policy_id=line.policy_id,
        policy_version=policy.version,
        period_kind=line.kind.value,
        period_first=line.first,
        run_no=run_no,
        state=RunState.PREPARED.value,
        engine_version=ENGINE_VERSION,
        watermark=work.now,
        charge_count=sums.count,
        base_fen=sums.base_fen,
        payable_fen=sum(one.payable_fen for one in results),
        input_sha256=sums.sha256,
        prepared_by=work.actor.person_id,
        prepared_at=work.now,
        close_reason="",
    )
    run.result_sha256 = sha256_hex(result_document(run_head(run, policy.body_sha256), results))
    return run


def _alert_if_short(work: Work, run: RewardRun, policy: PolicyInForce, results: list[HostResult]) -> None:
    budget, wanted = policy.body.budget_fen, sum(full_fen(one) for one in results)
    if budget is None or wanted <= budget:
        return
    period = format_period(PeriodKind(run.period_kind), run.period_first)
    raise_alert(
        work.session,
        BUDGET_SHORT,
        f"{run.policy_id}:{period}",
        f"rewards come to {yuan(wanted)} yuan, the budget is {yuan(budget)}",
        to_ms(work.now),
    )
