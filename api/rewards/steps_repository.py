"""SQL of what happens to a run once it is prepared: steps, objections and answers, payments. Decides nothing."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.errors import not_found
from store.tables.reward_steps import (
    ObjectionOutcome,
    RewardObjection,
    RewardObjectionAnswer,
    RewardPayment,
    RewardStep,
    RunAction,
    RunStage,
)
from store.tables.rewards import RewardResult, RewardRun, RunState


@dataclass(frozen=True)
class ObjectionSeen:
    """An objection with its answer, None while there is none."""

    objection: RewardObjection
    answer: RewardObjectionAnswer | None


@dataclass(frozen=True)
class HostMoney:
    """What a locked run grants a host, what it got of it so far, and the day of the last transfer."""

    host_id: str
    approved_fen: int
    paid_fen: int
    last_paid_at: datetime | None

    @property
    def unpaid_fen(self) -> int:
        """What is still to come."""
        return self.approved_fen - self.paid_fen


def take_run(session: Session, run_id: str) -> RewardRun:
    """Lock a run: what happens to one of them queues up. Refused 404."""
    run = session.execute(
        select(RewardRun).where(RewardRun.run_id == run_id).with_for_update().execution_options(populate_existing=True)
    ).scalar_one_or_none()
    if run is None:
        raise not_found("奖励核算", "reward run", run_id)
    return run


def steps_of(session: Session, run_id: str) -> list[RewardStep]:
    """Return the steps of a run in their order."""
    return list(
        session.execute(select(RewardStep).where(RewardStep.run_id == run_id).order_by(RewardStep.step_no)).scalars()
    )


def stages_of(session: Session, runs: Collection[RewardRun]) -> dict[str, RunStage]:
    """Return where each of these runs stands, by its last step; without one, by how it was prepared or closed."""
    last = (
        select(RewardStep.run_id, func.max(RewardStep.step_no).label("step_no"))
        .where(RewardStep.run_id.in_([run.run_id for run in runs]))
        .group_by(RewardStep.run_id)
        .subquery()
    )
    rows = session.execute(
        select(RewardStep.run_id, RewardStep.to_stage).join(
            last, (last.c.run_id == RewardStep.run_id) & (last.c.step_no == RewardStep.step_no)
        )
    )
    found = {row.run_id: RunStage(row.to_stage) for row in rows}
    return {run.run_id: found.get(run.run_id, RunStage(run.state)) for run in runs}


def stage_of(session: Session, run: RewardRun) -> RunStage:
    """Return where a run stands."""
    return stages_of(session, [run])[run.run_id]


def notice_until_of(session: Session, run_id: str) -> datetime | None:
    """Return the end of a run's public notice, None where it was not announced."""
    return session.execute(
        select(RewardStep.notice_until).where(RewardStep.run_id == run_id, RewardStep.action == RunAction.PUBLISH.value)
    ).scalar_one_or_none()


def objections_of(session: Session, run_id: str) -> list[ObjectionSeen]:
    """Return the objections to a run in the order in which they were raised."""
    rows = session.execute(
        select(RewardObjection, RewardObjectionAnswer)
        .outerjoin(RewardObjectionAnswer, RewardObjectionAnswer.objection_id == RewardObjection.objection_id)
        .where(RewardObjection.run_id == run_id)
        .order_by(RewardObjection.objection_no)
    )
    return [ObjectionSeen(objection, answer) for objection, answer in rows]


def upheld(seen: ObjectionSeen) -> bool:
    """Whether somebody agreed with an objection."""
    return seen.answer is not None and seen.answer.outcome == ObjectionOutcome.UPHELD.value


def payments_of(session: Session, run_id: str) -> list[RewardPayment]:
    """Return the payments of a run by host, in the order in which they were recorded."""
    return list(
        session.execute(
            select(RewardPayment)
            .where(RewardPayment.run_id == run_id)
            .order_by(RewardPayment.host_id, RewardPayment.payment_no)
        ).scalars()
    )


def money_of(session: Session, run_id: str) -> dict[str, HostMoney]:
    """Return by host what a run grants and what was paid of it, hosts that it grants nothing left out."""
    paid = (
        select(
            RewardPayment.host_id,
            func.sum(RewardPayment.amount_fen).label("fen"),
            func.max(RewardPayment.paid_at).label("last"),
        )
        .where(RewardPayment.run_id == run_id)
        .group_by(RewardPayment.host_id)
        .subquery()
    )
    rows = session.execute(
        select(RewardResult.host_id, RewardResult.payable_fen, paid.c.fen, paid.c.last)
        .outerjoin(paid, paid.c.host_id == RewardResult.host_id)
        .where(RewardResult.run_id == run_id, RewardResult.payable_fen > 0)
        .order_by(RewardResult.host_id)
    )
    return {
        row.host_id: HostMoney(row.host_id, row.payable_fen, 0 if row.fen is None else int(row.fen), row.last)
        for row in rows
    }


def approved_at(session: Session, run: RewardRun) -> datetime | None:
    """Return when a run was approved (locked, for one from before steps were kept); None where it was not."""
    step = session.execute(
        select(RewardStep.done_at).where(RewardStep.run_id == run.run_id, RewardStep.action == RunAction.APPROVE.value)
    ).scalar_one_or_none()
    if step is None and run.state == RunState.LOCKED.value:
        return run.closed_at
    return step
