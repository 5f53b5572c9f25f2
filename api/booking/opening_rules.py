"""When a slot may be: an instrument's own terms, what of them binds whom, and the words of each refusal. Pure.

The terms (open hours, special days, lead time, horizon, length, step, buffer) are the registry's; the service reads
them once a request. Called under every door, and again for each slot that is proposed.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from api.booking.rules import LONGEST_SLOT, times
from api.booking.slots import STEP, Interval, free_slots
from api.errors import Refused, invalid
from api.registry.opening import Opening
from api.registry.slot_terms import SlotFault, SlotTerms, fault_of
from api.schemas import rfc3339
from store.tables.calendar import BookingMode, UsePurpose
from store.tables.registry import ALWAYS_OPEN


def binding(terms: SlotTerms, mode: BookingMode, purpose: UsePurpose, by_manager: bool) -> SlotTerms:
    """Return the terms that hold for a request.

    Open hours, step and least length are for who comes to the instrument; the host's own work and sample orders (the
    lab schedules them) go by their own hours. The host's manager needs no lead time. Length and horizon bind everybody.
    """
    longest = min(terms.max_slot_minutes, LONGEST_SLOT // timedelta(minutes=1))
    held = replace(terms, max_slot_minutes=longest)
    if by_manager:
        held = replace(held, lead_minutes=0)
    if mode is BookingMode.SAMPLES or purpose is not UsePurpose.CUSTOMER:
        held = replace(held, opening=Opening(ALWAYS_OPEN, {}), min_slot_minutes=0, step_minutes=0)
    return held


def check_slot(slot: Interval, terms: SlotTerms, now: datetime) -> None:
    """Raise 422 for a slot that breaks a term; the refusal names the rule and what would do."""
    fault = fault_of(terms, slot.from_at, slot.to_at, now)
    if fault is not None:
        raise _WORDS[fault](slot, terms, now)


def alternatives(
    wanted: Interval, busy: Iterable[Interval], terms: SlotTerms, now: datetime, count: int = 3
) -> tuple[Interval, ...]:
    """Return up to `count` free slots as long as `wanted` that break no term, the nearest after it first."""
    step = timedelta(minutes=terms.step_minutes) if terms.step_minutes else STEP
    buffer = timedelta(minutes=terms.buffer_minutes)
    earliest = now + timedelta(minutes=terms.lead_minutes)

    def fits(slot: Interval) -> bool:
        return fault_of(terms, slot.from_at, slot.to_at, now) is None

    return free_slots(busy, wanted, buffer, earliest, count, step=step, fits=fits)


_Words = Callable[[Interval, SlotTerms, datetime], Refused]


def _bad_slot(code: str, zh: str, en: str, slot: Interval, **facts: object) -> Refused:
    return invalid(code, zh, en, field="slot", **times(slot), **facts)


def _reversed(slot: Interval, terms: SlotTerms, now: datetime) -> Refused:
    return _bad_slot(
        "slot_reversed", "结束时间必须晚于开始时间;请更正。", "The slot ends after it starts; correct it.", slot
    )


def _in_past(slot: Interval, terms: SlotTerms, now: datetime) -> Refused:
    return _bad_slot(
        "slot_in_the_past",
        "不能预约已经开始的时段;请选择之后的时段。",
        "That slot has begun already; choose a later one.",
        slot,
    )


def _too_soon(slot: Interval, terms: SlotTerms, now: datetime) -> Refused:
    first = rfc3339(now + timedelta(minutes=terms.lead_minutes))
    return _bad_slot(
        "slot_too_soon",
        f"该仪器须提前 {terms.lead_minutes} 分钟预约;最早可预约 {first},更早请联系实验室管理员。",
        f"This instrument is booked at least {terms.lead_minutes} minutes ahead: from {first} on, or ask its manager.",
        slot,
        lead_minutes=terms.lead_minutes,
        earliest=first,
    )


def _too_far(slot: Interval, terms: SlotTerms, now: datetime) -> Refused:
    last = rfc3339(now + timedelta(days=terms.horizon_days))
    return _bad_slot(
        "slot_too_far_ahead",
        f"最多可提前 {terms.horizon_days} 天预约(不晚于 {last});请选择更早的时段。",
        f"Slots can be booked at most {terms.horizon_days} days ahead, until {last}; choose an earlier one.",
        slot,
        horizon_days=terms.horizon_days,
        latest=last,
    )


def _too_short(slot: Interval, terms: SlotTerms, now: datetime) -> Refused:
    return _bad_slot(
        "slot_too_short",
        f"该仪器单次至少预约 {terms.min_slot_minutes} 分钟;请延长时段。",
        f"This instrument is booked for at least {terms.min_slot_minutes} minutes at a time; choose a longer slot.",
        slot,
        min_slot_minutes=terms.min_slot_minutes,
    )


def _too_long(slot: Interval, terms: SlotTerms, now: datetime) -> Refused:
    return _bad_slot(
        "slot_too_long",
        f"该仪器单次最长可预约 {terms.max_slot_minutes} 分钟;请缩短时段。",
        f"This instrument can be booked for at most {terms.max_slot_minutes} minutes at a time; choose a shorter slot.",
        slot,
        max_slot_minutes=terms.max_slot_minutes,
    )


def _off_step(slot: Interval, terms: SlotTerms, now: datetime) -> Refused:
    return _bad_slot(
        "slot_off_step",
        f"请调整开始时间和时长:须为 {terms.step_minutes} 分钟的整数倍(自当日零点起算)。",
        f"Start and length go in steps of {terms.step_minutes} minutes, counted from midnight.",
        slot,
        step_minutes=terms.step_minutes,
    )


def _closed(slot: Interval, terms: SlotTerms, now: datetime) -> Refused:
    special = {day: like for day, like in terms.opening.special.items() if _touches(day, slot)}
    return _bad_slot(
        "instrument_closed",
        f"该时段不在开放时间内(开放时间:{terms.opening.week or '不开放'});请在开放时间内选择。",
        f"The instrument is not open during the whole slot (open: {terms.opening.week or 'never'}); choose within it.",
        slot,
        open_hours=terms.opening.week,
        special_days=special,
    )


def _touches(day: str, slot: Interval) -> bool:
    return rfc3339(slot.from_at)[:10] <= day <= rfc3339(slot.to_at)[:10]


_WORDS: dict[SlotFault, _Words] = {
    SlotFault.NOT_FORWARD: _reversed,
    SlotFault.IN_PAST: _in_past,
    SlotFault.TOO_SOON: _too_soon,
    SlotFault.TOO_FAR: _too_far,
    SlotFault.TOO_SHORT: _too_short,
    SlotFault.TOO_LONG: _too_long,
    SlotFault.OFF_STEP: _off_step,
    SlotFault.CLOSED: _closed,
}
