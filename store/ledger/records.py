"""Commit usage records: the one way into the usage ledger. Called by the gateway, and by the demo's history.

In one transaction, under each stream's row lock: the unique key judges repeats, the contiguous prefix of the stream
is folded into positions and sessions, and the hash chain grows. Records may come in any order and any number of
times; the ledger is the same. The caller commits, and only then acknowledges. The number of statements does not
depend on the number of streams or records in the batch.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import BigInteger, select, type_coerce
from sqlalchemy.orm import Session

from store.alerts import raise_alert
from store.canonical import sha256_hex
from store.database import insert_tuples
from store.ledger.applying import StreamFolder
from store.ledger.dating import tells_time
from store.ledger.hashes import runs_of, stored_hashes
from store.ledger.loading import Positions, load_known
from store.ledger.memory import ChainMemory, Pending
from store.ledger.refolding import PARKED
from store.ledger.streams import (
    StreamHead,
    StreamKey,
    StreamMark,
    highest_stored,
    holes_between,
    lock_streams,
    save_heads,
    stored_holes,
)
from store.ledger.writes import Writes
from store.tables.usage import UsageConflict, UsageRecordRow
from store.upsert import insert_if_absent
from wire.clock import from_ms
from wire.messages import StreamKind, UsageRecord, timestamp_ms

_COLUMNS = (
    *("agent_id", "stream", "seq", "kind", "instrument_id", "session_id"),
    *("at", "payload", "payload_sha256", "received_at"),
)


@dataclass(frozen=True)
class Arrival:
    """A usage message whose place in its stream is known.

    `record` is None for one that could not be understood: it holds its place, so that it blocks nothing, and its
    bytes are kept here and in quarantine.
    """

    agent_id: str
    stream: str
    seq: int
    payload: bytes
    record: UsageRecord | None
    received_ms: int | None = field(default=None, compare=False)
    """When it was received (UTC milliseconds); None for what comes with the batch."""

    sha256: str = field(init=False, compare=False)
    """Hash of the bytes as they came."""

    def __post_init__(self) -> None:
        # Not a cached property: those take a lock in this Python, and this is done for every record there is.
        object.__setattr__(self, "sha256", sha256_hex(self.payload))


@dataclass(frozen=True)
class CommitResult:
    """What a batch came to. `pending` is for a ChainMemory, once the transaction has committed."""

    marks: dict[StreamKey, StreamMark]
    appended: int
    repeated: int
    conflicts: int
    pending: dict[StreamKey, Pending] = field(default_factory=dict, repr=False, compare=False)
    wrong_kind: frozenset[StreamKey] = frozenset()
    """Streams that are telemetry's: what came of them as usage was not stored."""


def commit_usage(
    session: Session,
    arrivals: Sequence[Arrival],
    received_at_ms: int,
    recorded_by: str,
    memory: ChainMemory | None = None,
) -> CommitResult:
    """Store a batch and fold what became contiguous. The caller has checked that each agent may speak for each
    instrument (store.ledger.rights); raises whatever the database raises, and then nothing was stored."""
    keys = {(a.agent_id, a.stream) for a in arrivals}
    heads = lock_streams(session, keys, StreamKind.USAGE, received_at_ms)
    wrong_kind = frozenset(keys - heads.keys())
    if wrong_kind:
        arrivals = [a for a in arrivals if (a.agent_id, a.stream) in heads]
    highest = highest_stored(session, list(heads))
    new, repeated, conflicts = _sort_out(session, arrivals, heads, highest, received_at_ms)
    _insert_records(session, new, received_at_ms)
    by_stream: dict[StreamKey, dict[int, Arrival]] = defaultdict(dict)
    for arrival in new:
        by_stream[arrival.agent_id, arrival.stream][arrival.seq] = arrival
    ready = {
        key: found
        for key, fresh in by_stream.items()
        if (found := _contiguous(session, heads[key], fresh, waiting=highest[key] > heads[key].upto))
    }
    pending = {}
    if ready:
        told = {key: [a.record for a in found if a.record and tells_time(a.record)] for key, found in ready.items()}
        clocks = {key: records for key, records in told.items() if records}
        streams = [heads[key] for key in ready]
        known = load_known(session, streams, memory, lambda stand: _opening(stand, ready, clocks), clocks)
        writes = Writes()
        for key, found in ready.items():
            pending[key] = StreamFolder(heads[key], known, writes, received_at_ms, recorded_by).fold_all(found)
        writes.write_out(session, received_at_ms)
    save_heads(session, heads.values(), received_at_ms)
    marks = {}
    for key, head in heads.items():
        if highest[key] > head.upto:
            marks[key] = StreamMark(head.upto, stored_holes(session, key, head.upto))
        else:
            above = sorted(seq for seq in by_stream.get(key, ()) if seq > head.upto)
            marks[key] = StreamMark(head.upto, holes_between(head.upto, above))
    return CommitResult(marks, len(new), repeated, conflicts, pending, wrong_kind)


def stored_record(kind: str, payload: bytes) -> UsageRecord | None:
    """Return the record in a stored row, None for a parked one."""
    return None if kind == PARKED else UsageRecord.model_validate_json(payload)


def _opening(stand: Positions, ready: dict[StreamKey, list[Arrival]], clocks_set: Iterable[StreamKey]) -> set[str]:
    """The agents of whom a session begins, or is dated again: a record opens it, or names one that was not open."""
    found = {key[0] for key in clocks_set}
    for key, arrivals in ready.items():
        names = {inst: position.open.session_id for inst, position in stand.get(key, {}).items() if position.open}
        for record in (arrival.record for arrival in arrivals if arrival.record is not None):
            if record.session is not None and names.get(record.inst) != record.session:
                found.add(key[0])
                break
    return found


def _sort_out(
    session: Session,
    arrivals: Sequence[Arrival],
    heads: dict[StreamKey, StreamHead],
    highest: dict[StreamKey, int],
    now_ms: int,
) -> tuple[list[Arrival], int, int]:
    """Split a batch into what is new, repeats, and second contents under a taken key (kept as conflicts)."""
    may_repeat = ((a.agent_id, a.stream, a.seq) for a in arrivals if a.seq <= highest[a.agent_id, a.stream])
    stored = {(agent, stream, seq): found for agent, stream, seq, found in stored_hashes(session, runs_of(may_repeat))}
    new, repeated, conflicts = [], 0, 0
    for arrival in arrivals:
        key = (arrival.agent_id, arrival.stream, arrival.seq)
        taken = stored.get(key)
        if taken is None and arrival.seq <= heads[key[:2]].upto:
            repeated += 1  # it was a tick, and was folded away
        elif taken is None:
            stored[key] = arrival.sha256
            new.append(arrival)
        elif taken == arrival.sha256:
            repeated += 1
        else:
            conflicts += 1
            _keep_conflict(session, arrival, now_ms)
    return new, repeated, conflicts


def _keep_conflict(session: Session, arrival: Arrival, now_ms: int) -> None:
    insert_if_absent(
        session,
        UsageConflict,
        {
            "agent_id": arrival.agent_id,
            "stream": arrival.stream,
            "seq": arrival.seq,
            "payload_sha256": arrival.sha256,
            "payload": arrival.payload,
            "received_at": from_ms(now_ms),
        },
    )
    where = f"{arrival.agent_id}/{arrival.stream}/{arrival.seq}"
    raise_alert(session, "usage_conflict", arrival.agent_id, f"a second content came for record {where}", now_ms)


def _insert_records(session: Session, new: Sequence[Arrival], now_ms: int) -> None:
    if not new:
        return
    insert_tuples(
        session,
        UsageRecordRow,
        _COLUMNS,
        [
            (
                a.agent_id,
                a.stream,
                a.seq,
                a.record.kind.value if a.record else PARKED,
                a.record.inst if a.record and a.record.inst != "_" else None,
                a.record.session if a.record else None,
                timestamp_ms(a.record.ts) if a.record else now_ms,
                a.payload,
                a.sha256,
                now_ms,
            )
            for a in new
        ],
    )


def _contiguous(session: Session, head: StreamHead, fresh: dict[int, Arrival], *, waiting: bool) -> list[Arrival]:
    """Return the records that now continue the stream's prefix: from this batch, and those that waited for it."""
    ready: list[Arrival] = []
    seq = head.upto + 1
    while seq in fresh:
        ready.append(fresh[seq])
        seq += 1
    if not ready or not waiting:
        return ready
    stored = session.execute(
        select(
            UsageRecordRow.seq,
            UsageRecordRow.kind,
            UsageRecordRow.payload,
            type_coerce(UsageRecordRow.received_at, BigInteger).label("received_ms"),
        )
        .where(
            UsageRecordRow.agent_id == head.agent_id,
            UsageRecordRow.stream == head.stream,
            UsageRecordRow.seq >= seq,
        )
        .order_by(UsageRecordRow.seq)
        .execution_options(yield_per=500)
    )
    for row in stored:
        if row.seq != seq:
            break
        record = stored_record(row.kind, row.payload)
        ready.append(Arrival(head.agent_id, head.stream, seq, row.payload, record, row.received_ms))
        seq += 1
    return ready
