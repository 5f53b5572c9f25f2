"""Clocks that are unset at the start, set later, or stepped: durations are exact, no interval runs backwards."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from store.tables.usage import UsageSession, UsageStream
from tests.faults.conftest import MakeSite
from tests.faults.grounds import EITHER_DATABASE, on_grounds
from tests.faults.judge import records_of
from tests.faults.site import Site
from tests.support.usage import NINE
from tests.support.waiting import wait_until
from wire.messages import ClockQuality, RecordKind, UsageRecord, timestamp_ms

HOUR = 3_600_000


def all_records(site: Site, agent: str) -> list[UsageRecord]:
    with site.database.read() as session:
        streams = session.query(UsageStream).filter(UsageStream.agent_id == agent, UsageStream.kind == "usage").all()
        return [record for stream in streams for record in records_of(session, agent, stream.stream)]


@dataclass(frozen=True)
class Setting:
    """How far a wall clock is off at the start, and from some records on. Milliseconds."""

    first_ms: int = 0
    then_ms: int = 0

    @property
    def step_ms(self) -> int:
        return self.then_ms - self.first_ms


SETTINGS = {
    "unset at boot": Setting(first_ms=-NINE + HOUR),
    "a day on": Setting(then_ms=24 * HOUR),
    "a day back": Setting(then_ms=-24 * HOUR),
    "three seconds on": Setting(then_ms=3_000),
    "three seconds back": Setting(then_ms=-3_000),
    "summer time": Setting(then_ms=HOUR),
    "leap second": Setting(then_ms=1_000),
}


@on_grounds(EITHER_DATABASE, quick=[1])
def test_wall_clocks_that_are_set_change_labels_and_no_duration(make_site: MakeSite, tmp_path: Path) -> None:
    site = make_site(agents=len(SETTINGS))
    settings = dict(zip(site.agents, SETTINGS.values(), strict=True))
    walls = {agent: tmp_path / f"wall-of-{agent}" for agent in site.agents}
    site.start_gateway()
    for agent, wall in walls.items():
        wall.write_text(str(settings[agent].first_ms))
        site.start_agent(agent, wall=wall)
    site.await_records(8)
    for agent, wall in walls.items():
        draft = wall.with_suffix(".draft")
        draft.write_text(str(settings[agent].then_ms))
        draft.replace(wall)

    def told(agent: str) -> list[UsageRecord]:
        return [record for record in all_records(site, agent) if record.kind is RecordKind.CLOCK]

    stepped = [agent for agent, setting in settings.items() if abs(setting.step_ms) > 1000]
    wait_until(lambda: all(told(agent) for agent in stepped), "the steps to be told")
    site.await_records(8)
    # The meters are simulated by wall time, so what they do is another story after a step: only time itself is judged.
    verdict = site.finish(plans=False)
    verdict.assert_exact()
    assert verdict.unknown_ms == 0
    for (agent, setting), name in zip(settings.items(), SETTINGS, strict=True):
        assert len(told(agent)) == (1 if agent in stepped else 0), name
        for clock in told(agent):
            # The machine may stop between the reading of one clock and of the other, for accelerated time in between.
            assert isinstance(clock.detail["step_ms"], int)
            assert abs(clock.detail["step_ms"] - setting.step_ms) < 1000, name
        records = [record for record in all_records(site, agent) if record.inst != "_"]
        assert all(record.to_ms >= record.from_ms for record in records), name
        unset = [record for record in records if record.ts_q is ClockQuality.UNSET]
        assert bool(unset) == (setting.first_ms != 0), name
        if unset:
            # By the step, whoever reads these records can date them again.
            assert 0 <= timestamp_ms(unset[0].ts) + setting.step_ms - NINE < HOUR
    with site.database.read() as session:
        for row in session.query(UsageSession):
            assert row.ended_at is None or row.ended_at >= row.started_at


@pytest.mark.slow
def test_an_agent_that_was_stopped_for_minutes_accounts_for_each_second_of_them(make_site: MakeSite) -> None:
    site = make_site(agents=1)
    [agent] = site.agents
    site.start_all()
    site.await_records(4)
    site.running[agent].pause()
    slept_from = site.clock.now_ms()
    wait_until(lambda: site.clock.now_ms() - slept_from > 120_000, "two minutes of sleep")
    site.running[agent].resume()
    site.await_records(12)
    # A simulated meter knows what it would have said, so nothing is unknown here (tests/edge/test_agent.py has one
    # that does not); the plan says that it was told right.
    verdict = site.finish()
    verdict.assert_exact()
    assert (verdict.streams, verdict.unknown_ms) == (1, 0)
