"""What dates a record: the wall time on it, by which boot's clock, how far to trust that, when it was received. Pure.

Used by the fold, which keeps the labels of a session's two ends and of each position, and by dating, which gives them
the time they had once a clock was set. A label is what one boot's monotonic time is called; so a clock that is set
tells what any monotonic time of its boot should have been called, however often it was set before.
"""

from typing import NamedTuple

from wire.messages import ClockQuality, RecordKind, UsageRecord, timestamp_ms

LABELS_WITHIN_MS = 60_000
"""How far a label may be off and still be taken as it is: one that is later than its receipt by more is known to be
wrong, and a session that has ended is dated again by a step above it, not by less. It is what the gateway calls a wrong
clock, what a card that was held to a reader is allowed, and as much as may run without a booking before anyone asks."""

_TRUST = (ClockQuality.UNSET, ClockQuality.RTC, ClockQuality.HOLDOVER, ClockQuality.NTP)


class Label(NamedTuple):
    """One instant of a boot: what it is called now (`at_ms`, UTC), its monotonic time, what the clock that said so is
    worth, and when the record that it was on was received (None where that is not asked)."""

    at_ms: int
    boot: str
    mono_ms: int
    quality: ClockQuality
    received_ms: int | None

    @property
    def is_ahead(self) -> bool:
        """Whether it lies in the future of its own receipt: then it is wrong, whatever its clock is worth."""
        return self.received_ms is not None and self.at_ms - self.received_ms > LABELS_WITHIN_MS


def end_label(record: UsageRecord, received_ms: int | None) -> Label:
    """Return the label of the end of a record's interval, as the record says it."""
    return Label(timestamp_ms(record.ts), record.boot, record.to_ms, record.ts_q, received_ms)


def begin_label(record: UsageRecord, received_ms: int | None) -> Label:
    """Return the label of the begin of a record's interval."""
    ends = end_label(record, received_ms)
    return ends._replace(at_ms=ends.at_ms - (record.to_ms - record.from_ms), mono_ms=record.from_ms)


def step_of(record: UsageRecord) -> int | None:
    """Return by how much a record says that its agent's clock was set (milliseconds), None for any other record."""
    if record.kind is not RecordKind.CLOCK:
        return None
    step = record.detail.get("step_ms")
    return step if isinstance(step, int) else None


def set_again(label: Label | None, clock: UsageRecord, step_ms: int, *, is_over: bool) -> Label | None:
    """Return what an instant is called after its boot's clock was set by `step_ms`; None where that changes nothing.

    A label that is known to be wrong (`unset`, or ahead of its receipt) is always set again. One of `ntp` never is. In
    between a clock sets again what is worth no more than itself: what a time service kept (`holdover`) is not taken
    back by somebody who sets the clock by hand. `is_over`: the session had ended. Then small steps leave it alone, and
    all of them one in `holdover`: such a clock went wrong little by little, by some seconds a day. In a session that
    runs on every step counts, so that both of its ends are told by one clock.
    """
    if label is None or label.boot != clock.boot:
        return None
    is_wrong = label.is_ahead and clock.ts_q is not ClockQuality.UNSET
    if label.quality is not ClockQuality.UNSET:
        if label.quality is ClockQuality.NTP and not is_wrong:
            return None
        if not is_wrong and _TRUST.index(clock.ts_q) < _TRUST.index(label.quality):
            return None
        stays = abs(step_ms) <= LABELS_WITHIN_MS or (label.quality is ClockQuality.HOLDOVER and not is_wrong)
        if is_over and stays:
            return None
    offset = timestamp_ms(clock.ts) - clock.to_ms
    again = label._replace(at_ms=offset + label.mono_ms, quality=clock.ts_q)
    if again.is_ahead and label.quality is not ClockQuality.UNSET and not is_wrong:
        return None  # it cannot have been that late, so it is the clock that is wrong now
    return again


def session_end_ms(started_ms: int, label_ms: int, running_ms: int) -> int:
    """Return when a session ended that began at `started_ms`, ran for `running_ms` and is said to end at `label_ms`.

    Where the labels leave less time than it ran for, by more than they may be off, the odometer decides: a clock that
    was set back does not end a session before it ran for as long as it did.
    """
    if label_ms > started_ms and label_ms - started_ms >= running_ms - LABELS_WITHIN_MS:
        return label_ms
    return started_ms + running_ms
