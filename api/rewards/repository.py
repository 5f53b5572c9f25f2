"""SQL of reward runs: what was granted before, what is owed, what a run has stored. Decides nothing."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.orm import Session, aliased

from api.rewards.computing import HostName, frozen_shares, stored_result
from api.rewards.rules import Classified, FrozenShares
from store.database import by_code_point
from store.periods import PeriodKind, month_bounds, months_of_period
from store.tables.registry import Host, Org
from store.tables.rewards import Assessment, Grade, RewardInput, RewardResult, RewardRun, RunState

ROWS_AT_ONCE = 5_000


@dataclass(frozen=True)
class RunLine:
    """What successive runs have in common: policy, kind and first month of the period."""

    policy_id: str
    kind: PeriodKind
    first: int

    @staticmethod
    def of(run: RewardRun) -> "RunLine":
        """Return the line that a run belongs to."""
        return RunLine(run.policy_id, PeriodKind(run.period_kind), run.period_first)

    def matches(self) -> ColumnElement[bool]:
        """Return the condition for the runs of this line."""
        return and_(
            RewardRun.policy_id == self.policy_id,
            RewardRun.period_kind == self.kind.value,
            RewardRun.period_first == self.first,
        )


def granted_before(session: Session, line: RunLine, run_no: int) -> dict[str, int]:
    """Return by host what locked runs of the line before `run_no` have granted, hosts with 0 left out.

    Each locked run adds its difference to the one before, so their sum is the last one's reward.
    """
    granted = func.sum(RewardResult.reward_fen - RewardResult.granted_before_fen)
    rows = session.execute(
        select(RewardResult.host_id, granted)
        .join(RewardRun, RewardRun.run_id == RewardResult.run_id)
        .where(line.matches(), RewardRun.state == RunState.LOCKED.value, RewardRun.run_no < run_no)
        .group_by(RewardResult.host_id)
        .having(granted != 0)
    )
    return {host: int(fen) for host, fen in rows}


def owed_by_host(session: Session) -> dict[str, int]:
    """Return by host what it still owes (negative) out of all locked runs of all policies, hosts with 0 left out."""
    owed = func.sum(RewardResult.carried_out_fen - RewardResult.carried_in_fen)
    rows = session.execute(
        select(RewardResult.host_id, owed)
        .join(RewardRun, RewardRun.run_id == RewardResult.run_id)
        .where(RewardRun.state == RunState.LOCKED.value)
        .group_by(RewardResult.host_id)
        .having(owed != 0)
    )
    return {host: int(fen) for host, fen in rows}


def rewarded_elsewhere(session: Session, run: RewardRun) -> str | None:
    """Return a charge that counts in this run and in the newest locked run of another line, None where none does."""
    line = (RewardRun.policy_id, RewardRun.period_kind, RewardRun.period_first)
    newest = (
        select(*line, func.max(RewardRun.run_no).label("run_no"))
        .where(RewardRun.state == RunState.LOCKED.value, ~RunLine.of(run).matches())
        .group_by(*line)
        .subquery()
    )
    other_run, other = aliased(RewardRun), aliased(RewardInput)
    return session.execute(
        select(RewardInput.charge_id)
        .join(other, other.charge_id == RewardInput.charge_id)
        .join(other_run, other_run.run_id == other.run_id)
        .join(newest, and_(*(column == getattr(other_run, column.key) for column in newest.c)))
        .where(RewardInput.run_id == run.run_id, RewardInput.eligible_fen > 0, other.eligible_fen > 0)
        .order_by(RewardInput.charge_id)
        .limit(1)
    ).scalar_one_or_none()


def grades(session: Session, year: int, watermark: datetime) -> dict[str, Grade]:
    """Return the grade of every host assessed for a year: the newest version recorded up to the watermark."""
    rows = session.execute(
        select(Assessment.host_id, Assessment.grade)
        .where(Assessment.year == year, Assessment.recorded_at <= watermark)
        .order_by(Assessment.host_id, Assessment.version)
    )
    return {row.host_id: Grade(row.grade) for row in rows}


def host_names(session: Session, hosts: Collection[str]) -> dict[str, HostName]:
    """Return who these hosts are now."""
    rows = session.execute(
        select(Host.host_id, Org.uscc, Org.name_zh, Org.name_en)
        .join(Org, Org.org_id == Host.org_id)
        .where(Host.host_id.in_(hosts))
    )
    return {row.host_id: HostName(row.uscc, row.name_zh, row.name_en) for row in rows}


def newest_run(session: Session, line: RunLine, *states: RunState) -> RewardRun | None:
    """Return the newest run of a line that is in one of these states (in any, where none are given)."""
    wanted = [state.value for state in states or tuple(RunState)]
    return session.execute(
        select(RewardRun).where(line.matches(), RewardRun.state.in_(wanted)).order_by(RewardRun.run_no.desc()).limit(1)
    ).scalar_one_or_none()


def shares_of_first_grant(session: Session, line: RunLine, run_no: int) -> FrozenShares | None:
    """Return how the budget was shared by the first locked run before `run_no` that was prepared when the period was
    over; None where there is none yet. Interim runs share what is known then; the first grant after the end stands."""
    end = month_bounds(months_of_period(line.kind, line.first)[-1])[1]
    run_id = session.execute(
        select(RewardRun.run_id)
        .where(
            line.matches(),
            RewardRun.state == RunState.LOCKED.value,
            RewardRun.watermark >= end,
            RewardRun.run_no < run_no,
        )
        .order_by(RewardRun.run_no)
        .limit(1)
    ).scalar_one_or_none()
    if run_id is None:
        return None
    return frozen_shares([stored_result(row) for row in stored_results(session, run_id)])


def stored_inputs(session: Session, run_id: str) -> Iterator[Classified]:
    """Yield the rows of a run by charge id (code point order)."""
    rows = session.execute(
        select(
            RewardInput.charge_id,
            RewardInput.host_id,
            RewardInput.amount_fen,
            RewardInput.eligible_fen,
            RewardInput.reason,
        )
        .where(RewardInput.run_id == run_id)
        .order_by(by_code_point(session, RewardInput.charge_id.expression)),
        execution_options={"yield_per": ROWS_AT_ONCE},
    )
    for row in rows:
        yield Classified._make(row)


def stored_results(session: Session, run_id: str) -> list[RewardResult]:
    """Return the results of a run by host id (code point order)."""
    return list(
        session.execute(
            select(RewardResult)
            .where(RewardResult.run_id == run_id)
            .order_by(by_code_point(session, RewardResult.host_id.expression))
        ).scalars()
    )
