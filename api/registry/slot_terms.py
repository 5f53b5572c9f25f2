"""Which slots of an instrument can be booked, and which one is the next that is free. Pure.

One set of terms for the booking rules (which refuse) and the catalogue (which looks ahead), so that the two agree:
what `next_free` names, `fault_of` finds no fault with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from api.registry.opening import Opening, Span, is_open, spans_from
from store.periods import SHANGHAI
from store.tables.registry import Instrument

USUAL_MINUTES = 60
"""The length that is looked for where an instrument names neither a shortest slot nor a step."""
LOOK_AHEAD = timedelta(days=62)
"""How far the catalogue looks for a free slot at most; later ones are called none."""


class SlotFault(StrEnum):
    """Which term a slot does not keep."""

    NOT_FORWARD = "not_forward"
    IN_PAST = "in_past"
    TOO_SOON = "too_soon"
    TOO_FAR = "too_far"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    OFF_STEP = "off_step"
    CLOSED = "closed"


@dataclass(frozen=True)
class SlotTerms:
    """An instrument's terms. Minutes, but for `horizon_days`; `step_minutes` and `min_slot_minutes` 0 mean any."""

    opening: Opening
    lead_minutes: int
    horizon_days: int
    min_slot_minutes: int
    max_slot_minutes: int
    step_minutes: int
    buffer_minutes: int

    @property
    def usual_length(self) -> timedelta:
        """The shortest slot that can be booked, by which the catalogue asks when there is a free one."""
        shortest = self.min_slot_minutes or self.step_minutes or min(USUAL_MINUTES, self.max_slot_minutes)
        return timedelta(minutes=_up(shortest, self.step_minutes or 1))


def terms_of(instrument: Instrument, special: Mapping[str, int | None]) -> SlotTerms:
    """Return the terms of an instrument; `special` are the days that differ (see opening.merge_special)."""
    return SlotTerms(
        Opening(instrument.open_hours, special),
        instrument.lead_minutes,
        instrument.horizon_days,
        instrument.min_slot_minutes,
        instrument.max_slot_minutes,
        instrument.step_minutes,
        instrument.buffer_minutes,
    )


def fault_of(terms: SlotTerms, from_at: datetime, to_at: datetime, now: datetime) -> SlotFault | None:
    """Return the first term that the slot [from_at, to_at) breaks, None where it keeps them all.

    Says nothing of who else has the time: that is the calendar's.
    """
    length = to_at - from_at
    if length <= timedelta():
        return SlotFault.NOT_FORWARD
    if from_at < now:
        return SlotFault.IN_PAST
    if from_at < now + timedelta(minutes=terms.lead_minutes):
        return SlotFault.TOO_SOON
    if from_at > now + timedelta(days=terms.horizon_days):
        return SlotFault.TOO_FAR
    if length < timedelta(minutes=terms.min_slot_minutes):
        return SlotFault.TOO_SHORT
    if length > timedelta(minutes=terms.max_slot_minutes):
        return SlotFault.TOO_LONG
    if on_step(terms, from_at) != from_at or (terms.step_minutes and length % timedelta(minutes=terms.step_minutes)):
        return SlotFault.OFF_STEP
    if not is_open(terms.opening, from_at, to_at):
        return SlotFault.CLOSED
    return None


def on_step(terms: SlotTerms, moment: datetime) -> datetime:
    """Return the first start at or after `moment`; steps count from midnight in Asia/Shanghai."""
    if not terms.step_minutes:
        return moment
    local = moment.astimezone(SHANGHAI)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    step = timedelta(minutes=terms.step_minutes)
    start = midnight - ((midnight - local) // step) * step
    # Where the step does not divide the day, the next day begins a new count.
    return min(start, midnight + timedelta(days=1))


def next_free(
    terms: SlotTerms, busy: Sequence[Span], length: timedelta, now: datetime, not_before: datetime | None = None
) -> Span | None:
    """Return the earliest slot of `length` that keeps the terms and leaves its buffer free of `busy`.

    `busy` are occupied intervals (buffers included), in order. None where there is none within the horizon, or within
    62 days.
    """
    earliest = max(now + timedelta(minutes=terms.lead_minutes), not_before or now)
    latest = min(now + timedelta(days=terms.horizon_days), earliest + LOOK_AHEAD)
    if fault_of(terms, earliest, earliest + length, now) in _NEVER:
        return None
    buffer = timedelta(minutes=terms.buffer_minutes)
    place = 0
    for opens, closes in spans_from(terms.opening, earliest, latest + length):
        start = on_step(terms, opens)
        while start <= latest and start + length <= closes:
            while place < len(busy) and busy[place][1] <= start:
                place += 1
            if place == len(busy) or busy[place][0] >= start + length + buffer:
                return start, start + length
            start = on_step(terms, busy[place][1])
    return None


_NEVER = (SlotFault.NOT_FORWARD, SlotFault.TOO_SHORT, SlotFault.TOO_LONG)


def _up(minutes: int, step: int) -> int:
    return -(-minutes // step) * step
