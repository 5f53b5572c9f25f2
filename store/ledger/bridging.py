"""Which holes are bridged: use that nobody saw and that is billed all the same, by rule. Pure, integers only.

A gap record is all that the rule looks at. Called by charging (use, explanation), by `openlab verify`, and where use is
shown. The odometers are not touched by it: a bridged hole stays unknown time in the ledger, and the charge says that it
was bridged. The fold does not know this file.

A hole is bridged as `running` where all of this holds:

* the same session goes on behind it, the instrument ran on both sides, and it is one record of at most ten minutes;
* its length is sure: measured within a boot, or by a clock that was synchronised before and behind it;
* the energy register was read on both sides, and the load before the hole was seen for a minute at least;
* the energy fits. With the load before the hole (`level`) and the power below which a run ends (`stop`) its mean power
  lies between `level - a` and `level + a`, a = (level - stop) / 10: an instrument that had stopped for more than a
  tenth of the hole would have drawn less. A register counts in steps, so it may have risen by up to one step less or
  more than it shows: both bounds have to hold for the least that it may be. Only where the hole is not longer than the
  profile's dwell (and than a minute) the lower bound is asked of the most: there a pause would not have ended the run.

Everything else is not bridged, for the first reason that applies; `WHY_NOT` holds their codes. The rule has a version:
an input that says "bridged by 1" is judged by 1 for ever, so `judge_1` is never edited.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

from wire.messages import ClockQuality, PowerState, RecordKind, UsageRecord, timestamp_ms

LONGEST_MS = 600_000
SHORT_AT_MOST_MS = 60_000
LEVEL_AT_LEAST_MS = 60_000
ALLOWED_PART = 10
_MS_PER_HOUR = 3_600_000

BRIDGED = ""
"""What the rule answers for a hole that is bridged."""
COSTS_NOTHING = "costs_nothing"
STATES_DIFFER = "states_differ"
BETWEEN_SESSIONS = "between_sessions"
IN_PIECES = "in_pieces"
LENGTH_UNKNOWN = "length_unknown"
CLOCK_UNSET = "clock_unset"
LENGTH_UNSURE = "length_unsure"
TOO_LONG = "too_long"
INDICATIVE = "indicative"
REGISTER_RESET = "register_reset"
REGISTER_JUMPED = "register_jumped"
NO_ENERGY = "no_energy"
LEVEL_UNKNOWN = "level_unknown"
TOO_COARSE = "register_too_coarse"
ENERGY_BELOW = "energy_below"
ENERGY_ABOVE = "energy_above"

WHY_NOT = (
    COSTS_NOTHING, STATES_DIFFER, BETWEEN_SESSIONS, IN_PIECES, LENGTH_UNKNOWN, CLOCK_UNSET, LENGTH_UNSURE, TOO_LONG,
    INDICATIVE, REGISTER_RESET, REGISTER_JUMPED, NO_ENERGY, LEVEL_UNKNOWN, TOO_COARSE, ENERGY_BELOW, ENERGY_ABOVE,
)  # fmt: skip


@dataclass(frozen=True)
class Hole:
    """A gap record as judged. [from_ms, to_ms) is its wall time, UTC milliseconds; `why_not` is "" if it is bridged."""

    seq: int
    session_id: str | None
    from_ms: int
    to_ms: int
    why_not: str

    @property
    def is_bridged(self) -> bool:
        """Whether it counts as use."""
        return self.why_not == BRIDGED

    @property
    def length_ms(self) -> int:
        """How long it was."""
        return self.to_ms - self.from_ms


def judge_1(gap: UsageRecord) -> str:
    """Return why a gap record, taken by itself, is not bridged; BRIDGED where it is. Version 1 of the rule."""
    length_ms = gap.to_ms - gap.from_ms
    before, after = gap.detail.get("before"), gap.detail.get("after")
    if length_ms == 0 or (before == after and before in (PowerState.OFF.value, PowerState.STANDBY.value)):
        return LENGTH_UNKNOWN if "length_unknown" in gap.flags else COSTS_NOTHING
    if before != PowerState.RUNNING.value or after != PowerState.RUNNING.value:
        return STATES_DIFFER
    if gap.session is None:
        return BETWEEN_SESSIONS
    if "length_unknown" in gap.flags:
        return LENGTH_UNKNOWN
    if gap.ts_q is ClockQuality.UNSET:
        return CLOCK_UNSET
    is_within_a_boot = "by" not in gap.detail
    if not is_within_a_boot and (
        gap.ts_q is not ClockQuality.NTP or gap.detail.get("from_q") != ClockQuality.NTP.value
    ):
        return LENGTH_UNSURE
    if length_ms > LONGEST_MS:
        return TOO_LONG
    if "indicative" in gap.flags:
        return INDICATIVE
    return _energy_1(gap, length_ms)


def _energy_1(gap: UsageRecord, length_ms: int) -> str:
    if gap.energy_q in ("reset", "jump"):
        return REGISTER_RESET if gap.energy_q == "reset" else REGISTER_JUMPED
    names = ("energy_mwh", "step_mwh", "level_mw", "level_ms", "stop_mw", "dwell_ms")
    told = [gap.detail.get(name) for name in names]
    whole = [value for value in told if type(value) is int]
    if gap.energy_q != "ok" or len(whole) != len(names) or min(whole[1:]) < 0:
        return NO_ENERGY
    energy, step, level, level_ms, stop, dwell_ms = whole
    if level_ms < LEVEL_AT_LEAST_MS or level <= stop:
        return LEVEL_UNKNOWN
    # In mW ms, times ALLOWED_PART, so that nothing is divided.
    drawn, one_step = energy * _MS_PER_HOUR * ALLOWED_PART, step * _MS_PER_HOUR * ALLOWED_PART
    expected, allowed = level * length_ms * ALLOWED_PART, (level - stop) * length_ms
    if drawn - one_step > expected + allowed:
        return ENERGY_ABOVE
    if drawn + one_step < expected - allowed:
        return ENERGY_BELOW
    is_short = length_ms <= min(dwell_ms, SHORT_AT_MOST_MS)
    return BRIDGED if is_short or drawn - one_step >= expected - allowed else TOO_COARSE


CURRENT_RULE = "1"
RULES: MappingProxyType[str, Callable[[UsageRecord], str]] = MappingProxyType({"1": judge_1})


def judge_holes(records: Iterable[UsageRecord], rule: str = CURRENT_RULE) -> tuple[Hole, ...]:
    """Judge the gap records among the records of one session of one stream, in the order of seq.

    Gap records between which no known time passed are one hole that was told in pieces: none of them is bridged.
    Raises KeyError for a rule that this program does not have.
    """
    judge = RULES[rule]
    gaps = sorted((record for record in records if record.kind is RecordKind.GAP), key=lambda record: record.seq)
    pieces = {gap.seq for pair in pairwise(gaps) if _known(pair[0]) == _known(pair[1]) for gap in pair}
    return tuple(_hole(gap, IN_PIECES if gap.seq in pieces else judge(gap)) for gap in gaps)


def bridged_within(holes: Sequence[Hole], from_ms: int, to_ms: int, unknown_ms: int) -> tuple[tuple[Hole, int], ...]:
    """Return the bridged holes that reach into [from_ms, to_ms), a part of their session, and how much of each lies in
    it: milliseconds, together never more than the `unknown_ms` that the part has by the odometers."""
    found, left = [], unknown_ms
    for hole in holes:
        inside = min(hole.to_ms, to_ms) - max(hole.from_ms, from_ms)
        ms = min(inside, left) if hole.is_bridged else 0
        if ms > 0:
            found.append((hole, ms))
            left -= ms
    return tuple(found)


def _known(gap: UsageRecord) -> int:
    return gap.odo.total - gap.odo.unknown


def _hole(gap: UsageRecord, why_not: str) -> Hole:
    ended = timestamp_ms(gap.ts)
    return Hole(gap.seq, gap.session, ended - (gap.to_ms - gap.from_ms), ended, why_not)
