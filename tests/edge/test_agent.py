"""One agent and a real broker: what it knows that it produced is what arrives, whatever happens in between."""

import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from edge_agents.drivers.from_callable import CallableDriver
from edge_agents.drivers.trace import TraceDriver
from edge_agents.outbox import Outbox
from edge_agents.sender import STATE_EVERY_S
from tests.edge.bench import START, Bench, until
from tests.edge.counterpart import Counterpart
from tests.support.brokers import AGENT, GATEWAY, AnyBroker, NatsBroker
from tests.support.waiting import wait_until
from wire.client import Publication
from wire.clock import ManualClock
from wire.ids import session_id
from wire.messages import Ack, Live, RecordKind, StreamKind, decode, encode
from wire.topics import Channel, down

A_RUN = [0.0] * 30 + [500.0] * 120 + [0.0] * 100


def a_trace(powers: Sequence[float], clock: ManualClock) -> TraceDriver:
    return TraceDriver([(n * 1000, power) for n, power in enumerate(powers)], clock, start_ms=START)


@pytest.fixture
def bench(broker: AnyBroker, tmp_path: Path) -> Bench:
    return Bench(broker.url_for(AGENT), tmp_path)


def test_a_run_arrives_record_by_record_as_the_agent_knows_it(broker: AnyBroker, bench: Bench) -> None:
    with Counterpart(broker.url_for(GATEWAY)) as gateway:
        agent = bench.begin(a_trace(A_RUN, bench.clock))
        bench.clock.advance(249_000)
        agent.step()
        assert agent.stop(90), "not everything was acknowledged"
        truth = agent.truth()
        records = gateway.usage()
        [opened] = [r for r in records if r.kind is RecordKind.OPEN]
        [closed] = [r for r in records if r.kind is RecordKind.CLOSE]
        assert (opened.to_ms, closed.to_ms - opened.to_ms) == (30_000, 120_000)
        assert opened.session == closed.session == session_id("xc-h01-01", truth.usage.stream, opened.seq)
        assert [r.seq for r in records] == list(range(1, truth.usage.last_seq + 1))
        assert all(a.to_ms == b.from_ms for a, b in pairwise(records))
        [instrument] = truth.instruments
        last = records[-1].odo
        assert (instrument.off_ms, instrument.running_ms) == (last.off, last.running) == (129_000, 120_000)
        assert (instrument.sessions_opened, instrument.sessions_closed, instrument.open_session) == (1, 1, None)
        assert (truth.usage.unacknowledged, truth.telemetry.unacknowledged) == (0, 0)
        samples = [power for batch in gateway.telemetry() for power in batch.power_w]
        assert samples == A_RUN
        states = [
            (batch.t0_ms + dt, state.value)
            for batch in gateway.telemetry()
            for dt, state in zip(batch.dt_ms, batch.state, strict=True)
        ]
        assert states[100] == (100_000, "running")
        assert gateway.conflicts == []
        wait_until(lambda: [s.cause for s in gateway.states][-1:] == ["stop"], "the good-bye")
        assert not gateway.states[-1].online


def test_while_no_gateway_is_there_it_records_and_does_not_send(broker: AnyBroker, bench: Bench) -> None:
    with Counterpart(broker.url_for(GATEWAY)) as gateway:
        gateway.say(online=False)
        agent = bench.begin()
        until(agent, lambda: gateway.births, "the birth on connecting")
        bench.pass_time(130)
        assert gateway.usage() == []
        assert agent.truth().usage.unacknowledged == 2
        births = len(gateway.births)
        gateway.say(online=True)
        until(agent, lambda: agent.is_drained, "the rows to be sent and acknowledged")
        assert len(gateway.births) > births
        assert gateway.births[-1].streams[0].last == 2
        assert [seq for kind, seq in gateway.order if kind == "usage"][:2] == [1, 2]
        kinds = [kind for kind, _ in gateway.order]
        assert "telemetry" in kinds
        # NATS serves each subscription by itself, so only the other broker shows in which order the agent sent.
        if not isinstance(broker, NatsBroker):
            assert kinds.index("telemetry") > kinds.index("usage")
        assert agent.stop(90)


def test_state_is_said_again_each_minute_of_the_machines_own_time(nats_broker: NatsBroker, tmp_path: Path) -> None:
    """So that an agent whose end nobody saw (its broker died too) is known to be gone by its silence."""
    bench = Bench(nats_broker.url_for(AGENT), tmp_path)
    with Counterpart(nats_broker.url_for(GATEWAY)) as gateway:
        agent = bench.begin()
        waited = 0.0
        agent._sender._monotonic = lambda: time.monotonic() + waited
        until(agent, lambda: gateway.births, "the first birth")
        for minutes in (1, 2):
            waited = minutes * STATE_EVERY_S
            # A state goes with each birth; what is more was said for its own sake.
            until(agent, lambda: len(gateway.states) - len(gateway.births) >= minutes, "the state again")  # noqa: B023
        assert gateway.states[-1].online
        assert len(gateway.births) <= 3
        agent.close()


def test_an_agent_that_was_killed_goes_on_with_the_same_session(broker: AnyBroker, bench: Bench) -> None:
    with Counterpart(broker.url_for(GATEWAY)) as gateway:
        bench.begin()
        bench.pass_time(10)
        bench.power = 500
        bench.pass_time(70)
        bench.crash()
        bench.clock.advance(45_000)
        agent = bench.begin()
        bench.pass_time(20)
        bench.power = 0
        bench.pass_time(20)
        assert agent.stop(90)
        records = [r for r in gateway.usage() if r.inst != "_"]
        sessions = {r.session for r in records if r.session}
        assert len(sessions) == 1
        [gap] = [r for r in records if r.kind is RecordKind.GAP]
        assert gap.flags == ("gap", "inferred")
        assert gap.detail == {"before": "running", "after": "running"}
        # At most the time since the last checkpoint (5 s of real time) is lost to the unknown besides the pause.
        assert gap.to_ms - gap.from_ms >= 45_000
        assert all(a.to_ms == b.from_ms for a, b in pairwise(records))
        assert records[-1].odo.total == records[-1].to_ms - records[0].from_ms
        assert gateway.conflicts == []


def test_after_a_reboot_the_time_lines_of_two_boots_are_not_mixed(broker: AnyBroker, bench: Bench) -> None:
    with Counterpart(broker.url_for(GATEWAY)) as gateway:
        bench.begin()
        bench.power = 500
        bench.pass_time(90)
        bench.crash()
        bench.clock = ManualClock(START + 300_000, boot="boot-2")
        agent = bench.begin()
        bench.pass_time(30)
        assert agent.stop(90)
        records = gateway.usage()
        [gap] = [r for r in records if r.kind is RecordKind.GAP]
        after = [r for r in records if r.boot == "boot-2"]
        assert gap.boot == "boot-1"
        assert after
        assert records[-1].odo.total == gap.to_ms - records[0].from_ms + after[-1].to_ms - after[0].from_ms
        assert {r.session for r in records if r.session} == {records[0].session}


def test_a_restored_database_gets_again_what_it_lost(broker: AnyBroker, bench: Bench) -> None:
    with Counterpart(broker.url_for(GATEWAY)) as gateway:
        agent = bench.begin()
        bench.pass_time(400)
        until(agent, lambda: agent.is_drained, "the first delivery")
        before = gateway.usage()
        assert len(before) == 6
        gateway.forget_above(AGENT, agent.truth().usage.stream, 2)
        until(agent, lambda: gateway.usage() == before, "the second delivery")
        assert agent.stop(90)


def test_what_else_a_meter_shows_travels_with_the_samples_and_is_on_the_display(
    broker: AnyBroker, bench: Bench
) -> None:
    def meter() -> dict[str, float | None]:
        second = bench.clock.mono_ms() // 1000
        return {"power_w": 20.0, "celsius": 20.0 + second / 100, "volts": 230.0 if second == 30 else None}

    with Counterpart(broker.url_for(GATEWAY)) as gateway:
        agent = bench.begin(CallableDriver(meter, bench.clock))
        bench.pass_time(130)
        until(agent, lambda: len(gateway.telemetry()) == 2, "two minutes of samples")
        first, second = gateway.telemetry()
        assert first.extra == {
            "celsius": pytest.approx(20.0 + (first.t0_ms + first.dt_ms[-1]) / 100_000),
            "volts": 230.0,
        }
        assert list(second.extra) == ["celsius"]

        def shown() -> dict[str, float]:
            agent._live_at = -1e9
            agent.step()
            return decode(Live, gateway.live[-1]).extra if gateway.live else {}

        wait_until(lambda: shown().get("volts") == 230.0, "the display")
        bench.pass_time(60)
        wait_until(lambda: list(shown()) == ["celsius"], "a voltage that is too old to be left out")
        assert agent.stop(90)


def test_a_hole_that_the_gateway_names_is_sent_again(broker: AnyBroker, bench: Bench) -> None:
    with Counterpart(broker.url_for(GATEWAY)) as gateway:
        gateway.refuses = {2, 3}
        agent = bench.begin()
        bench.pass_time(400)
        until(agent, lambda: len(gateway.usage()) == 4, "the rows around the hole")
        until(agent, lambda: agent.truth().usage.unacknowledged == 2, "the acknowledgement of those rows")
        gateway.refuses = set()
        until(agent, lambda: agent.is_drained, "the hole to be filled")
        assert [r.seq for r in gateway.usage()] == [1, 2, 3, 4, 5, 6]
        assert agent.stop(90)


def test_rows_that_were_not_acknowledged_come_again_after_a_reconnect_and_are_the_same_bytes(
    broker: AnyBroker, bench: Bench
) -> None:
    with Counterpart(broker.url_for(GATEWAY)) as gateway:
        gateway.acks = False
        agent = bench.begin()
        bench.pass_time(130)
        until(agent, lambda: len(gateway.usage()) == 2, "the rows")
        broker.restart()
        wait_until(lambda: gateway.client.connected, "the gateway to be back", 60)
        gateway.say(online=True)
        until(agent, lambda: gateway.repeats >= 2, "the rows again")
        assert gateway.conflicts == []
        gateway.acks = True
        gateway.acknowledge(AGENT, agent.truth().usage.stream)
        until(agent, lambda: agent.truth().usage.unacknowledged == 0, "the acknowledgement")
        agent.stop(90)


def test_a_damaged_spool_is_told_and_a_new_stream_begins(broker: AnyBroker, bench: Bench) -> None:
    with Counterpart(broker.url_for(GATEWAY)) as gateway:
        first = bench.begin()
        bench.pass_time(130)
        assert first.stop(90)
        file = bench.folder / "usage.db"
        data = file.read_bytes()
        at = data.index(b'"instruments"')
        file.write_bytes(data[:at] + b'"inst#uments"' + data[at + 13 :])
        agent = bench.begin()
        bench.pass_time(70)
        assert agent.stop(90)
        old, new = first.truth().usage, agent.truth().usage
        assert old.stream != new.stream
        lost = gateway.usage(new.stream)[0]
        assert lost.kind is RecordKind.SPOOL_LOST
        assert lost.detail["last_seq"] == old.last_seq
        assert lost.detail["stream"] == old.stream
        assert (bench.folder / "usage.db.damaged-1").exists()


def test_the_old_odometers_of_a_lost_spool_are_told_where_they_can_be_read(broker: AnyBroker, bench: Bench) -> None:
    with Counterpart(broker.url_for(GATEWAY)) as gateway:
        first = bench.begin()
        bench.pass_time(130)
        assert first.stop(90)
        box = Outbox(bench.folder / "usage.db", StreamKind.USAGE)
        box._db.execute("UPDATE sqlite_sequence SET seq = 1")
        box.close()
        agent = bench.begin()
        assert agent.stop(90)
        [odometer] = [r for r in gateway.usage(agent.truth().usage.stream) if r.reason == "odometer"]
        assert odometer.detail["inst"] == "xc-h01-01"
        assert odometer.detail["off_ms"] == first.truth().instruments[0].off_ms == 129_000


def test_a_wall_clock_that_steps_is_told_and_durations_do_not_notice(broker: AnyBroker, bench: Bench) -> None:
    with Counterpart(broker.url_for(GATEWAY)) as gateway:
        agent = bench.begin()
        bench.pass_time(30)
        bench.clock.step_wall(86_400_000)
        bench.pass_time(40)
        assert agent.stop(90)
        records = gateway.usage()
        [step] = [r for r in records if r.kind is RecordKind.CLOCK]
        assert step.detail == {"step_ms": 86_400_000}
        assert records[-1].odo.total == 69_000


def test_a_late_step_of_a_real_meter_gives_one_reading_of_now(broker: AnyBroker, bench: Bench) -> None:
    agent = bench.begin()
    bench.pass_time(3)
    bench.clock.advance(3_000)
    agent.step()
    agent.settle()
    batches = agent._journal.telemetry.rows(0, 9)
    assert b'"dt_ms":[0,1000,2000,5000]' in batches[0].payload
    agent.close()


def test_the_newest_sample_is_shown_while_there_is_a_connection(broker: AnyBroker, bench: Bench) -> None:
    with Counterpart(broker.url_for(GATEWAY)) as gateway:
        agent = bench.begin()
        wait_until(lambda: agent.is_connected, "the connection")
        bench.power = 77
        bench.pass_time(2)
        until(agent, lambda: gateway.live, "the live value")
        assert b'"power_w":77.0' in gateway.live[-1]
        agent.stop(90)


def test_an_old_acknowledgement_that_comes_late_is_not_taken_for_a_restored_database(
    nats_broker: NatsBroker, tmp_path: Path
) -> None:
    bench = Bench(nats_broker.url_for(AGENT), tmp_path)
    with Counterpart(nats_broker.url_for(GATEWAY)) as gateway:
        agent = bench.begin()
        until(agent, lambda: gateway.births, "the birth")
        gateway.acks = False
        bench.pass_time(400)
        until(agent, lambda: len(gateway.usage()) == 6, "the records")
        # The agent is busy for longer than the broker waits for its PUBACK, so it delivers again, oldest first.
        for upto in (3, 6):
            ack = Ack(stream=agent.truth().usage.stream, upto=upto)
            assert gateway.client.publish_and_wait(Publication(down(AGENT, Channel.ACK), encode(ack)), 10)
        events = agent._sender._events
        wait_until(lambda: sum(getattr(event, "repeated", False) for event in list(events)) >= 2, "the repeats")
        births, sent = len(gateway.births), len(gateway.order)
        until(agent, lambda: not events, "all of them to be taken")
        assert agent.truth().usage.unacknowledged == 0
        agent.pump()
        agent.close()
        assert (len(gateway.births), len(gateway.order)) == (births, sent)


@pytest.mark.parametrize("asleep_s", [3, 240])
def test_what_nobody_read_while_the_machine_slept_is_unknown_unless_it_was_a_moment(
    nats_broker: NatsBroker, tmp_path: Path, asleep_s: int
) -> None:
    bench = Bench(nats_broker.url_for(AGENT), tmp_path)
    with Counterpart(nats_broker.url_for(GATEWAY)) as gateway:
        agent = bench.begin()
        bench.power = 500
        bench.pass_time(120)
        # Time goes on while a machine is suspended, and nothing else does; its meter tells only what it reads now.
        bench.clock.advance(asleep_s * 1000)
        bench.pass_time(120)
        assert agent.stop(90), "not everything was acknowledged"
        records = [record for record in gateway.usage() if record.inst != "_"]
        assert all(a.to_ms == b.from_ms for a, b in pairwise(records))
        last = records[-1].odo
        # All but the step before the first reading; a hole within `max_hole_ms` is the run it lies in.
        assert last.total == 240_000 + asleep_s * 1000 - records[0].from_ms
        assert (last.unknown > 0) == (asleep_s > 4)
        assert last.unknown in (0, asleep_s * 1000, asleep_s * 1000 + 1000)
        assert sum(record.kind is RecordKind.OPEN for record in records) == 1
