"""Telemetry: samples into the series store, then the stream's mark into the database, then the acknowledgement.

A connection and a thread of its own, so that an outage of the series store never delays usage. Writing samples
again changes nothing, so a crash between the two steps only repeats the first.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

import structlog

from gateway.decode import Rejected, Understood, understand
from gateway.metrics import GatewayMetrics
from store.database import Database
from store.ledger import StreamMark, Written, load_registry, mark_telemetry
from store.ledger.streams import StreamKey
from store.quarantine import set_aside
from store.series import STATE_CODES, Sample, SeriesRefused, SeriesStore
from store.tables.usage import QuarantineReason
from wire.client import Delivery
from wire.clock import Clock
from wire.messages import Telemetry, timestamp_ms

log = structlog.get_logger(__name__)
MAX_AHEAD = 10_000


class TelemetryPipe:
    """Handles batches of the telemetry subscription."""

    def __init__(
        self,
        database: Database,
        series: SeriesStore,
        clock: Clock,
        acknowledge: Callable[[str, str, StreamMark], None],
        metrics: GatewayMetrics,
        checkpoint: Callable[[str], None],
    ) -> None:
        self._database = database
        self._series = series
        self._clock = clock
        self._acknowledge = acknowledge
        self._metrics = metrics
        self._checkpoint = checkpoint
        # Written, but not yet part of a stream's contiguous prefix: what is lost here at a crash is sent again.
        self._ahead: dict[StreamKey, set[int]] = defaultdict(set)
        self._floors: dict[StreamKey, int] = {}
        self._floors_lock = threading.Lock()

    def note_floor(self, key: StreamKey, first_kept: int) -> None:
        """An agent said what it still keeps of a stream: nothing below is waited for. Called on another thread."""
        with self._floors_lock:
            self._floors[key] = max(first_kept, self._floors.get(key, 1))

    def handle(self, batch: Sequence[Delivery]) -> None:
        """Write one batch and acknowledge it. Raises SeriesUnavailable or a database error: then it comes again."""
        started = time.monotonic()
        understood: list[tuple[Delivery, str, Telemetry]] = []
        rejected: list[tuple[Delivery, Rejected]] = []
        for delivery in batch:
            outcome = understand(delivery.topic, delivery.payload)
            match outcome:
                case Understood(agent, Telemetry() as message):
                    understood.append((delivery, agent, message))
                case Understood(agent, message):
                    detail = f"{type(message).__name__} does not belong on this subscription"
                    rejected.append((delivery, Rejected(agent, QuarantineReason.WRONG_KIND, detail, None)))
                case Rejected():
                    rejected.append((delivery, outcome))
        allowed = self._judge(understood, rejected)
        samples = [sample for _, _, message in allowed for sample in samples_of(message)]
        refused = self._write(samples)
        if refused is not None:
            delivery = allowed[0][0]
            reason = Rejected(None, QuarantineReason.SERIES_REFUSED, str(refused), None)
            rejected.append((delivery, reason))
        self._checkpoint("series_written")
        self._mark(understood, rejected)
        self._metrics.samples.inc(len(samples))
        self._metrics.commit_seconds.labels("telemetry").observe(time.monotonic() - started)

    def _judge(
        self, understood: Sequence[tuple[Delivery, str, Telemetry]], rejected: list[tuple[Delivery, Rejected]]
    ) -> list[tuple[Delivery, str, Telemetry]]:
        with self._database.read() as session:
            registry = load_registry(
                session, {agent for _, agent, _ in understood}, {message.inst for _, _, message in understood}
            )
        allowed = []
        for delivery, agent, message in understood:
            refusal = registry.refusal(agent, message.inst)
            if refusal is None:
                allowed.append((delivery, agent, message))
            else:
                detail = f"agent {agent} may not report about {message.inst} ({refusal.value}); register the metering"
                rejected.append((delivery, Rejected(agent, refusal, detail, None)))
        return allowed

    def _write(self, samples: Sequence[Sample]) -> SeriesRefused | None:
        if not samples:
            return None
        try:
            self._series.write(samples)
        except SeriesRefused as refused:
            # The store has kept the other points; these will never be taken, so waiting would block for ever.
            log.error("the series store refused samples", error=str(refused))
            return refused
        return None

    def _mark(
        self, understood: Sequence[tuple[Delivery, str, Telemetry]], rejected: Sequence[tuple[Delivery, Rejected]]
    ) -> None:
        places = [((agent, message.stream), message.seq) for _, agent, message in understood]
        # What was set aside holds its place too, or its stream would wait for it for ever.
        places += [((r.agent, r.place.stream), r.place.seq) for _, r in rejected if r.agent and r.place]
        touched = {key for key, _ in places}
        for key, seq in places:
            if len(self._ahead[key]) < MAX_AHEAD:
                self._ahead[key].add(seq)
        with self._floors_lock:
            floors = {key: self._floors.get(key, 1) for key in touched}
        now_ms = self._clock.now_ms()
        with self._database.write() as session:
            known = load_registry(session, {agent for agent, _ in touched}, ()).agents
            written = {key: Written(frozenset(self._ahead[key]), floors[key]) for key in touched if key[0] in known}
            marks = mark_telemetry(session, written, now_ms) if written else {}
            for delivery, reason in rejected:
                set_aside(session, delivery.topic, delivery.payload, reason.reason, reason.detail, now_ms)
        for (agent, stream), upto in marks.items():
            self._ahead[agent, stream] = {seq for seq in self._ahead[agent, stream] if seq > upto}
            self._acknowledge(agent, stream, StreamMark(upto, ()))
        for _, reason in rejected:
            self._metrics.quarantined.labels(reason.reason.value).inc()


def samples_of(message: Telemetry) -> list[Sample]:
    """Return the samples of a batch: instants from its wall-clock label, power in whole milliwatts."""
    t0_ms = timestamp_ms(message.ts)
    energies = message.energy_wh or (None,) * len(message.dt_ms)
    return [
        Sample(
            instrument_id=message.inst,
            at_ms=t0_ms + dt_ms,
            power_mw=round(power_w * 1000),
            state=STATE_CODES[state],
            energy_mwh=None if energy_wh is None else round(energy_wh * 1000),
        )
        for dt_ms, power_w, state, energy_wh in zip(
            message.dt_ms, message.power_w, message.state, energies, strict=True
        )
    ]
