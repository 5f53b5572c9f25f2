"""The inputs of a reward run judged again from the facts known at its watermark. In bounded memory: what is stored and
what the facts say are hashed some thousands of rows at a time; where that differs, they are held against each other row
by row."""

from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from heapq import merge
from itertools import groupby, islice

from sqlalchemy import BigInteger, String, cast, func, select
from sqlalchemy.orm import Session

from api.rewards.computing import input_lines
from api.rewards.judging import judged, judged_batches
from api.rewards.policies import PolicyInForce
from api.rewards.rules import Classified
from api.rewards.snapshot import InputSums
from api.verify.finding import Finding
from store.database import by_code_point, read_tuples
from store.periods import PeriodKind, months_of_period
from store.tables.rewards import RewardInput, RewardRun

COMMITTED_LATE = timedelta(minutes=10)
"""A fact is dated when its transaction began. One that began this long before a run may have been committed after the
run had looked; then it came out in the next run, which is no fault."""

_ROWS_AT_ONCE = 10_000
_STORED, _KNOWN, _EARLIER = range(3)


def inputs_differ(session: Session, run: RewardRun, policy: PolicyInForce) -> Finding | None:
    """Return the first stored row that is not what the facts say, or that is missing; then what is hashed of them."""
    known = InputSums()
    for rows in judged_batches(session, _months(run), policy.body, run.engine_version, run.watermark):
        known.add_lines(input_lines(rows), rows)
    stored, count = sha256(), 0
    for texts in _stored_lines(session, run.run_id):
        stored.update("".join(texts).encode())
        count += len(texts)
    # With the count no row can pass for two: each has four tabs and one line break at least.
    if (count, stored.hexdigest()) != (known.count, known.sha256):
        return _named(session, run, policy)
    return _sums_differ(run, known.count, known.base_fen, known.sha256)


def stored_bases(session: Session, run_id: str) -> dict[str, int]:
    """Return the eligible sum of every host with inputs in a run."""
    total = cast(func.sum(RewardInput.eligible_fen), BigInteger)
    rows = session.execute(
        select(RewardInput.host_id, total).where(RewardInput.run_id == run_id).group_by(RewardInput.host_id)
    )
    return {host_id: int(fen) for host_id, fen in rows}


def _named(session: Session, run: RewardRun, policy: PolicyInForce) -> Finding | None:
    found = _first_difference(session, run, policy)
    if found is not None:
        return found
    sums, rows = InputSums(), _stored(session, run.run_id)
    while some := list(islice(rows, _ROWS_AT_ONCE)):
        sums.add_lines(input_lines(some), some)
    return _sums_differ(run, sums.count, sums.base_fen, sums.sha256)


def _first_difference(session: Session, run: RewardRun, policy: PolicyInForce) -> Finding | None:
    """The slower way, once it is known that there is something to name: charge by charge, with what was known a little
    before the watermark beside what was known at it."""
    streams = (
        _stored(session, run.run_id),
        _judged(session, run, policy, timedelta()),
        _judged(session, run, policy, COMMITTED_LATE),
    )
    marked = [_marked(rows, place) for place, rows in enumerate(streams)]
    for charge_id, group in groupby(merge(*marked, key=lambda one: one[:2]), key=lambda one: one[0]):
        rows = {place: row for _, place, row in group}
        key = f"{run.run_id}/{charge_id}"
        if _STORED not in rows:
            if _KNOWN in rows and _EARLIER in rows:
                return Finding("reward_input", key, "the charge was known and is not in the run")
        elif rows[_STORED] not in (rows.get(_KNOWN), rows.get(_EARLIER)):
            said = f"stored {_said(rows[_STORED])}, the facts say {_said(rows.get(_KNOWN))}"
            return Finding("reward_input", key, said)
    return None


def _marked(rows: Iterator[Classified], place: int) -> Iterator[tuple[str, int, Classified]]:
    return ((row.charge_id, place, row) for row in rows)


def _stored(session: Session, run_id: str) -> Iterator[Classified]:
    statement = (
        select(
            RewardInput.charge_id,
            RewardInput.host_id,
            RewardInput.amount_fen,
            RewardInput.eligible_fen,
            RewardInput.reason,
        )
        .where(RewardInput.run_id == run_id)
        .order_by(by_code_point(session, RewardInput.charge_id.expression))
    )
    for rows in read_tuples(session, statement, _ROWS_AT_ONCE):
        yield from map(Classified._make, rows)


def _stored_lines(session: Session, run_id: str) -> Iterator[list[str]]:
    """The lines of the stored rows as they were hashed, put together by the database: half the time of rows."""
    row, tab = RewardInput, "\t"
    line = row.charge_id + tab + row.host_id + tab + cast(row.amount_fen, String) + tab
    line = line + cast(row.eligible_fen, String) + tab + row.reason + "\n"
    statement = select(line).where(row.run_id == run_id).order_by(by_code_point(session, row.charge_id.expression))
    for rows in read_tuples(session, statement, _ROWS_AT_ONCE):
        yield [text for (text,) in rows]


def _judged(session: Session, run: RewardRun, policy: PolicyInForce, earlier: timedelta) -> Iterator[Classified]:
    return judged(session, _months(run), policy.body, run.engine_version, run.watermark - earlier)


def _months(run: RewardRun) -> tuple[int, ...]:
    return months_of_period(PeriodKind(run.period_kind), run.period_first)


def _sums_differ(run: RewardRun, count: int, base_fen: int, input_sha256: str) -> Finding | None:
    if (count, base_fen, input_sha256) != (run.charge_count, run.base_fen, run.input_sha256):
        return Finding("reward_run", run.run_id, "its inputs do not have the stored count, sum and hash")
    return None


def _said(row: Classified | None) -> str:
    return "nothing" if row is None else f"{row.reason} {row.eligible_fen} of {row.amount_fen} fen"
