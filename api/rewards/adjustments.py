"""What an adjustment run stands on and what came in since: late, reversed and otherwise changed lines. Reads only.

A period that was granted once goes on under the policy version that granted it; a later run of the same line shows here
which earlier locked runs it builds on, and the lines in which it differs from the newest of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, or_, select
from sqlalchemy.orm import Session, aliased

from api.pagination import PageAsked, paginate
from api.rewards.repository import RunLine
from api.rewards.rules import Reason
from store.tables.rewards import RewardInput, RewardRun, RunState

LATE, REVERSED, CHANGED = "late", "reversed", "changed"


@dataclass(frozen=True)
class LineChange:
    """A charge that this run judges otherwise than the one before: new to it (late), reversed since, or otherwise
    (paid, invoiced, cleared, ...). `before_*` is None for a charge that the run before did not know."""

    charge_id: str
    host_id: str
    kind: str
    reason_before: str | None
    eligible_before_fen: int | None
    reason: str
    eligible_fen: int

    @property
    def difference_fen(self) -> int:
        """What it adds to the host's eligible sum."""
        return self.eligible_fen - (self.eligible_before_fen or 0)


@dataclass(frozen=True)
class ChangeSum:
    """All changes of one kind of one host."""

    host_id: str
    kind: str
    count: int
    difference_fen: int


def stands_on(session: Session, run: RewardRun) -> list[RewardRun]:
    """Return the locked runs of the same policy and period before this one, oldest first; none for a first run."""
    return list(
        session.execute(
            select(RewardRun)
            .where(RunLine.of(run).matches(), RewardRun.state == RunState.LOCKED.value, RewardRun.run_no < run.run_no)
            .order_by(RewardRun.run_no)
        ).scalars()
    )


def change_sums(session: Session, run: RewardRun) -> list[ChangeSum]:
    """Return what came in since the newest earlier locked run, by host and kind; nothing for a first run.

    The differences of a host add up to the difference of its eligible sums in the two runs.
    """
    earlier = stands_on(session, run)
    if not earlier:
        return []
    before = aliased(RewardInput)
    kind = _kind(before).label("kind")
    rows = session.execute(
        _changed(
            select(
                RewardInput.host_id,
                kind,
                func.count(),
                func.sum(RewardInput.eligible_fen - func.coalesce(before.eligible_fen, 0)),
            ),
            before,
            run,
            earlier[-1],
        )
        .group_by(RewardInput.host_id, kind)
        .order_by(RewardInput.host_id, kind)
    )
    return [ChangeSum(host_id, of_kind, count, int(fen)) for host_id, of_kind, count, fen in rows]


def line_changes(
    session: Session, run: RewardRun, page: PageAsked, host_id: str | None = None
) -> tuple[Sequence[LineChange], str | None]:
    """Return a page of the changed lines by charge, and the cursor of the next one."""
    earlier = stands_on(session, run)
    if not earlier:
        return [], None
    before = aliased(RewardInput)
    query = _changed(select(RewardInput), before, run, earlier[-1])
    if host_id is not None:
        query = query.where(RewardInput.host_id == host_id)
    rows, cursor = paginate(session, query, (RewardInput.charge_id,), page)
    known = {
        row.charge_id: row
        for row in session.scalars(
            select(RewardInput).where(
                RewardInput.run_id == earlier[-1].run_id, RewardInput.charge_id.in_([row.charge_id for row in rows])
            )
        )
    }
    return [_change(row, known.get(row.charge_id)) for row in rows], cursor


def _change(row: RewardInput, before: RewardInput | None) -> LineChange:
    return LineChange(
        row.charge_id,
        row.host_id,
        REVERSED if row.reason == Reason.REVERSED.value else LATE if before is None else CHANGED,
        None if before is None else before.reason,
        None if before is None else before.eligible_fen,
        row.reason,
        row.eligible_fen,
    )


def _kind(before: type[RewardInput]) -> ColumnElement[str]:
    return case(
        (RewardInput.reason == Reason.REVERSED.value, REVERSED), (before.charge_id.is_(None), LATE), else_=CHANGED
    )


def _changed(query: Any, before: type[RewardInput], run: RewardRun, earlier: RewardRun) -> Any:
    same = and_(before.run_id == earlier.run_id, before.charge_id == RewardInput.charge_id)
    return query.outerjoin(before, same).where(
        RewardInput.run_id == run.run_id,
        or_(
            before.charge_id.is_(None),
            before.reason != RewardInput.reason,
            before.eligible_fen != RewardInput.eligible_fen,
        ),
    )
