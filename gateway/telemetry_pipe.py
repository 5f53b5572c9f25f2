"""Telemetry: samples and readings into the series store, then the stream's mark into the database, then the
acknowledgement.

A connection and a thread of its own, so that an outage of the series store never delays usage. Writing points
again changes nothing, so a crash between two steps only repeats the first.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from typing import NamedTuple

from sqlalchemy.orm import Session

from gateway.decode import Place, Rejected, Understood, understand
from gateway.isolating import one_by_one_where_needed
from gateway.metrics import SHOWN_FOR_S, GatewayMetrics
from gateway.refusing import refusals
from store.database import Database
from store.ledger import StreamMark, Written, load_registry, mark_telemetry
from store.ledger.streams import StreamKey
from store.quarantine import set_aside
from store.series import Reading, ReadingsRefused, Sample, SeriesRefused, SeriesStore
from store.tables.usage import QuarantineReason
from store.telemetry import ClockUnset, boot_offset, clocks_told, offset_since_told, readings_of, samples_of
from wire.client import Delivery
from wire.clock import Clock
from wire.commands import Refused
from wire.messages import ClockQuality, Telemetry, UsageRecord, timestamp_ms

MAX_AHEAD = 10_000
CLOCKS_FOR_S = 5.0

_Told = tuple[Delivery, str, Telemetry]
"""A message of an agent."""


class _Points(NamedTuple):
    """What a message brings into the series."""

    delivery: Delivery
    samples: list[Sample]
    readings: list[Reading]


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
        refuse: Callable[[str, Refused], None],
    ) -> None:
        self._database = database
        self._series = series
        self._clock = clock
        self._acknowledge = acknowledge
        self._metrics = metrics
        self._checkpoint = checkpoint
        self._refuse = refuse
        # Written, but not yet part of a stream's contiguous prefix: what is lost here at a crash is sent again.
        self._ahead: dict[StreamKey, set[int]] = defaultdict(set)
        self._floors: dict[StreamKey, int] = {}
        self._clocks: dict[str, tuple[float, list[UsageRecord]]] = {}
        self._floors_lock = threading.Lock()

    def note_floor(self, key: StreamKey, first_kept: int) -> None:
        """An agent said what it still keeps of a stream: nothing below is waited for. Called on another thread."""
        with self._floors_lock:
            self._floors[key] = max(first_kept, self._floors.get(key, 1))

    def handle(self, batch: Sequence[Delivery]) -> None:
        """Write one batch and acknowledge it. Raises SeriesUnavailable or a database error: then it comes again."""
        one_by_one_where_needed(batch, self._take_in)

    def _take_in(self, batch: Sequence[Delivery], blame: str | None) -> None:
        started = time.monotonic()
        understood: list[_Told] = []
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
        if blame is None:
            allowed = self._judge(understood, rejected)
        else:
            allowed = []
            rejected += [(d, Rejected(agent, QuarantineReason.INVALID, blame, None)) for d, agent, _ in understood]
        points = []
        for (delivery, _, message), offset_ms in allowed:
            points.append(_Points(delivery, samples_of(message, offset_ms), readings_of(message, offset_ms)))
        rejected += self._write(points)
        self._checkpoint("series_written")
        self._mark(understood, rejected)
        self._show_readings([told for told, _ in allowed])
        self._metrics.samples.inc(sum(len(of_one.samples) for of_one in points))
        self._metrics.commit_seconds.labels("telemetry").observe(time.monotonic() - started)

    def _show_readings(self, messages: Sequence[_Told]) -> None:
        """Show what else the meters told, where it is new: a backlog says nothing of now."""
        since = self._clock.now_ms() - SHOWN_FOR_S * 1000 * self._clock.speed
        for _, _, message in messages:
            if message.extra and timestamp_ms(message.ts) >= since:
                self._metrics.readings.take(message.inst, message.extra)

    def _judge(
        self, understood: Sequence[_Told], rejected: list[tuple[Delivery, Rejected]]
    ) -> list[tuple[_Told, int | None]]:
        """Return what may be written, each with the offset of its boot where its clock was set after these samples."""
        undated = {(agent, m.boot) for _, agent, m in understood if m.ts_q is ClockQuality.UNSET}
        offsets: dict[tuple[str, str], int] = {}
        with self._database.read() as session:
            registry = load_registry(
                session, {agent for _, agent, _ in understood}, {message.inst for _, _, message in understood}
            )
            for agent, boot in undated:
                with suppress(ClockUnset):
                    offsets[agent, boot] = boot_offset(session, agent, boot)
            self._learn_clocks(session, {agent for _, agent, m in understood if m.ts_q is ClockQuality.RTC})
        allowed = []
        for delivery, agent, message in understood:
            refusal = registry.refusal(agent, message.inst)
            if refusal is None and message.ts_q is ClockQuality.UNSET and (agent, message.boot) not in offsets:
                rejected.append((delivery, Rejected(agent, QuarantineReason.SERIES_REFUSED, ClockUnset.WHY, None)))
            elif refusal is None:
                allowed.append(((delivery, agent, message), self._offset(agent, message, offsets)))
            else:
                detail = f"agent {agent} may not report about {message.inst} ({refusal.value}); register the metering"
                rejected.append((delivery, Rejected(agent, refusal, detail, _place(message))))
        return allowed

    def _offset(self, agent: str, message: Telemetry, offsets: Mapping[tuple[str, str], int]) -> int | None:
        match message.ts_q:
            case ClockQuality.UNSET:
                return offsets[agent, message.boot]
            case ClockQuality.RTC:
                return offset_since_told(message, self._clocks[agent][1])
            case _:
                return None

    def _learn_clocks(self, session: Session, agents: Iterable[str]) -> None:
        """Know what agents that nobody compared said of their clocks: not for each batch, they say it seldom."""
        now = time.monotonic()
        for agent in agents:
            if agent not in self._clocks or now - self._clocks[agent][0] > CLOCKS_FOR_S:
                self._clocks[agent] = (now, clocks_told(session, agent))

    def _write(self, points: Sequence[_Points]) -> list[tuple[Delivery, Rejected]]:
        """Write what messages bring; return the messages of which the series will never take some of it."""
        samples = [sample for of_one in points for sample in of_one.samples]
        readings = [reading for of_one in points for reading in of_one.readings]
        # The store has kept the other points; these will never be taken, so waiting would block for ever.
        why: dict[Hashable, str] = {}
        try:
            if samples:
                self._series.write(samples)
        except SeriesRefused as refused:
            why |= {_point(one.sample): one.reason for one in refused.refused}
        try:
            if readings:
                self._series.write_readings(readings)
        except ReadingsRefused as refused:
            why |= {one.reading: one.reason for one in refused.refused}
        found = []
        for delivery, of_samples, of_readings in points if why else ():
            details = [
                *_refused_of("samples", map(_point, of_samples), why),
                *_refused_of("readings", of_readings, why),
            ]
            if details:
                found.append((delivery, Rejected(None, QuarantineReason.SERIES_REFUSED, "; ".join(details), None)))
        return found

    def _mark(self, understood: Sequence[_Told], rejected: Sequence[tuple[Delivery, Rejected]]) -> None:
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
            strays = written.keys() - marks.keys()
            rejected = [*rejected, *_of_streams(understood, strays)]
            for delivery, reason in rejected:
                set_aside(session, delivery.topic, delivery.payload, reason.reason, reason.detail, now_ms)
        for key in strays:
            del self._ahead[key]
        for (agent, stream), upto in marks.items():
            self._ahead[agent, stream] = {seq for seq in self._ahead[agent, stream] if seq > upto}
            self._acknowledge(agent, stream, StreamMark(upto, ()))
        for agent, refused in refusals(one for _, one in rejected):
            self._refuse(agent, refused)
        for _, reason in rejected:
            self._metrics.quarantined.labels(reason.reason.value).inc()


def _point(sample: Sample) -> tuple[str, int, int, int]:
    """A sample without its energy register, which a store may have taken from another sample of the same instant."""
    return sample.instrument_id, sample.at_ms, sample.power_mw, sample.state


def _refused_of(what: str, points: Iterable[Hashable], why: Mapping[Hashable, str]) -> Iterator[str]:
    """Yield a sentence where the series refused some of these points."""
    all_of_them = list(points)
    reasons = [why[point] for point in all_of_them if point in why]
    if reasons:
        yield f"{len(reasons)} of {len(all_of_them)} {what} refused: {reasons[0]}"


def _of_streams(understood: Sequence[_Told], strays: Set[StreamKey]) -> list[tuple[Delivery, Rejected]]:
    """Return what came as telemetry of streams that are usage's."""
    why = "stream {} of {} is one of usage"
    return [
        (d, Rejected(agent, QuarantineReason.WRONG_KIND, why.format(m.stream, agent), _place(m)))
        for d, agent, m in understood
        if (agent, m.stream) in strays
    ]


def _place(message: Telemetry) -> Place:
    return Place(message.stream, message.seq)
