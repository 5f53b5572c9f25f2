"""The canonical rows of a reward export: the run, a total a host, one an instrument, a line a charge. Read or made.

What is hashed is these rows, not a file: any file format that holds them gives the same content hash. Everything in
them is frozen with the run, so the same run gives the same rows for ever. Instants are RFC 3339, money is fen.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from sqlalchemy import BigInteger, case, cast, func, select
from sqlalchemy.orm import Session

from api.rewards.computing import name_in
from api.rewards.policies import policy_version
from api.rewards.repository import ROWS_AT_ONCE, stored_results
from api.rewards.rules import Reason
from store.canonical import canonical_json
from store.database import by_code_point
from store.money import yuan
from store.periods import SHANGHAI, PeriodKind, format_period
from store.tables.charging import Charge
from store.tables.rewards import RewardInput, RewardPolicyVersion, RewardRun, RunState

DRAFT = "DRAFT"
FINAL = "FINAL"


@dataclass(frozen=True)
class RunRow:
    """Which run, under which policy, out of what was known when. `status` is DRAFT until the run is locked."""

    status: str
    run_id: str
    policy_id: str
    policy_version: int
    policy_sha256: str
    period: str
    run_no: int
    engine_version: str
    watermark: str
    charge_count: int
    base_fen: int
    payable_fen: int
    input_sha256: str
    result_sha256: str

    def as_draft(self) -> "RunRow":
        """Return the row as it was before the run was locked."""
        return replace(self, status=DRAFT)


@dataclass(frozen=True)
class TotalRow:
    """What one host gets."""

    host_id: str
    uscc: str
    name_zh: str
    name_en: str
    base_fen: int
    grade: str
    coefficient_bp: int
    reward_fen: int
    granted_before_fen: int
    carried_in_fen: int
    payable_fen: int
    carried_out_fen: int


@dataclass(frozen=True)
class InstrumentRow:
    """What counts of one instrument: of how many of its charges, how much, for how long they were metered (whole
    seconds of those that count). `cap_yuan`: how much of its fees can count in a period; empty where nothing limits it.
    """

    host_id: str
    instrument_id: str
    charge_count: int
    counted_count: int
    eligible_fen: int
    cap_yuan: str
    metered_s: int


@dataclass(frozen=True)
class LineRow:
    """One charge and why it counts or does not."""

    charge_id: str
    host_id: str
    payer_org: str
    instrument_id: str
    service_month: int
    posting_month: int
    amount_fen: int
    eligible_fen: int
    reason: str


Row = RunRow | TotalRow | InstrumentRow | LineRow
_KINDS: dict[type[Row], str] = {RunRow: "run", TotalRow: "total", InstrumentRow: "instrument", LineRow: "line"}


def reward_rows(session: Session, run_id: str) -> Iterator[Row]:
    """Yield the run, its totals by host, its instruments by host and id, and its lines by charge (code point order).
    Raises NoResultFound."""
    run = session.execute(select(RewardRun).where(RewardRun.run_id == run_id)).scalar_one()
    yield run_row(session, run)
    for result in stored_results(session, run_id):
        name = name_in(result.explanation)
        yield TotalRow(
            result.host_id,
            name.uscc,
            name.name_zh,
            name.name_en,
            result.base_fen,
            result.grade,
            result.coefficient_bp,
            result.reward_fen,
            result.granted_before_fen,
            result.carried_in_fen,
            result.payable_fen,
            result.carried_out_fen,
        )
    yield from _instruments(session, run)
    lines = session.execute(
        select(
            RewardInput.charge_id,
            RewardInput.host_id,
            Charge.payer_org,
            Charge.instrument_id,
            Charge.service_month,
            Charge.posting_month,
            RewardInput.amount_fen,
            RewardInput.eligible_fen,
            RewardInput.reason,
        )
        .join(Charge, Charge.charge_id == RewardInput.charge_id)
        .where(RewardInput.run_id == run_id)
        .order_by(by_code_point(session, RewardInput.charge_id.expression)),
        execution_options={"yield_per": ROWS_AT_ONCE},
    )
    for line in lines:
        yield LineRow(*line)


def _instruments(session: Session, run: RewardRun) -> Iterator[InstrumentRow]:
    cap = policy_version(session, run.policy_id, run.policy_version).body.instrument_fee_cap_fen
    cap_yuan = "" if cap is None else yuan(cap)
    counts = RewardInput.reason == Reason.ELIGIBLE.value
    sums = (
        func.count(),
        func.sum(case((counts, 1), else_=0)),
        func.sum(RewardInput.eligible_fen),
        func.sum(case((counts, Charge.metered_ms), else_=0)),
    )
    keys = (RewardInput.host_id, Charge.instrument_id)
    columns = [*keys, *(cast(one, BigInteger) for one in sums)]
    rows: Iterable[Any] = session.execute(
        select(*columns)
        .join(Charge, Charge.charge_id == RewardInput.charge_id)
        .where(RewardInput.run_id == run.run_id)
        .group_by(*keys)
        .order_by(*(by_code_point(session, key.expression) for key in keys))
    )
    for host_id, instrument_id, count, counted, fen, metered_ms in rows:
        yield InstrumentRow(host_id, instrument_id, count, counted, fen, cap_yuan, metered_ms // 1000)


def run_row(session: Session, run: RewardRun) -> RunRow:
    """Return the first row of a run's export."""
    policy_sha256 = session.execute(
        select(RewardPolicyVersion.body_sha256).where(
            RewardPolicyVersion.policy_id == run.policy_id, RewardPolicyVersion.version == run.policy_version
        )
    ).scalar_one()
    return RunRow(
        FINAL if run.state == RunState.LOCKED.value else DRAFT,
        run.run_id,
        run.policy_id,
        run.policy_version,
        policy_sha256,
        format_period(PeriodKind(run.period_kind), run.period_first),
        run.run_no,
        run.engine_version,
        run.watermark.astimezone(SHANGHAI).isoformat(timespec="milliseconds"),
        run.charge_count,
        run.base_fen,
        run.payable_fen,
        run.input_sha256,
        run.result_sha256,
    )


def values(row: Row) -> list[str | int]:
    """Return the values of a row in the order of its fields."""
    return [getattr(row, field.name) for field in fields(row)]


def content_sha256(rows: Iterable[Row]) -> str:
    """Return the hash over canonical rows: one line of canonical JSON each, `["kind", value, …]`, in their order."""
    running = hashlib.sha256()
    for row in rows:
        running.update(_canonical(row))
    return running.hexdigest()


def content_hashes(rows: Iterable[Row]) -> set[str]:
    """Return every content hash that an export of a run with these rows can have: as it is, or as the draft that it
    was before its lock; with its instruments, or without them as in files from before they were written. One pass."""
    as_it_is, draft, old, old_draft = (hashlib.sha256() for _ in range(4))
    for row in rows:
        line = _canonical(row)
        for running in (as_it_is,) if isinstance(row, InstrumentRow) else (as_it_is, old):
            running.update(line)
        if isinstance(row, RunRow):
            line = _canonical(row.as_draft())
        for running in (draft,) if isinstance(row, InstrumentRow) else (draft, old_draft):
            running.update(line)
    return {one.hexdigest() for one in (as_it_is, draft, old, old_draft)}


def _canonical(row: Row) -> bytes:
    return canonical_json([_KINDS[type(row)], *values(row)]) + b"\n"
