"""What can be said of a hole by what was read around it: what the energy register rose, and the load before. Pure.

Kept in `session_state.SessionState`, stepped by `sessions`, told in the `detail` of a gap record. The county decides by
it whether a short hole is bridged (store/ledger/bridging.py); nothing is decided here. All of it says nothing of a
meter without a register.

A register is read less often than the power, so the last reading may lie before the hole: what was drawn from there to
the begin of the hole is known by the power and is taken off. Behind the hole it has to be read with the first sample.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

LEVEL_WINDOW_MS = 300_000
"""The load before a hole is the mean of the last one to two windows of time in that state."""
MAX_REGISTERS = 1_000
ROUNDING_WH = 1.0
"""Registers lose up to a unit by rounding when a meter restarts; more than that is a reset."""
BELIEVED_AHEAD_MS = 15 * 60_000
"""Registers count in steps, with large transformers in large ones: this much time at full power is always believed."""
HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class HoleEvidence:
    """What is remembered for the next hole. `registers` (instant, Wh) lie after the time accounted for, or at its end.

    `base_wh` is what the register said last within it, `drawn_watt_ms` what was drawn since by the power; None after a
    hole behind which it was not read. `step_wh`: the smallest rise that was ever seen, so its steps are not larger.
    `recent` and `older` are (ms, watt ms) of the windows of the present state.
    """

    registers: tuple[tuple[int, float], ...] = ()
    base_wh: float | None = None
    drawn_watt_ms: float = 0.0
    step_wh: float | None = None
    recent: tuple[int, float] = (0, 0.0)
    older: tuple[int, float] = (0, 0.0)

    def read(self, at_ms: int, wh: float, before_wh: float | None) -> "HoleEvidence":
        """Take a reading of the register; `before_wh` is the one before."""
        step = self.step_wh
        if before_wh is not None and wh > before_wh:
            step = wh - before_wh if step is None else min(step, wh - before_wh)
        return replace(self, registers=(*self.registers, (at_ms, wh))[-MAX_REGISTERS:], step_wh=step)

    def driven(self, samples: Sequence[tuple[int, float]], from_ms: int, to_ms: int) -> "HoleEvidence":
        """Account for [from_ms, to_ms) in a state that is known; `samples` (instant, watts) hold until the next one."""
        base, drawn, (ms, watt_ms), n = self.base_wh, self.drawn_watt_ms, self.recent, 0
        for index, (at, power) in enumerate(samples):
            start = max(at, from_ms)
            end = min(samples[index + 1][0] if index + 1 < len(samples) else to_ms, to_ms)
            while n < len(self.registers) and self.registers[n][0] <= start:
                base, drawn, n = self.registers[n][1], 0.0, n + 1
            if end > start:
                drawn += power * (end - start)
                ms, watt_ms = ms + end - start, watt_ms + power * (end - start)
        while n < len(self.registers) and self.registers[n][0] <= to_ms:
            base, drawn, n = self.registers[n][1], 0.0, n + 1
        recent, older = (ms, watt_ms), self.older
        if ms >= LEVEL_WINDOW_MS:
            recent, older = (0, 0.0), recent
        return replace(
            self, registers=self.registers[n:], base_wh=base, drawn_watt_ms=drawn, recent=recent, older=older
        )

    def in_another_state(self) -> "HoleEvidence":
        """Forget the load: from here on the instrument is in another state."""
        return replace(self, recent=(0, 0.0), older=(0, 0.0))

    def in_another_boot(self) -> "HoleEvidence":
        """Forget what was read after the time accounted for: the new boot's time cannot be compared with it."""
        return replace(self, registers=())

    def behind(self, at_ms: int) -> "HoleEvidence":
        """Begin anew behind a hole that ended at `at_ms`, with the register if it was read then."""
        there = [wh for at, wh in self.registers if at == at_ms]
        later = tuple(pair for pair in self.registers if pair[0] > at_ms)
        return replace(self, registers=later, base_wh=there[-1] if there else None, drawn_watt_ms=0.0)

    def told(
        self, at_ms: int, length_ms: int, *, most_w: float | None, stop_w: float | None, dwell_ms: int
    ) -> tuple[dict[str, str | int | float | None], Literal["reset", "jump"] | None]:
        """Return what a gap record says of the hole of `length_ms` that ends at `at_ms`: whole mWh, mW and ms; and what
        became of the register in it, where it fell, or went on by more than the instrument can draw (`most_w`; None:
        that is not judged).

        Nothing is told where that happened, where the register was not read on both sides, or never seen to rise.
        """
        there = [wh for at, wh in self.registers if at == at_ms]
        if self.base_wh is None:
            return {}, None
        values = [self.base_wh, *(wh for at, wh in self.registers if at <= at_ms)]
        if any(new < old - ROUNDING_WH for old, new in pairwise(values)):
            return {}, "reset"
        if most_w is not None and values[-1] - values[0] > most_w * (length_ms + BELIEVED_AHEAD_MS) / HOUR_MS:
            return {}, "jump"
        ms, watt_ms = self.recent[0] + self.older[0], self.recent[1] + self.older[1]
        if not there or self.step_wh is None or ms == 0 or stop_w is None:
            return {}, None
        rose_mwh = (there[-1] - self.base_wh) * 1_000 - self.drawn_watt_ms * 1_000 / HOUR_MS
        return {
            "energy_mwh": round(rose_mwh),
            "step_mwh": math.ceil(self.step_wh * 1_000),
            "level_mw": round(watt_ms * 1_000 / ms),
            "level_ms": ms,
            "stop_mw": round(stop_w * 1_000),
            "dwell_ms": dwell_ms,
        }, None
