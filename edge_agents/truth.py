"""What an agent knows that it produced: the other side of every reconciliation with the ledger."""

from dataclasses import asdict, dataclass
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
