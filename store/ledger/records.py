"""Commit usage records: the one way into the usage ledger. Called by the gateway, and by the demo's history.

In one transaction, under each stream's row lock: the unique key judges repeats, the contiguous prefix of the stream
is folded into positions and sessions, and the hash chain grows. Records may come in any order and any number of
times; the ledger is the same. The caller commits, and only then acknowledges.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import insert, select, tuple_
from sqlalchemy.orm import Session

from store.alerts import raise_alert
from store.canonical import GENESIS, sha256_hex
from store.ledger.applying import StreamFolder
from store.tables.usage import UsageConflict, UsageRecordRow, UsageStream
from store.upsert import insert_if_absent
from wire.clock import from_ms
from wire.messages import StreamKind, UsageRecord, timestamp_ms

MAX_HOLES = 100
_PARKED = "parked"
StreamKey = tuple[str, str]


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


@dataclass(frozen=True)
class StreamMark:
    """What may be acknowledged once the transaction is committed: all up to `upto`, but for `holes` above it."""

    upto: int
    holes: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class CommitResult:
    """What a batch came to."""

    marks: dict[StreamKey, StreamMark]
    appended: int
    repeated: int
    conflicts: int


def commit_usage(session: Session, arrivals: Sequence[Arrival], received_at_ms: int, recorded_by: str) -> CommitResult:
    """Store a batch and fold what became contiguous. The caller has checked that each agent may speak for each
    instrument (store.ledger.rights); raises whatever the database raises, and then nothing was stored."""
    keys = sorted({(a.agent_id, a.stream) for a in arrivals})
    streams = _locked_streams(session, keys, StreamKind.USAGE, received_at_ms)
    new, repeated, conflicts = _sort_out(session, arrivals, received_at_ms)
    _insert_records(session, new, received_at_ms)
    by_stream: dict[StreamKey, list[Arrival]] = defaultdict(list)
    for arrival in new:
        by_stream[arrival.agent_id, arrival.stream].append(arrival)
    marks = {}
    for key in keys:
        stream = streams[key]
        stream.last_seen_at = from_ms(received_at_ms)
        ready = _contiguous(session, stream, by_stream[key])
        if ready:
            folder = StreamFolder(session, stream, received_at_ms, recorded_by)
            stream.upto = ready[-1].seq
            folder.fold_all(ready)
        marks[key] = StreamMark(stream.upto, _holes(session, stream, by_stream[key]))
    session.flush()
    return CommitResult(marks, len(new), repeated, conflicts)


def stream_marks(session: Session, keys: Iterable[StreamKey]) -> dict[StreamKey, StreamMark]:
    """Return what is committed of some streams; a stream that was never heard of stands at 0."""
    wanted = sorted(set(keys))
    rows = session.scalars(
        select(UsageStream).where(tuple_(UsageStream.agent_id, UsageStream.stream).in_(wanted))
    ).all()
    known = {(row.agent_id, row.stream): row for row in rows}
    return {
        key: StreamMark(known[key].upto, _holes(session, known[key], ())) if key in known else StreamMark(0, ())
        for key in wanted
    }


def mark_telemetry(session: Session, key: StreamKey, committed: set[int], first_kept: int, now_ms: int) -> int:
    """Move the mark of a telemetry stream over what the series store holds; return the new mark.

    `committed` are seqs that were written; those that became part of the contiguous prefix are removed from the
    set. What the agent no longer keeps (below `first_kept`) is not waited for: telemetry may be dropped.
    """
    stream = _locked_streams(session, [key], StreamKind.TELEMETRY, now_ms)[key]
    upto = max(stream.upto, first_kept - 1)
    while upto + 1 in committed:
        upto += 1
    committed.difference_update({seq for seq in committed if seq <= upto})
    stream.upto = upto
    stream.last_seen_at = from_ms(now_ms)
    session.flush()
    return upto


def _locked_streams(
    session: Session, keys: Sequence[StreamKey], kind: StreamKind, now_ms: int
) -> dict[StreamKey, UsageStream]:
    # In the order of the keys, so that two gateways that share agents never wait for each other in a ring.
    for agent_id, stream in keys:
        insert_if_absent(
            session,
            UsageStream,
            {
                "agent_id": agent_id,
                "stream": stream,
                "kind": kind.value,
                "upto": 0,
                "chain_seq": 0,
                "chain_hash": GENESIS,
                "chained_upto": 0,
                "first_seen_at": from_ms(now_ms),
                "last_seen_at": from_ms(now_ms),
            },
        )
    rows = session.scalars(
        select(UsageStream)
        .where(tuple_(UsageStream.agent_id, UsageStream.stream).in_(keys))
        .order_by(UsageStream.agent_id, UsageStream.stream)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    return {(row.agent_id, row.stream): row for row in rows}


def _sort_out(session: Session, arrivals: Sequence[Arrival], now_ms: int) -> tuple[list[Arrival], int, int]:
    """Split a batch into what is new, repeats, and second contents under a taken key (kept as conflicts)."""
    stored = _stored_hashes(session, arrivals)
    new, repeated, conflicts = [], 0, 0
    for arrival in arrivals:
        key = (arrival.agent_id, arrival.stream, arrival.seq)
        digest = sha256_hex(arrival.payload)
        if key not in stored:
            stored[key] = digest
            new.append(arrival)
        elif stored[key] == digest:
            repeated += 1
        else:
            conflicts += 1
            _keep_conflict(session, arrival, digest, now_ms)
    return new, repeated, conflicts


def _stored_hashes(session: Session, arrivals: Sequence[Arrival]) -> dict[tuple[str, str, int], str]:
    keys = sorted({(a.agent_id, a.stream, a.seq) for a in arrivals})
    rows = session.execute(
        select(UsageRecordRow.agent_id, UsageRecordRow.stream, UsageRecordRow.seq, UsageRecordRow.payload_sha256).where(
            tuple_(UsageRecordRow.agent_id, UsageRecordRow.stream, UsageRecordRow.seq).in_(keys)
        )
    )
    return {(row.agent_id, row.stream, row.seq): row.payload_sha256 for row in rows}


def _keep_conflict(session: Session, arrival: Arrival, digest: str, now_ms: int) -> None:
    insert_if_absent(
        session,
        UsageConflict,
        {
            "agent_id": arrival.agent_id,
            "stream": arrival.stream,
            "seq": arrival.seq,
            "payload_sha256": digest,
            "payload": arrival.payload,
            "received_at": from_ms(now_ms),
        },
    )
    where = f"{arrival.agent_id}/{arrival.stream}/{arrival.seq}"
    raise_alert(session, "usage_conflict", arrival.agent_id, f"a second content came for record {where}", now_ms)


def _insert_records(session: Session, new: Sequence[Arrival], now_ms: int) -> None:
    if not new:
        return
    session.execute(
        insert(UsageRecordRow),
        [
            {
                "agent_id": a.agent_id,
                "stream": a.stream,
                "seq": a.seq,
                "kind": a.record.kind.value if a.record else _PARKED,
                "instrument_id": a.record.inst if a.record and a.record.inst != "_" else None,
                "session_id": a.record.session if a.record else None,
                "at": from_ms(timestamp_ms(a.record.ts) if a.record else now_ms),
                "payload": a.payload,
                "payload_sha256": sha256_hex(a.payload),
                "received_at": from_ms(now_ms),
            }
            for a in new
        ],
    )


def _contiguous(session: Session, stream: UsageStream, new: Sequence[Arrival]) -> list[Arrival]:
    """Return the records that now continue the stream's prefix: from this batch, and those that waited for it."""
    by_seq = {a.seq: a for a in new}
    if not by_seq or stream.upto + 1 not in by_seq:
        return []
    ready: list[Arrival] = []
    seq = stream.upto + 1
    while seq in by_seq:
        ready.append(by_seq[seq])
        seq += 1
    waiting = session.execute(
        select(UsageRecordRow.seq, UsageRecordRow.kind, UsageRecordRow.payload)
        .where(
            UsageRecordRow.agent_id == stream.agent_id,
            UsageRecordRow.stream == stream.stream,
            UsageRecordRow.seq >= seq,
        )
        .order_by(UsageRecordRow.seq)
        .execution_options(yield_per=500)
    )
    for row in waiting:
        if row.seq != seq:
            break
        ready.append(Arrival(stream.agent_id, stream.stream, seq, row.payload, stored_record(row.kind, row.payload)))
        seq += 1
    return ready


def stored_record(kind: str, payload: bytes) -> UsageRecord | None:
    """Return the record in a stored row, None for a parked one."""
    return None if kind == _PARKED else UsageRecord.model_validate_json(payload)


def _holes(session: Session, stream: UsageStream, new: Sequence[Arrival]) -> tuple[tuple[int, int], ...]:
    """Return the ranges missing between the mark and the highest record that is stored, at most MAX_HOLES."""
    if new and max(a.seq for a in new) <= stream.upto:
        return ()
    seqs = session.scalars(
        select(UsageRecordRow.seq)
        .where(
            UsageRecordRow.agent_id == stream.agent_id,
            UsageRecordRow.stream == stream.stream,
            UsageRecordRow.seq > stream.upto,
        )
        .order_by(UsageRecordRow.seq)
        .limit(10_000)
    )
    holes, expected = [], stream.upto + 1
    for seq in seqs:
        if seq > expected:
            holes.append((expected, seq - 1))
        expected = seq + 1
        if len(holes) == MAX_HOLES:
            break
    return tuple(holes)
