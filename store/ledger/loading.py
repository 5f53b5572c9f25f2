"""Read what folding a batch needs, for all its streams at once. Used by store.ledger.records and .replay."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import BigInteger, not_, or_, select, tuple_, type_coerce
from sqlalchemy.orm import Session

from store.ledger.chain import METRIC_RUNNING
from store.ledger.dating import WAITS_FOR_A_CLOCK
from store.ledger.fold import OPEN_LOST, START_UNSET, STREAM_LOST, OpenSession, Position, SessionClosed
from store.ledger.hashes import stored_hashes
from store.ledger.memory import ChainMemory, Pending
from store.ledger.streams import StreamHead, StreamKey
from store.tables.calendar import BookingUse, UnbookedUse
from store.tables.registry import Metering
from store.tables.usage import MeterPosition, UsageEntry, UsageRecordRow, UsageSession
from wire.clock import to_ms
from wire.messages import Odometer, PowerState, UsageRecord

Positions = dict[StreamKey, dict[str, Position]]


@dataclass(frozen=True)
class Undated:
    """A closed session that began or ended while its clock was not set, or with a hole of unknown length. `revision` is
    that of its last statement."""

    instrument_id: str
    closed: SessionClosed
    revision: int
    stated_ms: int
    is_matched: bool


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
    clocks_set: Iterable[StreamKey] = (),
) -> Known:
    """Read what folding needs of these locked streams. `memory` may spare the reading of hashes; `opening` says, of
    where they stand, the agents of whom a session may begin: only those need a metering fact. `clocks_set` are the
    streams in which a clock is set now: only of those the sessions that wait for it are needed."""
    positions = _positions(session, [head.key for head in heads])
    return Known(
        positions,
        _meterings(session, opening(positions)),
        _pending(session, heads, memory),
        {key: _undated(session, key) for key in clocks_set},
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
        position = _position_of(row)
        if position.open is not None and START_UNSET in position.open.flags:
            boot = _boot_of(session, (row.agent_id, row.stream), position.open.open_seq, position.open.flags)
            position = replace(position, open=replace(position.open, boot=boot))
        found[row.agent_id, row.stream][row.instrument_id] = position
    return found


def _boot_of(session: Session, key: StreamKey, seq: int, flags: frozenset[str]) -> str:
    """The boot of the record that opened a session; "" where that is lost."""
    return "" if OPEN_LOST in flags else _record(session, key, seq).boot


def _record(session: Session, key: StreamKey, seq: int) -> UsageRecord:
    payload = session.execute(
        select(UsageRecordRow.payload).where(
            UsageRecordRow.agent_id == key[0], UsageRecordRow.stream == key[1], UsageRecordRow.seq == seq
        )
    ).scalar_one()
    return UsageRecord.model_validate_json(payload)


def _undated(session: Session, key: StreamKey) -> list[Undated]:
    rows = session.scalars(
        select(UsageSession)
        .where(
            UsageSession.agent_id == key[0],
            UsageSession.stream == key[1],
            UsageSession.ended_at.is_not(None),
            or_(*(UsageSession.flags.contains(flag) for flag in sorted(WAITS_FOR_A_CLOCK))),
            not_(UsageSession.flags.contains(STREAM_LOST)),
        )
        .order_by(UsageSession.open_seq)
    ).all()
    found = []
    for row in rows:
        assert row.close_seq is not None
        assert row.ended_at is not None
        flags = frozenset(row.flags.split())
        boot = _boot_of(session, key, row.open_seq, flags)
        first = (row.odo_running_first_ms, row.odo_unknown_first_ms)
        opened = OpenSession(row.session_id, row.open_seq, to_ms(row.started_at), *first, flags, boot)
        closed = SessionClosed(
            opened,
            row.close_seq,
            to_ms(row.ended_at),
            row.odo_running_last_ms - row.odo_running_first_ms,
            row.odo_unknown_last_ms - row.odo_unknown_first_ms,
            _record(session, key, row.close_seq).boot,
        )
        stated = session.execute(
            select(UsageEntry.revision, UsageEntry.quantity_ms)
            .where(UsageEntry.session_id == row.session_id, UsageEntry.metric == METRIC_RUNNING)
            .order_by(UsageEntry.revision.desc())
            .limit(1)
        ).one()
        is_matched = any(
            session.scalar(select(table.session_id).where(table.session_id == row.session_id).limit(1)) is not None
            for table in (BookingUse, UnbookedUse)
        )
        found.append(Undated(row.instrument_id, closed, stated.revision, stated.quantity_ms, is_matched))
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
