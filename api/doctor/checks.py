"""What `openlab doctor` looks at: one function a question, read-only. Nothing is judged here but what is written down.

A check that finds nothing says so; one that finds something names at most ten subjects and counts the rest.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from store.liveness import counts_as_online
from store.series import SeriesError, SeriesStore
from store.tables.calendar import Due
from store.tables.registry import Agent, Metering
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


def examine(session: Session, series: SeriesStore, now: datetime) -> list[Symptom]:
    """Ask every question of a migrated ledger and its time series."""
    found = [check(session, now) for check in _CHECKS]
    return [*found, series_answers(series)]


def series_answers(series: SeriesStore) -> Symptom:
    """Whether the time series can be reached. Without it charges wait; usage is recorded all the same."""
    try:
        series.ping()
    except (SeriesError, OSError) as error:
        return Symptom("series", False, f"the time series does not answer: {error}")
    return Symptom("series", True, "the time series answers")


def quarantine(session: Session, now: datetime) -> Symptom:
    """Messages that were set aside and not replayed, by reason."""
    rows = session.execute(
        select(Quarantine.reason, func.count(), func.max(Quarantine.last_at))
        .where(Quarantine.replayed_at.is_(None))
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


def agents(session: Session, now: datetime) -> Symptom:
    """Agents that speak for an instrument and are not there, or were never heard of."""
    rows = session.execute(
        select(Agent.agent_id, AgentStatus.online, AgentStatus.changed_at)
        .outerjoin(AgentStatus, AgentStatus.agent_id == Agent.agent_id)
        .where(Agent.revoked_at.is_(None), select(Metering).where(Metering.agent_id == Agent.agent_id).exists())
        .order_by(Agent.agent_id)
    )
    silent = []
    for agent, online, changed_at in rows:
        if changed_at is None:
            silent.append(f"{agent} was never heard of")
        elif not counts_as_online(online, changed_at, now):
            silent.append(f"{agent} since {changed_at.isoformat()}")
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


def _named(name: str, what: str, lines: Sequence[str]) -> Symptom:
    more = () if len(lines) <= NAMED_AT_MOST else (f"and {len(lines) - NAMED_AT_MOST} more",)
    return Symptom(name, not lines, f"{len(lines)} {what}", (*lines[:NAMED_AT_MOST], *more))


_CHECKS: tuple[Callable[[Session, datetime], Symptom], ...] = (quarantine, alerts, agents, holes, due, stale_sessions)


def newest_first(session: Session, limit: int = NAMED_AT_MOST) -> Iterator[Quarantine]:
    """Yield what was set aside last, the newest first."""
    yield from session.scalars(
        select(Quarantine)
        .where(Quarantine.replayed_at.is_(None))
        .order_by(Quarantine.last_at.desc(), Quarantine.quarantine_id)
        .limit(limit)
    )
