"""Meters that fall silent, freeze, or lose their energy register: no false session, no false energy, no silent hole."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agents.agent import Agent
from edge_agents.drivers.base import Reading
from edge_agents.watch import Watched
from store.tables.usage import UsageSession
from tests.edge.making import A_PROFILE
from tests.faults.conftest import MakeSite
from tests.faults.judge import judge
from tests.faults.site import Site
from tests.faults.test_clock import all_records
from tests.support.usage import NINE
from tests.support.waiting import wait_until
from wire.client import BrokerAddress
from wire.clock import ManualClock
from wire.messages import PowerState, RecordKind

QUICK = {"on_w": 1025, "off_w": 700, "standby_w": 30, "up_ms": 3000, "down_ms": 5000, "max_hole_ms": 8000}


@pytest.fixture
def metered(make_site: MakeSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Site, Callable[[str], None]]:
    """A site whose one instrument shows what the test writes; ten times as fast as real time."""
    file = tmp_path / "meter"
    monkeypatch.setenv("OPENLAB_TEST_METER", str(file))
    instrument = {
        "driver": "callable",
        "params": {"function": "tests.faults.meters:watts"},
        "profile": {**QUICK, "level_ms": 2000},
        "catalogue": None,
    }
    site = make_site(agents=1, speed=10.0, period_ms=2000, tick_ms=10_000, instrument=instrument)

    def show(text: str) -> None:
        draft = file.with_suffix(".draft")
        draft.write_text(text)
        draft.replace(file)

    show("250")
    site.start_all()
    return site, show


def test_a_meter_that_freezes_idle_and_falls_silent_in_a_run_makes_unknown_time_and_no_false_session(
    metered: tuple[Site, Callable[[str], None]],
) -> None:
    site, show = metered
    [agent] = site.agents
    # As if it were frozen while the instrument is idle: that makes no session, however long it takes.
    site.await_records(4)
    assert not any(r.kind is RecordKind.OPEN for r in all_records(site, agent))
    show("4200")
    wait_until(lambda: any(r.kind is RecordKind.OPEN for r in all_records(site, agent)), "the run")
    show("")
    # Longer than the longest hole that a profile bridges.
    silent_from = site.clock.now_ms()
    wait_until(lambda: site.clock.now_ms() - silent_from > 20_000, "twenty accelerated seconds")
    show("4200")
    wait_until(lambda: any(r.kind is RecordKind.GAP for r in all_records(site, agent)), "the hole to be told")
    show("250")
    wait_until(lambda: any(r.kind is RecordKind.CLOSE for r in all_records(site, agent)), "the end of the run")
    verdict = site.finish(plans=False)
    verdict.assert_exact()
    [hole] = verdict.holes
    assert "driver_stale" in hole.flags
    assert hole.to_ms - hole.from_ms >= 15_000
    assert hole.detail == {"before": "running", "after": "running"}
    with site.database.read() as session:
        [row] = session.query(UsageSession)
        assert row.odo_unknown_last_ms - row.odo_unknown_first_ms == hole.to_ms - hole.from_ms
        assert "gap" in row.flags


class EnergyMeter:
    """A driver with a register: the test sets power and register, the meter is asked every second."""

    name = "energy"
    period_ms = 1000

    def __init__(self) -> None:
        self.power_w, self.energy_wh = 0.0, 1_000_000.0

    def next_due(self, after_ms: int) -> int:
        return after_ms - after_ms % 1000 + 1000

    def read(self, due_ms: int) -> Reading:
        return Reading(due_ms, self.power_w, self.energy_wh)

    def close(self) -> None:
        """Nothing is held."""


def test_an_energy_register_that_falls_back_or_jumps_is_flagged_and_billed_by_nobody(make_site: MakeSite) -> None:
    site = make_site(agents=1)
    [name], [inst] = site.agents, site.instruments
    site.start_gateway()
    clock, meter = ManualClock(NINE), EnergyMeter()
    address = BrokerAddress.parse(site.broker.url_for(name))
    agent = Agent(name, [Watched(inst, meter, A_PROFILE, most_w=1_000)], clock, address, site.spool(name))
    agent.start()

    def pass_time(seconds: int) -> None:
        for _ in range(seconds):
            clock.advance(1000)
            meter.energy_wh += meter.power_w / 3600
            agent.step()

    pass_time(30)
    meter.power_w = 500.0
    pass_time(120)
    meter.energy_wh = 0.0  # a power cut at the meter; for its first 100 s it goes on saying 0
    for _ in range(100):
        pass_time(1)
        meter.energy_wh = 0.0
    pass_time(60)
    meter.energy_wh += 1_000_000.0  # as it comes back from its 0, or by a digit that was read wrong
    pass_time(60)
    meter.power_w = 0.0
    pass_time(60)
    assert agent.stop(90)
    with site.database.read() as session:
        judge(session, [agent.truth().as_json()], {}).assert_exact()
        [row] = session.query(UsageSession)
        assert row.odo_running_last_ms - row.odo_running_first_ms == 340_000
    records = [record for record in all_records(site, name) if record.inst == inst]
    qualities = [record.energy_q for record in records]
    assert (qualities.count("reset"), qualities.count("jump")) == (1, 1)
    assert all(record.state is not PowerState.UNKNOWN for record in records)
