"""Apply the fold of a stream's new records: positions, sessions, chain links and due matching. Touches no database:
what it is told comes from store.ledger.loading, what it concludes goes into store.ledger.writes.

Used by store.ledger.records inside its transaction, under the stream's row lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from store.ledger.chain import LINK_AFTER_RECORDS, METRIC_RUNNING, ChainBuilder, Statement
from store.ledger.dating import HoleLength, date_closed, date_position, dates_kept, length_of, length_told
from store.ledger.flags import STREAM_LOST
from store.ledger.fold import (
    Effect,
    Oddity,
    OpenSession,
    Position,
    SessionClosed,
    SessionOpened,
    UnknownTime,
    fold,
    is_about_an_instrument,
)
from store.ledger.labels import step_of
from store.ledger.loading import Known
from store.ledger.memory import Pending
from store.ledger.refolding import dates_stay_reason
from store.ledger.streams import StreamHead
from store.ledger.undated import Undated
from store.ledger.writes import Row, Writes, reading_subject
from store.tables.usage import EntryKind
from wire.clock import from_ms
from wire.messages import RecordKind, UsageRecord

if TYPE_CHECKING:
    from store.ledger.records import Arrival


class StreamFolder:
    """Folds the next records of one stream."""

    def __init__(self, head: StreamHead, known: Known, writes: Writes, now_ms: int, recorded_by: str) -> None:
        self._head = head
        self._known = known
        self._writes = writes
        self._now_ms = now_ms
        self._stored = known.positions.get(head.key, {})
        self._positions: dict[str, Position] = dict(self._stored)
        self._chain = ChainBuilder(head, recorded_by, now_ms, known.pending.get(head.key))
        self._undated = {one.closed.session.session_id: one for one in known.undated.get(head.key, ())}

    def fold_all(self, arrivals: Sequence[Arrival]) -> Pending:
        """Fold records that continue the stream, in order. Returns the digest of what no link covers yet."""
        touched: set[str] = set()
        for arrival in arrivals:
            self._chain.cover(arrival.sha256)
            record = arrival.record
            if record is None:
                self._link_event(arrival.seq, None, "parked")
            elif not is_about_an_instrument(record):
                self._link_event(arrival.seq, None, record.kind.value)
                self._alarm(record)
                if (step_ms := step_of(record)) is not None:
                    touched |= self._date_again(record, step_ms)
                if (hole := length_of(record)) is not None:
                    touched |= self._tell_length(arrival.seq, hole)
                if record.kind is RecordKind.CHECKIN:
                    self._writes.to_check_in.add(reading_subject(self._head.agent_id, self._head.stream, record.seq))
            else:
                touched.add(record.inst)
                self._fold_one(record, self._now_ms if arrival.received_ms is None else arrival.received_ms)
            if self._chain.covered >= LINK_AFTER_RECORDS:
                now = self._now_ms
                self._chain.link(arrival.seq, Statement(EntryKind.FOLD, None, None, None, 0, now, now, ""))
        self._head.upto = arrivals[-1].seq
        for instrument in touched:
            self._write(self._positions[instrument])
        self._writes.links += self._chain.rows
        return self._chain.pending(self._head.upto)

    def _fold_one(self, record: UsageRecord, received_ms: int) -> None:
        position, effects = fold(self._positions.get(record.inst), record, received_ms)
        self._positions[record.inst] = position
        for effect in effects:
            self._apply(record, effect)
        if record.kind is RecordKind.FAULT:
            self._link_event(record.seq, record.inst, record.kind.value)

    def _apply(self, record: UsageRecord, effect: Effect) -> None:
        match effect:
            case SessionOpened(opened):
                self._writes.new_sessions[opened.session_id] = opening_columns(
                    self._head, self._known, record.inst, opened
                )
            case SessionClosed():
                self._close(record, effect)
            case UnknownTime():
                self._chain.link(
                    record.seq,
                    Statement(
                        EntryKind.UNKNOWN,
                        record.inst,
                        effect.session_id,
                        None,
                        effect.duration_ms,
                        effect.from_ms,
                        effect.to_ms,
                        "",
                    ),
                )
            case Oddity(rule, detail):
                self._writes.alert(rule, record.inst, detail)

    def _close(self, record: UsageRecord, closed: SessionClosed) -> None:
        name = closed.session.session_id
        if STREAM_LOST in closed.session.flags:
            # It was ended, stated and matched when the stream seemed over. What came after is for people to correct.
            told = f"session {name} was settled when its stream seemed over; its meter says {closed.running_ms} ms"
            self._writes.alert("use_after_stream_end", record.inst, told)
            return
        self._write_session(name, closed_columns(closed))
        self._chain.link(record.seq, session_statement(record.inst, closed))
        self._writes.to_match.add(name)
        self._undated[name] = Undated(record.inst, closed, 1, closed.running_ms, is_matched=False)

    def _date_again(self, clock: UsageRecord, step_ms: int) -> set[str]:
        """Date again what this boot dated before its clock was set; return the instruments that stand elsewhere now."""
        touched = set()
        for inst, position in self._positions.items():
            dated = date_position(position, clock, step_ms)
            if dated is None:
                continue
            self._positions[inst] = dated
            touched.add(inst)
            if dated.open is not None and STREAM_LOST not in dated.open.flags:
                row = opening_columns(self._head, self._known, inst, dated.open) | open_columns(dated, dated.open)
                self._redate(dated.open.session_id, row)
        for name, one in list(self._undated.items()):
            closed = date_closed(one.closed, clock, step_ms)
            if closed is None:
                continue
            if one.is_matched:
                # Somebody was given this use by the date it had. That is for people to correct.
                del self._undated[name]
                self._link_event(clock.seq, one.instrument_id, dates_stay_reason(name))
                self._write_session(name, closed_columns(dates_kept(one.closed)))
                self._writes.to_match.add(name)
                told = f"session {name} was matched before its clock was set, by {step_ms} ms"
                self._writes.alert("dated_too_late", one.instrument_id, told)
                continue
            statement = replace(
                session_statement(one.instrument_id, closed), kind=EntryKind.CORRECTION, reason="the clock was set"
            )
            reversal = replace(statement, quantity_ms=-one.stated_ms, revision=one.revision + 1)
            self._chain.link(clock.seq, reversal)
            self._chain.link(clock.seq, replace(statement, revision=one.revision + 2))
            row = opening_columns(self._head, self._known, one.instrument_id, closed.session) | closed_columns(closed)
            self._redate(name, row)
            self._writes.to_match.add(name)
            self._undated[name] = replace(one, closed=closed, revision=one.revision + 2)
        return touched

    def _tell_length(self, seq: int, hole: HoleLength) -> set[str]:
        """Take the length of a hole into the session that it lies in; return its instrument if that session is open."""
        inst, touched = hole.instrument_id, set[str]()
        position = self._positions.get(inst)
        if position is None:
            return touched  # this stream never spoke of it
        self._link_event(seq, inst, hole.reason())
        if position.open is not None:
            opened = length_told(position.open, None, hole)
            if opened is not None:
                self._positions[inst] = replace(position, open=opened)
                touched.add(inst)
        for name, one in list(self._undated.items()):
            told = length_told(one.closed.session, one.closed.close_seq, hole) if one.instrument_id == inst else None
            if told is not None:
                closed = replace(one.closed, session=told)
                self._write_session(name, closed_columns(closed))
                self._writes.to_match.add(name)
                self._undated[name] = replace(one, closed=closed)
        return touched

    def _redate(self, name: str, row: Row) -> None:
        if name in self._writes.new_sessions:
            self._writes.new_sessions[name].update(row)
        else:
            self._writes.changed_sessions.pop(name, None)
            self._writes.dated_sessions[name] = row

    def _write_session(self, name: str, columns: Row) -> None:
        for rows in (self._writes.new_sessions, self._writes.dated_sessions):
            if name in rows:
                rows[name].update(columns)
                return
        self._writes.changed_sessions[name] = {"session_id": name, **columns}

    def _write(self, position: Position) -> None:
        if position.open is not None and STREAM_LOST not in position.open.flags:
            self._write_session(position.open.session_id, open_columns(position, position.open))
        key = (self._head.key, position.instrument_id)
        row = {
            "agent_id": self._head.agent_id,
            "stream": self._head.stream,
            "instrument_id": position.instrument_id,
            **position_columns(position),
        }
        if position.instrument_id in self._stored:
            self._writes.changed_positions[key] = row
        else:
            self._writes.new_positions[key] = row

    def _alarm(self, record: UsageRecord) -> None:
        """What an agent reports of itself is of no use unless a person hears of it."""
        if record.kind in (RecordKind.FAULT, RecordKind.SPOOL_LOST):
            said = ", ".join(f"{name} {value}" for name, value in sorted(record.detail.items()))
            self._writes.alert(f"{record.kind.value}_{record.reason or 'unnamed'}", self._head.agent_id, said)

    def _link_event(self, seq: int, instrument: str | None, reason: str) -> None:
        now = self._now_ms
        self._chain.link(seq, Statement(EntryKind.EVENT, instrument, None, None, 0, now, now, reason))


def opening_columns(head: StreamHead, known: Known, instrument: str, opened: OpenSession) -> Row:
    """Return the columns of `usage_session` that follow from its begin. Raises LookupError without a metering fact."""
    started = from_ms(opened.started_ms)
    return {
        "session_id": opened.session_id,
        "instrument_id": instrument,
        "agent_id": head.agent_id,
        "stream": head.stream,
        "metering_from": known.metering_at(instrument, head.agent_id, started),
        "open_seq": opened.open_seq,
        "started_at": started,
        "odo_running_first_ms": opened.running_first_ms,
        "odo_unknown_first_ms": opened.unknown_first_ms,
    }


def session_statement(instrument: str, closed: SessionClosed) -> Statement:
    """Return what the chain states of a session that ended."""
    return Statement(
        EntryKind.SESSION,
        instrument,
        closed.session.session_id,
        METRIC_RUNNING,
        closed.running_ms,
        closed.session.started_ms,
        closed.ended_ms,
        "",
    )


def flags_text(flags: frozenset[str]) -> str:
    """Return flags as they are stored: sorted, separated by spaces."""
    return " ".join(sorted(flags))


def closed_columns(closed: SessionClosed) -> Row:
    """Return the columns of `usage_session` that follow from its end."""
    ended = from_ms(closed.ended_ms)
    return {
        "last_seq": closed.close_seq,
        "close_seq": closed.close_seq,
        "open_slot": None,
        "last_at": ended,
        "ended_at": ended,
        "odo_running_last_ms": closed.session.running_first_ms + closed.running_ms,
        "odo_unknown_last_ms": closed.session.unknown_first_ms + closed.unknown_ms,
        "flags": flags_text(closed.session.flags),
    }


def open_columns(position: Position, opened: OpenSession) -> Row:
    """Return the columns of `usage_session` of a session that runs on: it stands at its last durable odometer."""
    return {
        "last_seq": position.last_seq,
        "close_seq": None,
        "open_slot": 1,
        "last_at": from_ms(max(opened.started_ms, position.at_ms)),
        "ended_at": None,
        "odo_running_last_ms": position.odo.running,
        "odo_unknown_last_ms": position.odo.unknown,
        "flags": flags_text(opened.flags),
    }


def position_columns(position: Position) -> dict[str, Any]:
    """Return the columns of `meter_position` that hold a position."""
    return {
        "last_seq": position.last_seq,
        "boot": position.boot,
        "to_ms": position.to_ms,
        "accounted_to": from_ms(position.at_ms),
        "state": position.state.value,
        "odo_off_ms": position.odo.off,
        "odo_standby_ms": position.odo.standby,
        "odo_running_ms": position.odo.running,
        "odo_unknown_ms": position.odo.unknown,
        "sessions": position.sessions,
        "open_session_id": position.open.session_id if position.open else None,
    }
