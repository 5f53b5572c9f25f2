"""Builders of the edge tests: readings, profiles and real traces with only the fields that matter."""

import csv
import os
from collections.abc import Iterable
from pathlib import Path

from edge_agents.detector import DetectorProfile, Interval
from edge_agents.drivers.base import Quality, Reading
from tests.support.requirements import require

A_PROFILE = DetectorProfile(
    on_w=100, off_w=80, standby_w=10, up_ms=3_000, down_ms=5_000, max_hole_ms=4_000, level_ms=2_000
)


def readings(powers: Iterable[float | None], *, start_ms: int = 0, period_ms: int = 1000) -> list[Reading]:
    """One reading a period; None is a meter that did not answer."""
    return [
        Reading(start_ms + n * period_ms, power, None, Quality.STALE if power is None else Quality.GOOD)
        for n, power in enumerate(powers)
    ]


def said(intervals: Iterable[Interval]) -> list[tuple[int, int, str]]:
    """Intervals in seconds, short enough to read in an assertion."""
    return [(i.from_ms // 1000, i.to_ms // 1000, i.state.value) for i in intervals]


def trace_path(name: str) -> Path:
    """A recorded power curve; skips loudly where the folder is not there."""
    folder = os.environ.get("OPENLAB_POWER_TRACES")
    require(folder, "set OPENLAB_POWER_TRACES to the folder with the recorded power traces")
    path = Path(str(folder)) / f"{name}.csv"
    require(path.exists(), f"the power trace {path.name} is not in OPENLAB_POWER_TRACES")
    return path


def trace_readings(name: str) -> list[Reading]:
    """The samples of a trace at their own times (milliseconds since local midnight)."""
    with trace_path(name).open() as file:
        return [Reading(round(float(r["t_s"]) * 1000), float(r["power_w"])) for r in csv.DictReader(file)]


def joined(intervals: Iterable[Interval]) -> list[Interval]:
    """Neighbours of one state become one interval, however the readings were portioned."""
    out: list[Interval] = []
    for interval in intervals:
        if out and out[-1].state == interval.state and out[-1].to_ms == interval.from_ms:
            out[-1] = Interval(out[-1].from_ms, interval.to_ms, interval.state)
        else:
            out.append(interval)
    return out
