"""What an agent says of itself: state (also its last will), birth, a spool that it lost. Reads, changes nothing."""

from collections.abc import Collection, Iterable, Iterator
from importlib import metadata
from typing import Literal

from edge_agents.journal import Journal
from edge_agents.records import Detail
from edge_agents.session_state import Labels
from edge_agents.spool_file import Lost
from edge_agents.watch import SESSIONS, Watch, read_checkpoint
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
        stream=journal.usage.stream,
    )


def birth(
    agent: str,
    journal: Journal,
    watches: Iterable[Watch],
    labels: Labels,
    now_ms: int,
    config_version: int = 0,
    with_reader: Collection[str] = (),
) -> Birth:
    """Return what speaks here, for which instruments, by which configuration, and where both streams stand.

    `with_reader` are the instruments beside which a card reader stands.
    """
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
        capabilities={watch.inst: _capabilities(watch, watch.inst in with_reader) for watch in watches},
    )


def _capabilities(watch: Watch, has_reader: bool) -> tuple[str, ...]:
    return ("power", *(("energy",) if watch.tells_energy else ()), *(("checkin",) if has_reader else ()))


def told_of_lost(lost: Lost) -> Iterator[tuple[str, Detail]]:
    """Return what a new stream has to say of a spool that was set aside, as reason and detail: which stream ended
    where, and where the odometers stood that could still be read."""
    yield (
        "damaged",
        {
            "kind": lost.kind.value,
            "file": lost.file,
            "found": lost.reason[:200],
            "stream": lost.stream,
            "last_seq": lost.last_seq,
            "acknowledged": lost.upto,
        },
    )
    if lost.checkpoint is None:
        return
    for inst, saved in read_checkpoint(lost.checkpoint).get("instruments", {}).items():
        known = SESSIONS.validate_python(saved["sessions"])
        detail: Detail = {"inst": inst, "stream": lost.stream, "session": known.session}
        yield "odometer", detail | {f"{state}_ms": ms for state, ms in known.odometer.model_dump().items()}
