"""Builds the messages that are not about an interval: facts of the usage stream, and telemetry batches. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from edge_agents.session_state import Labels
from wire.messages import (
    MAX_EXTRA,
    MAX_TELEMETRY_SAMPLES,
    Odometer,
    PowerState,
    RecordKind,
    Telemetry,
    UsageRecord,
    timestamp,
)
from wire.topics import AGENT_ITSELF

MAX_BATCH_MS = 60_000

Detail = dict[str, str | int | float | None]


def fact(
    kind: RecordKind,
    stream: str,
    seq: int,
    labels: Labels,
    mono_ms: int,
    *,
    reason: str | None = None,
    flags: tuple[str, ...] = (),
    detail: Detail | None = None,
) -> UsageRecord:
    """Return a record that takes no time and speaks for the agent itself (clock, fault, config, spool_lost)."""
    return UsageRecord(
        stream=stream,
        seq=seq,
        boot=labels.boot,
        kind=kind,
        inst=AGENT_ITSELF,
        session=None,
        from_ms=mono_ms,
        to_ms=mono_ms,
        state=PowerState.UNKNOWN,
        odo=Odometer(),
        ts=timestamp(mono_ms + labels.wall_offset_ms),
        ts_q=labels.quality,
        flags=flags,
        reason=reason,
        detail=detail or {},
    )


def check_in(
    stream: str, seq: int, labels: Labels, mono_ms: int, *, inst: str, said: str, card_sha256: str
) -> UsageRecord:
    """Return the record of a card held to the reader beside an instrument: `said` is in, out or tap. It accounts for no
    time of the instrument, and carries no odometer."""
    held = fact(RecordKind.CHECKIN, stream, seq, labels, mono_ms, reason=said)
    return held.model_copy(update={"inst": inst, "user_hint": card_sha256})


@dataclass(frozen=True, slots=True)
class Sample:
    """One good reading with what the detector showed at that moment."""

    mono_ms: int
    power_w: float
    energy_wh: float | None
    state: PowerState
    extra: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Batch:
    """Samples of one instrument that wait to become one telemetry message."""

    samples: tuple[Sample, ...] = ()

    def takes(self, mono_ms: int) -> bool:
        """Whether a sample of this time still fits: at most 60 samples, at most 60 s."""
        if not self.samples:
            return True
        return len(self.samples) < MAX_TELEMETRY_SAMPLES and mono_ms - self.samples[0].mono_ms < MAX_BATCH_MS

    def with_sample(self, sample: Sample) -> "Batch":
        """Return the batch with one more sample; one that it has already (a meter gave no newer) changes nothing."""
        if self.samples and sample.mono_ms <= self.samples[-1].mono_ms:
            return self
        return replace(self, samples=(*self.samples, sample))

    def message(self, inst: str, stream: str, seq: int, period_ms: int, labels: Labels) -> Telemetry:
        """Return the telemetry message. Raises IndexError for an empty batch."""
        first = self.samples[0].mono_ms
        energy = tuple(sample.energy_wh for sample in self.samples)
        extra = {name: value for sample in self.samples for name, value in sample.extra.items()}
        return Telemetry(
            stream=stream,
            seq=seq,
            boot=labels.boot,
            inst=inst,
            t0_ms=first,
            ts=timestamp(first + labels.wall_offset_ms),
            ts_q=labels.quality,
            period_ms=period_ms,
            dt_ms=tuple(sample.mono_ms - first for sample in self.samples),
            power_w=tuple(sample.power_w for sample in self.samples),
            state=tuple(sample.state for sample in self.samples),
            energy_wh=energy if any(value is not None for value in energy) else (),
            extra=dict(list(extra.items())[-MAX_EXTRA:]),
        )
