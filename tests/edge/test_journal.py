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
from wire.messages import Ack, ClockQuality, RecordKind, UsageRecord, decode

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


def test_a_spool_takes_half_a_gigabyte_or_a_fifth_of_a_small_disk_unless_told_otherwise() -> None:
    assert SpoolLimits().most_on(32 * 10**9) == 500 * 1024 * 1024
    assert SpoolLimits().most_on(10**9) == 200_000_000
    assert SpoolLimits(max_bytes=800_000_000).most_on(10**9) == 800_000_000


def test_a_reserve_as_large_as_the_spool_leaves_telemetry_its_half(tmp_path: Path) -> None:
    journal = Journal(tmp_path, SpoolLimits(max_bytes=100_000, usage_reserve_bytes=64_000), "xc-h01-01")
    journal._telemetry_waiting = [Row(1, "xc-h01-01", bytes(1000))]
    journal.save(lambda: "{}", START, force=True)
    assert (journal.telemetry.limit_bytes, journal.telemetry.dropped) == (50_000, 0)
    journal.close()


def test_telemetry_that_a_short_disk_drops_is_counted_and_told(tmp_path: Path) -> None:
    journal = Journal(tmp_path, SpoolLimits(usage_reserve_bytes=2**62), "xc-h01-01")
    journal.add_telemetry(lambda stream, seq: pytest.fail("there is no room for it"))
    assert (journal.telemetry.dropped, journal.telemetry.position_changed) == (1, True)
    journal.close()


def test_telemetry_that_a_full_disk_drops_is_told_too(tmp_path: Path) -> None:
    journal = Journal(tmp_path, SpoolLimits(usage_reserve_bytes=0), "xc-h01-01")
    database = journal.telemetry._db
    [(pages,)] = database.execute("PRAGMA page_count").fetchall()
    database.execute(f"PRAGMA max_page_count = {pages}").fetchall()
    journal._telemetry_waiting = [Row(seq, "xc-h01-01", bytes(5000)) for seq in (1, 2)]
    journal.save(lambda: "{}", START, force=True)
    assert (journal.telemetry.dropped, journal.telemetry.position_changed) == (2, True)
    journal.close()


def booted_again(agent: Agent, folder: Path, clock: ManualClock) -> Agent:
    """The same agent on its machine that was off for a while, and whose clock now says what `clock` says."""
    agent.settle()
    agent.close()
    watched = Watched("xc-h01-01", CallableDriver(lambda: 20.0, clock), A_PROFILE)
    again = Agent("xc-h01-01", [watched], clock, agent._address, folder, SpoolLimits(usage_reserve_bytes=0))
    again.start()
    return again


def test_a_clock_that_turns_out_right_without_being_set_is_told_too(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind = ManualClock(START - 3_600_000, boot="boot-2")
    again = booted_again(agent, tmp_path, behind)
    pass_time(again, behind, 3)
    monkeypatch.setattr("edge_agents.wall.is_synchronised", lambda: True)
    pass_time(again, behind, 1)
    [sure] = [record for record in recorded(again) if record.kind is RecordKind.CLOCK]
    assert (sure.ts_q, sure.detail) == (ClockQuality.NTP, {"step_ms": 0})
    again.close()


def test_after_a_reboot_with_a_clock_that_lies_behind_the_length_of_the_pause_is_told_when_it_is_set(
    agent: Agent, clock: ManualClock, tmp_path: Path
) -> None:
    ack = Ack(stream=agent.truth().usage.stream, upto=1)
    behind = ManualClock(START - 3_600_000, boot="boot-2")
    again = booted_again(agent, tmp_path, behind)
    again._journal.usage.acknowledge(ack, behind.now_ms())
    pass_time(again, behind, 90)
    behind.step_wall(30 * 86_400_000)
    pass_time(again, behind, 5)
    told = recorded(again)
    [gap] = [record for record in told if record.kind is RecordKind.GAP]
    step, length = [record for record in told if record.kind is RecordKind.CLOCK]
    assert "length_unknown" in gap.flags
    before = [record for record in told if record.boot == "boot-2" and record.seq < step.seq]
    assert {record.ts_q for record in before} == {ClockQuality.UNSET}
    assert (step.detail, step.ts_q, length.reason) == ({"step_ms": 30 * 86_400_000}, ClockQuality.RTC, "gap_length")
    # From the last sample of the first boot, at 130 s, to the first of the second, at 1 s.
    paused = 30 * 86_400_000 - 3_600_000 - 130_000 + 1_000
    assert length.detail == {"inst": "xc-h01-01", "gap_seq": gap.seq, "length_ms": paused, "recorded_ms": 0}
    # The clock went on by a month, and what was acknowledged a minute ago is still there for replay.
    assert again._journal.usage.prune(behind.now_ms()) == 0
    again.close()
