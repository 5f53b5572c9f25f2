"""One instrument under watch: whatever its meter says the line goes on; nonsense is a meter that does not answer."""

import math
from dataclasses import replace

import pytest

from edge_agents.drivers.base import Quality, Reading
from edge_agents.drivers.from_callable import CallableDriver
from edge_agents.session_state import Labels
from edge_agents.watch import Watch, Watched
from tests.edge.making import A_PROFILE
from wire.clock import ManualClock
from wire.messages import ClockQuality, PowerState, RecordKind, UsageRecord, decode, encode

STREAM = "01J00000000000000000000000"
LABELS = Labels("boot-1", 1_750_000_000_000, ClockQuality.NTP)


def watching(period_ms: int = 1000) -> Watch:
    driver = CallableDriver(lambda: 0.0, ManualClock(0), period_ms)
    watch = Watch(Watched("xc-h01-01", driver, A_PROFILE, 20_000))
    watch.begin(None, LABELS, 0, STREAM, 1)
    return watch


def taken(watch: Watch, readings: list[Reading]) -> list[UsageRecord]:
    records: list[UsageRecord] = []
    for reading in readings:
        records += watch.take(reading, LABELS, STREAM, len(records) + 1)
    records += watch.settle(LABELS, STREAM, len(records) + 1)
    assert all(decode(UsageRecord, encode(record)) == record for record in records)
    return records


@pytest.mark.parametrize("power", [math.nan, math.inf, -math.inf, 1e306, -1e12])
def test_a_power_that_no_instrument_can_have_is_a_meter_that_does_not_answer(power: float) -> None:
    watch = watching()
    told = taken(watch, [Reading(n * 1000, 500.0 if n < 10 or n > 20 else power) for n in range(60)])
    [gap] = [record for record in told if record.kind is RecordKind.GAP]
    assert (gap.state, gap.from_ms, gap.to_ms) == (PowerState.UNKNOWN, 9_000, 21_000)
    assert "driver_stale" in gap.flags
    watch.take(Reading(60_000, power), LABELS, STREAM, 99)
    assert watch.newest is None


@pytest.mark.parametrize("energy", [math.nan, math.inf, 1e300])
def test_a_register_that_no_meter_can_have_is_not_read_and_the_power_counts(energy: float) -> None:
    watch = watching()
    told = taken(watch, [Reading(n * 1000, 500.0, 100.0 if n < 5 else energy) for n in range(30)])
    assert watch.newest is not None
    assert watch.newest.energy_wh is None
    assert [(record.energy_wh, record.energy_q) for record in told][-1] == (100.0, "ok")


def test_a_meter_function_that_answers_with_words_is_a_meter_that_does_not_answer() -> None:
    driver = CallableDriver(lambda: "12,5", ManualClock(0))  # type: ignore[arg-type,return-value]
    assert driver.read(0).quality is Quality.STALE


@pytest.mark.parametrize(("changed_at", "undecided"), [(50, 0), (180, 77_000), (240, 137_000)])
def test_what_was_undecided_when_the_profile_changed_is_unknown_and_not_billed(changed_at: int, undecided: int) -> None:
    watch = watching()
    watch.use(replace(A_PROFILE, down_ms=143_000))
    records: list[UsageRecord] = []
    for n in range(260):
        if n == changed_at:
            watch.use(replace(A_PROFILE, down_ms=20_000))
        reading = Reading(n * 1000, 500.0 if n < 103 else 20.0)
        records += watch.take(reading, LABELS, STREAM, len(records) + 1)
    records += watch.settle(LABELS, STREAM, len(records) + 1)
    last = records[-1].odo
    assert (last.running, last.unknown) == (103_000, undecided)
