"""Date a session again once its agent's clock was set after it began or ended: pure.

A box without a battery-backed clock begins in the past, and one with such a clock may have kept local time in it or
drifted for months. Durations do not depend on that, dates do: records carry `ts_q`, and when the clock is set a `clock`
record says by how much. What the same boot dated before it, as far as it was worth less (store.ledger.labels), is
called by the clock as it goes now; each end of a session by itself. Nothing is held back and nothing is sent again.
A session whose dates are known to be wrong (`unset`, or later than its receipt) waits to be matched until then; one
of a clock that nobody ever compared does not.

So is the length of the hole before a boot without a clock: it is told when the clock is set. Odometers stay as they
are, for what ran is exact; the session no longer says that a length in it is unknown.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from store.ledger.flags import (
    DATED_AGAIN,
    DATED_AHEAD,
    DATED_TOO_LATE,
    END_UNSET,
    LENGTH_TOLD,
    LENGTH_UNKNOWN,
    START_UNSET,
)
from store.ledger.fold import OpenSession, Position, SessionClosed
from store.ledger.labels import Label, end_label, session_end_ms, set_again, step_of
from wire.messages import ClockQuality, RecordKind, UsageRecord, timestamp

UNSET = frozenset({START_UNSET, END_UNSET})
WAITS_FOR_A_CLOCK = UNSET | {LENGTH_UNKNOWN, DATED_AHEAD}
"""Flags of a session that a `clock` record may still take away."""
DATES_WRONG = frozenset({START_UNSET, DATED_AHEAD})
"""Flags of a session of which nobody can say by its dates whose use it was."""


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


def date_position(position: Position, clock: UsageRecord, step_ms: int) -> Position | None:
    """Return where an instrument stands, and since when its open session runs, by a clock that was set since; None
    where that changes nothing."""
    opened = position.open
    newest = set_again(position.label, clock, step_ms, is_over=False)
    start = None if opened is None else set_again(opened.label, clock, step_ms, is_over=False)
    if newest is None and start is None:
        return None
    label = newest or position.label
    if opened is not None:
        begins = start or opened.label
        told = {START_UNSET} if start is not None else set()
        opened = replace(
            opened,
            started_ms=opened.started_ms if start is None else start.at_ms,
            label=begins,
            flags=_flags_after(opened.flags, told, clock, (begins, label)),
        )
    return replace(position, at_ms=position.at_ms if newest is None else newest.at_ms, label=label, open=opened)


def date_closed(closed: SessionClosed, clock: UsageRecord, step_ms: int) -> SessionClosed | None:
    """Return a session whose begin or end, or both, are dated by a clock that was set since; None where neither is."""
    opened = closed.session
    start = set_again(opened.label, clock, step_ms, is_over=True)
    end = set_again(closed.label, clock, step_ms, is_over=True)
    if start is None and end is None:
        return None
    told = {flag for flag, again in ((START_UNSET, start), (END_UNSET, end)) if again is not None}
    begins, ends = start or opened.label, end or closed.label
    started_ms = opened.started_ms if start is None else start.at_ms
    ended_ms = closed.ended_ms if ends is None else ends.at_ms
    flags = _flags_after(opened.flags, told, clock, (begins, ends))
    return replace(
        closed,
        session=replace(opened, started_ms=started_ms, label=begins, flags=flags),
        ended_ms=session_end_ms(started_ms, ended_ms, closed.running_ms),
        label=ends,
    )


def dates_kept(closed: SessionClosed) -> SessionClosed:
    """Return a session that had been matched when its clock was set: its dates stay, and it says that they are in
    doubt, if it does not say so anyway."""
    if not WAITS_FOR_A_CLOCK.isdisjoint(closed.session.flags):
        return closed
    return replace(closed, session=replace(closed.session, flags=closed.session.flags | {DATED_TOO_LATE}))


def label_now(label: Label, seq: int, clocks: Sequence[UsageRecord], over_seq: int | None) -> Label:
    """Return what the label of record `seq` became by the clocks of its stream (in their order) that were set since.
    `over_seq` is the record that ended the session which the label belongs to; None for one that runs on."""
    for clock in clocks:
        step_ms = step_of(clock)
        if clock.seq > seq and step_ms is not None:
            is_over = over_seq is not None and clock.seq > over_seq
            label = set_again(label, clock, step_ms, is_over=is_over) or label
    return label


def relabelled(
    records: Iterable[tuple[UsageRecord, int]], clocks: Sequence[UsageRecord], over_seq: int | None
) -> list[UsageRecord]:
    """Return the records of one session, given with when each was received (UTC ms), with the labels that its dates
    are told by: those their agent would have given them with the clock that was set afterwards."""
    found = []
    for record, received_ms in records:
        said = end_label(record, received_ms)
        now = label_now(said, record.seq, clocks, over_seq)
        found.append(record if now.at_ms == said.at_ms else record.model_copy(update={"ts": timestamp(now.at_ms)}))
    return found


def _flags_after(
    flags: frozenset[str], dated: set[str], clock: UsageRecord, labels: tuple[Label | None, ...]
) -> frozenset[str]:
    # A clock that was moved and is still not to be trusted will be moved again.
    is_set = clock.ts_q is not ClockQuality.UNSET
    is_ahead = any(label is not None and label.is_ahead for label in labels)
    left = (flags - dated if is_set else flags) - {DATED_AHEAD}
    return left | {DATED_AGAIN} | ({DATED_AHEAD} if is_ahead else set())
