"""A meter's writer whose machine wakes up without a clock. Used by tests of the ledger and of matching."""

from tests.support.usage import NINE, StreamWriter
from wire.messages import ClockQuality, Odometer, PowerState, RecordKind

MINUTE = 60_000
STEP = NINE - MINUTE


class Unset(StreamWriter):
    """A meter's writer that begins in 1970 until its clock is set."""

    def __init__(self, instrument: str) -> None:
        super().__init__(instrument, start_ms=MINUTE)
        self.quality = ClockQuality.UNSET

    def set_clock(self, step_ms: int = STEP, quality: ClockQuality = ClockQuality.NTP) -> None:
        """The clock is set: from here on labels are other ones, and a record says so."""
        self.now_ms += step_ms
        self.quality = quality
        self.tick(PowerState.UNKNOWN, 0)
        said = {"kind": RecordKind.CLOCK, "inst": "_", "odo": Odometer(), "detail": {"step_ms": step_ms}}
        self.records[-1] = self.records[-1].model_copy(update=said | {"session": None})

    def reboot(self) -> int:
        """The machine was off for a while and wakes up without a clock; return the number of the hole."""
        gap = self.gap(0, detail={"by": "wall"})
        self.records[-1] = gap.model_copy(update={"flags": ("gap", "inferred", "length_unknown")})
        self.boot, self.mono_ms = f"boot-{gap.seq}", 1_000
        return gap.seq

    def tell_length(self, gap_seq: int, quality: ClockQuality = ClockQuality.NTP, **detail: object) -> None:
        """The clock was set: now the hole is known to have lasted an hour."""
        self.tick(PowerState.UNKNOWN, 0)
        told = {"inst": self.instrument, "gap_seq": gap_seq, "length_ms": 60 * MINUTE, "recorded_ms": 0} | detail
        said = {"kind": RecordKind.CLOCK, "inst": "_", "odo": Odometer(), "reason": "gap_length", "detail": told}
        self.records[-1] = self.records[-1].model_copy(update=said | {"session": None, "ts_q": quality})
