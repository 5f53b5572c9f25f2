"""A real gateway between a real broker and a real database: what is acknowledged is committed, and nothing blocks."""

import json
import threading

import pytest
from sqlalchemy import func, select, text

from store.ledger import check_usage_chain, stream_marks
from store.series import END_MS
from store.tables.usage import AgentStatus, Alert, Quarantine, UsageRecordRow, UsageSession
from tests.gateway.conftest import GATEWAY, build_gateway
from tests.support.mqtt import Station
from tests.support.usage import NINE, StreamWriter
from tests.support.waiting import wait_until
from wire.ids import new_ulid
from wire.messages import (
    Ack,
    AgentState,
    Birth,
    ClockQuality,
    PowerState,
    ServerState,
    StreamKind,
    StreamPosition,
    Telemetry,
    UsageRecord,
    decode,
    encode,
    timestamp,
)
from wire.topics import Channel, down, server_state, up


def acks(station: Station, stream: str) -> list[Ack]:
    heard = [d.payload for d in station.heard if d.topic.endswith("/ack")]
    return [ack for ack in (decode(Ack, payload) for payload in heard) if ack.stream == stream]


def agent_station(site, agent: str) -> Station:
    return Station(site.url_for(agent), agent, [down(agent, Channel.ACK), server_state(GATEWAY)])


def send(station: Station, agent: str, *records: UsageRecord) -> None:
    for record in records:
        station.send(up(agent, Channel.USAGE, record.inst), encode(record))


def test_records_are_committed_then_acknowledged(site, gateway, database, instruments):
    writer = StreamWriter(instruments[0])
    name = writer.run(minutes=20)
    with agent_station(site, writer.agent) as station:
        send(station, writer.agent, *writer.records)
        wait_until(lambda: any(a.upto == writer.seq for a in acks(station, writer.stream)), "the last acknowledgement")
    with database.read() as session:
        assert session.get_one(UsageSession, name).ended_at is not None
        assert check_usage_chain(session, writer.agent, writer.stream) is None


def test_agents_are_told_that_the_gateway_is_there_and_that_it_left(site, database, series, clock, instruments):
    running = build_gateway(site, database, series, clock)
    with agent_station(site, f"a-{instruments[0]}") as station:
        running.start()

        def said() -> list[bool]:
            return [decode(ServerState, d.payload).online for d in station.heard if d.topic == server_state(GATEWAY)]

        wait_until(lambda: said() == [True], "the gateway's hello")
        running.stop()
        wait_until(lambda: said() == [True, False], "the gateway's good-bye")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\xff\xfe not json", "not_json"),
        (b'{"schema":"lab.usage/9","stream":"01HZX7W3Q8V5K2M4N6P8R0T2Y4","seq":1}', "unknown_schema"),
        (b'{"schema":"lab.usage/1","stream":"01HZX7W3Q8V5K2M4N6P8R0T2Y4","seq":1,"odd":1}', "invalid"),
        (b"{" + b" " * 9000 + b"}", "too_large"),
    ],
)
def test_a_malformed_record_is_set_aside_with_its_bytes_and_blocks_nothing(
    site, gateway, database, instruments, payload, reason
):
    writer = StreamWriter(instruments[0])
    writer.run(minutes=2)
    with agent_station(site, writer.agent) as station:
        station.send(up(writer.agent, Channel.USAGE, writer.instrument), payload)
        send(station, writer.agent, *writer.records)
        wait_until(lambda: any(a.upto == writer.seq for a in acks(station, writer.stream)), "the stream behind it")
    with database.read() as session:
        [row] = session.scalars(select(Quarantine))
        assert (row.reason, row.payload) == (reason, payload)
        assert f"quarantine_{reason}" in session.scalars(select(Alert.rule)).all()


def test_a_message_of_another_version_keeps_its_place_so_that_the_stream_goes_on(site, gateway, database, instruments):
    """A newer field, a newer version, and one that this gateway no longer knows."""
    writer = StreamWriter(instruments[0])
    writer.run(minutes=3)
    changes = {1: {"humidity": 40}, 2: {"schema": "lab.usage/2"}, 3: {"schema": "lab.usage/0"}}
    with agent_station(site, writer.agent) as station:
        for number, record in enumerate(writer.records):
            payload = json.dumps(json.loads(encode(record)) | changes.get(number, {})).encode()
            station.send(up(writer.agent, Channel.USAGE, writer.instrument), payload)
        wait_until(lambda: any(a.upto == writer.seq for a in acks(station, writer.stream)), "the whole stream")


def test_a_payload_about_another_agents_instrument_is_refused(site, gateway, database, instruments):
    mine, theirs = instruments
    writer = StreamWriter(theirs, agent=f"a-{mine}")
    writer.run(minutes=2)
    with agent_station(site, writer.agent) as station:
        send(station, writer.agent, *writer.records)
        wait_until(lambda: any(a.upto == writer.seq for a in acks(station, writer.stream)), "it holds its place")
    with database.read() as session:
        assert set(session.scalars(select(Quarantine.reason))) == {"foreign_instrument"}
        assert session.scalar(select(func.count()).select_from(UsageSession)) == 0


def test_an_unknown_instrument_and_an_unknown_agent_are_named(site, gateway, database, instruments):
    unknown = StreamWriter("xc-h99-99", agent=f"a-{instruments[0]}")
    unknown.tick(PowerState.OFF, 60)
    stranger = StreamWriter(instruments[0], agent="a-stranger")
    stranger.tick(PowerState.OFF, 60)
    with agent_station(site, unknown.agent) as station, agent_station(site, "a-stranger") as other:
        send(station, unknown.agent, *unknown.records)
        send(other, "a-stranger", *stranger.records)

        def reasons() -> set[str]:
            with database.read() as session:
                return set(session.scalars(select(Quarantine.reason)))

        wait_until(lambda: reasons() == {"unknown_instrument", "unknown_agent"}, "both set aside")
        assert acks(other, stranger.stream) == []


def test_a_birth_is_answered_with_what_is_committed_even_for_streams_never_heard_of(
    site, gateway, database, instruments, clock
):
    agent, stream = f"a-{instruments[0]}", new_ulid()
    birth = Birth(
        agent=agent,
        boot="boot-1",
        ts=timestamp(clock.now_ms()),
        software="test",
        speaks=("lab.usage/1",),
        instruments=(instruments[0],),
        drivers={instruments[0]: "simulated"},
        profiles={instruments[0]: "f" * 64},
        streams=(StreamPosition(stream=stream, kind=StreamKind.USAGE, first_kept=1, last=7),),
    )
    with agent_station(site, agent) as station:
        station.send(up(agent, Channel.BIRTH), encode(birth), retain=True)
        wait_until(lambda: [a.upto for a in acks(station, stream)] == [0], "an answer to the birth")
    assert gateway._watch._meterings._named() == {agent: {instruments[0]: "f" * 64}}


def test_what_an_agent_says_of_itself_is_kept(site, gateway, database, instruments, clock):
    agent = f"a-{instruments[0]}"
    state = AgentState(
        online=True, cause="running", boot="b7", ts=timestamp(clock.now_ms() - 1500), clock=ClockQuality.NTP, queued=4
    )
    with agent_station(site, agent) as station:
        station.send(up(agent, Channel.STATE), encode(state), retain=True)

        def row() -> AgentStatus | None:
            with database.read() as session:
                return session.get(AgentStatus, agent)

        status = wait_until(row, "the status row")
    assert (status.online, status.boot, status.queued, status.skew_ms) == (True, "b7", 4, 1500)


def telemetry(instrument: str, stream: str, seq: int, t0_ms: int, powers: list[float]) -> Telemetry:
    return Telemetry(
        stream=stream,
        seq=seq,
        boot="boot-1",
        inst=instrument,
        t0_ms=seq * 1000,
        ts=timestamp(t0_ms),
        ts_q=ClockQuality.NTP,
        period_ms=1000,
        dt_ms=tuple(range(0, 1000 * len(powers), 1000)),
        power_w=tuple(powers),
        state=(PowerState.RUNNING,) * len(powers),
    )


def test_telemetry_reaches_the_series_and_is_acknowledged_out_of_order_too(
    site, gateway, database, series, instruments
):
    agent, stream = f"a-{instruments[0]}", new_ulid()
    with agent_station(site, agent) as station:
        for seq in (2, 1, 3):
            message = telemetry(instruments[0], stream, seq, NINE + seq * 10_000, [700.25, 701.5])
            station.send(up(agent, Channel.TELEMETRY, instruments[0]), encode(message))
        wait_until(lambda: any(a.upto == 3 for a in acks(station, stream)), "the telemetry acknowledgement")
    assert [s.power_mw for s in series.read(instruments[0], 0, END_MS)] == [700_250, 701_500] * 3


def test_dropped_telemetry_is_not_waited_for(site, gateway, database, series, instruments, clock):
    agent, stream = f"a-{instruments[0]}", new_ulid()
    birth = Birth(
        agent=agent,
        boot="b",
        ts=timestamp(clock.now_ms()),
        software="test",
        speaks=(),
        instruments=(instruments[0],),
        drivers={},
        profiles={},
        streams=(StreamPosition(stream=stream, kind=StreamKind.TELEMETRY, first_kept=50, last=50),),
    )
    with agent_station(site, agent) as station:
        station.send(up(agent, Channel.BIRTH), encode(birth), retain=True)
        wait_until(lambda: acks(station, stream), "the answer to the birth")
        message = telemetry(instruments[0], stream, 50, NINE, [700.0])
        station.send(up(agent, Channel.TELEMETRY, instruments[0]), encode(message))
        wait_until(lambda: any(a.upto == 50 for a in acks(station, stream)), "the acknowledgement")


def test_usage_flows_while_the_series_store_is_away(site, database, series, clock, instruments, tmp_path):
    away = threading.Event()
    away.set()

    class Away:
        """The real store behind a door that can be shut."""

        def __getattr__(self, name):
            return getattr(series, name)

        def write(self, samples):
            from store.series import SeriesUnavailable

            if away.is_set():
                raise SeriesUnavailable("shut by the test")
            series.write(samples)

    running = build_gateway(site, database, Away(), clock)
    running.start()
    writer, stream = StreamWriter(instruments[0]), new_ulid()
    writer.run(minutes=5)
    try:
        with agent_station(site, writer.agent) as station:
            message = telemetry(instruments[0], stream, 1, NINE, [700.0])
            station.send(up(writer.agent, Channel.TELEMETRY, instruments[0]), encode(message))
            send(station, writer.agent, *writer.records)
            wait_until(lambda: any(a.upto == writer.seq for a in acks(station, writer.stream)), "usage, all the same")
            assert acks(station, stream) == []
            away.clear()
            wait_until(lambda: any(a.upto == 1 for a in acks(station, stream)), "telemetry, once the store is back")
    finally:
        running.stop()


@pytest.mark.parametrize("point", ["decoded", "written", "committed", "acknowledged"])
def test_a_gateway_that_dies_at_any_step_loses_and_doubles_nothing(site, database, series, clock, instruments, point):
    died = threading.Event()

    def checkpoint(name: str) -> None:
        if name == point and not died.is_set():
            died.set()
            raise RuntimeError(f"stopped at {name}")

    writer = StreamWriter(instruments[0])
    name = writer.run(minutes=30)
    running = build_gateway(site, database, series, clock, checkpoint=checkpoint)
    running.start()
    try:
        with agent_station(site, writer.agent) as station:
            send(station, writer.agent, *writer.records)
            wait_until(lambda: any(a.upto == writer.seq for a in acks(station, writer.stream)), "all, in the end")
    finally:
        running.stop()
    assert died.is_set()
    with database.read() as session:
        row = session.get_one(UsageSession, name)
        assert row.odo_running_last_ms - row.odo_running_first_ms == 30 * 60_000
        assert session.scalar(select(func.count()).select_from(UsageRecordRow)) == writer.seq
        assert check_usage_chain(session, writer.agent, writer.stream) is None
        key = (writer.agent, writer.stream)
        assert stream_marks(session, [key])[key].upto == writer.seq


def test_nothing_is_acknowledged_while_the_database_refuses_to_commit(site, gateway, database, instruments):
    writer = StreamWriter(instruments[0])
    writer.run(minutes=1)
    with agent_station(site, writer.agent) as station:
        with database.write() as session:
            # The lock a slow migration or a backup would hold: the gateway must wait, not lose and not lie.
            session.execute(text("UPDATE agent SET registered_by = registered_by"))
            session.execute(text("DELETE FROM usage_stream"))
            lock = {"postgresql": "LOCK TABLE usage_record IN ACCESS EXCLUSIVE MODE"}
            if database.engine.dialect.name in lock:
                session.execute(text(lock[database.engine.dialect.name]))
            send(station, writer.agent, *writer.records)
            assert acks(station, writer.stream) == []
        wait_until(lambda: any(a.upto == writer.seq for a in acks(station, writer.stream)), "the commit")
