"""End what a stream left open when it will not go on: its spool was lost, its agent is no longer trusted, or no longer
watches the instrument.

Called by the worker's chore (api/usage/endings.py). The session ends where its last record leaves it, with a flag and a
statement in the stream's chain; the fold's own state is left alone. Should it go on after all, its records are kept and
its position moves, but what was settled stays (see StreamFolder).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import BigInteger, exists, func, or_, select, type_coerce
from sqlalchemy.orm import Session, aliased

from store.ledger.applying import closed_columns
from store.ledger.chain import METRIC_RUNNING, ChainBuilder, Statement
from store.ledger.flags import STREAM_LOST
from store.ledger.fold import OpenSession, SessionClosed, is_about_an_instrument
from store.ledger.streams import StreamKey, lock_streams, save_heads
from store.ledger.writes import Writes
from store.tables.registry import Agent, Metering
from store.tables.usage import EntryKind, MeterPosition, UsageRecordRow, UsageSession, UsageStream
from wire.clock import to_ms
from wire.messages import RecordKind, StreamKind, UsageRecord, timestamp_ms

STREAM_IS_OVER = "the stream is over"
UNWATCHED = "its agent no longer watches the instrument"


@dataclass(frozen=True)
class LeftOpen:
    """An open session whose last record is its last one, and why."""

    key: StreamKey
    session_id: str
    last_seq: int
    why: str


@dataclass(frozen=True)
class Ended:
    """A session that was ended where its last record leaves it, why, and the time behind it that nobody can account
    for."""

    session_id: str
    instrument_id: str
    running_ms: int
    unknown_ms: int
    why: str


def sessions_left_open(session: Session, now: datetime, quiet: timedelta, unwatched: timedelta) -> list[LeftOpen]:
    """Return the open sessions that will not go on, by the names of their streams.

    Those of a stream that nothing was heard on for `quiet`, whose instrument is accounted for by a stream that began
    later or an agent that speaks for it since, or whose agent was revoked. And those whose stream goes on about other
    instruments only, for more than `unwatched` of its agent's own time.
    """
    left = [
        *_of_streams_that_are_over(session, now, quiet),
        *_unwatched(session, unwatched // timedelta(milliseconds=1)),
    ]
    return sorted({one.session_id: one for one in reversed(left)}.values(), key=lambda one: (one.key, one.session_id))


def _of_streams_that_are_over(session: Session, now: datetime, quiet: timedelta) -> list[LeftOpen]:
    newer, position = aliased(UsageStream), aliased(MeterPosition)
    goes_on = (position.instrument_id == UsageSession.instrument_id, position.accounted_to > UsageSession.last_at)
    in_a_newer_stream = exists().where(
        *goes_on,
        newer.agent_id == position.agent_id,
        newer.stream == position.stream,
        newer.first_seen_at > UsageStream.first_seen_at,
    )
    by_its_next_agent = exists().where(
        *goes_on,
        position.agent_id != UsageSession.agent_id,
        Metering.instrument_id == UsageSession.instrument_id,
        Metering.agent_id == position.agent_id,
        Metering.effective_at > UsageSession.metering_from,
    )
    rows = session.execute(
        select(UsageSession.agent_id, UsageSession.stream, UsageSession.session_id, UsageSession.last_seq)
        .join(
            UsageStream,
            (UsageSession.agent_id == UsageStream.agent_id) & (UsageSession.stream == UsageStream.stream),
        )
        .join(Agent, Agent.agent_id == UsageStream.agent_id)
        .where(
            UsageSession.ended_at.is_(None),
            UsageStream.last_seen_at <= now - quiet,
            or_(Agent.revoked_at.is_not(None), in_a_newer_stream, by_its_next_agent),
        )
    )
    return [LeftOpen((agent, stream), name, seq, STREAM_IS_OVER) for agent, stream, name, seq in rows]


def _unwatched(session: Session, for_ms: int) -> list[LeftOpen]:
    """An agent writes of every instrument it watches, again and again, in the order of the stream."""
    mine, other = aliased(MeterPosition), aliased(MeterPosition)
    ahead_ms = type_coerce(other.accounted_to, BigInteger) - type_coerce(mine.accounted_to, BigInteger)
    rows = session.execute(
        select(mine, other, UsageSession.last_seq)
        .join(UsageSession, UsageSession.session_id == mine.open_session_id)
        .join(other, (other.agent_id == mine.agent_id) & (other.stream == mine.stream))
        .where(
            UsageSession.ended_at.is_(None),
            other.last_seq > mine.last_seq,
            or_(ahead_ms > for_ms, (other.boot == mine.boot) & (other.to_ms - mine.to_ms > for_ms)),
        )
        .order_by(mine.agent_id, mine.stream, mine.instrument_id, other.last_seq)
        .execution_options(populate_existing=True)
    )
    return [
        LeftOpen((position.agent_id, position.stream), str(position.open_session_id), last_seq, UNWATCHED)
        for position, ahead, last_seq in rows
        if _went_on_for(session, position.last_seq, ahead, for_ms)
    ]


def _went_on_for(session: Session, after_seq: int, ahead: MeterPosition, for_ms: int) -> bool:
    """Whether a stream went on for so long after a record, by the agent's own clock in one boot: its wall clock may
    have been set meanwhile, and behind a pause of all its instruments one is the first to speak again."""
    between = (
        UsageRecordRow.agent_id == ahead.agent_id,
        UsageRecordRow.stream == ahead.stream,
        UsageRecordRow.seq > after_seq,
        UsageRecordRow.seq < ahead.last_seq,
    )
    known = UsageRecordRow.kind.in_([kind.value for kind in RecordKind])
    if session.execute(select(UsageRecordRow.seq).where(*between, ~known).limit(1)).first() is not None:
        return False  # what is parked may be about this instrument
    seqs, payloads = UsageRecordRow.seq, select(UsageRecordRow.payload).where(*between).limit(1)
    long_ago = UsageRecordRow.at <= ahead.accounted_to - timedelta(milliseconds=for_ms)
    found = [
        *session.scalars(payloads.order_by(seqs)),
        *session.scalars(payloads.where(long_ago).order_by(seqs.desc())),
    ]
    records = (UsageRecord.model_validate_json(payload) for payload in found)
    return any(record.boot == ahead.boot and ahead.to_ms - record.to_ms >= for_ms for record in records)


def end_open_sessions(
    session: Session, key: StreamKey, left: Iterable[LeftOpen], now_ms: int, by: str
) -> Sequence[Ended]:
    """End open sessions of a stream at their last record, under the stream's row lock, and leave them to be matched.

    Repeating it changes nothing, and one that has gone on since it was judged is left alone.
    """
    judged = {one.session_id: one for one in left}
    head = lock_streams(session, [key], StreamKind.USAGE, now_ms)[key]
    rows = [
        row
        for row in session.scalars(
            select(UsageSession)
            .where(UsageSession.session_id.in_(judged), UsageSession.ended_at.is_(None))
            .order_by(UsageSession.open_seq)
            .execution_options(populate_existing=True)
        )
        if row.last_seq == judged[row.session_id].last_seq
    ]
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
        inst, name = row.instrument_id, row.session_id
        why = judged[name].why
        chain.link(at, Statement(EntryKind.SESSION, inst, name, METRIC_RUNNING, running_ms, began_ms, ended_ms, why))
        goes_on_ms = _goes_on_at(session, row, ended_ms)
        unknown_ms = 0 if goes_on_ms is None else max(0, goes_on_ms - ended_ms)
        if unknown_ms:
            span = (unknown_ms, ended_ms, ended_ms + unknown_ms)
            chain.link(at, Statement(EntryKind.UNKNOWN, inst, None, None, *span, f"{why}; another goes on here"))
        writes.changed_sessions[name] = {"session_id": name, **closed_columns(closed)}
        writes.to_match.add(name)
        ended.append(Ended(name, inst, running_ms, unknown_ms, why))
    session.expire_all()  # the rows written below are not read through what was loaded before
    writes.links = chain.rows
    writes.write_out(session, now_ms)
    save_heads(session, [head], now_ms)
    return ended


def _goes_on_at(session: Session, row: UsageSession, ended_ms: int) -> int | None:
    """When the next stream that accounts for the instrument began to (UTC milliseconds); None where there is none.

    A stream that began earlier is the next one where it speaks of the instrument for the first time behind the end.
    """
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
        select(UsageRecordRow.payload, UsageStream.first_seen_at > began)
        .join(
            UsageStream,
            (UsageStream.agent_id == UsageRecordRow.agent_id) & (UsageStream.stream == UsageRecordRow.stream),
        )
        .where(
            UsageRecordRow.instrument_id == row.instrument_id,
            or_(UsageStream.agent_id != row.agent_id, UsageStream.stream != row.stream),
            UsageRecordRow.seq == first_seq,
        )
    ).all()
    records = [(UsageRecord.model_validate_json(payload), is_newer) for payload, is_newer in firsts]
    starts = [(timestamp_ms(r.ts) - (r.to_ms - r.from_ms), newer) for r, newer in records if is_about_an_instrument(r)]
    return min((start for start, is_newer in starts if is_newer or start >= ended_ms), default=None)
