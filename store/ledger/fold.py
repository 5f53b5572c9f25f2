"""Fold usage records into positions and sessions: pure, one record at a time, in the order of the stream.

The same prefix of a stream gives the same sessions whoever folds it, so `verify` can fold it again. Time is billed
from differences of the odometer; where intervals do not touch or odometers do not fit, that is said (`Oddity`) and
the odometer still decides.
"""

from dataclasses import dataclass, replace

from store.ledger.flags import CLOSE_LOST, DATED_AHEAD, END_UNSET, OPEN_LOST, START_UNSET
from store.ledger.labels import Label, begin_label, end_label, session_end_ms
from wire.ids import session_id
from wire.messages import ClockQuality, Odometer, PowerState, RecordKind, UsageRecord


@dataclass(frozen=True)
class OpenSession:
    """A session that has begun and not ended: where its odometers stood at the start. `label` is that of its begin; it
    is only needed where a clock is set, and None where it was not read for that."""

    session_id: str
    open_seq: int
    started_ms: int
    running_first_ms: int
    unknown_first_ms: int
    flags: frozenset[str]
    label: Label | None = None


@dataclass(frozen=True)
class Position:
    """How far one instrument is accounted for. Wall times (`at_ms`) are labels, `to_ms` is the agent's own clock.
    `label` is that of its newest record; None where no clock is set, and so nobody asks for it."""

    instrument_id: str
    last_seq: int
    boot: str
    to_ms: int
    at_ms: int
    state: PowerState
    odo: Odometer
    sessions: int
    open: OpenSession | None
    label: Label | None = None


@dataclass(frozen=True)
class SessionOpened:
    """A session began at the end of this record's interval."""

    session: OpenSession


@dataclass(frozen=True)
class SessionClosed:
    """A session ended. Running time is the difference of the odometers, never a sum of messages. `label` is that of its
    end, as `OpenSession.label` is of its begin."""

    session: OpenSession
    close_seq: int
    ended_ms: int
    running_ms: int
    unknown_ms: int
    label: Label | None = None


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

_NAME_THEIR_SESSION = frozenset({RecordKind.TICK, RecordKind.GAP, RecordKind.CLOSE})
_TAKE_NO_TIME = frozenset({RecordKind.CONFIG, RecordKind.SPOOL_LOST, RecordKind.CLOCK, RecordKind.CHECKIN})


def fold(
    before: Position | None, record: UsageRecord, received_ms: int | None = None
) -> tuple[Position, tuple[Effect, ...]]:
    """Return where the instrument stands after `record`, received at `received_ms` (UTC), and what happened.

    `before` is None for the first record of the instrument in its stream. Never raises for what a record says.
    """
    label = end_label(record, received_ms)
    at_ms = label.at_ms
    effects: list[Effect] = list(_oddities(before, record))
    odo = record.odo if before is None else _higher(before.odo, record.odo)
    unknown_before = 0 if before is None else before.odo.unknown
    current, sessions = (before.open, before.sessions) if before else (None, 0)
    if record.kind in _NAME_THEIR_SESSION and record.session != (current.session_id if current else None):
        current, found = _edges_lost(before, record, received_ms)
        effects += found
        sessions += sum(isinstance(effect, SessionOpened) for effect in found)
    if odo.unknown > unknown_before:
        duration = odo.unknown - unknown_before
        inside = current.session_id if current else None
        effects.append(UnknownTime(inside, at_ms - duration, at_ms, duration))
    wrong = [DATED_AHEAD] if label.is_ahead else []
    if current is not None and (record.flags or wrong):
        current = replace(current, flags=current.flags.union(record.flags, wrong))

    is_unset = record.ts_q is ClockQuality.UNSET
    unset_end = [END_UNSET] if is_unset else []
    if record.kind is RecordKind.OPEN:
        if current is not None:
            effects.append(Oddity("open_while_open", f"{current.session_id} was still open at record {record.seq}"))
            effects.append(_closed(current, record.seq, odo, label, "closed_by_next_open", *unset_end))
        current = OpenSession(
            session_id=session_id(record.inst, record.stream, record.seq),
            open_seq=record.seq,
            started_ms=at_ms,
            running_first_ms=odo.running,
            unknown_first_ms=odo.unknown,
            flags=frozenset([*record.flags, *([START_UNSET] if is_unset else []), *wrong]),
            label=label,
        )
        sessions += 1
        if record.session != current.session_id:
            effects.append(Oddity("session_id_differs", f"record {record.seq} names {record.session}"))
        effects.append(SessionOpened(current))
    elif record.kind is RecordKind.CLOSE:
        if current is None:
            effects.append(Oddity("close_without_open", f"record {record.seq} closes {record.session}"))
        else:
            effects.append(_closed(current, record.seq, odo, label, *unset_end))
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
        label=label,
    )
    return after, tuple(effects)


def _edges_lost(
    before: Position | None, record: UsageRecord, received_ms: int | None
) -> tuple[OpenSession | None, list[Effect]]:
    """Return the session that goes on at the begin of a record which names another one than the open one, and what
    that means: the record that closed or opened is lost.

    What ran in the hole belongs to the one session that touches it. Between two of them nobody can say whose it was:
    neither gets it, and a person is told how much it is.
    """
    current = before.open if before else None
    begins = _at_begin(before, record)
    began = begin_label(record, received_ms)
    after_seq = before.last_seq if before else 0
    open_seq = _seq_in(record, after_seq)
    if record.session is not None and open_seq is None:
        # No record of this hole can have opened it, so the name proves nothing.
        told = f"record {record.seq} names {record.session}, which no record between {after_seq} and it can have opened"
        return current, [Oddity("session_id_differs", told)]
    effects: list[Effect] = []
    hole_ms = begins.running - before.odo.running if before else 0
    if before is not None and current is not None:
        is_unset = record.ts_q is ClockQuality.UNSET if open_seq is None else START_UNSET in current.flags
        flags = [CLOSE_LOST, *([END_UNSET] if is_unset else [])]
        if open_seq is None:
            closed = _closed(current, before.last_seq, begins, began, *flags)
        else:
            closed = _closed(current, before.last_seq, before.odo, before.label, *flags, at_ms=before.at_ms)
        effects.append(closed)
        told = f"{current.session_id} was still open, record {record.seq} names {record.session}"
        effects.append(Oddity(CLOSE_LOST, told))
    if open_seq is None or record.session is None:
        return None, effects
    is_alone = before is not None and current is None
    opened = OpenSession(
        session_id=record.session,
        open_seq=open_seq,
        started_ms=began.at_ms,
        running_first_ms=begins.running - (hole_ms if is_alone else 0),
        unknown_first_ms=begins.unknown,
        flags=frozenset({OPEN_LOST, START_UNSET} if record.ts_q is ClockQuality.UNSET else {OPEN_LOST}),
        label=began,
    )
    nobodys = 0 if is_alone else hole_ms
    told = f"record {record.seq} names {record.session}; {nobodys} ms ran in the hole before it that no session has"
    return opened, [*effects, SessionOpened(opened), Oddity(OPEN_LOST, told)]


def _seq_in(record: UsageRecord, after_seq: int) -> int | None:
    """Return the number of the record that opened the session which `record` names, where it lies after `after_seq`."""
    prefix, _, number = (record.session or "").rpartition(".")
    if prefix != f"{record.inst}.{record.stream}" or not (number.isascii() and number.isdigit()):
        return None
    return int(number) if after_seq < int(number) < record.seq else None


def _at_begin(before: Position | None, record: UsageRecord) -> Odometer:
    """Where the odometer stood when a record's interval began."""
    ms, odo = record.to_ms - record.from_ms, record.odo
    begins = Odometer(**{s.value: max(0, getattr(odo, s.value) - (ms if s is record.state else 0)) for s in PowerState})
    return begins if before is None else _higher(before.odo, begins)


def _closed(
    session: OpenSession, close_seq: int, odo: Odometer, label: Label | None, *flags: str, at_ms: int | None = None
) -> SessionClosed:
    """End a session by a label; `at_ms` stands for it where nobody asked for labels."""
    if label is not None:
        at_ms = label.at_ms if at_ms is None else at_ms
        label = label._replace(at_ms=at_ms)
    assert at_ms is not None
    running_ms = odo.running - session.running_first_ms
    return SessionClosed(
        session=replace(session, flags=session.flags.union(flags)),
        close_seq=close_seq,
        ended_ms=session_end_ms(session.started_ms, at_ms, running_ms),
        running_ms=running_ms,
        unknown_ms=odo.unknown - session.unknown_first_ms,
        label=label,
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
