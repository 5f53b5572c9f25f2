"""Clocks that are unset at the start, set later, or stepped: durations are exact, no interval runs backwards."""

from pathlib import Path

import pytest

from store.tables.usage import UsageSession, UsageStream
from tests.faults.conftest import MakeSite
from tests.faults.judge import records_of
from tests.faults.site import Site
from tests.support.usage import NINE
from tests.support.waiting import wait_until
from wire.messages import ClockQuality, RecordKind, UsageRecord, timestamp_ms

DAY = 24 * 3_600_000


def all_records(site: Site, agent: str) -> list[UsageRecord]:
    with site.database.read() as session:
        streams = session.query(UsageStream).filter(UsageStream.agent_id == agent, UsageStream.kind == "usage").all()
        return [record for stream in streams for record in records_of(session, agent, stream.stream)]


@pytest.mark.parametrize(
    ("first_ms", "then_ms"),
    [
        pytest.param(-NINE + 3_600_000, 0, id="unset-at-boot"),
        pytest.param(0, DAY, id="a-day-on"),
        pytest.param(0, -DAY, id="a-day-back"),
        pytest.param(0, 3_000, id="3s-on", marks=pytest.mark.slow),
        pytest.param(0, -3_000, id="3s-back", marks=pytest.mark.slow),
        pytest.param(0, 3_600_000, id="summer-time", marks=pytest.mark.slow),
        pytest.param(0, 1_000, id="leap-second"),
    ],
)
def test_a_wall_clock_that_is_set_changes_labels_and_no_duration(
    make_site: MakeSite, tmp_path: Path, first_ms: int, then_ms: int
) -> None:
    site = make_site(agents=1)
    [agent] = site.agents
    wall = tmp_path / "wall"
    wall.write_text(str(first_ms))
    site.start_gateway()
    site.start_agent(agent, wall=wall)
    site.await_records(8)
    draft = wall.with_suffix(".draft")
    draft.write_text(str(then_ms))
    draft.replace(wall)
    step_ms = then_ms - first_ms

    def told() -> list[UsageRecord]:
        return [record for record in all_records(site, agent) if record.kind is RecordKind.CLOCK]

    if abs(step_ms) > 1000:
        # The machine may stop between the reading of one clock and of the other, for accelerated time in between.
        said = wait_until(told, "the step")[0].detail["step_ms"]
        assert isinstance(said, int)
        assert abs(said - step_ms) < 1000
    site.await_records(8)
    # The meter is simulated by wall time, so what it does is another story after a step: only time itself is judged.
    verdict = site.finish(plans=False)
    verdict.assert_exact()
    assert verdict.unknown_ms == 0
    assert len(told()) == (1 if abs(step_ms) > 1000 else 0)
    records = [record for record in all_records(site, agent) if record.inst != "_"]
    assert all(record.to_ms >= record.from_ms for record in records)
    unset = [record for record in records if record.ts_q is ClockQuality.UNSET]
    assert bool(unset) == (first_ms != 0)
    if unset:
        # By the step, whoever reads these records can date them again.
        assert 0 <= timestamp_ms(unset[0].ts) + step_ms - NINE < 3_600_000
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
