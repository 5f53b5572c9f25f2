"""What was last heard of each agent, and the one rule that says whether it counts as online."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.tables.registry import Agent
from store.tables.usage import AgentStatus
from store.upsert import insert_or_update
from wire.clock import from_ms

GRACE = timedelta(seconds=20)


@dataclass(frozen=True)
class Heard:
    """One state message of an agent, or its last will. `at_ms` is the gateway's time of receipt.

    `skew_ms` is None where the message says nothing about the agent's clock: a will, or one that the broker had kept.
    """

    agent_id: str
    online: bool
    at_ms: int
    boot: str
    software: str | None
    queued: int
    dropped: int
    skew_ms: int | None


def note_heard(session: Session, heard: Heard) -> None:
    """Store what was heard. Of several gateways that hear the same, the last one to commit stands; all agree."""
    if session.get(Agent, heard.agent_id) is None:
        return
    before = session.scalars(select(AgentStatus).where(AgentStatus.agent_id == heard.agent_id)).one_or_none()
    at = from_ms(heard.at_ms)
    insert_or_update(
        session,
        AgentStatus,
        {
            "agent_id": heard.agent_id,
            "online": heard.online,
            "changed_at": before.changed_at if before is not None and before.online == heard.online else at,
            "heard_at": at,
            "boot": heard.boot,
            "software": heard.software or (before.software if before else ""),
            "queued": heard.queued,
            "dropped": heard.dropped,
            "skew_ms": heard.skew_ms if heard.skew_ms is not None else (before.skew_ms if before else 0),
        },
        key=["agent_id"],
        update=["online", "changed_at", "heard_at", "boot", "software", "queued", "dropped", "skew_ms"],
    )


def counts_as_online(online: bool, changed_at: datetime, now: datetime) -> bool:
    """Whether an agent counts as online: a connection lost less than 20 s ago has not been missed yet.

    MQTT 3.1.1 has no will delay, so the server waits instead of the broker.
    """
    return online or now - changed_at < GRACE
