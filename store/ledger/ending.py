"""End what a stream left open when it will not go on: its spool was lost, or its agent is no longer trusted.

Called by the worker's chore (api/usage/endings.py), one stream a transaction. The session ends where the stream's last
record leaves it, with a flag and a statement in the stream's chain; the fold's own state is left alone. Should the
stream go on after all, its records are kept and its position moves, but what was settled stays (see StreamFolder).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from store.ledger.applying import closed_columns
from store.ledger.chain import METRIC_RUNNING, ChainBuilder, Statement
from store.ledger.fold import STREAM_LOST, OpenSession, SessionClosed, is_about_an_instrument
from store.ledger.streams import StreamKey, lock_streams, save_heads
from store.ledger.writes import Writes
from store.tables.registry import Agent
from store.tables.usage import EntryKind, MeterPosition, UsageRecordRow, UsageSession, UsageStream
from wire.clock import to_ms
from wire.messages import RecordKind, StreamKind, UsageRecord, timestamp_ms


@dataclass(frozen=True)
class Ended:
    """A session that was ended because its stream is over, and the time behind it that nobody can account for."""

    session_id: str
    instrument_id: str
    running_ms: int
    unknown_ms: int


def streams_that_are_over(session: Session, now: datetime, quiet: timedelta) -> list[StreamKey]:
    """Return the streams with an open session that nothing was heard on for `quiet`, and whose instrument is accounted
    for by a stream that began later, or whose agent was revoked. By name."""
    newer, position = aliased(UsageStream), aliased(MeterPosition)
    goes_on_elsewhere = exists().where(
        position.instrument_id == UsageSession.instrument_id,
        position.accounted_to > UsageSession.last_at,
        newer.agent_id == position.agent_id,
        newer.stream == position.stream,
        newer.first_seen_at > UsageStream.first_seen_at,
    )
    rows = session.execute(
        select(UsageStream.agent_id, UsageStream.stream)
        .join(
            UsageSession,
            (UsageSession.agent_id == UsageStream.agent_id) & (UsageSession.stream == UsageStream.stream),
        )
        .join(Agent, Agent.agent_id == UsageStream.agent_id)
        .where(
            UsageSession.ended_at.is_(None),
            UsageStream.last_seen_at <= now - quiet,
            or_(Agent.revoked_at.is_not(None), goes_on_elsewhere),
        )
        .distinct()
        .order_by(UsageStream.agent_id, UsageStream.stream)
    )
    return [(row[0], row[1]) for row in rows]


def end_open_sessions(session: Session, key: StreamKey, now_ms: int, by: str) -> Sequence[Ended]:
    """End every open session of a stream at its last record, under the stream's row lock, and leave it to be matched.

    Repeating it changes nothing. The caller has judged that the stream is over.
    """
    head = lock_streams(session, [key], StreamKind.USAGE, now_ms)[key]
    rows = session.scalars(
        select(UsageSession)
        .where(
            UsageSession.agent_id == key[0],
            UsageSession.stream == key[1],
            UsageSession.ended_at.is_(None),
        )
        .order_by(UsageSession.open_seq)
    ).all()
    chain, writes, ended = ChainBuilder(head, by, now_ms), Writes(), []
    at = head.chained_upto  # these links cover no record: those after the last link wait for the next one
    for row in rows:
        running_ms = row.odo_running_last_ms - row.odo_running_first_ms
        closed = SessionClosed(
            OpenSession(
                row.session_id,
                row.open_seq,
                to_ms(row.started_at),
                row.odo_running_first_ms,
                row.odo_unknown_first_ms,
                frozenset(row.flags.split()) | {STREAM_LOST},
            ),
            close_seq=row.last_seq,
            ended_ms=to_ms(row.last_at),
            running_ms=running_ms,
            unknown_ms=row.odo_unknown_last_ms - row.odo_unknown_first_ms,
        )
        began_ms, ended_ms = closed.session.started_ms, closed.ended_ms
        why = "the stream is over"
        inst, name = row.instrument_id, row.session_id
        chain.link(at, Statement(EntryKind.SESSION, inst, name, METRIC_RUNNING, running_ms, began_ms, ended_ms, why))
        goes_on_ms = _goes_on_at(session, row)
        unknown_ms = 0 if goes_on_ms is None else max(0, goes_on_ms - ended_ms)
        if unknown_ms:
            span = (unknown_ms, ended_ms, ended_ms + unknown_ms)
            chain.link(at, Statement(EntryKind.UNKNOWN, inst, None, None, *span, f"{why}; another goes on here"))
        writes.changed_sessions[name] = {"session_id": name, **closed_columns(closed)}
        writes.to_match.add(name)
        ended.append(Ended(name, inst, running_ms, unknown_ms))
    session.expire_all()  # the rows written below are not read through what was loaded before
    writes.links = chain.rows
    writes.write_out(session, now_ms)
    save_heads(session, [head], now_ms)
    return ended


def _goes_on_at(session: Session, row: UsageSession) -> int | None:
    """When the next stream that accounts for the instrument began to (UTC milliseconds); None where there is none."""
    began = session.scalar(
        select(UsageStream.first_seen_at).where(UsageStream.agent_id == row.agent_id, UsageStream.stream == row.stream)
    )
    first_seq = (
        select(func.min(UsageRecordRow.seq))
        .where(
            UsageRecordRow.agent_id == UsageStream.agent_id,
            UsageRecordRow.stream == UsageStream.stream,
            UsageRecordRow.instrument_id == row.instrument_id,
            UsageRecordRow.kind.in_([kind.value for kind in RecordKind]),
        )
        .correlate(UsageStream)
        .scalar_subquery()
    )
    firsts = session.execute(
        select(UsageRecordRow.payload)
        .join(
            UsageStream,
            (UsageStream.agent_id == UsageRecordRow.agent_id) & (UsageStream.stream == UsageRecordRow.stream),
        )
        .where(
            UsageRecordRow.instrument_id == row.instrument_id,
            UsageStream.first_seen_at > began,
            UsageRecordRow.seq == first_seq,
        )
    ).scalars()
    records = (UsageRecord.model_validate_json(payload) for payload in firsts)
    starts = [timestamp_ms(r.ts) - (r.to_ms - r.from_ms) for r in records if is_about_an_instrument(r)]
    return min(starts, default=None)
