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
