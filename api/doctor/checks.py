"""What `openlab doctor` looks at: one function a question, read-only. Nothing is judged here but what is written down.

A check that finds nothing says so; one that finds something names at most ten subjects and counts the rest.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import ColumnElement, func, literal, select
from sqlalchemy.orm import Session

from store.liveness import counts_as_online, on_duty
from store.series import SeriesError, SeriesStore
from store.tables.calendar import Due
from store.tables.usage import AgentStatus, Alert, Quarantine, UsageRecordRow, UsageSession, UsageStream
from wire.messages import StreamKind

NAMED_AT_MOST = 10
DUE_LATE = timedelta(minutes=10)
SESSION_STALE = timedelta(hours=24)


@dataclass(frozen=True)
class Symptom:
    """The answer to one question. `well` False makes the doctor exit 1."""

    name: str
    well: bool
    said: str
    subjects: tuple[str, ...] = field(default=())


def examine(session: Session, series: SeriesStore, now: datetime, speed: float = 1.0) -> list[Symptom]:
    """Ask every question of a migrated ledger and its time series. `speed` is that of the clock that `now` is of."""
    checks = (quarantine, alerts, partial(agents, speed=speed), holes, due, stale_sessions)
    found = [check(session, now) for check in checks]
    return [*found, series_answers(series)]


def series_answers(series: SeriesStore) -> Symptom:
    """Whether the time series can be reached. Without it charges wait; usage is recorded all the same."""
    try:
        series.ping()
    except (SeriesError, OSError) as error:
        return Symptom("series", False, f"the time series does not answer: {error}")
    return Symptom("series", True, "the time series answers")


def quarantine(session: Session, now: datetime) -> Symptom:
    """Messages that were set aside, not replayed, and that nobody said to be done with, by reason."""
    rows = session.execute(
        select(Quarantine.reason, func.count(), func.max(Quarantine.last_at))
        .where(_waits())
        .group_by(Quarantine.reason)
        .order_by(Quarantine.reason)
    ).all()
    lines = [f"{reason}: {count}, newest {newest.isoformat()}" for reason, count, newest in rows]
    total = sum(row[1] for row in rows)
    return Symptom("quarantine", not rows, f"{total} messages set aside", tuple(lines))


def alerts(session: Session, now: datetime) -> Symptom:
    """Alerts nobody is done with."""
    rows = session.execute(
        select(Alert.rule, Alert.subject, Alert.owner, Alert.times)
        .where(Alert.open_slot == 1)
        .order_by(Alert.last_at.desc(), Alert.rule, Alert.subject)
    ).all()
    return _named("alerts", "open alerts", [f"{r} {s} ({o or 'county'}, {t} times)" for r, s, o, t in rows])


def agents(session: Session, now: datetime, speed: float) -> Symptom:
    """Agents that speak for an instrument and are not there, or were never heard of."""
    heard = {status.agent_id: status for status in session.scalars(select(AgentStatus))}
    silent = []
    for agent in sorted(on_duty(session, now)):
        status = heard.get(agent)
        if status is None:
            silent.append(f"{agent} was never heard of")
        elif not counts_as_online(status.online, status.changed_at, status.heard_at, now, speed):
            since = status.heard_at if status.online else status.changed_at
            silent.append(f"{agent} since {since.isoformat()}")
    return _named("agents", "agents silent", silent)


def holes(session: Session, now: datetime) -> Symptom:
    """Streams of which later records are here and earlier ones are not."""
    top = (
        select(func.max(UsageRecordRow.seq))
        .where(UsageRecordRow.agent_id == UsageStream.agent_id, UsageRecordRow.stream == UsageStream.stream)
        .correlate(UsageStream)
        .scalar_subquery()
    )
    rows = session.execute(
        select(UsageStream.agent_id, UsageStream.stream, UsageStream.upto)
        .where(UsageStream.kind == StreamKind.USAGE.value, top > UsageStream.upto)
        .order_by(UsageStream.agent_id, UsageStream.stream)
    )
    return _named("holes", "streams with holes", [f"{a}/{s} after {upto}" for a, s, upto in rows])


def due(session: Session, now: datetime) -> Symptom:
    """Work that the worker ought to have done ten minutes ago, or that failed."""
    late = session.execute(
        select(Due.kind, func.count(), func.min(Due.due_at))
        .where(Due.due_at < now - DUE_LATE)
        .group_by(Due.kind)
        .order_by(Due.kind)
    )
    lines = [f"{kind}: {count} late, oldest {oldest.isoformat()}" for kind, count, oldest in late]
    failed = session.execute(
        select(Due.kind, Due.subject_id, Due.last_error).where(Due.attempts > 0).order_by(Due.kind, Due.subject_id)
    )
    lines += [f"{kind} {subject}: {error}" for kind, subject, error in failed]
    return _named("due", "pieces of work late or failed", lines)


def stale_sessions(session: Session, now: datetime) -> Symptom:
    """Open sessions of which nothing has been heard for a day."""
    rows = session.execute(
        select(UsageSession.session_id, UsageSession.last_at)
        .where(UsageSession.open_slot == 1, UsageSession.last_at < now - SESSION_STALE)
        .order_by(UsageSession.last_at)
    )
    return _named("sessions", "open sessions stale", [f"{name}, last {last.isoformat()}" for name, last in rows])


def _waits() -> ColumnElement[bool]:
    """Not replayed, and the alert about it is open: being done with that says that the message stays where it is."""
    about = (Alert.rule == literal("quarantine_").concat(Quarantine.reason)) & (Alert.subject == Quarantine.topic)
    told = select(Alert.alert_id).where(about, Alert.open_slot == 1, Alert.first_at <= Quarantine.last_at)
    return Quarantine.replayed_at.is_(None) & told.exists()


def _named(name: str, what: str, lines: Sequence[str]) -> Symptom:
    more = () if len(lines) <= NAMED_AT_MOST else (f"and {len(lines) - NAMED_AT_MOST} more",)
    return Symptom(name, not lines, f"{len(lines)} {what}", (*lines[:NAMED_AT_MOST], *more))


def newest_first(session: Session, limit: int = NAMED_AT_MOST) -> Iterator[Quarantine]:
    """Yield what was set aside last, the newest first."""
    yield from session.scalars(
        select(Quarantine).where(_waits()).order_by(Quarantine.last_at.desc(), Quarantine.quarantine_id).limit(limit)
    )
