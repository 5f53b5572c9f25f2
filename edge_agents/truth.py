"""What an agent knows that it produced: the other side of every reconciliation with the ledger."""

import json
import sqlite3
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_agents.session_state import SessionState


@dataclass(frozen=True)
class StreamTruth:
    """One stream: how far it was written, and how much of that the gateway has not acknowledged."""

    stream: str
    last_seq: int
    unacknowledged: int
    dropped: int


@dataclass(frozen=True)
class InstrumentTruth:
    """One instrument since its stream began: milliseconds per state as its last record told them, and sessions."""

    inst: str
    off_ms: int
    standby_ms: int
    running_ms: int
    unknown_ms: int
    sessions_opened: int
    sessions_closed: int
    open_session: str | None

    @staticmethod
    def of(inst: str, state: SessionState) -> "InstrumentTruth":
        """Return the truth of one instrument from where its sessions stand."""
        return InstrumentTruth(inst, *state.recorded, state.opened, state.closed, state.session)


@dataclass(frozen=True)
class AgentTruth:
    """All of one agent. `as_json` is what `--truth` writes."""

    agent: str
    usage: StreamTruth
    telemetry: StreamTruth
    instruments: tuple[InstrumentTruth, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class SessionTruth:
    """One session as the spooled records tell it: differences of the odometer from its opening on."""

    inst: str
    session: str
    open_seq: int
    close_seq: int | None
    running_ms: int
    unknown_ms: int


def spooled_sessions(spool: Path) -> list[SessionTruth]:
    """Read a usage spool that no process holds, and return every session whose first record is still kept.

    From the durable records alone, so it is a second opinion on what the agent counted while it ran. Raises
    sqlite3.Error where the file is no spool.
    """
    begun: dict[str, tuple[str, int, dict[str, int]]] = {}
    newest: dict[str, dict[str, int]] = {}
    found: dict[str, SessionTruth] = {}
    # Read-only: a log that could not be folded in is read too, and must not be folded in and removed from here.
    with closing(sqlite3.connect(f"file:{spool}?mode=ro", uri=True)) as connection:
        for (payload,) in connection.execute("SELECT payload FROM spool_rows ORDER BY seq"):
            record = json.loads(payload)
            inst, odo = record["inst"], record["odo"]
            if record["kind"] not in ("tick", "open", "close", "gap"):
                continue
            newest[inst] = odo
            if record["kind"] == "open":
                begun[inst] = (record["session"], record["seq"], odo)
            elif record["kind"] == "close" and inst in begun:
                name, seq, first = begun.pop(inst)
                found[name] = _session(inst, name, seq, record["seq"], first, odo)
    for inst, (name, seq, first) in begun.items():
        found[name] = _session(inst, name, seq, None, first, newest[inst])
    return sorted(found.values(), key=lambda session: session.open_seq)


def _session(
    inst: str, name: str, open_seq: int, close_seq: int | None, first: dict[str, int], last: dict[str, int]
) -> SessionTruth:
    running, unknown = (last[state] - first[state] for state in ("running", "unknown"))
    return SessionTruth(inst, name, open_seq, close_seq, running, unknown)
