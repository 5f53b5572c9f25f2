"""An agent whose disk fails goes on: usage waits for the disk, telemetry makes way, a broken spool is replaced."""

from pathlib import Path

import pytest

from edge_agents.agent import Agent
from edge_agents.drivers.from_callable import CallableDriver
from edge_agents.journal import Journal, SpoolLimits
from edge_agents.outbox import Row
from edge_agents.watch import Watched
from tests.edge.making import A_PROFILE
from tests.support.ports import free_port
from wire.client import BrokerAddress
from wire.clock import ManualClock
from wire.messages import RecordKind, UsageRecord, decode

START = 1_750_000_000_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def agent(tmp_path: Path, clock: ManualClock) -> Agent:
    """An agent that has recorded for two minutes; its broker is away."""
    nowhere = BrokerAddress("127.0.0.1", free_port(), tls=False)
    watched = Watched("xc-h01-01", CallableDriver(lambda: 20.0, clock), A_PROFILE)
    agent = Agent("xc-h01-01", [watched], clock, nowhere, tmp_path, SpoolLimits(usage_reserve_bytes=0))
    agent.start()
    pass_time(agent, clock, 130)
    return agent


def pass_time(agent: Agent, clock: ManualClock, seconds: int) -> None:
    for _ in range(seconds):
        clock.advance(1000)
        agent.step()


def recorded(agent: Agent) -> list[UsageRecord]:
    return [decode(UsageRecord, row.payload) for row in agent._journal.usage.rows(0, 1000)]


def test_records_wait_for_a_full_disk_and_keep_their_numbers(agent: Agent, clock: ManualClock) -> None:
    database = agent._journal.usage._db
    [(pages,)] = database.execute("PRAGMA page_count").fetchall()
    database.execute(f"PRAGMA max_page_count = {pages}").fetchall()
    pass_time(agent, clock, 3600)
    assert agent._journal.is_failing
    before = len(recorded(agent))
    database.execute("PRAGMA max_page_count = 1000000").fetchall()
    agent.settle()
    records = recorded(agent)
    assert len(records) > before + 10
    assert [r.seq for r in records] == list(range(1, len(records) + 1))
    assert records[-1].odo.standby == 3_729_000
    agent.close()


def test_a_spool_that_breaks_while_in_use_is_set_aside_and_recording_goes_on(
    agent: Agent, clock: ManualClock, tmp_path: Path
) -> None:
    stream = agent.truth().usage.stream
    agent._journal.usage._db.execute("DROP TABLE spool_rows")
    pass_time(agent, clock, 200)
    agent.settle()
    assert agent.truth().usage.stream != stream
    records = recorded(agent)
    assert records[0].kind is RecordKind.SPOOL_LOST
    assert records[0].detail["stream"] == stream
    assert records[1].reason == "odometer"
    assert records[-1].odo.standby > 60_000
    assert (tmp_path / "usage.db.damaged-1").exists()
    agent.close()


def test_a_checkpoint_of_another_version_starts_a_new_stream_and_not_an_error(agent: Agent, tmp_path: Path) -> None:
    stream = agent.truth().usage.stream
    agent.settle()
    journal = agent._journal
    journal.usage.append([], journal.usage.checkpoint.replace('"v": 1', '"v": 2'))  # type: ignore[union-attr]
    agent._sender.stop(b"")
    journal.abandon()
    agent.start()
    assert agent.truth().usage.stream != stream
    assert "of version 2" in str(recorded(agent)[0].detail["found"])
    agent.close()


def test_a_record_without_the_next_number_is_refused(agent: Agent) -> None:
    [record] = recorded(agent)[:1]
    with pytest.raises(ValueError, match="expected record"):
        agent._journal.add(record)
    agent.close()


def test_telemetry_makes_way_for_usage(tmp_path: Path) -> None:
    journal = Journal(tmp_path, SpoolLimits(max_bytes=100_000, usage_reserve_bytes=40_000), "xc-h01-01")
    journal._telemetry_waiting = [Row(seq, "xc-h01-01", bytes(1000)) for seq in range(1, 201)]
    journal.save(lambda: "{}", START, force=True)
    assert journal.telemetry.size_bytes <= 60_000 + 200 * 1100
    journal._telemetry_waiting = [Row(201, "xc-h01-01", bytes(1000))]
    journal.save(lambda: "{}", START, force=True)
    assert journal.telemetry.size_bytes <= 60_000
    assert journal.telemetry.dropped > 140
    journal.close()
