"""Read what a clock that is set now may date again: the labels of where a stream stands, and its sessions that ended.

Used by store.ledger.loading, under the stream's row lock, for streams in which a clock is set or the length of a hole
is told. A label is read from the stored record that it was on, and followed through the clocks of its stream since: so
it is what the fold, record by record, had made of it.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from store.ledger.chain import METRIC_RUNNING
from store.ledger.dating import WAITS_FOR_A_CLOCK, label_now
from store.ledger.flags import CLOSE_LOST, OPEN_LOST, STREAM_LOST
from store.ledger.fold import OpenSession, Position, SessionClosed, is_about_an_instrument
from store.ledger.labels import LABELS_WITHIN_MS, Label, begin_label, end_label, step_of
from store.ledger.refolding import PARKED, STORED, StoredRecord, clocks_set, dates_stay
from store.ledger.streams import StreamHead, StreamKey
from store.tables.calendar import BookingUse, UnbookedUse
from store.tables.usage import UsageEntry, UsageRecordRow, UsageSession
from wire.clock import to_ms
from wire.messages import UsageRecord

T = TypeVar("T")

_AT_ONCE = 500
Received = tuple[UsageRecord, int]
"""A record and when it was received (UTC milliseconds)."""


@dataclass(frozen=True)
class Undated:
    """A session that ended and that a clock may date again, or tell the length of a hole in it. `revision` is that of
    its last statement."""

    instrument_id: str
    closed: SessionClosed
    revision: int
    stated_ms: int
    is_matched: bool


def with_labels(session: Session, head: StreamHead, positions: Mapping[str, Position]) -> dict[str, Position]:
    """Return where a stream stands with the labels of its newest records and of the begins of its open sessions."""
    stands = positions.values()
    opens = {p.open.open_seq for p in stands if p.open is not None and OPEN_LOST not in p.open.flags}
    records = _records(session, head.key, opens | {p.last_seq for p in stands})
    clocks = clocks_set(session, head.key, min(records, default=0), head.upto)
    found = {}
    for inst, position in positions.items():
        newest = label_now(end_label(*records[position.last_seq]), position.last_seq, clocks, None)
        now = position.open
        if now is not None:
            begins, seq = _begin(session, head.key, now.session_id, now.open_seq, now.flags, records)
            now = replace(now, label=label_now(begins, seq, clocks, None))
        found[inst] = replace(position, label=newest, open=now)
    return found


def undated(session: Session, head: StreamHead, told: Iterable[UsageRecord]) -> list[Undated]:
    """Return the sessions that ended before the clocks `told`, and that one of them may change, in their order. Not
    those that keep the dates they had, because they had been matched when an earlier clock was set."""
    boots = {record.boot for record in told if abs(step_of(record) or 0) > LABELS_WITHIN_MS}
    mine = (
        UsageSession.agent_id == head.agent_id,
        UsageSession.stream == head.stream,
        UsageSession.ended_at.is_not(None),
    )
    waits = or_(*(UsageSession.flags.contains(flag) for flag in sorted(WAITS_FOR_A_CLOCK)))
    rows = {row.session_id: row for row in session.scalars(select(UsageSession).where(*mine, waits))}
    if boots:
        rows |= {row.session_id: row for row in _of_boots(session, head, boots)}
    stay = dates_stay(session, head.key) if rows else {}
    left = sorted(
        (row for name, row in rows.items() if name not in stay and STREAM_LOST not in row.flags.split()),
        key=lambda row: row.open_seq,
    )
    if not left:
        return []
    names = [row.session_id for row in left]
    opens = {row.open_seq for row in left if OPEN_LOST not in row.flags.split()}
    records = _records(session, head.key, opens | {row.close_seq or 0 for row in left})
    clocks = clocks_set(session, head.key, left[0].open_seq, head.upto)
    stated, matched = _stated(session, names), _matched(session, names)
    return [
        Undated(
            row.instrument_id,
            _closed(session, head.key, row, records, clocks),
            *stated[row.session_id],
            row.session_id in matched,
        )
        for row in left
    ]


def _of_boots(session: Session, head: StreamHead, boots: Collection[str]) -> Iterator[UsageSession]:
    """The sessions that ended in one of these boots, newest first: behind the first of another boot there is none."""
    seq = head.upto + 1
    while True:
        rows = session.scalars(
            select(UsageSession)
            .where(
                UsageSession.agent_id == head.agent_id,
                UsageSession.stream == head.stream,
                UsageSession.close_seq < seq,
            )
            .order_by(UsageSession.close_seq.desc())
            .limit(_AT_ONCE)
        ).all()
        records = _records(session, head.key, {row.close_seq or 0 for row in rows})
        for row in rows:
            seq = row.close_seq or 0
            if records[seq][0].boot not in boots:
                return
            yield row
        if len(rows) < _AT_ONCE:
            return


def _closed(
    session: Session, key: StreamKey, row: UsageSession, records: Mapping[int, Received], clocks: Sequence[UsageRecord]
) -> SessionClosed:
    assert row.close_seq is not None
    assert row.ended_at is not None
    flags = frozenset(row.flags.split())
    begins, begins_seq = _begin(session, key, row.session_id, row.open_seq, flags, records)
    ends, ends_seq, over_seq = end_label(*records[row.close_seq]), row.close_seq, row.close_seq
    if CLOSE_LOST in flags:
        # It ended when a record told so; where that one knows of no session, it ended where that one begins.
        behind, received_ms = _first(session, key, row.close_seq, UsageRecordRow.instrument_id == row.instrument_id)
        over_seq = behind.seq
        if behind.session is None:
            ends, ends_seq = begin_label(behind, received_ms), behind.seq
    return SessionClosed(
        OpenSession(
            row.session_id,
            row.open_seq,
            to_ms(row.started_at),
            row.odo_running_first_ms,
            row.odo_unknown_first_ms,
            flags,
            label_now(begins, begins_seq, clocks, over_seq),
        ),
        row.close_seq,
        to_ms(row.ended_at),
        row.odo_running_last_ms - row.odo_running_first_ms,
        row.odo_unknown_last_ms - row.odo_unknown_first_ms,
        label_now(ends, ends_seq, clocks, over_seq),
    )


def _begin(
    session: Session, key: StreamKey, name: str, open_seq: int, flags: Collection[str], records: Mapping[int, Received]
) -> tuple[Label, int]:
    """The label of a session's begin as its record says it, and that record: the first that names it where the one
    that opened it is lost."""
    if OPEN_LOST not in flags:
        return end_label(*records[open_seq]), open_seq
    record, received_ms = _first(session, key, open_seq, UsageRecordRow.session_id == name)
    return begin_label(record, received_ms), record.seq


def _first(session: Session, key: StreamKey, after_seq: int, which: ColumnElement[bool]) -> Received:
    """The first record of an instrument's time behind a seq that is like this: the fold met one."""
    rows = session.execute(
        select(*STORED)
        .where(
            UsageRecordRow.agent_id == key[0],
            UsageRecordRow.stream == key[1],
            UsageRecordRow.seq > after_seq,
            UsageRecordRow.kind != PARKED,
            which,
        )
        .order_by(UsageRecordRow.seq)
        .limit(_AT_ONCE)
    )
    return next(found for found in map(_received, rows) if is_about_an_instrument(found[0]))


def _records(session: Session, key: StreamKey, seqs: Collection[int]) -> dict[int, Received]:
    found: dict[int, Received] = {}
    for part in _parts(sorted(seqs)):
        rows = session.execute(
            select(*STORED).where(
                UsageRecordRow.agent_id == key[0], UsageRecordRow.stream == key[1], UsageRecordRow.seq.in_(part)
            )
        )
        found |= {row.seq: _received(row) for row in rows}
    return found


def _stated(session: Session, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """The revision and the quantity of what was stated last of each session."""
    found: dict[str, tuple[int, int]] = {}
    for part in _parts(names):
        rows = session.execute(
            select(UsageEntry.session_id, UsageEntry.revision, UsageEntry.quantity_ms)
            .where(UsageEntry.session_id.in_(part), UsageEntry.metric == METRIC_RUNNING)
            .order_by(UsageEntry.revision)
        )
        found |= {str(row[0]): (row[1], row[2]) for row in rows}
    return found


def _matched(session: Session, names: Sequence[str]) -> set[str]:
    return {
        name
        for part in _parts(names)
        for table in (BookingUse, UnbookedUse)
        for name in session.scalars(select(table.session_id).where(table.session_id.in_(part)))
    }


def _parts(found: Sequence[T]) -> Iterator[Sequence[T]]:
    return (found[start : start + _AT_ONCE] for start in range(0, len(found), _AT_ONCE))


def _received(row: Any) -> Received:
    stored = StoredRecord(*row)
    return UsageRecord.model_validate_json(stored.payload), stored.received_ms
