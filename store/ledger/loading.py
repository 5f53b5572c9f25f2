"""Read what folding a batch needs, for all its streams at once. Used by store.ledger.records and .replay."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import BigInteger, select, tuple_, type_coerce
from sqlalchemy.orm import Session

from store.ledger.fold import OpenSession, Position
from store.ledger.hashes import stored_hashes
from store.ledger.memory import ChainMemory, Pending
from store.ledger.streams import StreamHead, StreamKey
from store.ledger.undated import Undated, undated, with_labels
from store.tables.registry import Metering
from store.tables.usage import MeterPosition, UsageSession
from wire.messages import Odometer, PowerState, UsageRecord

Positions = dict[StreamKey, dict[str, Position]]


@dataclass(frozen=True)
class Known:
    """Where the instruments of some streams stand, what their agents' metering facts are, what no link covers yet, and
    which sessions wait for a clock to be set."""

    positions: Positions
    meterings: dict[tuple[str, str], list[datetime]]
    pending: dict[StreamKey, Pending]
    undated: dict[StreamKey, list[Undated]] = field(default_factory=dict)

    def metering_at(self, instrument_id: str, agent_id: str, at: datetime) -> datetime:
        """Return the start of the metering fact that a session of this agent cites: the one in force at `at`, or the
        agent's first one where the label lies before it (a clock that was not set). Raises LookupError without one."""
        facts = self.meterings.get((instrument_id, agent_id))
        if not facts:
            raise LookupError(f"agent {agent_id} has no metering fact for {instrument_id}")
        return facts[max(0, bisect_right(facts, at) - 1)]


def load_known(
    session: Session,
    heads: Sequence[StreamHead],
    memory: ChainMemory | None,
    opening: Callable[[Positions], Iterable[str]],
    clocks_set: Mapping[StreamKey, Sequence[UsageRecord]] | None = None,
) -> Known:
    """Read what folding needs of these locked streams. `memory` may spare the reading of hashes; `opening` says, of
    where they stand, the agents of whom a session may begin: only those need a metering fact. `clocks_set` are the
    streams in which a clock is set now, with what tells it: only of those labels, and what it may date again, are
    needed."""
    positions = _positions(session, [head.key for head in heads])
    told = [(head, clocks_set[head.key]) for head in heads if head.key in clocks_set] if clocks_set else []
    for head, _ in told:
        if head.key in positions:
            positions[head.key] = with_labels(session, head, positions[head.key])
    return Known(
        positions,
        _meterings(session, opening(positions)),
        _pending(session, heads, memory),
        {head.key: undated(session, head, clocks) for head, clocks in told},
    )


def _positions(session: Session, keys: Sequence[StreamKey]) -> Positions:
    found: dict[StreamKey, dict[str, Position]] = defaultdict(dict)
    rows = session.execute(
        select(
            MeterPosition.agent_id,
            MeterPosition.stream,
            MeterPosition.instrument_id,
            MeterPosition.last_seq,
            MeterPosition.boot,
            MeterPosition.to_ms,
            type_coerce(MeterPosition.accounted_to, BigInteger).label("at_ms"),
            MeterPosition.state,
            MeterPosition.odo_off_ms,
            MeterPosition.odo_standby_ms,
            MeterPosition.odo_running_ms,
            MeterPosition.odo_unknown_ms,
            MeterPosition.sessions,
            UsageSession.session_id,
            UsageSession.open_seq,
            type_coerce(UsageSession.started_at, BigInteger).label("started_ms"),
            UsageSession.odo_running_first_ms,
            UsageSession.odo_unknown_first_ms,
            UsageSession.flags,
        )
        .outerjoin(UsageSession, UsageSession.session_id == MeterPosition.open_session_id)
        .where(tuple_(MeterPosition.agent_id, MeterPosition.stream).in_(keys))
    )
    for row in rows:
        found[row.agent_id, row.stream][row.instrument_id] = _position_of(row)
    return found


def _position_of(row: Any) -> Position:
    """Return the position that a stored row (and its open session) stands for."""
    opened = None
    if row.session_id is not None:
        opened = OpenSession(
            session_id=row.session_id,
            open_seq=row.open_seq,
            started_ms=row.started_ms,
            running_first_ms=row.odo_running_first_ms,
            unknown_first_ms=row.odo_unknown_first_ms,
            flags=frozenset(row.flags.split()),
        )
    return Position(
        instrument_id=row.instrument_id,
        last_seq=row.last_seq,
        boot=row.boot,
        to_ms=row.to_ms,
        at_ms=row.at_ms,
        state=PowerState(row.state),
        odo=Odometer(
            off=row.odo_off_ms, standby=row.odo_standby_ms, running=row.odo_running_ms, unknown=row.odo_unknown_ms
        ),
        sessions=row.sessions,
        open=opened,
    )


def _meterings(session: Session, agents: Iterable[str]) -> dict[tuple[str, str], list[datetime]]:
    found: dict[tuple[str, str], list[datetime]] = defaultdict(list)
    agents = set(agents)
    if not agents:
        return found
    rows = session.execute(
        select(Metering.instrument_id, Metering.agent_id, Metering.effective_at)
        .where(Metering.agent_id.in_(agents))
        .order_by(Metering.effective_at)
    )
    for row in rows:
        found[row.instrument_id, row.agent_id].append(row.effective_at)
    return found


def _pending(session: Session, heads: Sequence[StreamHead], memory: ChainMemory | None) -> dict[StreamKey, Pending]:
    found: dict[StreamKey, Pending] = {}
    to_read: list[StreamHead] = []
    for head in heads:
        kept = memory.find(head.key, head.chained_upto, head.upto) if memory is not None else None
        if kept is not None:
            found[head.key] = kept
        elif head.upto > head.chained_upto:
            to_read.append(head)
    if not to_read:
        return found
    hashes: dict[StreamKey, list[str]] = defaultdict(list)
    runs = [(head.agent_id, head.stream, head.chained_upto + 1, head.upto) for head in to_read]
    for agent, stream, _, found_hash in stored_hashes(session, runs):
        hashes[agent, stream].append(found_hash)
    for head in to_read:
        covered = hashes[head.key]
        digest = sha256("".join(covered).encode())
        found[head.key] = Pending(head.chained_upto, head.upto, digest, len(covered))
    return found
