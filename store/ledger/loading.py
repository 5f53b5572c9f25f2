"""Read what folding a batch needs, for all its streams at once. Used by store.ledger.records and .replay."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from store.ledger.fold import OpenSession, Position
from store.ledger.memory import ChainMemory, Pending
from store.ledger.streams import StreamHead, StreamKey
from store.tables.registry import Metering
from store.tables.usage import MeterPosition, UsageRecordRow, UsageSession, UsageStream
from wire.clock import to_ms
from wire.messages import Odometer, PowerState


@dataclass(frozen=True)
class Known:
    """Where the instruments of some streams stand, what their agents' metering facts are, what no link covers yet."""

    positions: dict[StreamKey, dict[str, Position]]
    meterings: dict[tuple[str, str], list[datetime]]
    pending: dict[StreamKey, Pending]

    def metering_at(self, instrument_id: str, agent_id: str, at: datetime) -> datetime:
        """Return the start of the metering fact that a session of this agent cites: the one in force at `at`, or the
        agent's first one where the label lies before it (a clock that was not set). Raises LookupError without one."""
        facts = self.meterings.get((instrument_id, agent_id))
        if not facts:
            raise LookupError(f"agent {agent_id} has no metering fact for {instrument_id}")
        return facts[max(0, bisect_right(facts, at) - 1)]


def load_known(session: Session, heads: Sequence[StreamHead], memory: ChainMemory | None) -> Known:
    """Read what folding needs of these locked streams. `memory` may spare the reading of hashes."""
    return Known(
        _positions(session, [head.key for head in heads]),
        _meterings(session, {head.agent_id for head in heads}),
        _pending(session, heads, memory),
    )


def position_of(row: MeterPosition, opened: UsageSession | None) -> Position:
    """Return the position that a stored row (and its open session) stands for."""
    return Position(
        instrument_id=row.instrument_id,
        last_seq=row.last_seq,
        boot=row.boot,
        to_ms=row.to_ms,
        at_ms=to_ms(row.accounted_to),
        state=PowerState(row.state),
        odo=Odometer(
            off=row.odo_off_ms, standby=row.odo_standby_ms, running=row.odo_running_ms, unknown=row.odo_unknown_ms
        ),
        sessions=row.sessions,
        open=None
        if opened is None
        else OpenSession(
            session_id=opened.session_id,
            open_seq=opened.open_seq,
            started_ms=to_ms(opened.started_at),
            running_first_ms=opened.odo_running_first_ms,
            unknown_first_ms=opened.odo_unknown_first_ms,
            flags=frozenset(opened.flags.split()),
        ),
    )


def _positions(session: Session, keys: Sequence[StreamKey]) -> dict[StreamKey, dict[str, Position]]:
    found: dict[StreamKey, dict[str, Position]] = defaultdict(dict)
    rows = session.execute(
        select(MeterPosition, UsageSession)
        .outerjoin(UsageSession, UsageSession.session_id == MeterPosition.open_session_id)
        .where(tuple_(MeterPosition.agent_id, MeterPosition.stream).in_(keys))
        .execution_options(populate_existing=True)
    )
    for row, opened in rows:
        found[row.agent_id, row.stream][row.instrument_id] = position_of(row, opened)
    return found


def _meterings(session: Session, agents: Iterable[str]) -> dict[tuple[str, str], list[datetime]]:
    found: dict[tuple[str, str], list[datetime]] = defaultdict(list)
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
    rows = session.execute(
        select(UsageRecordRow.agent_id, UsageRecordRow.stream, UsageRecordRow.payload_sha256)
        .join(
            UsageStream,
            (UsageStream.agent_id == UsageRecordRow.agent_id) & (UsageStream.stream == UsageRecordRow.stream),
        )
        .where(
            tuple_(UsageStream.agent_id, UsageStream.stream).in_([head.key for head in to_read]),
            UsageRecordRow.seq > UsageStream.chained_upto,
            UsageRecordRow.seq <= UsageStream.upto,
        )
        .order_by(UsageRecordRow.agent_id, UsageRecordRow.stream, UsageRecordRow.seq)
    )
    for row in rows:
        hashes[row[0], row[1]].append(row[2])
    for head in to_read:
        covered = hashes[head.key]
        digest = sha256("".join(covered).encode())
        found[head.key] = Pending(head.chained_upto, head.upto, digest, len(covered))
    return found
