"""What is shown of runs: everything to the county, its own to a host, what is announced to everybody. Reads only."""

from datetime import timedelta

from sqlalchemy import ColumnElement, exists, or_, select
from sqlalchemy.orm import Session

from api.charging.access import SEE_ALL, require_host_role
from api.errors import not_found
from api.pagination import PageAsked, paginate
from api.rewards.adjustments import change_sums, stands_on
from api.rewards.payments import days_to_pay
from api.rewards.policies import policy_version
from api.rewards.repository import stored_results
from api.rewards.rules import Reason
from api.rewards.schemas import InputAnswer, ResultAnswer, RunAnswer, run_fields
from api.rewards.schemas_steps import (
    ChangeSumAnswer,
    EarlierRun,
    HostPaid,
    HostRewardAnswer,
    MoneyAnswer,
    NoticeAnswer,
    NoticeHost,
    ObjectionAnswer,
    PaymentAnswer,
    RunDetail,
    StepAnswer,
)
from api.rewards.states import possible_actions
from api.rewards.steps_repository import (
    approved_at,
    money_of,
    notice_until_of,
    objections_of,
    payments_of,
    stage_of,
    stages_of,
    steps_of,
)
from api.work import Work
from store.periods import PeriodKind, format_period
from store.tables.reward_steps import RewardStep, RunAction
from store.tables.rewards import RewardInput, RewardResult, RewardRun, RunState

_NEWEST = (RewardRun.prepared_at, RewardRun.run_id)


def runs_page(
    session: Session, page: PageAsked, policy_id: str | None = None, state: RunState | None = None
) -> tuple[list[RunAnswer], str | None]:
    """Return a page of runs, newest first, each with how far it has come, and the cursor of the next one."""
    query = select(RewardRun)
    if policy_id is not None:
        query = query.where(RewardRun.policy_id == policy_id)
    if state is not None:
        query = query.where(RewardRun.state == state.value)
    rows, cursor = paginate(session, query, _NEWEST, page, descending=True)
    stages = stages_of(session, rows)
    return [RunAnswer.of(row, stages[row.run_id]) for row in rows], cursor


def run_lines(
    session: Session, run: RewardRun, page: PageAsked, host_id: str | None = None, reason: Reason | None = None
) -> tuple[list[InputAnswer], str | None]:
    """Return a page of the charges of a run, each with its one reason, and the cursor of the next one."""
    query = select(RewardInput).where(RewardInput.run_id == run.run_id)
    if host_id is not None:
        query = query.where(RewardInput.host_id == host_id)
    if reason is not None:
        query = query.where(RewardInput.reason == reason.value)
    rows, cursor = paginate(session, query, (RewardInput.charge_id,), page)
    return [InputAnswer.model_validate(row) for row in rows], cursor


def run_detail(work: Work, run: RewardRun) -> RunDetail:
    """Return a run with its results, steps, objections, money, and what it stands on."""
    session = work.session
    stage = stage_of(session, run)
    return RunDetail(
        **run_fields(run, stage),
        results=[ResultAnswer.of(row) for row in stored_results(session, run.run_id)],
        policy_sha256=policy_version(session, run.policy_id, run.policy_version).body_sha256,
        notice_until=notice_until_of(session, run.run_id),
        possible=list(possible_actions(stage, work.actor.roles, work.actor.person_id == run.prepared_by)),
        steps=[StepAnswer.model_validate(row) for row in steps_of(session, run.run_id)],
        objections=[ObjectionAnswer.of(seen) for seen in objections_of(session, run.run_id)],
        money=run_money(session, run),
        stands_on=[EarlierRun.model_validate(row) for row in stands_on(session, run)],
        changes=[ChangeSumAnswer.model_validate(one) for one in change_sums(session, run)],
    )


def run_money(session: Session, run: RewardRun) -> MoneyAnswer:
    """Return what a run grants, what was paid of it, and how long that took."""
    approved = approved_at(session, run)
    within = policy_version(session, run.policy_id, run.policy_version).body.pay_within_days
    hosts = _hosts_paid(session, run)
    granted, paid = sum(host.approved_fen for host in hosts), sum(host.paid_fen for host in hosts)
    days = [host.days_to_pay for host in hosts if host.days_to_pay is not None]
    return MoneyAnswer(
        approved_at=approved,
        pay_until=None if approved is None else approved + timedelta(days=within),
        approved_fen=granted,
        paid_fen=paid,
        unpaid_fen=granted - paid,
        days_to_pay=max(days) if days and len(days) == len(hosts) else None,
        hosts=hosts,
    )


def notices(session: Session, page: PageAsked) -> tuple[list[NoticeAnswer], str | None]:
    """Return a page of the runs that are publicly announced now, newest first, and the cursor of the next one."""
    query = select(RewardRun).where(
        RewardRun.state == RunState.PREPARED.value,
        _has_step(RunAction.PUBLISH),
        ~_has_step(RunAction.APPROVE),
    )
    rows, cursor = paginate(session, query, _NEWEST, page, descending=True)
    return [_notice(session, run) for run in rows], cursor


def host_rewards(work: Work, host_id: str, page: PageAsked) -> tuple[list[HostRewardAnswer], str | None]:
    """Return a page of one host's own results, newest run first, from a run's announcement on. Refused 403."""
    _require_own(work, host_id)
    query = (
        select(RewardRun)
        .join(RewardResult, RewardResult.run_id == RewardRun.run_id)
        .where(RewardResult.host_id == host_id, _open_to_hosts())
    )
    rows, cursor = paginate(work.session, query, _NEWEST, page, descending=True)
    return [_host_reward(work.session, run, host_id) for run in rows], cursor


def host_lines(
    work: Work, host_id: str, run_id: str, page: PageAsked, reason: Reason | None = None
) -> tuple[list[InputAnswer], str | None]:
    """Return a page of one host's own charges in a run, each with its one reason. Refused 403, 404."""
    _require_own(work, host_id)
    seen = select(RewardRun).where(RewardRun.run_id == run_id, _open_to_hosts())
    run = work.session.execute(seen).scalar_one_or_none()
    if run is None:
        raise not_found("奖励核算", "reward run", run_id)
    return run_lines(work.session, run, page, host_id, reason)


def _require_own(work: Work, host_id: str) -> None:
    require_host_role(work, host_id, SEE_ALL, "查看该依托单位的奖励", "see this host's rewards")


def _has_step(action: RunAction) -> ColumnElement[bool]:
    return exists().where(RewardStep.run_id == RewardRun.run_id, RewardStep.action == action.value)


def _open_to_hosts() -> ColumnElement[bool]:
    return or_(RewardRun.state == RunState.LOCKED.value, _has_step(RunAction.PUBLISH))


def _hosts_paid(session: Session, run: RewardRun) -> list[HostPaid]:
    approved, payments = approved_at(session, run), payments_of(session, run.run_id)
    if approved is None:
        return []
    return [
        HostPaid(
            host_id=host_id,
            approved_fen=money.approved_fen,
            paid_fen=money.paid_fen,
            unpaid_fen=money.unpaid_fen,
            days_to_pay=days_to_pay(approved, money),
            payments=[PaymentAnswer.of(row) for row in payments if row.host_id == host_id],
        )
        for host_id, money in money_of(session, run.run_id).items()
    ]


def _notice(session: Session, run: RewardRun) -> NoticeAnswer:
    step = next(row for row in steps_of(session, run.run_id) if row.action == RunAction.PUBLISH.value)
    shown = [ResultAnswer.of(row) for row in stored_results(session, run.run_id)]
    return NoticeAnswer(
        run_id=run.run_id,
        policy_id=run.policy_id,
        policy_version=run.policy_version,
        period=format_period(PeriodKind(run.period_kind), run.period_first),
        run_no=run.run_no,
        payable_fen=run.payable_fen,
        announced_at=step.done_at,
        notice_until=step.notice_until,
        hosts=[NoticeHost.model_validate(one) for one in shown],
    )


def _host_reward(session: Session, run: RewardRun, host_id: str) -> HostRewardAnswer:
    return HostRewardAnswer(
        run_id=run.run_id,
        policy_id=run.policy_id,
        policy_version=run.policy_version,
        period=format_period(PeriodKind(run.period_kind), run.period_first),
        run_no=run.run_no,
        stage=stage_of(session, run),
        notice_until=notice_until_of(session, run.run_id),
        result=ResultAnswer.of(session.get_one(RewardResult, (run.run_id, host_id))),
        paid=next((one for one in _hosts_paid(session, run) if one.host_id == host_id), None),
    )
