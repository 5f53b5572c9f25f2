"""The judgement after every fault: the agents' own truth, the meters' truth and the ledger, second by second.

Used by the fault tests and by `benchmarks.torture`. It only reads, and says every difference in a sentence.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.embedded.reconcile import reconcile
from store.ledger import check_usage_chain, refold
from store.ledger.fold import is_about_an_instrument
from store.tables.usage import (
    Alert,
    EntryKind,
    Quarantine,
    UsageConflict,
    UsageEntry,
    UsageRecordRow,
    UsageSession,
    UsageStream,
)
from wire.messages import PowerState, RecordKind, UsageRecord, timestamp_ms

Span = tuple[int, int]
NEVER = frozenset(
    [
        "odometer_fell",
        "odometer_apart",
        "interval_apart",
        "open_while_open",
        "close_lost",
        "close_without_open",
        "open_lost",
        "session_id_differs",
        "usage_conflict",
        "duplicate_identity",
        "fault_not_accepted",
        "fault_ack_beyond_last",
    ]
)


@dataclass
class Verdict:
    """What there was, and every fault that was found in it. `holes` are the gap records, longest first."""

    agents: int = 0
    streams: int = 0
    records: int = 0
    sessions: int = 0
    running_ms: int = 0
    unknown_ms: int = 0
    false_ms: int = 0
    missed_ms: int = 0
    holes: list[UsageRecord] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    alerts: dict[str, int] = field(default_factory=dict)

    def assert_exact(self) -> None:
        """Fail with every fault."""
        assert self.faults == [], "\n".join(["the books do not agree:", *self.faults])


@dataclass(frozen=True)
class Plan:
    """What a simulated instrument really did: its runs in wall time, and how finely and how slowly it is read."""

    runs: Sequence[Span]
    period_ms: int
    up_ms: int = 10_000
    down_ms: int = 60_000


def judge(
    session: Session,
    truths: list[dict[str, Any]],
    plans: Mapping[str, Plan],
    *,
    expected: Sequence[str] = (),
    kills: Mapping[str, Sequence[int]] | None = None,
) -> Verdict:
    """Compare everything. `expected` names alerts that the test itself brought about.

    With `kills`, when each agent was killed (wall time), every unknown second has to be
    explained: a hole holds a time of death.
    """
    verdict = Verdict(agents=len(truths))
    outcome = reconcile(truths, session, len(truths))
    verdict.faults += [str(difference) for difference in outcome.differences]
    for truth in truths:
        if truth["usage"]["unacknowledged"]:
            verdict.faults.append(f"{truth['agent']}: {truth['usage']['unacknowledged']} records not acknowledged")
        if truth["usage"]["dropped"]:
            verdict.faults.append(f"{truth['agent']}: {truth['usage']['dropped']} records dropped")
    for stream in session.scalars(select(UsageStream).where(UsageStream.kind == "usage")):
        verdict.streams += 1
        key = (stream.agent_id, stream.stream)
        if (fault := check_usage_chain(session, *key)) is not None:
            verdict.faults.append(f"chain of {key}: {fault}")
        verdict.faults += [f"fold of {key}: {fault}" for fault in refold(session, *key)]
        own = _judge_stream(verdict, session, *key, plans)
        if kills is not None:
            verdict.faults += [f"{key}: {fault}" for fault in _unexplained(own, kills.get(stream.agent_id, ()))]
    alerts = session.execute(select(Alert.rule, func.sum(Alert.times)).group_by(Alert.rule))
    verdict.alerts = {rule: int(times) for rule, times in alerts}
    verdict.faults += [f"alert: {rule}" for rule in verdict.alerts if rule in NEVER and rule not in expected]
    for table in (UsageConflict, Quarantine):
        count = session.scalar(select(func.count()).select_from(table)) or 0
        if count and table.__tablename__ not in expected:
            verdict.faults.append(f"{count} rows in {table.__tablename__}")
    verdict.holes.sort(key=lambda gap: gap.from_ms - gap.to_ms)
    return verdict


def records_of(session: Session, agent: str, stream: str) -> list[UsageRecord]:
    """The records of a stream in order; parked ones are left out."""
    rows = session.scalars(
        select(UsageRecordRow)
        .where(UsageRecordRow.agent_id == agent, UsageRecordRow.stream == stream, UsageRecordRow.kind != "parked")
        .order_by(UsageRecordRow.seq)
    )
    return [UsageRecord.model_validate_json(row.payload) for row in rows]


def _unexplained(records: list[UsageRecord], kills: Sequence[int]) -> Iterator[str]:
    for gap in records:
        if gap.kind is RecordKind.GAP:
            to_ms = timestamp_ms(gap.ts)
            from_ms = to_ms - (gap.to_ms - gap.from_ms)
            if not any(from_ms <= death <= to_ms for death in kills):
                yield f"nobody was killed in the hole of {to_ms - from_ms} ms at {gap.ts} (record {gap.seq})"


def _judge_stream(
    verdict: Verdict, session: Session, agent: str, stream: str, plans: Mapping[str, Plan]
) -> list[UsageRecord]:
    records = records_of(session, agent, stream)
    verdict.records += len(records)
    if [record.seq for record in records] != list(range(1, len(records) + 1)):
        verdict.faults.append(f"{agent}/{stream}: not every number from 1 on is there once")
    instruments: dict[str, list[UsageRecord]] = defaultdict(list)
    for record in records:
        if is_about_an_instrument(record):
            instruments[record.inst].append(record)
    for inst, own in instruments.items():
        where = f"{agent}/{stream}/{inst}"
        verdict.faults += [f"{where}: {fault}" for fault in _time_line(own)]
        verdict.faults += [f"{where}: {fault}" for fault in _entries(session, stream, inst, own)]
        verdict.holes += [record for record in own if record.kind is RecordKind.GAP]
        verdict.running_ms += own[-1].odo.running
        verdict.unknown_ms += own[-1].odo.unknown
        if inst in plans:
            verdict.faults += [f"{where}: {fault}" for fault in _against_plan(verdict, own, plans[inst])]
    return records


def _time_line(own: list[UsageRecord]) -> Iterator[str]:
    """Intervals touch, odometers grow by exactly their length, and all unknown time has its gap record."""
    for before, after in pairwise(own):
        if before.boot == after.boot and before.to_ms != after.from_ms:
            yield f"record {after.seq} begins at {after.from_ms}, the one before ended at {before.to_ms}"
        if after.odo != before.odo.plus(after.state, after.to_ms - after.from_ms):
            yield f"the odometer of record {after.seq} does not follow from the one before"
    elapsed = sum(record.to_ms - record.from_ms for record in own)
    if own[-1].odo.total != elapsed:
        yield f"the odometer shows {own[-1].odo.total} ms, the records cover {elapsed}"
    gaps = sum(record.to_ms - record.from_ms for record in own if record.kind is RecordKind.GAP)
    if gaps != own[-1].odo.unknown:
        yield f"{own[-1].odo.unknown} ms are unknown, gap records explain {gaps}"


def _entries(session: Session, stream: str, inst: str, own: list[UsageRecord]) -> Iterator[str]:
    """All running time lies in sessions, and what the chain states adds up to the odometers."""
    sessions = session.scalars(
        select(UsageSession).where(UsageSession.stream == stream, UsageSession.instrument_id == inst)
    ).all()
    running = sum(row.odo_running_last_ms - row.odo_running_first_ms for row in sessions)
    if running != own[-1].odo.running:
        yield f"sessions hold {running} ms of running time, the odometer {own[-1].odo.running}"
    closed = sum(row.odo_running_last_ms - row.odo_running_first_ms for row in sessions if row.ended_at is not None)
    for kind, wanted in ((EntryKind.SESSION, closed), (EntryKind.UNKNOWN, own[-1].odo.unknown)):
        stated = session.scalar(
            select(func.coalesce(func.sum(UsageEntry.quantity_ms), 0)).where(
                UsageEntry.stream == stream, UsageEntry.instrument_id == inst, UsageEntry.kind == kind.value
            )
        )
        if stated != wanted:
            yield f"the chain states {stated} ms of kind {kind.value}, not {wanted}"


def _against_plan(verdict: Verdict, own: list[UsageRecord], plan: Plan) -> Iterator[str]:
    """No second is said to be running or not running against what the instrument did, edges within a period."""
    false_ms = missed_ms = 0
    first_ms = last_ms = timestamp_ms(own[0].ts)
    wrong: list[str] = []
    for record in own:
        to_ms = timestamp_ms(record.ts)
        from_ms = to_ms - (record.to_ms - record.from_ms)
        first_ms, last_ms = min(first_ms, from_ms), max(last_ms, to_ms)
        really = sum(max(0, min(to_ms, b) - max(from_ms, a)) for a, b in plan.runs)
        if record.state is PowerState.UNKNOWN:
            continue
        is_running = record.state is PowerState.RUNNING
        false_ms += to_ms - from_ms - really if is_running else 0
        missed_ms += 0 if is_running else really
        if (off_ms := to_ms - from_ms - really if is_running else really) > 0:
            wrong.append(f"{off_ms} in {record.seq} ({record.kind.value}, {record.state.value}, to {record.to_ms})")
    runs = sum(1 for a, b in plan.runs if b > first_ms and a < last_ms)
    gaps = sum(1 for record in own if record.kind is RecordKind.GAP)
    verdict.sessions += sum(1 for record in own if record.kind is RecordKind.OPEN)
    verdict.false_ms += false_ms
    verdict.missed_ms += missed_ms
    where = f"({runs} runs, {gaps} gaps: {'; '.join(wrong)})"
    # Behind a hole the detector has to see its dwell again before it believes a change.
    if false_ms > runs * plan.period_ms + gaps * plan.down_ms:
        yield f"{false_ms} ms are said to be running that were not {where}"
    if missed_ms > runs * plan.period_ms + gaps * plan.up_ms:
        yield f"{missed_ms} ms of running are not said to be {where}"
