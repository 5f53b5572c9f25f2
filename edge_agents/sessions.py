"""From settled intervals to usage records: touching intervals, odometers, sessions with an id. Pure.

Called by the agent with what the detector settled; it knows no clock and no spool. The caller says which sequence
number the next record will get, so that a record is final, its session id included, before it is written.

* One record covers one state. `open` is the record of the time before a session and ends where the session starts;
  `close` is the record of its last running time. Where there is no such time (after a hole, or at the very start)
  it takes no time and only marks the instant.
* A hole becomes one `gap` record, written when the state after it is known (or after `GAP_SLICE_MS` of a meter
  that stays silent). An open session survives a hole if the instrument is still running behind it. The record says what
  the energy register tells of the hole (hole_evidence); what follows from it is not decided here.
* Above ten seconds between two samples, by the settings or as they usually come, a record is `indicative`.
* Across a boot the hole lies at the end of the old boot's time line, as long as the wall clock says; the new
  boot's time line starts with the first settled interval.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from edge_agents.detector import BILLABLE_PERIOD_MS, Interval
from edge_agents.records import Detail
from edge_agents.session_state import (
    BootGap,
    Labels,
    Meter,
    Pace,
    SessionState,
    Sum,
    driven,
    odometer,
)
from wire.ids import session_id
from wire.messages import ClockQuality, PowerState, RecordKind, UsageRecord, timestamp

GAP_SLICE_MS = 15 * 60_000
"""Longer than any hole that a rule may bridge, so that such a hole is one record."""

INDICATIVE = "indicative"
LENGTH_UNKNOWN = "length_unknown"
SAME_LENGTH_MS = 1_000

EnergyQuality = Literal["ok", "reset", "jump", "none"]
Told = tuple[Detail, Literal["reset", "jump"] | None]


class _Writer:
    """Collects the records of one step, numbering them as the spool will."""

    def __init__(self, meter: Meter, stream: str, next_seq: int) -> None:
        self.meter = meter
        self.stream = stream
        self.next_seq = next_seq
        self.always = (INDICATIVE,) if meter.period_ms > BILLABLE_PERIOD_MS else ()
        self.records: list[UsageRecord] = []

    def write(
        self,
        s: SessionState,
        kind: RecordKind,
        state: PowerState,
        *,
        empty: bool = False,
        opens: bool = False,
        detail: Detail | None = None,
        flags: tuple[str, ...] = (),
        reason: str | None = None,
        edge_unc_ms: int | None = None,
        energy_q: EnergyQuality | None = None,
    ) -> str | None:
        """Write the record in the making (`empty`: a mark at its end) and return the session it belongs to."""
        assert s.from_ms is not None
        assert s.upto_ms is not None
        start = s.upto_ms if empty else s.from_ms
        session = session_id(self.meter.inst, self.stream, self.next_seq) if opens else s.session
        total = Sum() if empty else s.sum
        # What opens is judged by how often samples come now, not by how seldom they came while nothing ran.
        slow = s.pace.is_slow if opens else s.pace.was_slow
        always = (INDICATIVE,) if slow else self.always
        expected = round((s.upto_ms - start) / self.meter.period_ms)
        self.records.append(
            UsageRecord(
                stream=self.stream, seq=self.next_seq, boot=s.boot, kind=kind, inst=self.meter.inst, session=session,
                from_ms=start, to_ms=s.upto_ms, state=state, odo=odometer(s.odo),
                ts=timestamp(s.upto_ms + s.wall_offset_ms), ts_q=s.quality,
                power_w=total.power(), energy_wh=s.energy_wh,
                energy_q=energy_q or _energy_quality(s),
                samples=total.samples, missed=max(0, expected - total.samples), flags=(*flags, *always),
                reason=reason, edge_unc_ms=edge_unc_ms, detail=detail or {},
            )
        )  # fmt: skip
        self.next_seq += 1
        return session


def advance(
    meter: Meter, labels: Labels, state: SessionState, intervals: Iterable[Interval], stream: str, next_seq: int
) -> tuple[SessionState, list[UsageRecord]]:
    """Account for settled intervals; return the state after them and the records that are complete now.

    The first record gets `next_seq` of `stream`, the others follow. Raises ValueError for an interval that does
    not touch what was accounted for before (within one boot).
    """
    writer = _Writer(meter, stream, next_seq)
    if not state.new_boot and (state.wall_offset_ms, state.quality) != (labels.wall_offset_ms, labels.quality):
        state = replace(state, wall_offset_ms=labels.wall_offset_ms, quality=labels.quality)
    for interval in intervals:
        state = _take(writer, labels, state, interval)
    return state, writer.records


def settle(
    meter: Meter, labels: Labels, state: SessionState, stream: str, next_seq: int
) -> tuple[SessionState, list[UsageRecord]]:
    """Write down what is accounted for and not recorded yet: the last word before the agent stops."""
    writer = _Writer(meter, stream, next_seq)
    if state.state is not None and state.from_ms != state.upto_ms and not state.new_boot:
        state = _gap(writer, state, None) if state.state is PowerState.UNKNOWN else _tick(writer, state)
    return state, writer.records


def resumed(
    meter: Meter, labels: Labels, state: SessionState, stream: str, next_seq: int
) -> tuple[SessionState, list[UsageRecord]]:
    """Return the state of an instrument whose agent starts again: the time up to the first sample is inferred.

    In a new boot the record in the making is written first: it belongs to the old boot's time line.
    """
    state = replace(state, inferred=True, waiting=(), pace=Pace(was_slow=state.pace.was_slow))
    if state.boot == labels.boot or state.new_boot:
        return state, []
    # The new boot's time cannot say what the register may have done since.
    state = replace(state, energy_ms=None, evidence=state.evidence.in_another_boot())
    if state.upto_ms is None:
        return replace(state, boot=labels.boot, wall_offset_ms=labels.wall_offset_ms, quality=labels.quality), []
    state, records = settle(meter, labels, state, stream, next_seq)
    return replace(state, new_boot=True), records


def gap_length(inst: str, state: SessionState, labels: Labels) -> tuple[SessionState, Detail | None]:
    """Return what has to be told of the length of the hole before this boot, now that labels are others; None where
    nothing new is known. With a clock that is synchronised the length is final."""
    gap = state.boot_gap
    if gap is None or labels.quality is ClockQuality.UNSET or state.boot != labels.boot:
        return state, None
    length = gap.base_ms + labels.wall_offset_ms
    if length < 0:
        return state, None
    is_final = labels.quality is ClockQuality.NTP
    if gap.told_ms is not None and abs(length - gap.told_ms) <= SAME_LENGTH_MS:
        return (replace(state, boot_gap=None) if is_final else state), None
    state = replace(state, boot_gap=None if is_final else replace(gap, told_ms=length))
    return state, {"inst": inst, "gap_seq": gap.seq, "length_ms": length, "recorded_ms": gap.recorded_ms}


def _take(writer: _Writer, labels: Labels, s: SessionState, interval: Interval) -> SessionState:
    if s.new_boot:
        s = _across_boots(writer, labels, s, interval)
    if s.upto_ms is None:
        s = replace(s, from_ms=interval.from_ms, upto_ms=interval.from_ms)
    if s.upto_ms != interval.from_ms:
        raise ValueError(f"interval starts at {interval.from_ms}, but time is accounted for up to {s.upto_ms}")
    if interval.state != s.state:
        s = _changed(writer, s, interval.state)
    s = _drive(s, interval)
    assert s.from_ms is not None
    assert s.upto_ms is not None
    if interval.state is PowerState.UNKNOWN:
        return _gap(writer, s, None) if s.upto_ms - s.from_ms >= GAP_SLICE_MS and s.went_stale else s
    return _tick(writer, s) if s.upto_ms - s.from_ms >= writer.meter.tick_ms else s


def _drive(s: SessionState, interval: Interval) -> SessionState:
    total, n, known = s.sum, 0, interval.state is not PowerState.UNKNOWN
    for n, (at, power) in enumerate(s.waiting):
        if at >= interval.to_ms:
            break
        held_until = min(s.waiting[n + 1][0] if n + 1 < len(s.waiting) else interval.to_ms, interval.to_ms)
        # A sample at the edge of a hole was seen, but it says nothing about the time in the hole.
        total = total.with_sample(power, max(0, held_until - max(at, interval.from_ms)) if known else 0)
    else:
        n = len(s.waiting)
    evidence = s.evidence
    if known and s.energy_wh is not None:
        evidence = evidence.driven(s.waiting[:n], interval.from_ms, interval.to_ms)
    pace = s.pace.with_samples(at for at, _ in s.waiting[:n]) if known else s.pace.behind_hole()
    return replace(
        s,
        upto_ms=interval.to_ms,
        odo=driven(s.odo, interval.state, interval.to_ms - interval.from_ms),
        sum=total,
        waiting=s.waiting[n:],
        went_stale=s.went_stale and not known,
        inferred=s.inferred and not known,
        evidence=evidence,
        pace=pace,
    )


def _changed(writer: _Writer, s: SessionState, new: PowerState) -> SessionState:
    """Finish the record in the making, because from here on the state is another one."""
    is_running = new is PowerState.RUNNING
    was, has_time = s.state, s.from_ms != s.upto_ms
    narrow = ("narrow_contrast",) if writer.meter.narrow else ()
    edge, after_boot = writer.meter.period_ms, was is None or s.inferred
    reason = "restart" if after_boot else "power"
    if was is PowerState.UNKNOWN:
        s = _gap(writer, s, new) if has_time else s
        has_time = False
        # Whatever happened, happened somewhere in the hole.
        edge = s.hole_ms
    if new is PowerState.UNKNOWN:
        s = _tick(writer, s) if has_time else s
    elif is_running and s.session is None:
        session = writer.write(
            s, RecordKind.OPEN, was or PowerState.UNKNOWN, empty=not has_time, opens=True, reason=reason,
            edge_unc_ms=edge, flags=(*(("open_after_boot",) if after_boot else ()), *narrow),
        )  # fmt: skip
        s = replace(s, session=session, opened=s.opened + 1)
    elif not is_running and s.session is not None:
        writer.write(
            s, RecordKind.CLOSE, PowerState.RUNNING, empty=not has_time, reason=reason, edge_unc_ms=edge, flags=narrow
        )
        s = replace(s, session=None, closed=s.closed + 1)
    elif has_time:
        s = _tick(writer, s)
    known = s.before if new is PowerState.UNKNOWN else new
    if known is not s.before:
        s = replace(s, evidence=s.evidence.in_another_state())
    return replace(_begun(s), state=new, before=known, recorded=s.odo)


def _begun(s: SessionState) -> SessionState:
    return replace(
        s, from_ms=s.upto_ms, sum=Sum(), energy_fell=False, energy_jumped=False, recorded=s.odo, pace=s.pace.begun()
    )


def _energy_quality(s: SessionState) -> EnergyQuality:
    if s.energy_wh is None:
        return "none"
    return "jump" if s.energy_jumped else "reset" if s.energy_fell else "ok"


def _tick(writer: _Writer, s: SessionState) -> SessionState:
    assert s.state is not None
    writer.write(s, RecordKind.TICK, s.state)
    return _begun(s)


def _gap(writer: _Writer, s: SessionState, after: PowerState | None) -> SessionState:
    flags = ("gap", *(("inferred",) if s.inferred else ()), *(("driver_stale",) if s.went_stale else ()))
    assert s.from_ms is not None
    assert s.upto_ms is not None
    detail: Detail = {"before": _word(s.before), "after": _word(after)}
    quality = None
    if after is not None:
        # Of a hole that is told in slices no record says what it drew: a person has to look at it anyway.
        told, quality = _told(writer.meter, s, s.upto_ms, s.upto_ms - s.from_ms, writer.meter.most_w)
        detail |= told
    writer.write(s, RecordKind.GAP, PowerState.UNKNOWN, flags=flags, detail=detail, energy_q=quality)
    return replace(_begun(s), hole_ms=s.upto_ms - s.from_ms, evidence=s.evidence.behind(s.upto_ms))


def _told(meter: Meter, s: SessionState, ended_ms: int, length_ms: int, most_w: float | None) -> Told:
    return s.evidence.told(ended_ms, length_ms, most_w=most_w, stop_w=meter.stop_w, dwell_ms=meter.dwell_ms)


def _word(state: PowerState | None) -> str | None:
    return None if state is None else state.value


def _across_boots(writer: _Writer, labels: Labels, s: SessionState, first: Interval) -> SessionState:
    """Write the hole between two boots, by wall clock, and move to the new boot's time line.

    Where a clock is unset, or the new one lies behind the end of the old boot, nobody knows its length: it is flagged.
    """
    assert s.upto_ms is not None
    base = _since(s, first)
    length = 0 if base is None else max(0, base + labels.wall_offset_ms)
    unset = ClockQuality.UNSET in (labels.quality, s.quality)
    known = base is not None and not unset and base + labels.wall_offset_ms >= 0
    end, from_q = s.upto_ms + length, s.quality
    boot_gap = None if base is None else BootGap(writer.next_seq, base, length, length if known else None)
    # The end of the hole is an instant of the new boot: its label comes from the new boot's clock.
    s = replace(
        s, from_ms=s.upto_ms, upto_ms=end, odo=driven(s.odo, PowerState.UNKNOWN, length), inferred=True, sum=Sum(),
        wall_offset_ms=first.from_ms + labels.wall_offset_ms - end, quality=labels.quality, boot_gap=boot_gap,
    )  # fmt: skip
    flags = ("gap", "inferred", *(() if known else (LENGTH_UNKNOWN,)))
    detail: Detail = {
        "before": _word(s.before), "after": first.state.value, "by": "wall", "from_q": from_q.value,
        "next_boot": labels.boot,
    }  # fmt: skip
    # How long it was is not sure enough to say of the register that it jumped.
    told, quality = _told(writer.meter, s, first.from_ms, length, None)
    writer.write(s, RecordKind.GAP, PowerState.UNKNOWN, flags=flags, detail=detail | told, energy_q=quality)
    return replace(
        _begun(s), boot=labels.boot, wall_offset_ms=labels.wall_offset_ms, from_ms=first.from_ms,
        upto_ms=first.from_ms, state=PowerState.UNKNOWN, hole_ms=length, new_boot=False,
        evidence=s.evidence.behind(first.from_ms),
    )  # fmt: skip


def _since(s: SessionState, first: Interval) -> int | None:
    """Return what, with the new clock's offset added, is the time since the old boot's last word; None where that has
    no date at all. Of a boot whose clock was never set only its own length is known: the hole before it counts too."""
    assert s.upto_ms is not None
    if s.quality is not ClockQuality.UNSET:
        return first.from_ms - (s.upto_ms + s.wall_offset_ms)
    gap = s.boot_gap
    return None if gap is None else first.from_ms - (s.upto_ms - gap.base_ms + gap.recorded_ms)
