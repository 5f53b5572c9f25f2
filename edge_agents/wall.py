"""What wall time is worth: its offset to monotonic time, and how far it may be trusted."""

import functools
import subprocess
from collections.abc import Callable
from pathlib import Path

from wire.clock import Clock
from wire.messages import ClockQuality

# A machine without a battery-backed clock wakes up in the past; this program did not exist before.
_EARLIEST_CREDIBLE_MS = 1_735_689_600_000
_TRIES = 5
_TIGHT_MS = 1
_SYNCHRONIZED = Path("/run/systemd/timesync/synchronized")
_STA_UNSYNC = 0x40
_TIME_ERROR = 5
_TIMEX_BYTES = 512
CHRONY_WAIT_S = 2.0


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
    written, `rtc` otherwise. That it was synchronised before (`holdover`) is known to who remembers: `dating`.
    """
    if clock.now_ms() < _EARLIEST_CREDIBLE_MS:
        return ClockQuality.UNSET
    return ClockQuality.NTP if is_synchronised() else ClockQuality.RTC


def is_synchronised() -> bool:
    """Whether some time service keeps this machine's clock.

    The kernel knows: chrony (with `rtcsync`), systemd-timesyncd, ntpd and ptp4l all tell it, and it takes the word back
    some hours after they lost their servers. Where it may not be asked (a container, a hardened unit), the mark of
    systemd-timesyncd decides.
    """
    said = kernel_says()
    return timesyncd_was_synchronised() if said is None else said


def timesyncd_was_synchronised() -> bool:
    """Whether systemd-timesyncd has found a server since this machine started; it never takes that back."""
    return _SYNCHRONIZED.exists()


def chrony_is_synchronised() -> bool:
    """Ask chrony itself, for a technician: without `rtcsync` it does not tell the kernel. May take two seconds."""
    try:
        asked = subprocess.run(["chronyc", "-c", "tracking"], capture_output=True, text=True, timeout=CHRONY_WAIT_S)
    except (OSError, subprocess.TimeoutExpired):
        return False
    # The last column is the leap status: Normal, Insert second, Delete second or Not synchronised.
    return asked.returncode == 0 and asked.stdout.strip().rpartition(",")[2] not in ("", "Not synchronised")


def kernel_says() -> bool | None:
    """Whether the kernel takes its clock for synchronised; None where it does not answer this process."""
    ask = _adjtimex()
    if ask is None:
        return None
    state, status = ask()
    return None if state < 0 else state != _TIME_ERROR and not status & _STA_UNSYNC


@functools.cache
def _adjtimex() -> Callable[[], tuple[int, int]] | None:
    """Return what reads the kernel's clock state and status bits; None where this system has no such call."""
    try:
        # Not at the top: under a unit that forbids memory to be made executable, importing it may fail.
        import ctypes

        class Timex(ctypes.Structure):
            """Its begin; `modes` 0 only reads, for which nobody needs a right."""

            _fields_ = (
                ("modes", ctypes.c_uint),
                *((name, ctypes.c_long) for name in ("offset", "freq", "maxerror", "esterror")),
                ("status", ctypes.c_int),
                ("rest", ctypes.c_char * _TIMEX_BYTES),
            )

        call = ctypes.CDLL(None).adjtimex
    except (ImportError, AttributeError, OSError, MemoryError):
        return None

    def ask() -> tuple[int, int]:
        given = Timex()
        state = call(ctypes.byref(given))
        return int(state), int(given.status)

    return ask
