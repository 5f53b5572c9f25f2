"""Streams and their marks: lock them, say how far each is committed and what is missing below.

Used by store.ledger.records for usage and by the gateway for telemetry. All queries are over a whole batch of
streams at once: a county sends a batch from 82 streams, and a query for each would be most of the time of a commit.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from store.canonical import GENESIS
from store.database import insert_statement, update_many
from store.tables.usage import UsageRecordRow, UsageStream
from wire.clock import from_ms
from wire.messages import StreamKind

MAX_HOLES = 100
StreamKey = tuple[str, str]


@dataclass(frozen=True)
class StreamMark:
    """What may be acknowledged once the transaction is committed: all up to `upto`, but for `holes` above it."""

    upto: int
    holes: tuple[tuple[int, int], ...]


@dataclass
class StreamHead:
    """A locked stream while a batch is worked in: its mark and the head of its chain."""

    agent_id: str
    stream: str
    kind: str
    upto: int
    chain_seq: int
    chain_hash: str
    chained_upto: int

    @property
    def key(self) -> StreamKey:
        return self.agent_id, self.stream


@dataclass(frozen=True)
class Written:
    """What of a telemetry stream the series store holds beyond the mark, and below what its agent keeps nothing."""

    seqs: frozenset[int]
    first_kept: int


def lock_streams(
    session: Session, keys: Iterable[StreamKey], kind: StreamKind, now_ms: int
) -> dict[StreamKey, StreamHead]:
    """Lock streams, in the order of the keys, and return them; one that is new begins at 0.

    A stream that is known to be of the other kind is left out: nothing of this kind may move its mark.
    """
    wanted = sorted(set(keys))
    heads = _locked(session, wanted)
    missing = [key for key in wanted if key not in heads]
    if missing:
        # In the order of the keys again, and nobody who waits for an existing row has inserted one yet: two gateways
        # that share agents never wait for each other in a ring.
        now = from_ms(now_ms)
        session.execute(
            insert_statement(session, UsageStream).on_conflict_do_nothing(),
            [
                {
                    "agent_id": agent_id,
                    "stream": stream,
                    "kind": kind.value,
                    "upto": 0,
                    "chain_seq": 0,
                    "chain_hash": GENESIS,
                    "chained_upto": 0,
                    "first_seen_at": now,
                    "last_seen_at": now,
                }
                for agent_id, stream in missing
            ],
        )
        heads |= _locked(session, missing)
    return {key: head for key, head in heads.items() if head.kind == kind.value}


def save_heads(session: Session, heads: Iterable[StreamHead], now_ms: int) -> None:
    """Write locked streams back."""
    now = from_ms(now_ms)
    rows = [
        {
            "agent_id": head.agent_id,
            "stream": head.stream,
            "upto": head.upto,
            "chain_seq": head.chain_seq,
            "chain_hash": head.chain_hash,
            "chained_upto": head.chained_upto,
            "last_seen_at": now,
        }
        for head in heads
    ]
    update_many(session, UsageStream, ["agent_id", "stream"], rows)


def highest_stored(session: Session, keys: Sequence[StreamKey]) -> dict[StreamKey, int]:
    """Return the highest seq stored of each stream, 0 where there is none. Ask after locking: not before."""
    top = (
        select(func.max(UsageRecordRow.seq))
        .where(UsageRecordRow.agent_id == UsageStream.agent_id, UsageRecordRow.stream == UsageStream.stream)
        .correlate(UsageStream)
        .scalar_subquery()
    )
    rows = session.execute(
        select(UsageStream.agent_id, UsageStream.stream, top).where(
            tuple_(UsageStream.agent_id, UsageStream.stream).in_(keys)
        )
    )
    return {(row[0], row[1]): row[2] or 0 for row in rows}


def stream_marks(session: Session, keys: Iterable[StreamKey]) -> dict[StreamKey, StreamMark]:
    """Return what is committed of some streams; a stream that was never heard of stands at 0."""
    wanted = sorted(set(keys))
    if not wanted:
        return {}
    rows = session.execute(
        select(UsageStream.agent_id, UsageStream.stream, UsageStream.upto).where(
            tuple_(UsageStream.agent_id, UsageStream.stream).in_(wanted)
        )
    )
    known = {(row[0], row[1]): row[2] for row in rows}
    highest = highest_stored(session, wanted)
    return {
        key: StreamMark(known[key], stored_holes(session, key, known[key]) if highest.get(key, 0) > known[key] else ())
        if key in known
        else StreamMark(0, ())
        for key in wanted
    }


def mark_telemetry(session: Session, written: Mapping[StreamKey, Written], now_ms: int) -> dict[StreamKey, int]:
    """Move the marks of telemetry streams over what the series store holds; return the new marks.

    What an agent no longer keeps (below `first_kept`) is not waited for: telemetry may be dropped. A stream of usage
    gets no mark here and stays what it is.
    """
    heads = lock_streams(session, written, StreamKind.TELEMETRY, now_ms)
    for key, head in heads.items():
        head.upto = max(head.upto, written[key].first_kept - 1)
        while head.upto + 1 in written[key].seqs:
            head.upto += 1
    save_heads(session, heads.values(), now_ms)
    return {key: head.upto for key, head in heads.items()}


def stored_holes(session: Session, key: StreamKey, upto: int) -> tuple[tuple[int, int], ...]:
    """Return the ranges missing between a mark and the highest record that is stored, at most MAX_HOLES."""
    seqs = session.scalars(
        select(UsageRecordRow.seq)
        .where(UsageRecordRow.agent_id == key[0], UsageRecordRow.stream == key[1], UsageRecordRow.seq > upto)
        .order_by(UsageRecordRow.seq)
        .limit(10_000)
    )
    return holes_between(upto, seqs)


def holes_between(upto: int, seqs: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Return the ranges missing between `upto` and rising `seqs` above it, at most MAX_HOLES."""
    holes, expected = [], upto + 1
    for seq in seqs:
        if seq > expected:
            holes.append((expected, seq - 1))
        expected = seq + 1
        if len(holes) == MAX_HOLES:
            break
    return tuple(holes)


def _locked(session: Session, keys: Sequence[StreamKey]) -> dict[StreamKey, StreamHead]:
    rows = session.execute(
        select(
            UsageStream.agent_id,
            UsageStream.stream,
            UsageStream.kind,
            UsageStream.upto,
            UsageStream.chain_seq,
            UsageStream.chain_hash,
            UsageStream.chained_upto,
        )
        .where(tuple_(UsageStream.agent_id, UsageStream.stream).in_(keys))
        .order_by(UsageStream.agent_id, UsageStream.stream)
        .with_for_update()
    )
    return {(row.agent_id, row.stream): StreamHead(*row) for row in rows}
