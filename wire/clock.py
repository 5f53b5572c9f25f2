"""The one clock every OpenLab process reads. Nothing else may call `time.time()` for a fact that is kept.

Wall time is a label (aware, UTC, whole milliseconds); durations come from `mono_ms`, which never steps.
Sockets, retries and liveness use the machine's own time, never this clock: it may be scaled or stand still.
"""

import json
import os
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from wire.ids import kernel_boot_id

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class Clock(Protocol):
    """Wall time and monotonic time of one process, and the name of the boot the latter belongs to."""

    def now_ms(self) -> int:
        """UTC wall time in milliseconds since 1970."""
        ...

    def mono_ms(self) -> int:
        """Milliseconds that never step and go on during suspend; comparable within one `boot` only."""
        ...

    @property
    def boot(self) -> str:
        """Names the run of `mono_ms`."""
        ...

    @property
    def speed(self) -> float:
        """How many seconds of this clock pass in one real second (1.0 outside the demo)."""
        ...


def from_ms(ms: int) -> datetime:
    """Return the aware UTC datetime of `ms` milliseconds since 1970, exactly. Raises ValueError outside our era."""
    try:
        return _EPOCH + ms * _MILLISECOND
    except OverflowError:
        raise ValueError(f"{ms} ms since 1970 lies outside the calendar") from None


def to_ms(moment: datetime) -> int:
    """Return UTC milliseconds of an aware datetime, rounded down. Raises ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone; give an aware datetime")
    return (moment - _EPOCH) // _MILLISECOND


def timestamp(ms: int) -> str:
    """Return the wire form of an instant: RFC 3339, UTC, milliseconds, `Z`."""
    return from_ms(ms).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"


@lru_cache(maxsize=4096)  # a label is read several times on its way from the wire into the ledger
def timestamp_ms(text: str) -> int:
    """Return milliseconds since 1970 of a wire timestamp. Raises ValueError for a day that does not exist."""
    return to_ms(datetime.fromisoformat(text))


class SystemClock:
    """The machine's own time."""

    speed = 1.0

    def __init__(self) -> None:
        self.boot = kernel_boot_id()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def mono_ms(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


class ManualClock:
    """Stands still until told to move. For tests and for building history."""

    speed = 1.0

    def __init__(self, now_ms: int, boot: str = "boot-1") -> None:
        self._now_ms = now_ms
        self._mono_ms = 0
        self.boot = boot

    def now_ms(self) -> int:
        return self._now_ms

    def mono_ms(self) -> int:
        return self._mono_ms

    def advance(self, ms: int) -> None:
        """Let `ms` milliseconds pass. Raises ValueError if that is backwards."""
        if ms < 0:
            raise ValueError("a clock does not run backwards; use step_wall to mis-set it")
        self._now_ms += ms
        self._mono_ms += ms

    def step_wall(self, ms: int) -> None:
        """Set the wall clock forward or back by `ms`; durations do not notice."""
        self._now_ms += ms


@dataclass(frozen=True)
class ClockSetting:
    """How demo time follows real time: `demo = origin + speed * (boottime - boottime_origin)`."""

    origin_ms: int
    boottime_origin_ms: int
    speed: float
    boot: str

    def save(self, path: Path) -> None:
        """Write the setting so that a reader sees the old file or the new one, never half of one."""
        draft = path.with_suffix(".tmp")
        draft.write_text(json.dumps(self.__dict__))
        os.replace(draft, path)

    @staticmethod
    def load(path: Path) -> "ClockSetting":
        """Read what `save` wrote. Raises FileNotFoundError where there is none."""
        return ClockSetting(**json.loads(path.read_text()))


class ScaledClock:
    """Demo time: starts at a chosen instant of the past, runs `speed` times as fast, never passes the real now."""

    def __init__(self, setting: ClockSetting) -> None:
        self._setting = setting
        self._lock = threading.Lock()
        self._last_ms = setting.origin_ms
        self.boot = setting.boot
        self.speed = setting.speed

    def now_ms(self) -> int:
        boottime_ms = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
        elapsed = boottime_ms - self._setting.boottime_origin_ms
        scaled = self._setting.origin_ms + int(elapsed * self.speed)
        with self._lock:
            self._last_ms = max(self._last_ms, min(scaled, time.time_ns() // 1_000_000))
            return self._last_ms

    def mono_ms(self) -> int:
        return self.now_ms() - self._setting.origin_ms


def open_clock(path: Path | None) -> Clock:
    """Return the demo clock that `path` describes, or the machine's own time where `path` is None."""
    return SystemClock() if path is None else ScaledClock(ClockSetting.load(path))
