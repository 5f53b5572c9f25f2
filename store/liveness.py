"""What was last heard of each agent, and the one rule that says whether it counts as online.

Written by the gateway; read by its watch, the doctor and the catalogue, so that all three say the same.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.tables.registry import Agent, Instrument, Metering, RunStatus
from store.tables.usage import AgentStatus
from store.upsert import insert_or_update
from wire.clock import from_ms

GRACE = timedelta(seconds=20)
"""How long a lost connection has not been missed yet: MQTT 3.1.1 has no will delay, so the server waits."""
SILENT_AFTER = timedelta(minutes=3)
"""How old the last word of an agent may be: it says its state each minute. One that dies together with the broker
leaves no last will, and stays "online" for ever if only that is asked."""


@dataclass(frozen=True)
class Heard:
    """One state message of an agent, or its last will. `at_ms` is the gateway's time of receipt.

    `skew_ms` is None where the message says nothing about the agent's clock: a will, or one that the broker had kept.
    `retained`: the broker had kept it, so it is no sign of life unless it says something new.
    """

    agent_id: str
    online: bool
    at_ms: int
    boot: str
    software: str | None
    queued: int
    dropped: int
    skew_ms: int | None
    retained: bool = False


def note_heard(session: Session, heard: Heard) -> None:
    """Store what was heard. Of several gateways that hear the same, the last one to commit stands; all agree."""
    if session.get(Agent, heard.agent_id) is None:
        return
    before = session.scalars(select(AgentStatus).where(AgentStatus.agent_id == heard.agent_id)).one_or_none()
    at = from_ms(heard.at_ms)
    says_nothing = heard.retained and before is not None and (before.online, before.boot) == (heard.online, heard.boot)
    insert_or_update(
        session,
        AgentStatus,
        {
            "agent_id": heard.agent_id,
            "online": heard.online,
            "changed_at": before.changed_at if before is not None and before.online == heard.online else at,
            "heard_at": before.heard_at if before is not None and says_nothing else at,
            "boot": heard.boot,
            "software": heard.software or (before.software if before else ""),
            "queued": heard.queued,
            "dropped": heard.dropped,
            "skew_ms": heard.skew_ms if heard.skew_ms is not None else (before.skew_ms if before else 0),
        },
        key=["agent_id"],
        update=["online", "changed_at", "heard_at", "boot", "software", "queued", "dropped", "skew_ms"],
    )


def counts_as_online(online: bool, changed_at: datetime, heard_at: datetime, now: datetime, speed: float = 1.0) -> bool:
    """Whether an agent counts as online: something was heard of it in the last three minutes, and it is there or its
    connection was lost less than 20 s ago. Both are real time; a demo's instants run `speed` times as fast.
    """
    return now - heard_at < SILENT_AFTER * speed and (online or now - changed_at < GRACE * speed)


@dataclass(frozen=True)
class Duty:
    """An agent that speaks for an instrument now, and since when it ought to."""

    agent_id: str
    host_id: str
    since: datetime


def on_duty(session: Session, now: datetime) -> dict[str, Duty]:
    """Return by id the agents, not revoked, that a metering in force names for an instrument that is not retired."""
    in_force = meterings_in_force(session, now)
    rows = session.execute(
        select(Agent.agent_id, Agent.host_id, Agent.registered_at).where(Agent.revoked_at.is_(None))
    ).all()
    retired = set(session.scalars(select(Instrument.instrument_id).where(Instrument.run_status == RunStatus.RETIRED)))
    named: dict[str, list[datetime]] = {}
    for instrument, (agent, since) in in_force.items():
        if instrument not in retired:
            named.setdefault(agent, []).append(since)
    return {row[0]: Duty(row[0], row[1], max(row[2], min(named[row[0]]))) for row in rows if row[0] in named}


InForce = dict[str, tuple[str, datetime]]
"""By instrument: which agent speaks for it, and since when."""


def meterings_in_force(session: Session, now: datetime) -> InForce:
    """Return which agent speaks for each instrument at an instant, and since when."""
    rows = session.execute(
        select(Metering.instrument_id, Metering.agent_id, Metering.effective_at)
        .where(Metering.effective_at <= now)
        .order_by(Metering.effective_at)
    )
    return {row[0]: (row[1], row[2]) for row in rows}


@dataclass(frozen=True)
class Unmetered:
    """An instrument that nobody speaks for any more: the agent of its metering was revoked."""

    instrument_id: str
    host_id: str
    agent_id: str
    revoked_at: datetime


def unmetered(session: Session, in_force: InForce) -> list[Unmetered]:
    """Return the instruments, not retired, whose metering in force names a revoked agent."""
    rows = session.execute(select(Agent.agent_id, Agent.revoked_at).where(Agent.revoked_at.is_not(None))).all()
    revoked = {agent: at for agent, at in rows if at is not None}
    left = {instrument: agent for instrument, (agent, _) in in_force.items() if agent in revoked}
    if not left:
        return []
    found = session.execute(
        select(Instrument.instrument_id, Instrument.host_id).where(Instrument.run_status != RunStatus.RETIRED)
    )
    return [Unmetered(row[0], row[1], left[row[0]], revoked[left[row[0]]]) for row in found if row[0] in left]
