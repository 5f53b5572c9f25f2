"""What wall time is worth: its offset to monotonic time, and how far it may be trusted."""

from pathlib import Path

from wire.clock import Clock
from wire.messages import ClockQuality

# A machine without a battery-backed clock wakes up in the past; this program did not exist before.
_EARLIEST_CREDIBLE_MS = 1_735_689_600_000
_TRIES = 5
_TIGHT_MS = 1
_SYNCHRONIZED = Path("/run/systemd/timesync/synchronized")


def wall_offset_ms(clock: Clock, previous: int | None = None) -> int:
    """Return wall time minus monotonic time, in milliseconds.

    The two are read one after the other, so they disagree by the time that passes between; where `previous`
    lies within that doubt it is returned unchanged, and labels of one run do not jitter. A process that is stopped
    between the readings would see a step where there is none: it reads again, a few times, and takes the tightest.
    """
    readings = []
    for _ in range(_TRIES):
        before, wall, after = clock.mono_ms(), clock.now_ms(), clock.mono_ms()
        if previous is not None and wall - after <= previous <= wall - before:
            return previous
        readings.append((after - before, wall - before))
        if after - before <= _TIGHT_MS * clock.speed:
            break
    return min(readings)[1]


def wall_quality(clock: Clock) -> ClockQuality:
    """Return how far the wall time of this machine may be trusted now.

    `ntp` where the system says that it is synchronised, `unset` where it shows a time before this program was
    written, `rtc` otherwise.
    """
    if clock.now_ms() < _EARLIEST_CREDIBLE_MS:
        return ClockQuality.UNSET
    return ClockQuality.NTP if _SYNCHRONIZED.exists() else ClockQuality.RTC
