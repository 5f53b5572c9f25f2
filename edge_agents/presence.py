"""What an agent says of itself: its state (also its last will) and its birth. Reads, changes nothing."""

from collections.abc import Iterable
from importlib import metadata
from typing import Literal

from edge_agents.journal import Journal
from edge_agents.session_state import Labels
from edge_agents.watch import Watch
from wire.commands import Command, Config, Reply
from wire.messages import AgentState, Birth, Live, StreamPosition, Telemetry, UsageRecord, timestamp

Cause = Literal["start", "running", "stop", "lost"]


def agent_state(journal: Journal, labels: Labels, now_ms: int, *, online: bool, cause: Cause) -> AgentState:
    """Return the retained state. Only reads numbers, so the network thread may ask for a will at any time."""
    return AgentState(
        online=online,
        cause=cause,
        boot=labels.boot,
        ts=timestamp(now_ms),
        clock=labels.quality,
        queued=journal.usage.unacknowledged + journal.telemetry.unacknowledged,
        dropped=journal.usage.dropped + journal.telemetry.dropped,
    )


def birth(
    agent: str, journal: Journal, watches: Iterable[Watch], labels: Labels, now_ms: int, config_version: int = 0
) -> Birth:
    """Return what speaks here, for which instruments, by which configuration, and where both streams stand."""
    watches = list(watches)
    positions = tuple(
        StreamPosition(stream=box.stream, kind=box.kind, first_kept=box.first_kept, last=box.last_seq)
        for box in (journal.usage, journal.telemetry)
    )
    return Birth(
        agent=agent,
        boot=labels.boot,
        ts=timestamp(now_ms),
        software=f"openlab/{metadata.version('openlab')}",
        speaks=(UsageRecord.SCHEMA, Telemetry.SCHEMA, Live.SCHEMA, Command.SCHEMA, Reply.SCHEMA, Config.SCHEMA),
        instruments=tuple(watch.inst for watch in watches),
        drivers={watch.inst: watch.driver.name for watch in watches},
        profiles={watch.inst: watch.profile.sha256 for watch in watches},
        streams=positions,
        config_version=config_version,
    )
