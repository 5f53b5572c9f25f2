"""Read the usage ledger: a session's records, and the fold of a stream made again from its stored bytes."""

from collections.abc import Iterator

from sqlalchemy import bindparam, or_, select
from sqlalchemy.orm import Session

from store.ledger.applying import flags_text, position_columns
from store.ledger.chain import Fault
from store.ledger.dating import relabelled
from store.ledger.flags import DATED_AGAIN, STREAM_LOST
from store.ledger.fold import OpenSession, Position, SessionClosed, is_about_an_instrument
from store.ledger.refolding import (
    PARKED,
    STORED,
    Refold,
    StoredRecord,
    clocks_that_date,
    dates_stay,
    folded_ticks,
    stored_records,
    understood,
    unparked_seqs,
)
from store.tables.usage import MeterPosition, UsageRecordRow, UsageSession, UsageStream
from wire.clock import from_ms
from wire.messages import UsageRecord

_BETWEEN = (
    select(*STORED)
    .where(
        UsageRecordRow.agent_id == bindparam("agent"),
        UsageRecordRow.stream == bindparam("stream"),
        or_(UsageRecordRow.instrument_id == bindparam("instrument"), UsageRecordRow.kind == PARKED),
        UsageRecordRow.seq >= bindparam("first"),
        UsageRecordRow.seq <= bindparam("last"),
    )
    .order_by(UsageRecordRow.seq)
)


def session_records(session: Session, session_id: str) -> list[UsageRecord]:
    """Return the records of one session in the order of seq, from its open to its close (or newest) one.

    Between them every record of that instrument in the stream that is still kept: each carries the odometer at its
    end. In a session that was dated again when the clock was set, so are its records. Raises LookupError for an unknown
    session.
    """
    found = session.get(UsageSession, session_id)
    if found is None:
        raise LookupError(f"there is no session {session_id}")
    between = {"first": found.open_seq, "last": found.last_seq, "instrument": found.instrument_id}
    asked = {"agent": found.agent_id, "stream": found.stream, **between}
    rows = session.execute(_BETWEEN, asked).all()
    # Which parked records were taken in since stands somewhere in the chain: only looked for where one lies here.
    is_parked = any(row.kind == PARKED for row in rows)
    unparked = unparked_seqs(session, (found.agent_id, found.stream)) if is_parked else frozenset()
    stored = (StoredRecord(*row) for row in rows)
    records = ((understood(row, unparked), row.received_ms) for row in stored)
    kept = [
        (record, received_ms)
        for record, received_ms in records
        if record is not None and record.inst == found.instrument_id and is_about_an_instrument(record)
    ]
    if DATED_AGAIN in found.flags.split():
        return relabelled(kept, _dated_by(session, found), found.close_seq)
    return [record for record, _ in kept]


def _dated_by(session: Session, found: UsageSession) -> list[UsageRecord]:
    key = (found.agent_id, found.stream)
    upto = session.get_one(UsageStream, key).upto
    return clocks_that_date(session, key, found.session_id, found.open_seq, upto, dates_stay(session, key))


def refold(session: Session, agent_id: str, stream: str) -> Iterator[Fault]:
    """Fold a stream again from its stored records and yield every session or position row that differs.

    Where ticks were dropped and the chain says so (see `folded_upto`) what was kept gives the same sessions; anything
    else that is missing is a fault.
    """
    key = (agent_id, stream)
    head = session.get_one(UsageStream, key)
    folded, unparked = folded_ticks(session, key), unparked_seqs(session, key)
    again = Refold(dates_stay(session, key))
    expected = 1
    for row in stored_records(session, key, head.upto):
        if row.seq != expected and (folded is None or row.seq - 1 > folded.upto):
            first = expected if folded is None else max(expected, folded.upto + 1)
            yield Fault("usage_record", f"{agent_id}/{stream}/{first}", "the record is missing")
            return
        expected = row.seq + 1
        record = understood(row, unparked)
        if record is not None:
            again.take(record, row.received_ms)
    for name in sorted(again.closed):
        yield from _compare_session(session, again.closed[name])
    for opened in (position.open for position in again.positions.values() if position.open is not None):
        yield from _compare_open(session, opened)
    yield from _compare_positions(session, agent_id, stream, again.positions)


def folded_upto(session: Session, agent_id: str, stream: str) -> int:
    """Return up to which seq ticks of a stream were folded away, 0 where all records are there."""
    folded = folded_ticks(session, (agent_id, stream))
    return 0 if folded is None else folded.upto


def _compare_session(session: Session, closed: SessionClosed) -> Iterator[Fault]:
    row = session.get(UsageSession, closed.session.session_id)
    wanted = _begins(closed.session)
    # One that was ended because its stream seemed over stands where and when it stood then; its links say so.
    if row is not None and STREAM_LOST in row.flags.split():
        del wanted["started_at"]
    else:
        wanted |= {
            "close_seq": closed.close_seq,
            "ended_at": from_ms(closed.ended_ms),
            "odo_running_last_ms": closed.session.running_first_ms + closed.running_ms,
            "odo_unknown_last_ms": closed.session.unknown_first_ms + closed.unknown_ms,
            "flags": flags_text(closed.session.flags),
        }
    yield from _compare(session, closed.session.session_id, wanted)


def _compare_open(session: Session, opened: OpenSession) -> Iterator[Fault]:
    row = session.get(UsageSession, opened.session_id)
    wanted = _begins(opened)
    if row is not None and STREAM_LOST in row.flags.split():
        del wanted["started_at"]
    yield from _compare(session, opened.session_id, wanted)


def _begins(opened: OpenSession) -> dict[str, object]:
    return {
        "open_seq": opened.open_seq,
        "started_at": from_ms(opened.started_ms),
        "odo_running_first_ms": opened.running_first_ms,
        "odo_unknown_first_ms": opened.unknown_first_ms,
    }


def _compare(session: Session, session_id: str, wanted: dict[str, object]) -> Iterator[Fault]:
    row = session.get(UsageSession, session_id)
    if row is None:
        yield Fault("usage_session", session_id, "the session is missing")
        return
    for column, value in wanted.items():
        if getattr(row, column) != value:
            yield Fault("usage_session", session_id, f"{column} is {getattr(row, column)}, its records say {value}")
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
