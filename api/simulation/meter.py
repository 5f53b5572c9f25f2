"""What the agent beside a simulated instrument would have sent: a usage stream and power samples, coarse but whole.

Follows the wire's rules (touching intervals, cumulative odometer, sessions named by the record that opens them), so the
ledger folds it like any other. Touches no database.
"""

from collections.abc import Iterator
from typing import Any

from store.ledger import Arrival
from store.series import STATE_CODES, Sample
from wire.ids import new_ulid, session_id
from wire.messages import ClockQuality, Odometer, PowerState, RecordKind, UsageRecord, encode, timestamp

TICK_MS = 3_600_000
SAMPLE_MS = 300_000


class Meter:
    """One instrument's meter and the agent that speaks for it."""

    def __init__(self, instrument_id: str, agent_id: str, start_ms: int, running_w: int) -> None:
        self._instrument_id, self._agent_id = instrument_id, agent_id
        self._start_ms = self._at_ms = start_ms
        self._stream, self._seq, self._odo = new_ulid(), 0, Odometer()
        self._running_mw = running_w * 1000
        self.pending: list[Arrival] = []
        self.samples: list[Sample] = []

    def run(self, from_ms: int, length_ms: int) -> str:
        """The instrument runs for some time; return the session's id. Runs come in the order of time."""
        name = session_id(self._instrument_id, self._stream, self._seq + 1)
        self._write(RecordKind.OPEN, PowerState.STANDBY, from_ms, name, reason="power")
        end_ms = from_ms + length_ms
        while self._at_ms + TICK_MS < end_ms:
            self._write(RecordKind.TICK, PowerState.RUNNING, self._at_ms + TICK_MS, name)
        self._write(RecordKind.CLOSE, PowerState.RUNNING, end_ms, name, reason="power")
        self.samples.extend(self._curve(from_ms, end_ms))
        return name

    @property
    def at_ms(self) -> int:
        """Up to when the instrument is accounted for (UTC milliseconds)."""
        return self._at_ms

    def idle_until(self, at_ms: int) -> None:
        """The instrument stands by until an instant; nothing where it has been accounted for already."""
        if at_ms > self._at_ms:
            self._write(RecordKind.TICK, PowerState.STANDBY, at_ms, None)

    def take(self) -> tuple[list[Arrival], list[Sample]]:
        """Return what was not sent yet, and forget it."""
        sent = self.pending, self.samples
        self.pending, self.samples = [], []
        return sent

    def _curve(self, from_ms: int, end_ms: int) -> Iterator[Sample]:
        code = STATE_CODES[PowerState.RUNNING]
        for at_ms in range(from_ms, end_ms, SAMPLE_MS):
            yield Sample(self._instrument_id, at_ms, self._running_mw - at_ms // 1000 % 997 * 100, code)

    def _write(self, kind: RecordKind, state: PowerState, to_ms: int, session: str | None, **fields: Any) -> None:
        self._seq += 1
        self._odo = self._odo.plus(state, to_ms - self._at_ms)
        record = UsageRecord(
            stream=self._stream,
            seq=self._seq,
            boot="simulated",
            kind=kind,
            inst=self._instrument_id,
            session=session,
            from_ms=self._at_ms - self._start_ms,
            to_ms=to_ms - self._start_ms,
            state=state,
            odo=self._odo,
            ts=timestamp(to_ms),
            ts_q=ClockQuality.NTP,
            **fields,
        )
        self._at_ms = to_ms
        self.pending.append(Arrival(self._agent_id, self._stream, self._seq, encode(record), record))
