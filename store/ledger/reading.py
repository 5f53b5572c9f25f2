"""Read the usage ledger: a session's records, and the fold of a stream made again from its stored bytes."""

from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.ledger.applying import flags_text, position_columns
from store.ledger.chain import Fault
from store.ledger.fold import Position, SessionClosed, fold, is_about_an_instrument
from store.ledger.records import stored_record
from store.tables.usage import MeterPosition, UsageRecordRow, UsageSession, UsageStream
from wire.clock import from_ms
from wire.messages import UsageRecord


def session_records(session: Session, session_id: str) -> list[UsageRecord]:
    """Return the records of one session in the order of seq, from its open to its close (or newest) one.

    Between them every record of that instrument in the stream: each carries the odometer at its end.
    Raises LookupError for an unknown session.
    """
    found = session.get(UsageSession, session_id)
    if found is None:
        raise LookupError(f"there is no session {session_id}")
    rows = session.execute(
        select(UsageRecordRow.kind, UsageRecordRow.payload)
        .where(
            UsageRecordRow.agent_id == found.agent_id,
            UsageRecordRow.stream == found.stream,
            UsageRecordRow.instrument_id == found.instrument_id,
            UsageRecordRow.seq >= found.open_seq,
            UsageRecordRow.seq <= found.last_seq,
        )
        .order_by(UsageRecordRow.seq)
    )
    records = (stored_record(row.kind, row.payload) for row in rows)
    return [record for record in records if record is not None and is_about_an_instrument(record)]


def refold(session: Session, agent_id: str, stream: str) -> Iterator[Fault]:
    """Fold a stream again from its stored records and yield every session or position row that differs.

    Needs all records of the stream: one whose ticks were dropped cannot be folded again and is reported as such.
    """
    head = session.get_one(UsageStream, (agent_id, stream))
    rows = session.execute(
        select(UsageRecordRow.seq, UsageRecordRow.kind, UsageRecordRow.payload)
        .where(UsageRecordRow.agent_id == agent_id, UsageRecordRow.stream == stream, UsageRecordRow.seq <= head.upto)
        .order_by(UsageRecordRow.seq)
        .execution_options(yield_per=1000)
    )
    positions: dict[str, Position] = {}
    expected = 1
    for row in rows:
        if row.seq != expected:
            yield Fault("usage_record", f"{agent_id}/{stream}/{expected}", "the record is missing")
            return
        expected += 1
        record = stored_record(row.kind, row.payload)
        if record is None or not is_about_an_instrument(record):
            continue
        positions[record.inst], effects = fold(positions.get(record.inst), record)
        for effect in effects:
            if isinstance(effect, SessionClosed):
                yield from _compare_session(session, effect)
    yield from _compare_positions(session, agent_id, stream, positions)


def _compare_session(session: Session, closed: SessionClosed) -> Iterator[Fault]:
    key = closed.session.session_id
    row = session.get(UsageSession, key)
    if row is None:
        yield Fault("usage_session", key, "the session is missing")
        return
    wanted = {
        "open_seq": closed.session.open_seq,
        "close_seq": closed.close_seq,
        "started_at": from_ms(closed.session.started_ms),
        "ended_at": from_ms(closed.ended_ms),
        "odo_running_first_ms": closed.session.running_first_ms,
        "odo_running_last_ms": closed.session.running_first_ms + closed.running_ms,
        "odo_unknown_first_ms": closed.session.unknown_first_ms,
        "odo_unknown_last_ms": closed.session.unknown_first_ms + closed.unknown_ms,
        "flags": flags_text(closed.session.flags),
    }
    for column, value in wanted.items():
        if getattr(row, column) != value:
            yield Fault("usage_session", key, f"{column} is {getattr(row, column)}, its records say {value}")
            return


def _compare_positions(session: Session, agent_id: str, stream: str, positions: dict[str, Position]) -> Iterator[Fault]:
    stored = {
        row.instrument_id: row
        for row in session.scalars(
            select(MeterPosition).where(MeterPosition.agent_id == agent_id, MeterPosition.stream == stream)
        )
    }
    for instrument in sorted(set(stored) | set(positions)):
        key = f"{agent_id}/{stream}/{instrument}"
        if instrument not in stored or instrument not in positions:
            yield Fault("meter_position", key, "the position and the records do not both exist")
            continue
        for column, value in position_columns(positions[instrument]).items():
            if getattr(stored[instrument], column) != value:
                yield Fault("meter_position", key, f"{column} does not follow from the records")
                break
