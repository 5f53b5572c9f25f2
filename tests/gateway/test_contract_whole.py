"""What the contract says beside power, from the agent that produces it to where the county shows it: one broker."""

import json
from contextlib import suppress

import pytest
from prometheus_client import generate_latest
from sqlalchemy import select

from edge_agents.drivers.from_callable import CallableDriver
from store.ledger import refold
from store.tables.usage import Quarantine, UsageRecordRow, UsageSession
from tests.edge.bench import Bench
from tests.gateway.conftest import GATEWAY, build_gateway
from tests.gateway.test_gateway import telemetry
from tests.support.mqtt import Station
from tests.support.usage import StreamWriter, add_registry
from tests.support.waiting import wait_until
from wire.clock import ManualClock
from wire.commands import Refused
from wire.messages import ClockQuality, PowerState, ServerState, UsageRecord, decode, encode
from wire.topics import Channel, down, server_state, up


@pytest.fixture
def broker(nats_broker):
    return nats_broker


@pytest.fixture
def database(sqlite_database):
    return sqlite_database


@pytest.fixture
def instruments(database):
    with database.write() as session:
        return add_registry(session)


@pytest.fixture
def bench(site, gateway, clock, instruments, tmp_path) -> Bench:
    """An agent's workbench beside a gateway that the broker has stored the state of: a moment earlier it is missed."""
    other = f"a-{instruments[1]}"

    def stored() -> bool:
        with Station(site.url_for(other), other, [server_state(GATEWAY)]) as station:
            with suppress(AssertionError):  # it subscribed in that moment itself: the next one will not
                wait_until(lambda: station.heard, "the state of the gateway", 2)
            return any(delivery.retained for delivery in station.heard)

    wait_until(stored, "the retained state of the gateway")
    bench = Bench(site.url_for(f"a-{instruments[0]}"), tmp_path / "edge", f"a-{instruments[0]}", instruments[0])
    bench.clock = clock
    return bench


def settled(bench: Bench) -> None:
    """Everything the agent wrote down has been acknowledged; samples without a date wait for one."""

    def drained() -> bool:
        bench.agent.step()
        unset = bench.agent._labels.quality is ClockQuality.UNSET
        return bench.agent._journal.usage.unacknowledged == 0 if unset else bench.agent.is_drained

    wait_until(drained, "the acknowledgement of all", 60)


def test_what_a_meter_shows_beside_its_power_is_on_the_gateways_page_and_in_the_series(
    bench, site, gateway, series, clock
):
    bench.begin(CallableDriver(lambda: {"power_w": 20.0, "volts": 230.5, "celsius": 23.0}, bench.clock))
    bench.pass_time(70)
    settled(bench)
    before = len(list(series.read(bench.inst, 0, clock.now_ms())))
    page = generate_latest(gateway.metrics.registry).decode()
    assert f'openlab_meter_reading{{instrument="{bench.inst}",quantity="volts"}} 230.5' in page
    assert {reading.value for reading in series.readings(bench.inst, "celsius", 0, clock.now_ms())} == {23.0}
    # Samples of yesterday that come now say nothing of now.
    clock.advance(86_400_000)
    old = telemetry(bench.inst, "01HZX7W3Q8V5K2M4N6P8R0T2Y4", 1, clock.now_ms() - 80_000_000, [20.0])
    with Station(site.url_for(bench.name), bench.name) as station:
        station.send(
            up(bench.name, Channel.TELEMETRY, bench.inst), encode(old.model_copy(update={"extra": {"v": 1.0}}))
        )
        wait_until(lambda: len(list(series.read(bench.inst, 0, clock.now_ms()))) > before, "the old sample")
    assert 'quantity="v"' not in generate_latest(gateway.metrics.registry).decode()
    bench.agent.stop(30)


def test_a_clock_that_lost_its_server_is_known_by_its_records(bench, gateway, database, monkeypatch):
    monkeypatch.setattr("edge_agents.wall.is_synchronised", lambda: True)
    bench.begin()
    bench.pass_time(30)
    monkeypatch.setattr("edge_agents.wall.is_synchronised", lambda: False)
    bench.pass_time(100)
    settled(bench)
    with database.read() as session:
        payloads = session.scalars(select(UsageRecordRow.payload).order_by(UsageRecordRow.seq)).all()
    qualities = [decode(UsageRecord, payload).ts_q for payload in payloads]
    assert qualities[-1] is ClockQuality.HOLDOVER
    assert set(qualities) <= {ClockQuality.NTP, ClockQuality.HOLDOVER}
    bench.agent.stop(30)


def test_a_run_over_a_reboot_without_a_clock_is_in_doubt_until_the_clock_is_set(
    bench, gateway, database, clock, monkeypatch
):
    monkeypatch.setattr("edge_agents.wall.is_synchronised", lambda: False)
    bench.power = 500.0
    bench.begin()
    bench.pass_time(60)
    settled(bench)
    bench.agent.settle()
    bench.agent.close()
    # An hour later, its clock says that it is the year 1970 but for a day.
    bench.clock = ManualClock(86_400_000, boot="boot-2")
    bench.begin()
    bench.pass_time(130)
    settled(bench)

    def flags() -> set[str]:
        with database.read() as session:
            return set(session.scalars(select(UsageSession.flags)).one().split())

    assert {"length_unknown", "inferred", "gap"} <= flags()
    bench.clock.step_wall(clock.now_ms() + 3_600_000 - bench.clock.now_ms())
    bench.pass_time(30)
    settled(bench)
    assert "length_told" in flags()
    assert "length_unknown" not in flags()
    with database.read() as session:
        stream = bench.agent.truth().usage.stream
        assert list(refold(session, bench.name, stream)) == []
    bench.agent.stop(30)


def test_a_gateway_says_again_that_it_is_there_until_it_leaves(site, database, series, clock, instruments, monkeypatch):
    monkeypatch.setattr("gateway.bridge.STATE_EVERY_S", 0.02)
    agent = f"a-{instruments[0]}"
    with Station(site.url_for(agent), agent, [server_state(GATEWAY)]) as station:
        gateway = build_gateway(site, database, series, clock)
        gateway.start()
        station.wait_heard(5)
        gateway.stop()
        wait_until(lambda: not decode(ServerState, station.heard[-1].payload).online, "the good-bye")
        said = [decode(ServerState, delivery.payload).online for delivery in station.heard]
    assert said == [True] * (len(said) - 1) + [False]


def test_an_agent_is_told_what_will_not_be_acknowledged_and_why(site, gateway, database, instruments):
    writer = StreamWriter(instruments[0])
    writer.tick(PowerState.OFF, 60)
    stranger = StreamWriter(instruments[0], agent="a-stranger")
    stranger.tick(PowerState.OFF, 60)

    def told(station: Station, agent: str) -> list[Refused]:
        return [decode(Refused, d.payload) for d in station.heard if d.topic == down(agent, Channel.REFUSED)]

    def station_of(agent: str) -> Station:
        return Station(site.url_for(agent), agent, [f"lab/v1/down/{agent}/+"])

    with station_of(writer.agent) as station, station_of("a-stranger") as other:
        samples = telemetry(writer.instrument, writer.stream, 1, writer.now_ms, [20.0])
        station.send(up(writer.agent, Channel.TELEMETRY, writer.instrument), encode(samples))
        wait_until(lambda: [d for d in station.heard if d.topic.endswith("/ack")], "the stream to be one of telemetry")
        station.send(up(writer.agent, Channel.USAGE, writer.instrument), encode(writer.records[0]))
        other.send(up("a-stranger", Channel.USAGE, stranger.instrument), encode(stranger.records[0]))
        wait_until(lambda: told(station, writer.agent) and told(other, "a-stranger"), "both refusals")
        [mine], [theirs] = told(station, writer.agent), told(other, "a-stranger")
    assert (mine.stream, mine.seq, mine.reason) == (writer.stream, 1, "wrong_kind")
    assert (theirs.stream, theirs.seq, theirs.reason) == (stranger.stream, 1, "unknown_agent")
    with database.read() as session:
        kept = {json.loads(payload)["stream"] for payload in session.scalars(select(Quarantine.payload))}
    assert kept == {writer.stream, stranger.stream}
