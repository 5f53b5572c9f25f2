"""Take parked usage records in after all: they were not understood when they came, and now they are.

Called by `openlab quarantine replay`; those of one stream come together, for it is folded from its start. A record's
row stays what it was; a link of the chain says that from now on it
counts, and whoever folds the stream again folds it in its place. The sessions are then what they would have been had
it been understood at once. Because odometers are cumulative, most often nothing changes at all: the records after it
carried its time. What would change the use that a booking was given or a person classified is refused whole: that is
for people to correct, with a reversal and a new charge, and never for a program.
"""

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from store.errors import StoreError
from store.ledger.applying import closed_columns, open_columns, opening_columns, position_columns, session_statement
from store.ledger.chain import ChainBuilder, Statement
from store.ledger.flags import STREAM_LOST
from store.ledger.fold import OpenSession, SessionClosed, is_about_an_instrument
from store.ledger.loading import load_known
from store.ledger.refolding import (
    PARKED,
    Refold,
    dates_stay,
    stored_records,
    understood,
    unparked_reason,
    unparked_seqs,
)
from store.ledger.streams import StreamHead, StreamKey, lock_streams, save_heads
from store.ledger.writes import Writes, reading_subject
from store.tables.calendar import BookingUse, UnbookedUse
from store.tables.usage import EntryKind, UsageEntry, UsageRecordRow, UsageSession
from wire.messages import RecordKind, StreamKind, UsageRecord


class ReplayRefused(StoreError):
    """The record stays parked. `session_id` names the session in the way, None where it is something else."""

    def __init__(self, sentence: str, session_id: str | None = None) -> None:
        super().__init__(sentence)
        self.session_id = session_id


@dataclass(frozen=True)
class Unparked:
    """What taking a record in changed: sessions that began to exist, ended, or differ. None: its time was known."""

    new: tuple[str, ...]
    changed: tuple[str, ...]


def unpark(session: Session, key: StreamKey, records: Mapping[int, UsageRecord], now_ms: int, by: str) -> Unparked:
    """Let parked records of a stream, by their seq, count, under its row lock. Repeating it changes nothing.

    The caller has checked that the agent may speak for the instruments. All are taken in, or none: raises
    ReplayRefused, having changed nothing.
    """
    head = lock_streams(session, [key], StreamKind.USAGE, now_ms).get(key)
    if head is None:
        raise ReplayRefused(f"stream {key[0]}/{key[1]} is one of telemetry")
    unparked = unparked_seqs(session, key)
    late = {seq: records[seq] for seq in sorted(records.keys() - unparked)}
    if not late:
        return Unparked((), ())
    parked = set(
        session.scalars(
            select(UsageRecordRow.seq).where(
                UsageRecordRow.agent_id == key[0], UsageRecordRow.stream == key[1], UsageRecordRow.kind == PARKED
            )
        )
    )
    for seq in late:
        where = f"record {key[0]}/{key[1]}/{seq}"
        if seq not in parked:
            raise ReplayRefused(f"{where} is not parked in the ledger")
        if seq > head.upto:
            raise ReplayRefused(f"{where} waits for the ones before it; try again once they came")
    before, after = _both(session, head, unparked, late.keys())
    changed = _changed(before, after)
    to_match = _refuse_what_is_matched(session, head, late.values(), changed, before, after)
    moved = {inst for inst, stands in after.positions.items() if before.positions.get(inst) != stands}
    return _apply(session, head, late, changed, moved, to_match, after, now_ms, by)


def _both(session: Session, head: StreamHead, unparked: frozenset[int], late: Set[int]) -> tuple[Refold, Refold]:
    stay = dates_stay(session, head.key)
    before, after = Refold(stay), Refold(stay)
    for row in stored_records(session, head.key, head.upto):
        record = understood(row, unparked)
        if record is not None:
            before.take(record, row.received_ms)
            after.take(record, row.received_ms)
        elif row.seq in late:
            record = understood(row, frozenset(late))
            assert record is not None
            after.take(record, row.received_ms)
    return before, after


def _sessions(of: Refold) -> dict[str, SessionClosed | OpenSession]:
    running = {p.open.session_id: p.open for p in of.positions.values() if p.open is not None}
    return {**of.closed, **running}


def _changed(before: Refold, after: Refold) -> list[str]:
    was, will_be = _sessions(before), _sessions(after)
    return sorted(name for name, now in will_be.items() if was.get(name) != now)


def _refuse_what_is_matched(
    session: Session,
    head: StreamHead,
    late: Collection[UsageRecord],
    changed: Sequence[str],
    before: Refold,
    after: Refold,
) -> set[str]:
    """Refuse where use that was given to somebody would differ; withdraw what was found unbooked and nobody judged.

    Returns the sessions of which use was withdrawn: they are matched again.
    """
    withdrawn = set()
    around = session.execute(
        select(UsageSession.session_id, UsageSession.instrument_id, UsageSession.open_seq, UsageSession.last_seq).where(
            UsageSession.agent_id == head.agent_id,
            UsageSession.stream == head.stream,
            UsageSession.instrument_id.in_({record.inst for record in late}),
            UsageSession.open_seq < max(record.seq for record in late),
            UsageSession.last_seq > min(record.seq for record in late),
        )
    )
    spanning = [
        name for name, inst, first, last in around if any(inst == r.inst and first < r.seq < last for r in late)
    ]
    was, will_be = _sessions(before), _sessions(after)
    for name in sorted({*changed, *spanning}):
        row = session.get(UsageSession, name)
        if row is not None and STREAM_LOST in row.flags.split():
            raise ReplayRefused(f"session {name} was settled when its stream was over; correct it there", name)
        booked = session.scalars(select(BookingUse).where(BookingUse.session_id == name)).all()
        unbooked = session.scalars(select(UnbookedUse).where(UnbookedUse.session_id == name)).all()
        if not booked and not unbooked:
            continue
        same_use = _use(was.get(name)) == _use(will_be.get(name))
        if same_use and len(booked) + len(unbooked) == 1:
            continue  # one party has all of it, before and after
        if booked or any(part.purpose is not None for part in unbooked):
            raise ReplayRefused(f"session {name} has been given to a booking or classified; correct it there", name)
        session.execute(delete(UnbookedUse).where(UnbookedUse.session_id == name))
        withdrawn.add(name)
    return withdrawn


def _use(one: SessionClosed | OpenSession | None) -> object:
    """A session without its flags: what somebody is charged for."""
    if isinstance(one, SessionClosed):
        return replace(one, session=replace(one.session, flags=frozenset()))
    return None if one is None else replace(one, flags=frozenset())


def _apply(
    session: Session,
    head: StreamHead,
    late: Mapping[int, UsageRecord],
    changed: Sequence[str],
    moved: Set[str],
    to_match: set[str],
    after: Refold,
    now_ms: int,
    by: str,
) -> Unparked:
    known = load_known(session, [head], None, lambda _: [head.agent_id])
    chain, writes = ChainBuilder(head, by, now_ms), Writes()
    writes.to_match |= to_match
    at = head.chained_upto  # these links cover no record: those after the last link wait for the next one
    instruments: set[str] = set()
    for seq, record in late.items():
        if record.kind is RecordKind.CHECKIN:
            writes.to_check_in.add(reading_subject(head.agent_id, head.stream, seq))
        about = record.inst if is_about_an_instrument(record) else None
        instruments |= {about} if about is not None else set()
        chain.link(at, Statement(EntryKind.EVENT, about, None, None, 0, now_ms, now_ms, unparked_reason(seq)))
    existing = {
        row.session_id: row for row in session.scalars(select(UsageSession).where(UsageSession.session_id.in_(changed)))
    }
    for name in changed:
        closed = after.closed.get(name)
        instrument = name.partition(".")[0]
        if closed is not None:
            columns = closed_columns(closed)
            seqs = [seq for seq, record in late.items() if record.inst in (instrument, "_")]  # a clock is of all
            _state(session, chain, at, instrument, closed, existing.get(name), seqs)
            writes.to_match.add(name)
            opened = closed.session
        else:
            position = after.positions[instrument]
            assert position.open is not None
            opened = position.open
            columns = open_columns(position, opened)
        row = opening_columns(head, known, instrument, opened) | columns
        (writes.changed_sessions if name in existing else writes.new_sessions)[name] = row
    for about in sorted(instruments | moved):
        running = after.positions[about].open
        if running is not None and running.session_id not in changed:  # it may have come further
            columns = open_columns(after.positions[about], running)
            row = opening_columns(head, known, about, running) | columns
            writes.changed_sessions[running.session_id] = row
        where = {"agent_id": head.agent_id, "stream": head.stream, "instrument_id": about}
        row = where | position_columns(after.positions[about])
        is_known = about in known.positions.get(head.key, {})
        (writes.changed_positions if is_known else writes.new_positions)[head.key, about] = row
    session.expunge_all()  # the rows written below are not read through what was loaded before
    writes.links = chain.rows
    writes.write_out(session, now_ms)
    save_heads(session, [head], now_ms)
    new = tuple(name for name in changed if name not in existing)
    return Unparked(new, tuple(name for name in changed if name in existing))


def _state(
    session: Session,
    chain: ChainBuilder,
    at: int,
    instrument: str,
    closed: SessionClosed,
    row: UsageSession | None,
    seqs: Sequence[int],
) -> None:
    """State a session's running time: for the first time, or by taking the last statement back and making a new one."""
    statement = session_statement(instrument, closed)
    last = None
    if row is not None:
        last = session.execute(
            select(UsageEntry.revision, UsageEntry.quantity_ms, UsageEntry.from_at, UsageEntry.to_at)
            .where(UsageEntry.session_id == row.session_id, UsageEntry.metric == statement.metric)
            .order_by(UsageEntry.revision.desc())
            .limit(1)
        ).one_or_none()
    if last is None:
        chain.link(at, statement)
        return
    records = f"record {seqs[0]}" if len(seqs) == 1 else f"{len(seqs)} records from {seqs[0]} on"
    why = f"{records} {'was' if len(seqs) == 1 else 'were'} understood later"
    correction = replace(statement, kind=EntryKind.CORRECTION, reason=why)
    chain.link(at, replace(correction, quantity_ms=-last.quantity_ms, revision=last.revision + 1))
    chain.link(at, replace(correction, revision=last.revision + 2))
