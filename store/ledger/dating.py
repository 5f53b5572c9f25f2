"""Date a session again whose agent's clock was not set when it began or ended: pure.

A box without a battery-backed clock begins in the past. Durations do not depend on that, dates do: its records carry
`ts_q: unset`, and when the clock is set a `clock` record says by how much. What the same boot dated before it is
shifted by that step. Nothing is held back and nothing is sent again; until then the session waits to be matched.

So is the length of the hole before such a boot: it is told when the clock is set. Odometers stay as they are, for what
ran is exact; the session no longer says that a length in it is unknown.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from store.ledger.fold import (
    DATED_AGAIN,
    END_UNSET,
    LENGTH_TOLD,
    LENGTH_UNKNOWN,
    START_UNSET,
    OpenSession,
    Position,
    SessionClosed,
)
from wire.messages import ClockQuality, RecordKind, UsageRecord, timestamp, timestamp_ms

UNSET = frozenset({START_UNSET, END_UNSET})
WAITS_FOR_A_CLOCK = UNSET | {LENGTH_UNKNOWN}
"""Flags of a session that a `clock` record may still take away."""


def step_of(record: UsageRecord) -> int | None:
    """Return by how much a record says that its agent's clock was set (milliseconds), None for any other record."""
    if record.kind is not RecordKind.CLOCK:
        return None
    step = record.detail.get("step_ms")
    return step if isinstance(step, int) else None


@dataclass(frozen=True)
class HoleLength:
    """How long a hole between two boots was, which the record `gap_seq` made `recorded_ms` long."""

    instrument_id: str
    gap_seq: int
    length_ms: int
    recorded_ms: int

    def reason(self) -> str:
        """The text by which a link of kind `event` says so."""
        return f"hole {self.gap_seq} lasted {self.length_ms} ms, recorded {self.recorded_ms}"


def length_of(record: UsageRecord) -> HoleLength | None:
    """Return what a record tells of the length of a hole, None for any other record."""
    if record.kind is not RecordKind.CLOCK or record.reason != "gap_length" or step_of(record) is not None:
        return None
    if record.ts_q is ClockQuality.UNSET:
        return None
    told = record.detail
    inst, numbers = told.get("inst"), [told.get(name) for name in ("gap_seq", "length_ms", "recorded_ms")]
    if not isinstance(inst, str) or not all(type(number) is int and 0 <= number <= 2**53 for number in numbers):
        return None
    return HoleLength(inst, *(int(number or 0) for number in numbers))


def tells_time(record: UsageRecord) -> bool:
    """Whether a record says of earlier ones when, or how long, they were."""
    return record.kind is RecordKind.CLOCK and (step_of(record) is not None or length_of(record) is not None)


def length_told(opened: OpenSession, close_seq: int | None, hole: HoleLength) -> OpenSession | None:
    """Return a session that the hole lies in, now that its length is known; None for any other.

    An agent tells the newest hole of an instrument, and with it those before which nobody could tell by themselves.
    """
    lies_inside = opened.open_seq < hole.gap_seq and (close_seq is None or hole.gap_seq < close_seq)
    if LENGTH_UNKNOWN not in opened.flags or not lies_inside:
        return None
    return replace(opened, flags=opened.flags - {LENGTH_UNKNOWN} | {LENGTH_TOLD})


def date_open(position: Position, clock: UsageRecord, step_ms: int) -> Position | None:
    """Return a position whose open session began in the clock's boot before it was set; None where there is none."""
    opened = position.open
    if opened is None or START_UNSET not in opened.flags or opened.boot != clock.boot:
        return None
    flags = _flags_after(opened.flags, {START_UNSET}, clock)
    return replace(
        position,
        at_ms=position.at_ms + step_ms if position.boot == clock.boot else position.at_ms,
        open=replace(opened, started_ms=opened.started_ms + step_ms, flags=flags),
    )


def date_closed(closed: SessionClosed, clock: UsageRecord, step_ms: int) -> SessionClosed | None:
    """Return a session that began or ended in the clock's boot before it was set; None for any other."""
    opened = closed.session
    dated = {
        flag
        for flag, boot in ((START_UNSET, opened.boot), (END_UNSET, closed.boot))
        if flag in opened.flags and boot == clock.boot
    }
    if not dated:
        return None
    started = opened.started_ms + (step_ms if START_UNSET in dated else 0)
    ended = closed.ended_ms + (step_ms if END_UNSET in dated else 0)
    flags = _flags_after(opened.flags, dated, clock)
    return replace(closed, session=replace(opened, started_ms=started, flags=flags), ended_ms=max(started, ended))


def relabelled(records: Iterable[UsageRecord], later: Iterable[UsageRecord]) -> list[UsageRecord]:
    """Return records with the labels that their agents would have given them with the clock that was set afterwards.

    `later` are records of the same stream that came after them. What nothing dates keeps its label.
    """
    offsets: dict[str, int] = {}
    found = []
    kept = list(records)
    for record in reversed([*kept, *later]):
        if record.ts_q is not ClockQuality.UNSET:
            offsets[record.boot] = timestamp_ms(record.ts) - record.to_ms
        elif record.boot in offsets:
            record = record.model_copy(update={"ts": timestamp(record.to_ms + offsets[record.boot])})
        found.append(record)
    return found[::-1][: len(kept)]


def _flags_after(flags: frozenset[str], dated: set[str], clock: UsageRecord) -> frozenset[str]:
    # A clock that was moved and is still not to be trusted will be moved again.
    is_set = clock.ts_q is not ClockQuality.UNSET
    return (flags - dated if is_set else flags) | {DATED_AGAIN}
