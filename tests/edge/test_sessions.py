"""The session builder: touching intervals, odometers that only grow, sessions with one id for ever."""

from dataclasses import replace
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from edge_agents import sessions
from edge_agents.detector import DetectorProfile, DetectorState, interrupted, rebased, step
from edge_agents.drivers.base import Quality, Reading
from edge_agents.session_state import Labels, Meter, SessionState, observe
from tests.edge.making import A_PROFILE, readings
from wire.ids import session_id
from wire.messages import ClockQuality, PowerState, RecordKind, UsageRecord, decode, encode, timestamp

STREAM = "01J00000000000000000000000"
METER = Meter("xc-h01-01", period_ms=1000, tick_ms=20_000)
WALL = 1_750_000_000_000
LABELS = Labels("boot-1", WALL, ClockQuality.NTP)
STATE = TypeAdapter(SessionState)


class Line:
    """Detector and sessions of one instrument, as an agent steps them."""

    def __init__(self, meter: Meter = METER, profile: DetectorProfile = A_PROFILE) -> None:
        self.meter = meter
        self.profile = profile
        self.labels = LABELS
        self.detector = DetectorState()
        self.sessions = SessionState(LABELS.boot, LABELS.wall_offset_ms)
        self.records: list[UsageRecord] = []

    def feed(self, points: list[Reading]) -> "Line":
        for point in points:
            self.sessions = observe(self.sessions, point, self.meter.most_w)
            self.detector, settled = step(self.profile, self.detector, point)
            self.sessions, records = sessions.advance(
                self.meter, self.labels, self.sessions, settled, STREAM, len(self.records) + 1
            )
            self.records += records
        return self

    def settle(self) -> list[UsageRecord]:
        self.sessions, records = sessions.settle(self.meter, self.labels, self.sessions, STREAM, len(self.records) + 1)
        self.records += records
        return self.records

    def restart(self, labels: Labels) -> None:
        same = labels.boot == self.labels.boot
        self.detector = interrupted(self.detector) if same else rebased(self.detector)
        self.labels = labels
        self.sessions = STATE.validate_json(STATE.dump_json(self.sessions))
        self.sessions, records = sessions.resumed(self.meter, labels, self.sessions, STREAM, len(self.records) + 1)
        self.records += records


def told(records: list[UsageRecord]) -> list[tuple[str, str, float, float]]:
    return [(r.kind.value, r.state.value, r.from_ms / 1000, r.to_ms / 1000) for r in records]


def test_a_run_opens_and_closes_a_session_with_the_number_of_its_open_record() -> None:
    records = Line().feed(readings([0] * 5 + [500] * 10 + [0] * 10)).settle()
    assert told(records) == [("open", "off", 0, 5), ("close", "running", 5, 15), ("tick", "off", 15, 24)]
    [opened, closed, after] = records
    assert opened.session == closed.session == session_id("xc-h01-01", STREAM, 1)
    assert after.session is None
    assert (closed.odo.off, closed.odo.running) == (5_000, 10_000)
    assert closed.ts == timestamp(WALL + 15_000)
    assert opened.edge_unc_ms == 1000
    assert opened.flags == ()


def test_power_and_samples_of_a_record_are_those_of_its_interval() -> None:
    records = Line().feed(readings([0] * 5 + [400] * 5 + [600] * 5 + [0] * 10)).settle()
    closed = records[1]
    assert closed.power_w is not None
    assert (closed.power_w.avg, closed.power_w.min, closed.power_w.max) == (500, 400, 600)
    assert (closed.samples, closed.missed) == (10, 0)


def test_a_state_that_lasts_is_told_every_tick() -> None:
    records = Line().feed(readings([20] * 65)).settle()
    assert told(records) == [
        ("tick", "standby", 0, 20), ("tick", "standby", 20, 40), ("tick", "standby", 40, 60),
        ("tick", "standby", 60, 64),
    ]  # fmt: skip
    assert [r.odo.standby for r in records] == [20_000, 40_000, 60_000, 64_000]


def test_an_instrument_that_runs_from_the_first_sample_opens_at_once() -> None:
    records = Line().feed(readings([500] * 6)).settle()
    assert told(records) == [("open", "unknown", 0, 0), ("tick", "running", 0, 5)]
    assert ("open_after_boot" in records[0].flags, records[0].reason) == (True, "restart")


def test_a_session_lives_through_a_hole_and_the_hole_is_one_gap_record() -> None:
    records = Line().feed(readings([500] * 10) + readings([500] * 10, start_ms=60_000)).settle()
    assert told(records) == [
        ("open", "unknown", 0, 0), ("tick", "running", 0, 9), ("gap", "unknown", 9, 60), ("tick", "running", 60, 69)
    ]  # fmt: skip
    assert {r.session for r in records} == {session_id("xc-h01-01", STREAM, 1)}
    gap = records[2]
    assert gap.flags == ("gap",)
    assert gap.detail == {"before": "running", "after": "running"}
    assert gap.odo.unknown == 51_000
    assert gap.power_w is None


def test_a_session_that_ended_in_a_hole_closes_behind_it_with_the_hole_as_its_doubt() -> None:
    records = Line().feed(readings([500] * 10) + readings([0] * 10, start_ms=60_000)).settle()
    assert told(records)[2:] == [("gap", "unknown", 9, 60), ("close", "running", 60, 60), ("tick", "off", 60, 69)]
    assert records[3].edge_unc_ms == 51_000
    assert records[3].odo.running == 9_000


@pytest.mark.parametrize(("restarts", "reason"), [(True, "restart"), (False, "power")])
def test_a_session_that_ended_while_the_agent_was_away_says_so(restarts: bool, reason: str) -> None:
    line = Line().feed(readings([500] * 10))
    if restarts:
        line.restart(LABELS)
    [closed] = [r for r in line.feed(readings([0] * 20, start_ms=60_000)).settle() if r.kind is RecordKind.CLOSE]
    assert (closed.reason, closed.edge_unc_ms) == (reason, 51_000)


def test_a_session_that_began_in_a_hole_opens_behind_it() -> None:
    records = Line().feed(readings([0] * 10) + readings([500] * 10, start_ms=60_000)).settle()
    assert told(records)[1:] == [("gap", "unknown", 9, 60), ("open", "unknown", 60, 60), ("tick", "running", 60, 69)]
    assert ("open_after_boot" in records[2].flags, records[2].reason) == (False, "power")


def test_a_silent_meter_is_named_as_the_cause_of_the_gap() -> None:
    records = Line().feed(readings([500] * 10 + [None] * 30 + [500] * 5)).settle()
    assert records[2].kind is RecordKind.GAP
    assert records[2].flags == ("gap", "driver_stale")


def test_a_meter_that_stays_silent_is_told_in_slices() -> None:
    records = Line().feed(readings([500] * 10 + [None] * 1900 + [500] * 5)).settle()
    gaps = [r for r in records if r.kind is RecordKind.GAP]
    assert [(r.to_ms - r.from_ms) // 1000 for r in gaps] == [900, 900, 101]
    assert gaps[-1].detail["after"] == "running"


def test_one_missed_reading_is_counted_and_is_no_gap() -> None:
    records = Line().feed(readings([20] * 5 + [None] + [20] * 5)).settle()
    assert told(records) == [("tick", "standby", 0, 10)]
    assert (records[0].samples, records[0].missed, records[0].flags) == (9, 1, ())


def test_a_narrow_contrast_is_said_on_both_edges() -> None:
    line = Line(Meter("xc-h01-01", period_ms=1000, narrow=True))
    records = line.feed(readings([0] * 5 + [500] * 10 + [0] * 10)).settle()
    assert records[0].flags == records[1].flags == ("narrow_contrast",)


def test_after_a_restart_the_pause_is_inferred_and_the_session_keeps_its_id() -> None:
    line = Line().feed(readings([500] * 10))
    line.restart(LABELS)
    records = line.feed(readings([500] * 10, start_ms=12_000)).settle()
    assert told(records)[1:] == [("tick", "running", 0, 9), ("gap", "unknown", 9, 12), ("tick", "running", 12, 21)]
    assert records[2].flags == ("gap", "inferred")
    assert {r.session for r in records} == {session_id("xc-h01-01", STREAM, 1)}


def test_a_new_boot_counts_the_pause_by_wall_clock_on_the_old_boots_line() -> None:
    line = Line().feed(readings([500] * 10))
    # Ten minutes later by wall clock; this boot's own time starts near zero again.
    line.restart(Labels("boot-2", WALL + 609_000 - 2_000, ClockQuality.NTP))
    records = line.feed(readings([500] * 10, start_ms=2_000)).settle()
    assert told(records)[1:] == [
        ("tick", "running", 0, 9), ("gap", "unknown", 9, 609), ("tick", "running", 2, 11)
    ]  # fmt: skip
    tick, gap, after = records[1:]
    assert (tick.boot, gap.boot, after.boot) == ("boot-1", "boot-1", "boot-2")
    assert gap.flags == ("gap", "inferred")
    assert gap.ts == timestamp(WALL + 609_000)
    sides = {"before": "running", "after": "running", "by": "wall", "from_q": "ntp", "next_boot": "boot-2"}
    assert gap.detail == sides
    assert after.odo.running == 18_000
    assert after.odo.unknown == 600_000
    assert after.session == records[0].session


def length_told(line: Line, labels: Labels) -> dict[str, str | int | float | None] | None:
    line.labels = labels
    line.sessions, detail = sessions.gap_length(METER.inst, STATE.validate_json(STATE.dump_json(line.sessions)), labels)
    return detail


def test_a_wall_clock_that_lies_behind_after_a_boot_gives_no_negative_time_and_the_length_when_it_is_set() -> None:
    line = Line().feed(readings([500] * 10))
    line.restart(Labels("boot-2", 0, ClockQuality.UNSET))
    records = line.feed(readings([500] * 10, start_ms=2_000)).settle()
    tick, gap, after = records[1:]
    assert (gap.kind, gap.from_ms, gap.to_ms) == (RecordKind.GAP, 9_000, 9_000)
    assert gap.flags == ("gap", "inferred", "length_unknown")
    # The old boot's last record is dated by the old boot's clock, which was not unset.
    assert (tick.ts_q, gap.ts_q, after.ts_q) == (ClockQuality.NTP, ClockQuality.UNSET, ClockQuality.UNSET)
    assert records[-1].odo.total == 18_000
    assert length_told(line, Labels("boot-2", 5_000_000, ClockQuality.UNSET)) is None
    set_now = Labels("boot-2", WALL + 7_209_000 - 2_000, ClockQuality.RTC)
    assert length_told(line, set_now) == {"inst": METER.inst, "gap_seq": 3, "length_ms": 7_200_000, "recorded_ms": 0}
    assert length_told(line, set_now) is None, "it is told once"
    assert line.sessions.odo[3] == 0, "the odometer is what the records add up to"


def test_a_plausible_clock_that_is_corrected_corrects_the_length_of_the_hole_and_a_sure_one_ends_it() -> None:
    line = Line().feed(readings([500] * 10))
    # It went on where it had stopped, as a machine does that keeps its time in a file.
    line.restart(Labels("boot-2", WALL + 10_000, ClockQuality.RTC))
    gap = line.feed(readings([500] * 10, start_ms=2_000)).settle()[2]
    assert (gap.to_ms - gap.from_ms, gap.flags) == (3_000, ("gap", "inferred"))
    assert length_told(line, Labels("boot-2", WALL + 10_400, ClockQuality.RTC)) is None
    told_later = length_told(line, Labels("boot-2", WALL + 3_610_000, ClockQuality.NTP))
    assert told_later == {"inst": METER.inst, "gap_seq": 3, "length_ms": 3_603_000, "recorded_ms": 3_000}
    # From here on a step is somebody playing with the clock.
    assert length_told(line, Labels("boot-2", WALL + 9_999_000, ClockQuality.NTP)) is None


def test_after_two_boots_with_an_unset_clock_the_second_hole_says_what_both_were() -> None:
    line = Line().feed(readings([500] * 10))
    line.restart(Labels("boot-2", 0, ClockQuality.UNSET))
    line.feed(readings([500] * 10, start_ms=2_000))
    # An hour after the first boot ended, of which the second saw nine seconds.
    sure = Labels("boot-3", WALL + 9_000 + 3_600_000 - 2_000, ClockQuality.NTP)
    line.restart(sure)
    records = line.feed(readings([500] * 10, start_ms=2_000)).settle()
    first, second = [record for record in records if record.kind is RecordKind.GAP]
    assert first.to_ms == first.from_ms
    assert second.to_ms - second.from_ms == 3_600_000 - 9_000
    assert "length_unknown" in first.flags
    assert "length_unknown" in second.flags
    length = {"inst": METER.inst, "gap_seq": second.seq, "length_ms": 3_591_000, "recorded_ms": 3_591_000}
    assert length_told(line, sure) == length
    assert length_told(line, sure) is None


def test_a_first_boot_whose_clock_was_never_set_leaves_no_decades_behind() -> None:
    line = Line()
    line.labels = Labels("boot-1", 0, ClockQuality.UNSET)
    line.feed(readings([500] * 10))
    line.restart(Labels("boot-2", WALL, ClockQuality.NTP))
    records = line.feed(readings([500] * 10)).settle()
    [gap] = [record for record in records if record.kind is RecordKind.GAP]
    assert (gap.to_ms - gap.from_ms, gap.flags) == (0, ("gap", "inferred", "length_unknown"))
    assert length_told(line, line.labels) is None


def test_an_energy_register_that_falls_is_flagged_and_one_that_rounds_is_not() -> None:
    def registers(values: list[float]) -> list[Reading]:
        return [Reading(n * 1000, 20, wh, Quality.GOOD) for n, wh in enumerate(values)]

    assert Line().feed(registers([100, 100.4, 99.8, 101])).settle()[-1].energy_q == "ok"
    assert Line().feed(registers([100, 101, 0, 1])).settle()[-1].energy_q == "reset"
    assert Line().feed(readings([20] * 4)).settle()[-1].energy_q == "none"


METERED = Meter("xc-h01-01", period_ms=1000, tick_ms=20_000, most_w=4_000)


def energy_of(values: list[tuple[int, float]]) -> list[str]:
    points = [Reading(at_s * 1000, 20, wh, Quality.GOOD) for at_s, wh in values]
    return [record.energy_q for record in Line(METERED).feed(points).settle() if record.kind is RecordKind.TICK]


def test_a_register_that_jumps_by_more_than_the_instrument_can_draw_is_no_energy() -> None:
    assert energy_of([(n, 100 + n) for n in range(20)]) == ["ok"]
    # A register counts in steps: what a quarter of an hour can bring is believed at once.
    assert energy_of([(n, 100 if n < 10 else 1_000) for n in range(20)]) == ["ok"]
    assert energy_of([(n, 100 if n < 30 else 6_000) for n in range(60)]) == ["ok", "jump", "ok"]
    # Back to what it was is a reset: it begins anew there.
    assert energy_of([(n, 6_000 if n in (5, 6) else 100) for n in range(20)]) == ["jump"]
    # Over the hours that nobody looked a lot may have come.
    assert energy_of([(n, 100) for n in range(3)] + [(n, 9_000) for n in range(9_000, 9_009)])[-1] == "ok"
    assert Line().feed([Reading(n * 1000, 20, 10.0**n) for n in range(9)]).settle()[-1].energy_q == "ok"


def test_over_a_boot_a_register_says_nothing_of_a_jump() -> None:
    line = Line(METERED).feed([Reading(n * 1000, 20, 100) for n in range(10)])
    line.restart(Labels("boot-2", WALL + 86_400_000, ClockQuality.NTP))
    records = line.feed([Reading(n * 1000, 20, 90_000) for n in range(10)]).settle()
    assert {record.energy_q for record in records} == {"ok"}


def test_records_of_a_meter_that_is_read_too_seldom_for_an_invoice_say_so() -> None:
    powers = [0.0] * 3 + [500.0] * 3 + [0.0] * 4
    for period_ms, flagged in ((10_000, False), (10_001, True), (60_000, True)):
        profile = replace(A_PROFILE, max_hole_ms=200_000)
        records = (
            Line(Meter("xc-h01-01", period_ms, narrow=True), profile)
            .feed(readings(powers, period_ms=period_ms))
            .settle()
        )
        assert {record.kind for record in records} >= {RecordKind.OPEN, RecordKind.CLOSE, RecordKind.TICK}
        assert {"indicative" in record.flags for record in records} == {flagged}


@pytest.mark.parametrize(
    ("spacings", "flagged"),
    [
        # On a crowded line one reading in so many seconds comes, whatever the settings say.
        ([15] * 20, True),
        ([1] * 30 + [12] * 10 + [1] * 30, True),
        # Late and lost readings of a meter that is asked often enough are none of that.
        ([10.2, 9.8] * 10, False),
        ([10] * 8 + [20] + [10] * 8, False),
        ([5, 5, 20, 5, 20, 5, 5] * 3, False),
        ([1] * 60 + [29] + [1] * 60, False),
        # A hole is told as one.
        ([1] * 20 + [40] + [1] * 20, False),
    ],
)
@pytest.mark.parametrize("tick_ms", [1000, 60_000])
def test_readings_that_come_too_seldom_for_an_invoice_say_so_whatever_the_period_of_the_settings(
    spacings: list[float], flagged: bool, tick_ms: int
) -> None:
    times = [round(1000 * at) for at in accumulate(spacings, initial=0.0)]
    line = Line(replace(METER, period_ms=5000, tick_ms=tick_ms), replace(A_PROFILE, max_hole_ms=30_000))
    records = line.feed([Reading(at, 500.0 if at >= 2000 else 0.0) for at in times]).settle()
    of_session = [record for record in records if record.session is not None]
    assert any("indicative" in record.flags for record in of_session) is flagged
    assert not any("indicative" in record.flags for record in records if record.kind is RecordKind.GAP)


def test_a_meter_that_is_read_seldom_while_nothing_runs_and_often_enough_around_a_run_is_good_for_an_invoice() -> None:
    noon = 12 * 3_600_000
    times = [*range(0, noon, 3_600_000), *range(noon, noon + 900_000, 10_000)]
    runs = range(noon + 100_000, noon + 700_000)
    line = Line(replace(METER, period_ms=10_000, tick_ms=3_600_000), replace(A_PROFILE, max_hole_ms=4_000_000))
    records = line.feed([Reading(at, 500.0 if at in runs else 0.0) for at in times]).settle()
    flagged = {record.kind for record in records if "indicative" in record.flags}
    assert flagged == {RecordKind.TICK}, "of the hours before only"
    assert {record.kind for record in records if record.session} == {RecordKind.OPEN, RecordKind.CLOSE}


POWER = st.sampled_from([0.0, 20.0, 90.0, 500.0, 500.0, None])
EVENT = st.sampled_from(["", "", "r", "b"])
PART = st.tuples(st.sampled_from([1000, 5000, 40_000]), st.lists(POWER, max_size=40), EVENT)


@given(st.lists(PART, max_size=6))
@settings(max_examples=120, deadline=None)
def test_records_touch_in_each_boot_and_the_odometer_is_the_time_that_passed(
    parts: list[tuple[int, list[float | None], str]],
) -> None:
    line, at, boots, wall = Line(), 0, 1, WALL
    for pause, powers, event in parts:
        if event == "r":
            line.restart(line.labels)
        elif event == "b":
            boots += 1
            wall += at
            at = 0
            line.restart(Labels(f"boot-{boots}", wall, ClockQuality.NTP))
        at += pause
        line.feed(readings(powers, start_ms=at))
        at += 1000 * len(powers)
    records = line.settle()
    assert [r.seq for r in records] == list(range(1, len(records) + 1))
    for a, b in pairwise(records):
        if a.boot == b.boot:
            assert b.from_ms == a.to_ms
        grown = [getattr(b.odo, s) - getattr(a.odo, s) for s in ("off", "standby", "running", "unknown")]
        assert sum(grown) == b.to_ms - b.from_ms
        assert min(grown) >= 0
        if b.to_ms > b.from_ms:
            assert getattr(b.odo, b.state.value) - getattr(a.odo, b.state.value) == b.to_ms - b.from_ms
        assert a.ts <= b.ts
    opened = [r for r in records if r.kind is RecordKind.OPEN]
    closed = [r for r in records if r.kind is RecordKind.CLOSE]
    assert (line.sessions.opened, line.sessions.closed) == (len(opened), len(closed))
    assert [r.session for r in opened][: len(closed)] == [r.session for r in closed]
    assert all(r.session == session_id(r.inst, STREAM, r.seq) for r in opened)
    assert all((r.session is not None) for r in records if r.state is PowerState.RUNNING)
    assert all(decode(UsageRecord, encode(r)) == r for r in records)
    assert line.sessions.recorded == line.sessions.odo or line.sessions.new_boot
