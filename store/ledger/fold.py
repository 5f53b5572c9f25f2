"""Fold usage records into positions and sessions: pure, one record at a time, in the order of the stream.

The same prefix of a stream gives the same sessions whoever folds it, so `verify` can fold it again. Time is billed
from differences of the odometer; where intervals do not touch or odometers do not fit, that is said (`Oddity`) and
the odometer still decides.
"""

from dataclasses import dataclass, replace

from wire.ids import session_id
from wire.messages import Odometer, PowerState, RecordKind, UsageRecord, timestamp_ms


@dataclass(frozen=True)
class OpenSession:
    """A session that has begun and not ended: where its odometers stood at the start."""

    session_id: str
    open_seq: int
    started_ms: int
    running_first_ms: int
    unknown_first_ms: int
    flags: frozenset[str]


@dataclass(frozen=True)
class Position:
    """How far one instrument is accounted for. Wall times (`at_ms`) are labels, `to_ms` is the agent's own clock."""

    instrument_id: str
    last_seq: int
    boot: str
    to_ms: int
    at_ms: int
    state: PowerState
    odo: Odometer
    sessions: int
    open: OpenSession | None


@dataclass(frozen=True)
class SessionOpened:
    """A session began at the end of this record's interval."""

    session: OpenSession


@dataclass(frozen=True)
class SessionClosed:
    """A session ended. Running time is the difference of the odometers, never a sum of messages."""

    session: OpenSession
    close_seq: int
    ended_ms: int
    running_ms: int
    unknown_ms: int


@dataclass(frozen=True)
class UnknownTime:
    """Time for which nobody can say what the instrument did."""

    session_id: str | None
    from_ms: int
    to_ms: int
    duration_ms: int


@dataclass(frozen=True)
class Oddity:
    """Something in the stream that does not fit; `rule` is a stable code, `detail` says what was seen."""

    rule: str
    detail: str


Effect = SessionOpened | SessionClosed | UnknownTime | Oddity

_TAKE_NO_TIME = frozenset({RecordKind.CONFIG, RecordKind.SPOOL_LOST, RecordKind.CLOCK, RecordKind.CHECKIN})


def fold(before: Position | None, record: UsageRecord) -> tuple[Position, tuple[Effect, ...]]:
    """Return where the instrument stands after `record`, and what happened.

    `before` is None for the first record of the instrument in its stream. Never raises for what a record says.
    """
    at_ms = timestamp_ms(record.ts)
    effects: list[Effect] = list(_oddities(before, record))
    odo = record.odo if before is None else _higher(before.odo, record.odo)
    unknown_before = 0 if before is None else before.odo.unknown
    current = before.open if before else None
    if odo.unknown > unknown_before:
        duration = odo.unknown - unknown_before
        inside = current.session_id if current else None
        effects.append(UnknownTime(inside, at_ms - duration, at_ms, duration))
    if current is not None and record.flags:
        current = replace(current, flags=current.flags | set(record.flags))

    sessions = before.sessions if before else 0
    if record.kind is RecordKind.OPEN:
        if current is not None:
            effects.append(Oddity("open_while_open", f"{current.session_id} was still open at record {record.seq}"))
            effects.append(_closed(current, record, odo, at_ms, "closed_by_next_open"))
        current = OpenSession(
            session_id=session_id(record.inst, record.stream, record.seq),
            open_seq=record.seq,
            started_ms=at_ms,
            running_first_ms=odo.running,
            unknown_first_ms=odo.unknown,
            flags=frozenset(record.flags),
        )
        sessions += 1
        if record.session != current.session_id:
            effects.append(Oddity("session_id_differs", f"record {record.seq} names {record.session}"))
        effects.append(SessionOpened(current))
    elif record.kind is RecordKind.CLOSE:
        if current is None:
            effects.append(Oddity("close_without_open", f"record {record.seq} closes {record.session}"))
        else:
            effects.append(_closed(current, record, odo, at_ms, None))
            current = None

    after = Position(
        instrument_id=record.inst,
        last_seq=record.seq,
        boot=record.boot,
        to_ms=record.to_ms,
        at_ms=at_ms if before is None else max(before.at_ms, at_ms),
        state=record.state,
        odo=odo,
        sessions=sessions,
        open=current,
    )
    return after, tuple(effects)


def _closed(session: OpenSession, record: UsageRecord, odo: Odometer, at_ms: int, flag: str | None) -> SessionClosed:
    flagged = replace(session, flags=session.flags | {flag}) if flag else session
    return SessionClosed(
        session=flagged,
        close_seq=record.seq,
        # A clock that was set back must not end a session before it began; its length is the odometer's anyway.
        ended_ms=max(session.started_ms, at_ms),
        running_ms=odo.running - session.running_first_ms,
        unknown_ms=odo.unknown - session.unknown_first_ms,
    )


def _higher(before: Odometer, now: Odometer) -> Odometer:
    if (
        now.running >= before.running
        and now.standby >= before.standby
        and now.off >= before.off
        and now.unknown >= before.unknown
    ):
        return now
    return Odometer(
        off=max(before.off, now.off),
        standby=max(before.standby, now.standby),
        running=max(before.running, now.running),
        unknown=max(before.unknown, now.unknown),
    )


def _oddities(before: Position | None, record: UsageRecord) -> tuple[Oddity, ...]:
    if before is None:
        return ()
    if _higher(before.odo, record.odo) is not record.odo:
        return (Oddity("odometer_fell", f"record {record.seq}: {before.odo!r} -> {record.odo!r}"),)
    if record.boot != before.boot:
        return ()
    if record.from_ms != before.to_ms:
        return (Oddity("interval_apart", f"record {record.seq} starts at {record.from_ms}, not {before.to_ms}"),)
    if not _drove(before.odo, record):
        expected = before.odo.plus(record.state, record.to_ms - record.from_ms)
        return (Oddity("odometer_apart", f"record {record.seq}: {record.odo!r} instead of {expected!r}"),)
    return ()


def _drove(before: Odometer, record: UsageRecord) -> bool:
    """Whether the odometer went on by exactly the record's interval, in the record's state."""
    now, state, ms = record.odo, record.state, record.to_ms - record.from_ms
    return (
        now.running - before.running == (ms if state is PowerState.RUNNING else 0)
        and now.standby - before.standby == (ms if state is PowerState.STANDBY else 0)
        and now.off - before.off == (ms if state is PowerState.OFF else 0)
        and now.unknown - before.unknown == (ms if state is PowerState.UNKNOWN else 0)
    )


def is_about_an_instrument(record: UsageRecord) -> bool:
    """Whether a record accounts for an instrument's time (and not for the agent itself, or for a card held to a reader,
    which knows no odometer)."""
    return record.inst != "_" and record.kind not in _TAKE_NO_TIME


__all__ = [
    "Effect",
    "Oddity",
    "OpenSession",
    "Position",
    "SessionClosed",
    "SessionOpened",
    "UnknownTime",
    "fold",
    "is_about_an_instrument",
]
