"""Usage recomputed from the records as they came: chains, sessions, and what of them was given to bookings.

Uses the ledger's own functions and the matching's odometer; both are pure over stored bytes.
"""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session, aliased

from api.booking.matching import MeteredSession, OdometerPoint
from api.booking.odometer import odometer_points
from api.verify.finding import Finding
from store.ledger import check_usage_chain, refold, session_records
from store.ledger.chain import Fault
from store.tables.calendar import BookingUse, UnbookedUse
from store.tables.usage import UsageRecordRow, UsageSession, UsageStream
from wire.clock import to_ms
from wire.messages import StreamKind


def usage_chains(session: Session) -> Iterator[Finding]:
    """Every record has its hash, every link follows from the one before and covers its records."""
    for agent_id, stream in _usage_streams(session):
        fault = check_usage_chain(session, agent_id, stream)
        if fault is not None:
            yield _finding(fault)


def sessions(session: Session) -> Iterator[Finding]:
    """Every session and position follows from folding its stream again.

    What is left of a stream whose old ticks were dropped gives the same; the chain vouches for what went.
    """
    for agent_id, stream in _usage_streams(session):
        yield from map(_finding, refold(session, agent_id, stream))
    opened, closed = aliased(UsageRecordRow), aliased(UsageRecordRow)
    rows = session.execute(
        select(UsageSession.session_id, opened.seq, closed.seq, UsageSession.close_seq)
        .outerjoin(opened, _record_at(opened, UsageSession.open_seq.expression))
        .outerjoin(closed, _record_at(closed, UsageSession.close_seq.expression))
        .where(opened.seq.is_(None) | (closed.seq.is_(None) & UsageSession.close_seq.is_not(None)))
        .order_by(UsageSession.session_id)
    )
    for row in rows:
        which = "opened" if row[1] is None else "closed"
        yield Finding("usage_session", row.session_id, f"the record that {which} it is missing")


def booking_use(session: Session) -> Iterator[Finding]:
    """What bookings (and nobody) were given of a session touches, adds up to it, and stands in its records."""
    matched = select(BookingUse.session_id).union(select(UnbookedUse.session_id)).subquery()
    ids = list(session.execute(select(matched.c.session_id).order_by(matched.c.session_id)).scalars())
    for session_id in ids:
        metered = session.get(UsageSession, session_id)
        if metered is None or metered.ended_at is None:
            yield Finding("usage_session", session_id, "it is matched but has not ended")
            continue
        yield from _parts_differ(session, metered)
        session.expunge(metered)


def stream_holds(session: Session, agent_id: str, stream: str) -> Iterator[Finding]:
    """One stream alone: its chain, its sessions, and what of them was given to bookings and to nobody."""
    fault = check_usage_chain(session, agent_id, stream)
    if fault is not None:
        yield _finding(fault)
    yield from map(_finding, refold(session, agent_id, stream))
    matched = select(BookingUse.session_id).union(select(UnbookedUse.session_id))
    rows = session.scalars(
        select(UsageSession).where(
            UsageSession.agent_id == agent_id,
            UsageSession.stream == stream,
            UsageSession.ended_at.is_not(None),
            UsageSession.session_id.in_(matched),
        )
    )
    for row in rows:
        yield from _parts_differ(session, row)


def _parts_differ(session: Session, row: UsageSession) -> Iterator[Finding]:
    first = OdometerPoint(to_ms(row.started_at), row.odo_running_first_ms, row.odo_unknown_first_ms)
    last = OdometerPoint(to_ms(row.last_at), row.odo_running_last_ms, row.odo_unknown_last_ms)
    points = odometer_points(session_records(session, row.session_id), first, last)
    metered = MeteredSession(row.session_id, points)
    reached = metered.from_ms
    for table, key, part in _parts(session, row.session_id):
        start, end = to_ms(part.from_at), to_ms(part.to_at)
        if start != reached:
            yield Finding(table, key, f"it starts at {start}, the part before ends at {reached}")
            return
        reached = end
        began = metered.at(start)
        ended = (points[-1].running_ms, points[-1].unknown_ms) if end == metered.to_ms else metered.at(end)
        wanted = (ended[0] - began[0], ended[1] - began[1])
        if (part.running_ms, part.unknown_ms) != wanted:
            stored = f"running {part.running_ms} ms, unknown {part.unknown_ms} ms"
            yield Finding(table, key, f"{stored}; the odometers say {wanted[0]} and {wanted[1]}")
            return
    if reached != metered.to_ms:
        yield Finding("usage_session", row.session_id, f"its parts end at {reached}, it ends at {metered.to_ms}")


def _parts(session: Session, session_id: str) -> list[tuple[str, str, BookingUse | UnbookedUse]]:
    """The parts of a session in time order; use that was given to a booking afterwards stands twice and counts once."""
    booked = session.execute(select(BookingUse).where(BookingUse.session_id == session_id)).scalars().all()
    given = {one.from_at for one in booked}
    unbooked = session.execute(select(UnbookedUse).where(UnbookedUse.session_id == session_id)).scalars().all()
    parts: list[tuple[str, str, BookingUse | UnbookedUse]] = [
        ("booking_use", f"{session_id}/{one.booking_id}", one) for one in booked
    ]
    parts += [
        ("unbooked_use", f"{session_id}/{to_ms(one.from_at)}", one) for one in unbooked if one.from_at not in given
    ]
    return sorted(parts, key=lambda part: (part[2].from_at, part[2].to_at))


def _usage_streams(session: Session) -> list[tuple[str, str]]:
    rows = session.execute(
        select(UsageStream.agent_id, UsageStream.stream)
        .where(UsageStream.kind == StreamKind.USAGE.value)
        .order_by(UsageStream.agent_id, UsageStream.stream)
    )
    return [(row.agent_id, row.stream) for row in rows]


def _record_at(record: type[UsageRecordRow], seq: ColumnElement[Any]) -> ColumnElement[bool]:
    return (record.agent_id == UsageSession.agent_id) & (record.stream == UsageSession.stream) & (record.seq == seq)


def _finding(fault: Fault) -> Finding:
    return Finding(fault.table, fault.key, fault.what)
