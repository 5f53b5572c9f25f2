"""Apply the fold of a stream's new records to the tables: positions, sessions, chain links and due matching.

Used by store.ledger.records inside its transaction, under the stream's row lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from store.alerts import raise_alert
from store.canonical import sha256_hex
from store.ledger.chain import LINK_AFTER_RECORDS, METRIC_RUNNING, ChainBuilder, Statement
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
from store.ledger.rights import metering_at
from store.tables.calendar import Due, DueKind
from store.tables.usage import EntryKind, MeterPosition, UsageEntry, UsageRecordRow, UsageSession, UsageStream
from store.upsert import insert_if_absent
from wire.clock import from_ms, to_ms
from wire.messages import Odometer, PowerState, RecordKind, UsageRecord

if TYPE_CHECKING:
    from store.ledger.records import Arrival


class StreamFolder:
    """Folds the next records of one stream."""

    def __init__(self, session: Session, stream: UsageStream, now_ms: int, recorded_by: str) -> None:
        self._session = session
        self._stream = stream
        self._now_ms = now_ms
        self._chain = ChainBuilder(stream, recorded_by, now_ms)
        self._sessions: dict[str, UsageSession] = {}
        self._rows = {
            row.instrument_id: row
            for row in session.scalars(
                select(MeterPosition).where(
                    MeterPosition.agent_id == stream.agent_id, MeterPosition.stream == stream.stream
                )
            )
        }
        self._positions: dict[str, Position] = {
            instrument: position_of(row, self._open_session(row)) for instrument, row in self._rows.items()
        }
        self._cover_unlinked()

    def fold_all(self, arrivals: Sequence[Arrival]) -> None:
        """Fold records that continue the stream, in order, and write out everything that follows from them."""
        touched: set[str] = set()
        for arrival in arrivals:
            self._chain.cover(sha256_hex(arrival.payload))
            record = arrival.record
            if record is None:
                self._link_event(arrival.seq, None, "parked")
            elif not is_about_an_instrument(record):
                self._link_event(arrival.seq, None, record.kind.value)
            else:
                touched.add(record.inst)
                self._fold_one(record)
            if self._chain.covered >= LINK_AFTER_RECORDS:
                now = self._now_ms
                self._chain.link(arrival.seq, Statement(EntryKind.FOLD, None, None, None, 0, now, now, ""))
        for instrument in touched:
            self._write_position(self._positions[instrument])
        self._session.flush()
        if self._chain.rows:
            self._session.execute(insert(UsageEntry), self._chain.rows)

    def _fold_one(self, record: UsageRecord) -> None:
        position, effects = fold(self._positions.get(record.inst), record)
        self._positions[record.inst] = position
        for effect in effects:
            self._apply(position, record, effect)
        if position.open is not None:
            self._advance(position.open, position)
        if record.kind in (RecordKind.CHECKIN, RecordKind.FAULT):
            self._link_event(record.seq, record.inst, record.kind.value)

    def _apply(self, position: Position, record: UsageRecord, effect: Effect) -> None:
        match effect:
            case SessionOpened(opened):
                self._open(opened, record)
            case SessionClosed():
                self._close(position, record, effect)
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
                raise_alert(self._session, rule, record.inst, detail, self._now_ms)

    def _open(self, opened: OpenSession, record: UsageRecord) -> None:
        started = from_ms(opened.started_ms)
        metering = metering_at(self._session, record.inst, self._stream.agent_id, started)
        row = UsageSession(
            session_id=opened.session_id,
            instrument_id=record.inst,
            agent_id=self._stream.agent_id,
            stream=self._stream.stream,
            metering_from=metering,
            open_seq=opened.open_seq,
            last_seq=opened.open_seq,
            close_seq=None,
            open_slot=1,
            started_at=started,
            last_at=started,
            ended_at=None,
            odo_running_first_ms=opened.running_first_ms,
            odo_running_last_ms=opened.running_first_ms,
            odo_unknown_first_ms=opened.unknown_first_ms,
            odo_unknown_last_ms=opened.unknown_first_ms,
            flags=flags_text(opened.flags),
        )
        self._session.add(row)
        self._sessions[opened.session_id] = row

    def _advance(self, opened: OpenSession, position: Position) -> None:
        row = self._sessions[opened.session_id]
        row.last_seq = position.last_seq
        row.last_at = max(row.last_at, from_ms(position.at_ms))
        row.odo_running_last_ms = position.odo.running
        row.odo_unknown_last_ms = position.odo.unknown
        row.flags = flags_text(opened.flags)

    def _close(self, position: Position, record: UsageRecord, closed: SessionClosed) -> None:
        row = self._sessions[closed.session.session_id]
        ended = from_ms(closed.ended_ms)
        row.last_seq = row.close_seq = closed.close_seq
        row.open_slot = None
        row.ended_at = row.last_at = ended
        row.odo_running_last_ms = closed.session.running_first_ms + closed.running_ms
        row.odo_unknown_last_ms = closed.session.unknown_first_ms + closed.unknown_ms
        row.flags = flags_text(closed.session.flags)
        # The next session of the instrument takes the open slot: this one must have left it in the database.
        self._session.flush()
        self._chain.link(
            record.seq,
            Statement(
                EntryKind.SESSION,
                record.inst,
                row.session_id,
                METRIC_RUNNING,
                closed.running_ms,
                closed.session.started_ms,
                closed.ended_ms,
                "",
            ),
        )
        insert_if_absent(
            self._session,
            Due,
            {
                "kind": DueKind.MATCH_SESSION.value,
                "subject_id": row.session_id,
                "due_at": from_ms(self._now_ms),
                "attempts": 0,
                "last_error": "",
            },
        )

    def _link_event(self, seq: int, instrument: str | None, reason: str) -> None:
        now = self._now_ms
        self._chain.link(seq, Statement(EntryKind.EVENT, instrument, None, None, 0, now, now, reason))

    def _cover_unlinked(self) -> None:
        """Take up the records after the last link again: their digest was not kept, their hashes were."""
        stream = self._stream
        hashes = self._session.scalars(
            select(UsageRecordRow.payload_sha256)
            .where(
                UsageRecordRow.agent_id == stream.agent_id,
                UsageRecordRow.stream == stream.stream,
                UsageRecordRow.seq > stream.chained_upto,
                UsageRecordRow.seq <= stream.upto,
            )
            .order_by(UsageRecordRow.seq)
        )
        for digest in hashes:
            self._chain.cover(digest)

    def _open_session(self, row: MeterPosition) -> UsageSession | None:
        if row.open_session_id is None:
            return None
        session = self._session.get_one(UsageSession, row.open_session_id)
        self._sessions[session.session_id] = session
        return session

    def _write_position(self, position: Position) -> None:
        row = self._rows.get(position.instrument_id)
        values = position_columns(position)
        if row is None:
            row = MeterPosition(
                agent_id=self._stream.agent_id,
                stream=self._stream.stream,
                instrument_id=position.instrument_id,
                **values,
            )
            self._rows[position.instrument_id] = row
            self._session.add(row)
            return
        for column, value in values.items():
            setattr(row, column, value)


def flags_text(flags: frozenset[str]) -> str:
    """Return flags as they are stored: sorted, separated by spaces."""
    return " ".join(sorted(flags))


def position_columns(position: Position) -> dict[str, object]:
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


def position_of(row: MeterPosition, opened: UsageSession | None) -> Position:
    """Return the position that a stored row (and its open session) stands for."""
    return Position(
        instrument_id=row.instrument_id,
        last_seq=row.last_seq,
        boot=row.boot,
        to_ms=row.to_ms,
        at_ms=to_ms(row.accounted_to),
        state=PowerState(row.state),
        odo=Odometer(
            off=row.odo_off_ms, standby=row.odo_standby_ms, running=row.odo_running_ms, unknown=row.odo_unknown_ms
        ),
        sessions=row.sessions,
        open=None
        if opened is None
        else OpenSession(
            session_id=opened.session_id,
            open_seq=opened.open_seq,
            started_ms=to_ms(opened.started_at),
            running_first_ms=opened.odo_running_first_ms,
            unknown_first_ms=opened.odo_unknown_first_ms,
            flags=frozenset(opened.flags.split()),
        ),
    )
