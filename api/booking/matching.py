"""Whose use was whose: divide one session among the bookings of its instrument. Pure; milliseconds since 1970 UTC.

Called by matching_service when a session has closed, and by whoever recomputes. Every instant belongs to at most one
booking. The amounts come from the session's odometer at the boundaries, so nothing is lost or doubled by dividing.

The claim of a booking opens at its check-in; without one at its slot's start less the early grace, but never before
the slot of the booking before it has ended. The early grace is for whoever starts the instrument: a session that
another booking already holds is taken over at the check-in or at the slot's start, not earlier. The claim can be
entered until the check-out, or until the slot's end plus the late grace; a session that is running then stays with
the booking until its check-out, or until the next booking takes over. Where use needs a check-in, only
[check-in, the earliest of check-out, slot end plus late grace, next check-in) counts.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MINUTE_MS = 60_000
EARLY_GRACE_MS = 15 * MINUTE_MS
LATE_GRACE_MS = 15 * MINUTE_MS

FORGOTTEN_CHECK_OUT = "forgotten_check_out"
RAN_PAST_SLOT = "ran_past_slot"


@dataclass(frozen=True, slots=True)
class OdometerPoint:
    """How far the odometers stood at an instant. Between two points the instrument kept one state."""

    at_ms: int
    running_ms: int
    unknown_ms: int


@dataclass(frozen=True)
class MeteredSession:
    """A closed session by its odometer points, in time order: the first at its start, the last at its end.

    Raises ValueError where there is no point, or where time or an odometer falls.
    """

    session_id: str
    points: tuple[OdometerPoint, ...]

    def __post_init__(self) -> None:
        if not self.points:
            raise ValueError(f"session {self.session_id} has no odometer point")
        for a, b in zip(self.points, self.points[1:], strict=False):
            if b.at_ms < a.at_ms or b.running_ms < a.running_ms or b.unknown_ms < a.unknown_ms:
                raise ValueError(f"session {self.session_id}: {b} falls below {a}")

    @property
    def from_ms(self) -> int:
        return self.points[0].at_ms

    @property
    def to_ms(self) -> int:
        return self.points[-1].at_ms

    def at(self, instant_ms: int) -> tuple[int, int]:
        """Return (running, unknown) of the odometers at an instant of the session.

        Exact while wall time and the odometer run alike; where the wall clock was corrected inside an interval the
        time of that interval is spread evenly over it. At an instant with several points the last one speaks.
        """
        if instant_ms <= self.from_ms:
            return self.points[0].running_ms, self.points[0].unknown_ms
        if instant_ms >= self.to_ms:
            return self.points[-1].running_ms, self.points[-1].unknown_ms
        index = bisect_right(self.points, instant_ms, key=lambda point: point.at_ms)
        a, b = self.points[index - 1], self.points[index]
        gone, length = instant_ms - a.at_ms, b.at_ms - a.at_ms
        return (
            a.running_ms + (b.running_ms - a.running_ms) * gone // length,
            a.unknown_ms + (b.unknown_ms - a.unknown_ms) * gone // length,
        )


@dataclass(frozen=True)
class Claim:
    """What a booking promises and what is known of its presence. The graces are those of its frozen tariff."""

    booking_id: str
    slot_from_ms: int
    slot_to_ms: int
    checked_in_ms: int | None = None
    checked_out_ms: int | None = None
    early_grace_ms: int = EARLY_GRACE_MS
    late_grace_ms: int = LATE_GRACE_MS

    @property
    def ends_ms(self) -> int:
        """When this claim can no longer be entered."""
        return self.slot_to_ms + self.late_grace_ms if self.checked_out_ms is None else self.checked_out_ms


@dataclass(frozen=True)
class Part:
    """A piece [from_ms, to_ms) of a session: a booking's, or nobody's (`booking_id` None)."""

    booking_id: str | None
    from_ms: int
    to_ms: int
    running_ms: int
    unknown_ms: int
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Window:
    """A claim as instants. `opens`: may be entered by a session nobody holds; `takes`: takes over one that is held;
    `shuts`: can no longer be entered; `ends`: lets go of the session (None: when another takes over)."""

    claim: Claim
    opens: int
    takes: int
    shuts: int
    ends: int | None
    flags: tuple[str, ...]


def apportion(session: MeteredSession, claims: Iterable[Claim], *, needs_check_in: bool) -> tuple[Part, ...]:
    """Divide a session among claims on its instrument: touching parts in time order that add up to the session.

    A booking has at most one part of a session: what it has once lost to another it does not get back.
    """
    order = sorted(claims, key=lambda claim: (claim.slot_from_ms, claim.slot_to_ms, claim.booking_id))
    windows = _checked_in_windows(order) if needs_check_in else _power_windows(order)
    windows.sort(key=lambda w: (w.takes, w.claim.slot_from_ms, w.claim.booking_id))
    holder, held = _enterable(windows, session.from_ms, frozenset()), frozenset[str]()
    since, parts = session.from_ms, list[Part]()
    for instant in _instants(windows, session.from_ms, session.to_ms):
        heir = _holder_at(windows, holder, held, instant)
        if heir is holder:
            continue
        parts.append(_part(session, holder, since, instant))
        held = held | {holder.claim.booking_id} if holder else held
        holder, since = heir, instant
    return (*parts, _part(session, holder, since, session.to_ms))


def _power_windows(order: Sequence[Claim]) -> list[_Window]:
    windows, latest_slot_end = list[_Window](), None
    for claim in order:
        present = claim.checked_in_ms
        opens = claim.slot_from_ms - claim.early_grace_ms
        if latest_slot_end is not None:
            opens = max(opens, min(latest_slot_end, claim.slot_from_ms))
        takes = claim.slot_from_ms if present is None else present
        opens = opens if present is None else present
        windows.append(_Window(claim, opens, takes, claim.ends_ms, claim.checked_out_ms, ()))
        latest_slot_end = max(claim.slot_to_ms, latest_slot_end or claim.slot_to_ms)
    return windows


def _checked_in_windows(order: Sequence[Claim]) -> list[_Window]:
    present = sorted(
        ((claim.checked_in_ms, claim) for claim in order if claim.checked_in_ms is not None),
        key=lambda pair: (pair[0], pair[1].slot_from_ms, pair[1].booking_id),
    )
    windows = []
    for index, (start, claim) in enumerate(present):
        end = claim.slot_to_ms + claim.late_grace_ms
        if claim.checked_out_ms is not None:
            end = min(end, claim.checked_out_ms)
        if index + 1 < len(present):
            end = min(end, present[index + 1][0])
        flags = (FORGOTTEN_CHECK_OUT,) if claim.checked_out_ms is None else ()
        windows.append(_Window(claim, start, start, end, end, flags))
    return windows


def _instants(windows: Sequence[_Window], start: int, end: int) -> list[int]:
    """The instants inside a session at which it may change hands."""
    found = {w.opens for w in windows} | {w.takes for w in windows} | {w.ends for w in windows if w.ends is not None}
    return sorted(instant for instant in found if start < instant < end)


def _holder_at(
    windows: Sequence[_Window], holder: _Window | None, held: frozenset[str], instant: int
) -> _Window | None:
    takers = [w for w in windows if w.takes == instant < w.shuts and w.claim.booking_id not in held and w is not holder]
    if takers:
        return takers[-1]
    if holder is not None and (holder.ends is None or instant < holder.ends):
        return holder
    gone = held | {holder.claim.booking_id} if holder else held
    return _enterable(windows, instant, gone)


def _enterable(windows: Sequence[_Window], instant: int, held: frozenset[str]) -> _Window | None:
    """The claim that a session falls to when nobody holds it: the last one that is open."""
    found = [w for w in windows if w.opens <= instant < w.shuts and w.claim.booking_id not in held]
    return found[-1] if found else None


def _part(session: MeteredSession, holder: _Window | None, start: int, end: int) -> Part:
    first, last = session.at(start), session.at(end)
    if end == session.to_ms:
        last = session.points[-1].running_ms, session.points[-1].unknown_ms
    flags: tuple[str, ...] = ()
    if holder is not None:
        flags = holder.flags if end <= holder.claim.slot_to_ms else (*holder.flags, RAN_PAST_SLOT)
    booking_id = holder.claim.booking_id if holder else None
    return Part(booking_id, start, end, last[0] - first[0], last[1] - first[1], flags)
