"""Compare what every agent knows that it produced with what the ledger holds: seconds per state, records, each session.

Pure comparison over two plain views; `ledger_view` reads the one, the agents' truth file is the other. An open
session is compared at its last durable odometer, which is what the last record of its instrument says.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from store.tables.usage import MeterPosition, UsageSession, UsageStream

_STATES = ("off_ms", "standby_ms", "running_ms", "unknown_ms")


@dataclass(frozen=True)
class Difference:
    """One thing the two sides do not agree on."""

    agent: str
    what: str
    agent_says: object
    ledger_says: object

    def __str__(self) -> str:
        return f"{self.agent}: {self.what}: the agent says {self.agent_says}, the ledger {self.ledger_says}"


@dataclass(frozen=True)
class Reconciliation:
    """How many agents agree with the ledger, what they produced together, and every difference."""

    agents: int
    running_s: float
    sessions: int
    records: int
    differences: tuple[Difference, ...]

    @property
    def agreeing(self) -> int:
        return self.agents - len({difference.agent for difference in self.differences})


def reconcile(truths: list[dict[str, Any]], session: Session, expected_agents: int) -> Reconciliation:
    """Compare all agents. An agent that left no truth behind is a difference of its own."""
    differences = [difference for truth in truths for difference in differences_of(truth, ledger_view(session, truth))]
    if len(truths) != expected_agents:
        differences.append(Difference("all agents", "number of truths", len(truths), expected_agents))
    instruments = [instrument for truth in truths for instrument in truth["instruments"]]
    return Reconciliation(
        agents=expected_agents,
        running_s=sum(instrument["running_ms"] for instrument in instruments) / 1000,
        sessions=sum(instrument["sessions_opened"] for instrument in instruments),
        records=sum(truth["usage"]["last_seq"] for truth in truths),
        differences=tuple(differences),
    )


def ledger_view(session: Session, truth: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the ledger holds of one agent's usage stream, in the shape of its truth."""
    agent, stream = truth["agent"], truth["usage"]["stream"]
    head = session.get(UsageStream, (agent, stream))
    rows = session.scalars(
        select(MeterPosition).where(MeterPosition.agent_id == agent, MeterPosition.stream == stream)
    ).all()
    sessions = session.scalars(
        select(UsageSession).where(UsageSession.agent_id == agent, UsageSession.stream == stream)
    )
    counts = {
        row.instrument_id: (row.opened, row.closed)
        for row in session.execute(
            select(
                UsageSession.instrument_id,
                func.count().label("opened"),
                func.count(UsageSession.ended_at).label("closed"),
            )
            .where(UsageSession.agent_id == agent, UsageSession.stream == stream)
            .group_by(UsageSession.instrument_id)
        )
    }
    return {
        "upto": head.upto if head else 0,
        "instruments": {
            row.instrument_id: {
                "off_ms": row.odo_off_ms,
                "standby_ms": row.odo_standby_ms,
                "running_ms": row.odo_running_ms,
                "unknown_ms": row.odo_unknown_ms,
                "sessions_opened": counts.get(row.instrument_id, (0, 0))[0],
                "sessions_closed": counts.get(row.instrument_id, (0, 0))[1],
                "open_session": row.open_session_id,
            }
            for row in rows
        },
        "sessions": {
            row.session_id: {
                "open_seq": row.open_seq,
                "close_seq": row.close_seq,
                "running_ms": row.odo_running_last_ms - row.odo_running_first_ms,
                "unknown_ms": row.odo_unknown_last_ms - row.odo_unknown_first_ms,
            }
            for row in sessions
        },
    }


def differences_of(truth: Mapping[str, Any], ledger: Mapping[str, Any]) -> Iterator[Difference]:
    """Yield every point on which an agent and the ledger differ."""
    agent = truth["agent"]
    if truth["usage"]["last_seq"] != ledger["upto"]:
        yield Difference(agent, "usage records", truth["usage"]["last_seq"], ledger["upto"])
    for instrument in truth["instruments"]:
        name = instrument["inst"]
        kept = ledger["instruments"].get(name)
        if kept is None:
            if any(instrument[state] for state in _STATES):
                yield Difference(agent, f"{name}: accounted time", "some", "none")
            continue
        for point in (*_STATES, "sessions_opened", "sessions_closed", "open_session"):
            if instrument[point] != kept[point]:
                yield Difference(agent, f"{name}: {point}", instrument[point], kept[point])
    yield from _session_differences(agent, truth, ledger)


def _session_differences(agent: str, truth: Mapping[str, Any], ledger: Mapping[str, Any]) -> Iterator[Difference]:
    """Yield what differs session by session, for those that the agent lists (it keeps some days of records)."""
    for session in truth.get("sessions", ()):
        name = session["session"]
        kept = ledger["sessions"].get(name)
        if kept is None:
            yield Difference(agent, f"session {name}", "there", "not there")
            continue
        for point in ("open_seq", "close_seq", "running_ms", "unknown_ms"):
            if session[point] != kept[point]:
                yield Difference(agent, f"session {name}: {point}", session[point], kept[point])


def load_truths(path: Path) -> list[dict[str, Any]]:
    """Read what the agents wrote at their end. Raises FileNotFoundError where they wrote nothing."""
    truths: list[dict[str, Any]] = json.loads(path.read_text())["agents"]
    return truths
