"""Usage, states and births: decode, write and commit a batch in one transaction, then tell the agents.

The order is the promise: nothing is acknowledged before its commit, and a repeat after a crash anywhere changes
nothing. What is the data's own fault is set aside; what is the environment's makes the batch wait.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from gateway.boots import Boots, hear
from gateway.decode import Place, Rejected, Understood, understand
from gateway.isolating import one_by_one_where_needed
from gateway.metrics import GatewayMetrics
from gateway.profiles import Profiles
from gateway.refusing import refusals
from gateway.skew import Skews
from store.alerts import raise_alert
from store.database import Database
from store.ledger import Arrival, ChainMemory, CommitResult, StreamMark, commit_usage, load_registry, stream_marks
from store.ledger.streams import StreamKey
from store.liveness import Heard, note_heard
from store.quarantine import set_aside
from store.tables.usage import QuarantineReason
from wire.client import Delivery
from wire.clock import Clock
from wire.commands import Refused
from wire.messages import AgentState, Birth, UsageRecord, timestamp_ms


@dataclass
class _Sorted:
    """A batch by what has to be done with it."""

    arrivals: list[tuple[Delivery, Arrival]] = field(default_factory=list)
    rejected: list[tuple[Delivery, Rejected]] = field(default_factory=list)
    states: list[tuple[str, AgentState, bool]] = field(default_factory=list)
    births: list[tuple[str, Birth]] = field(default_factory=list)

    def reject_streams(self, telemetrys: frozenset[StreamKey]) -> None:
        """Set aside what came as usage of streams that are telemetry's: it has no place in them."""
        for delivery, arrival in self.arrivals:
            if (arrival.agent_id, arrival.stream) in telemetrys:
                detail = f"stream {arrival.stream} of {arrival.agent_id} is one of telemetry"
                place = Place(arrival.stream, arrival.seq)
                self.rejected.append((delivery, Rejected(arrival.agent_id, QuarantineReason.WRONG_KIND, detail, place)))


class UsagePipe:
    """Handles batches of the usage subscription. `acknowledge` tells one agent a mark, `refuse` what will have none."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        gateway_name: str,
        acknowledge: Callable[[str, str, StreamMark], None],
        note_floor: Callable[[StreamKey, int], None],
        metrics: GatewayMetrics,
        checkpoint: Callable[[str], None],
        refuse: Callable[[str, Refused], None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._recorded_by = f"gateway:{gateway_name}"
        self._acknowledge = acknowledge
        self._note_floor = note_floor
        self._metrics = metrics
        self._checkpoint = checkpoint
        self._refuse = refuse
        self._boots: Boots = {}
        self._memory = ChainMemory()
        self.skews = Skews()
        self.profiles = Profiles()

    def handle(self, batch: Sequence[Delivery]) -> None:
        """Commit one batch and acknowledge it to its agents. Raises for what may work later; then nothing was kept."""
        one_by_one_where_needed(batch, self._commit)

    def _commit(self, batch: Sequence[Delivery], blame: str | None) -> None:
        work = _sort(batch, blame)
        self._checkpoint("decoded")
        now_ms = self._clock.now_ms()
        started = time.monotonic()
        with self._database.write() as session:
            self._judge(session, work)
            arrivals = [arrival for _, arrival in work.arrivals]
            result = self._store(session, arrivals, now_ms) if arrivals else None
            if result is not None and result.wrong_kind:
                work.reject_streams(result.wrong_kind)
            for delivery, rejected in work.rejected:
                set_aside(session, delivery.topic, delivery.payload, rejected.reason, rejected.detail, now_ms)
            self._note_states(session, work, now_ms)
            boots = self._judge_boots(session, work, now_ms)
            marks: dict[StreamKey, StreamMark] = dict(result.marks) if result else {}
            born = {(agent, s.stream) for agent, birth in work.births for s in birth.streams} - set(marks)
            marks |= stream_marks(session, born)
            self._checkpoint("written")
        self._metrics.commit_seconds.labels("usage").observe(time.monotonic() - started)
        self._boots = boots
        if result is not None:
            self._memory.keep(result.pending)
        for agent, birth in work.births:
            self.profiles.born(agent, birth)
        for arrival in arrivals:
            if arrival.record is not None:
                self.skews.note(arrival.agent_id, now_ms, arrival.record.ts)
                self.profiles.told(arrival.agent_id, arrival.record)
        self._checkpoint("committed")
        for (agent, stream), mark in marks.items():
            self._acknowledge(agent, stream, mark)
        for agent, refused in refusals(rejected for _, rejected in work.rejected):
            self._refuse(agent, refused)
        for agent, birth in work.births:
            for position in birth.streams:
                self._note_floor((agent, position.stream), position.first_kept)
        self._checkpoint("acknowledged")
        if result is not None:
            self._metrics.records.labels("appended").inc(result.appended)
            self._metrics.records.labels("repeated").inc(result.repeated)
            self._metrics.records.labels("conflict").inc(result.conflicts)
        for _, rejected in work.rejected:
            self._metrics.quarantined.labels(rejected.reason.value).inc()

    def _store(self, session: Session, arrivals: Sequence[Arrival], now_ms: int) -> CommitResult:
        return commit_usage(session, arrivals, now_ms, self._recorded_by, self._memory)

    def _judge(self, session: Session, work: _Sorted) -> None:
        """Set aside what an agent may not say; a refused record still holds its place in the stream."""
        registry = load_registry(
            session,
            {a.agent_id for _, a in work.arrivals},
            {a.record.inst for _, a in work.arrivals if a.record is not None},
        )
        allowed: list[tuple[Delivery, Arrival]] = []
        for delivery, arrival in work.arrivals:
            refusal = registry.refusal(arrival.agent_id, arrival.record.inst if arrival.record else "_")
            if refusal is None:
                allowed.append((delivery, arrival))
                continue
            about = arrival.record.inst if arrival.record else "itself"
            detail = f"agent {arrival.agent_id} may not report about {about} ({refusal.value}); register the metering"
            place = Place(arrival.stream, arrival.seq)
            work.rejected.append((delivery, Rejected(arrival.agent_id, refusal, detail, place)))
            if refusal in (QuarantineReason.FOREIGN_INSTRUMENT, QuarantineReason.UNKNOWN_INSTRUMENT):
                parked = Arrival(arrival.agent_id, arrival.stream, arrival.seq, arrival.payload, None)
                allowed.append((delivery, parked))
        work.arrivals = allowed

    def _note_states(self, session: Session, work: _Sorted, now_ms: int) -> None:
        software = {agent: birth.software for agent, birth in work.births}
        for agent, state, retained in work.states:
            note_heard(
                session,
                Heard(
                    agent_id=agent,
                    online=state.online,
                    at_ms=now_ms,
                    boot=state.boot,
                    software=software.get(agent),
                    queued=state.queued,
                    dropped=state.dropped,
                    skew_ms=None if retained or not state.online else now_ms - timestamp_ms(state.ts),
                    retained=retained,
                ),
            )

    def _judge_boots(self, session: Session, work: _Sorted, now_ms: int) -> Boots:
        # Only what is online speaks for a machine: a last will is published late, by the broker.
        boots, returned = hear(self._boots, [(agent, state.boot) for agent, state, _ in work.states if state.online])
        for agent, boot, other in returned:
            raise_alert(session, "duplicate_identity", agent, f"boots {other} and {boot} speak in turn", now_ms)
        return boots


def _sort(batch: Sequence[Delivery], blame: str | None) -> _Sorted:
    work = _Sorted()
    for delivery in batch:
        outcome = understand(delivery.topic, delivery.payload)
        match outcome:
            case Understood(agent, UsageRecord() as record) if blame is None:
                arrival = Arrival(agent, record.stream, record.seq, delivery.payload, record)
                work.arrivals.append((delivery, arrival))
            case Understood(agent, UsageRecord() as record):
                parked = Arrival(agent, record.stream, record.seq, delivery.payload, None)
                work.arrivals.append((delivery, parked))
                work.rejected.append((delivery, Rejected(agent, QuarantineReason.INVALID, blame or "", None)))
            case Understood(agent, AgentState() as state) if blame is None:
                work.states.append((agent, state, delivery.retained))
            case Understood(agent, Birth() as birth) if blame is None:
                work.births.append((agent, birth))
            case Understood(agent, message) if blame is None:
                detail = f"{type(message).__name__} does not belong on this subscription"
                work.rejected.append((delivery, Rejected(agent, QuarantineReason.WRONG_KIND, detail, None)))
            case Understood(agent, _):
                work.rejected.append((delivery, Rejected(agent, QuarantineReason.INVALID, blame or "", None)))
            case Rejected() as rejected:
                work.rejected.append((delivery, rejected))
                if rejected.place is not None and rejected.agent is not None:
                    place = rejected.place
                    parked = Arrival(rejected.agent, place.stream, place.seq, delivery.payload, None)
                    work.arrivals.append((delivery, parked))
    return work
