"""One instrument under watch: its driver, and where detector, sessions and telemetry stand. Used by the agent."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from edge_agents import detector, sessions
from edge_agents.detector import DetectorProfile, DetectorState
from edge_agents.drivers.base import Driver, Quality, Reading, credible
from edge_agents.records import Batch, Detail, Sample
from edge_agents.session_state import Labels, Meter, SessionState, observe
from wire.messages import MAX_EXTRA, Live, UsageRecord, timestamp

DETECTOR = TypeAdapter(DetectorState)
SESSIONS = TypeAdapter(SessionState)
CHECKPOINT_VERSION = 1
EXTRA_SHOWN_MS = 120_000
"""How old a further value may be on a display: meters tell them in turn."""


@dataclass(frozen=True)
class Watched:
    """What is watched: an instrument, the driver of its meter, and the profile that reads its power. `most_w` is what
    the instrument can draw at most, where that is known: by it a register that jumps is told from energy."""

    inst: str
    driver: Driver
    profile: DetectorProfile
    tick_ms: int = 60_000
    most_w: float | None = None


class Watch:
    """Steps one instrument forward. Keeps no file and sends nothing: it returns the records that are complete."""

    def __init__(self, watched: Watched) -> None:
        self.inst = watched.inst
        self.driver = watched.driver
        self.profile = watched.profile
        self.due_ms = 0
        self.newest: Sample | None = None
        self.batch = Batch()
        self._extra: dict[str, tuple[int, float]] = {}
        self.detector = DetectorState()
        self.sessions = SessionState("")
        meter = Meter(watched.inst, watched.driver.period_ms, watched.tick_ms, most_w=watched.most_w)
        self._meter = _read_by(meter, watched.profile)

    @property
    def tells_energy(self) -> bool:
        """Whether this meter has an energy register: its driver says so, or one was read."""
        return self.sessions.energy_wh is not None or bool(getattr(self.driver, "tells_energy", False))

    def begin(
        self, saved: dict[str, Any] | None, labels: Labels, now_ms: int, stream: str, next_seq: int
    ) -> list[UsageRecord]:
        """Start, from a checkpoint where there is one; return the records that the restart itself makes.

        Raises pydantic.ValidationError for a checkpoint that this version cannot read.
        """
        self.due_ms = self.driver.next_due(now_ms - 1)
        if saved is None:
            self.sessions = SessionState(labels.boot, labels.wall_offset_ms, labels.quality)
            return []
        state = DETECTOR.validate_python(saved["detector"])
        before = SESSIONS.validate_python(saved["sessions"])
        same_boot = before.boot == labels.boot and not before.new_boot
        self.detector = detector.interrupted(state) if same_boot else detector.rebased(state)
        self.sessions, records = sessions.resumed(self._meter, labels, before, stream, next_seq)
        return records

    def use(self, profile: DetectorProfile) -> None:
        """Read the power with another profile from the next reading on. Time that was not decided yet is unknown: the
        new profile was not in force in it, and the old one had not made up its mind."""
        self.profile = profile
        self._meter = _read_by(self._meter, profile)
        if self.detector.run_since_ms is not None or self.detector.level_since_ms is not None:
            self.detector = detector.interrupted(self.detector)

    def saved(self) -> dict[str, Any]:
        """Return the checkpoint of this instrument."""
        return {
            "profile": self.profile.sha256,
            "detector": DETECTOR.dump_python(self.detector, mode="json"),
            "sessions": SESSIONS.dump_python(self.sessions, mode="json"),
        }

    def read(self) -> Reading:
        """Take the reading that is due and find out when the next one is."""
        reading = self.driver.read(self.due_ms)
        self.due_ms = self.driver.next_due(max(self.due_ms, reading.mono_ms))
        return reading

    def take(self, reading: Reading, labels: Labels, stream: str, next_seq: int) -> list[UsageRecord]:
        """Step detector and sessions; return the records that are complete now."""
        if self.detector.seen_ms is not None and reading.mono_ms <= self.detector.seen_ms:
            return []
        reading = credible(reading)
        seen = observe(self.sessions, reading, self._meter.most_w)
        moved, settled = detector.step(self.profile, self.detector, reading)
        records: list[UsageRecord] = []
        if settled:
            seen, records = sessions.advance(self._meter, labels, seen, settled, stream, next_seq)
        # All at once: a reading that failed half-way must not leave the two apart.
        self.detector, self.sessions = moved, seen
        if reading.quality is Quality.GOOD and reading.power_w is not None:
            self.newest = Sample(
                reading.mono_ms, reading.power_w, reading.energy_wh, self.detector.shown, reading.extra
            )
            self._remember(reading)
        else:
            self.newest = None
        return records

    def settle(self, labels: Labels, stream: str, next_seq: int) -> list[UsageRecord]:
        """Return the record of what is settled and not recorded yet."""
        self.sessions, records = sessions.settle(self._meter, labels, self.sessions, stream, next_seq)
        return records

    def gap_length(self, labels: Labels) -> Detail | None:
        """Return what is known now, and was not told before, of the length of the hole before this boot."""
        self.sessions, detail = sessions.gap_length(self.inst, self.sessions, labels)
        return detail

    def live(self, labels: Labels, now_ms: int) -> Live:
        """Return what a wall display may show now."""
        newest = self.newest
        at = now_ms if newest is None else newest.mono_ms
        return Live(
            inst=self.inst,
            ts=timestamp(at + labels.wall_offset_ms),
            power_w=None if newest is None else newest.power_w,
            state=self.detector.shown,
            extra={} if newest is None else self._shown_extra(newest.mono_ms),
        )

    def _remember(self, reading: Reading) -> None:
        at = reading.mono_ms
        known = {name: one for name, one in self._extra.items() if at - one[0] <= EXTRA_SHOWN_MS}
        self._extra = known | {name: (at, value) for name, value in reading.extra.items()}

    def _shown_extra(self, now_ms: int) -> dict[str, float]:
        known = [(at, name, value) for name, (at, value) in self._extra.items() if now_ms - at <= EXTRA_SHOWN_MS]
        return {name: value for _, name, value in sorted(known)[-MAX_EXTRA:]}


def _read_by(meter: Meter, profile: DetectorProfile) -> Meter:
    return replace(meter, narrow=profile.narrow, stop_w=profile.off_w, dwell_ms=profile.down_ms)


def write_checkpoint(dating: Mapping[str, Any], dormant: Mapping[str, Any], watches: Iterable[Watch]) -> str:
    """Return the checkpoint of an agent. `dormant`: instruments it once watched, whose odometers are not forgotten."""
    instruments = dict(dormant) | {watch.inst: watch.saved() for watch in watches}
    return json.dumps({"v": CHECKPOINT_VERSION, **dating, "instruments": instruments})


def unreadable(checkpoint: str | None) -> str | None:
    """Return why this version cannot go on from a checkpoint, or None if it can."""
    try:
        for saved in _parsed(checkpoint).get("instruments", {}).values():
            DETECTOR.validate_python(saved["detector"])
            SESSIONS.validate_python(saved["sessions"])
    except (ValidationError, ValueError, TypeError, KeyError, AttributeError) as error:
        return f"the checkpoint cannot be read by this version: {str(error).splitlines()[0]}"
    return None


def read_checkpoint(checkpoint: str | None) -> dict[str, Any]:
    """Return what `write_checkpoint` wrote; nothing where there is none or this version cannot read it."""
    return {} if unreadable(checkpoint) is not None else _parsed(checkpoint)


def _parsed(checkpoint: str | None) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(checkpoint or f'{{"v": {CHECKPOINT_VERSION}}}')
    if fields["v"] != CHECKPOINT_VERSION:
        raise ValueError(f"it is of version {fields['v']}")
    return fields
