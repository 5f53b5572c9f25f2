"""Missing records are asked for again, and what nobody has any more is said so: no stream waits for ever."""

import json
import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import select

from gateway import cli, commanding, running
from gateway.bridge import Gateway
from gateway.holes import HoleBook
from gateway.metrics import GatewayMetrics
from gateway.settings import GatewaySettings
from store.audit import check_audit_chain
from store.ledger import check_usage_chain, refold, stream_marks
from store.tables.audit import AuditEvent
from store.tables.registry import Metering
from store.tables.usage import Alert, UsageConflict, UsageRecordRow, UsageSession
from tests.edge.bench import Bench
from tests.gateway.conftest import GATEWAY
from tests.support.console import call
from tests.support.mqtt import Station
from tests.support.usage import StreamWriter
from tests.support.waiting import wait_until
from wire.client import BrokerAddress
from wire.commands import Command, Config, Op, Reply, not_kept_record
from wire.ids import new_ulid
from wire.messages import RecordKind, UsageRecord, decode, encode, timestamp
from wire.topics import Channel, all_down, down, server_state, up

pytestmark = pytest.mark.slow_on_postgresql

KEY = ("a-xc-h01-01", "stream")


@pytest.fixture
def quick(site, database, series, clock) -> Iterator[Gateway]:
    """A gateway that asks after a fraction of a second instead of half a minute."""
    settings = GatewaySettings(
        database_url="unused:", series_url="unused:", broker_url="unused:", gateway_name=GATEWAY, batch_wait_ms=10,
        replay_after_s=0.3, replay_every_s=0.6,
    )  # fmt: skip
    address = BrokerAddress.parse(site.url_for(GATEWAY))
    running = Gateway(settings, address, database, series, clock, GatewayMetrics())
    running.start()
    yield running
    running.stop()


def agent_station(site, agent: str) -> Station:
    return Station(site.url_for(agent), agent, [all_down(agent), server_state(GATEWAY)])


def commands(station: Station, agent: str) -> list[Command]:
    return [decode(Command, d.payload) for d in station.heard if d.topic == down(agent, Channel.COMMAND)]


def send(station: Station, agent: str, *records: UsageRecord) -> None:
    for record in records:
        station.send(up(agent, Channel.USAGE, record.inst), encode(record))


def upto(database, writer: StreamWriter) -> int:
    key = (writer.agent, writer.stream)
    with database.read() as session:
        return stream_marks(session, [key])[key].upto


def test_a_hole_is_asked_for_until_it_is_filled(site, quick, database, instruments):
    writer = StreamWriter(instruments[0])
    name = writer.run(minutes=8)
    missing = writer.records[3:5]
    with agent_station(site, writer.agent) as station:
        send(station, writer.agent, *writer.records[:3], *writer.records[5:])
        wait_until(lambda: len(commands(station, writer.agent)) >= 2, "being asked, twice")
        first, second = commands(station, writer.agent)[:2]
        assert first.id != second.id
        assert (first.op, first.by) == (Op.REPLAY, f"gateway:{GATEWAY}")
        assert first.args == {"stream": writer.stream, "ranges": [[4, 5]]}
        send(station, writer.agent, *missing)
        wait_until(lambda: upto(database, writer) == writer.seq, "the whole stream")
        count = len(commands(station, writer.agent))
    with database.read() as session:
        assert session.get_one(UsageSession, name).ended_at is not None
    assert quick.metrics.replays._value.get() in (count, count + 1)


def test_rows_an_agent_had_to_drop_become_explicit_and_the_stream_goes_on(site, quick, database, instruments, tmp_path):
    agent, inst = f"a-{instruments[0]}", instruments[0]
    bench = Bench(site.url_for(agent), tmp_path / "edge", agent, inst)
    running = bench.begin()
    usage = running._journal.usage

    def known() -> list[str]:
        with database.read() as session:
            rows = session.execute(
                select(UsageRecordRow.seq, UsageRecordRow.kind).where(UsageRecordRow.stream == usage.stream)
            )
            return [kind for _, kind in sorted(rows.all())]

    def mark() -> int:
        with database.read() as session:
            return stream_marks(session, [(agent, usage.stream)])[agent, usage.stream].upto

    # Two rows get through; the next three are lost in the spool; then all goes on as before.
    running._sender._client.stop()
    bench.pass_time(390)
    assert usage.last_seq == 6
    usage._delete_below(4)
    usage.position_changed = True
    running._sender._client.start()

    def stepped(wanted: int) -> bool:
        running.step()
        return mark() == wanted

    wait_until(lambda: stepped(6), "the stream to go on behind the hole")
    assert known()[:3] == ["gap"] * 3
    bench.pass_time(60)
    wait_until(lambda: stepped(7), "what comes after")
    running.stop(10)
    with database.read() as session:
        first = session.get_one(UsageRecordRow, (agent, usage.stream, 1))
        assert first.payload == encode(not_kept_record(usage.stream, 1))
        assert list(session.scalars(select(UsageConflict))) == []
        assert check_usage_chain(session, agent, usage.stream) is None
        assert list(refold(session, agent, usage.stream)) == []
        [alert] = session.scalars(select(Alert).where(Alert.rule == "usage_rows_lost"))
        assert (alert.subject, alert.owner) == (f"{agent}/{usage.stream}", "h01")
        assert "3 records" in alert.detail


def test_a_stream_whose_spool_is_gone_is_closed_by_the_gateway(site, quick, database, instruments):
    writer = StreamWriter(instruments[0])
    writer.run(minutes=8)
    with agent_station(site, writer.agent) as station:
        send(station, writer.agent, *writer.records[:2], *writer.records[5:])
        asked = wait_until(lambda: commands(station, writer.agent), "being asked")[0]
        answer = Reply(
            id=asked.id, op="replay", outcome="refused", code="unknown_stream", ts=timestamp(1_772_413_200_000)
        )
        station.send(up(writer.agent, Channel.REPLY, asked.id), encode(answer))
        wait_until(lambda: upto(database, writer) == writer.seq, "the stream to go on")
        # A late copy of what was given up is kept beside it, and changes nothing.
        send(station, writer.agent, writer.records[3])

        def kept() -> list[int]:
            with database.read() as session:
                return list(session.scalars(select(UsageConflict.seq)))

        wait_until(lambda: kept() == [4], "the conflict")
    with database.read() as session:
        kinds = {row.seq: row.kind for row in session.scalars(select(UsageRecordRow))}
        assert [kinds[seq] for seq in (3, 4, 5)] == [RecordKind.GAP.value] * 3
        assert list(refold(session, writer.agent, writer.stream)) == []


def test_an_answer_from_another_agent_closes_nothing(site, quick, database, instruments):
    writer, liar = StreamWriter(instruments[0]), f"a-{instruments[1]}"
    writer.run(minutes=8)
    with agent_station(site, writer.agent) as station, agent_station(site, liar) as other:
        send(station, writer.agent, *writer.records[:2], *writer.records[5:])
        asked = wait_until(lambda: commands(station, writer.agent), "being asked")[0]
        answer = Reply(id=asked.id, op="replay", outcome="refused", code="unknown_stream", ts=timestamp(0))
        other.send(up(liar, Channel.REPLY, asked.id), encode(answer))
        wait_until(lambda: len(commands(station, writer.agent)) >= 3, "being asked again")
    assert upto(database, writer) == 2


def test_a_hole_is_asked_for_when_it_is_old_and_not_too_often():
    book = HoleBook(after_s=30, every_s=60)
    book.note(KEY, 5, ((6, 8),), now=0)
    assert book.due(29) == []
    assert book.due(30) == [KEY]
    book.note(KEY, 6, ((7, 8), (10, 10)), now=29)
    assert book.to_ask(KEY, ((7, 8), (10, 10)), 30) == [(7, 8)], "the same hole, smaller; the other is too young"
    assert book.due(89) == []
    assert book.due(90) == [KEY]
    assert book.to_ask(KEY, ((7, 8), (10, 10)), 90) == [(7, 8), (10, 10)]
    book.note(KEY, 10, (), now=91)
    assert book.due(1000) == []


def test_a_hole_that_was_filled_elsewhere_is_forgotten():
    book = HoleBook(after_s=30, every_s=60)
    book.note(KEY, 5, ((6, 8),), now=0)
    book.note(KEY, 5, (), now=10)
    assert book.due(30) == [KEY], "a commit that did not look proves nothing"
    assert book.to_ask(KEY, (), 30) == []
    assert book.due(1000) == []


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, site, database_url):
    address = BrokerAddress.parse(site.url_for(GATEWAY))
    for name, value in {
        "DATABASE_URL": database_url, "SERIES_URL": "unused:", "BROKER_URL": f"mqtt://{address.host}:{address.port}",
        "BROKER_USERNAME": GATEWAY, "BROKER_PASSWORD": str(address.password), "GATEWAY_NAME": GATEWAY,
    }.items():  # fmt: skip
        monkeypatch.setenv(f"OPENLAB_{name}", value)


def events(database) -> list[dict]:
    with database.read() as session:
        assert check_audit_chain(session, "host:h01") is None
        rows = session.scalars(select(AuditEvent).where(AuditEvent.chain_id == "host:h01").order_by(AuditEvent.seq))
        return [json.loads(row.body) for row in rows]


def test_an_order_and_its_answer_are_in_the_audit_chain(environment, site, database, instruments, tmp_path):
    agent = f"a-{instruments[0]}"
    bench = Bench(site.url_for(agent), tmp_path / "edge", agent, instruments[0])
    with commanding.office() as at:
        # The agent goes by the county's clock, or every command would be late.
        bench.clock.step_wall(at.clock.now_ms() - bench.clock.now_ms())
        edge = bench.begin()
        wait_until(lambda: edge.is_connected and edge._sender._client.subscribed, "the agent to listen")
        ended = threading.Event()

        def steps() -> None:
            while not ended.wait(0.02):
                edge.step()

        beside = threading.Thread(target=steps)
        beside.start()
        try:
            reply = commanding.order(at, agent, Op.READ_NOW, commanding.parsed([f"inst={instruments[0]}"]), "wang", 10)
        finally:
            ended.set()
            beside.join(10)
            edge.close()
        assert reply is not None
        assert reply.outcome == "done"
        with pytest.raises(running.CannotRun, match=r"args\.inst"):
            commanding.order(at, agent, Op.READ_NOW, {"inst": "X"}, "wang", 1)
        with pytest.raises(running.CannotRun, match="no agent is registered"):
            commanding.order(at, "a-nobody", Op.IDENTIFY, {}, "wang", 1)
        assert commanding.order(at, agent, Op.IDENTIFY, {}, "wang", 1) is None, "nobody is there"
        for again, why in (("7" * 27, "not the id"), ("Z" * 26, "not the id"), ("0" * 26, "older than 24 h")):
            with pytest.raises(running.CannotRun, match=why):
                commanding.order(at, agent, Op.IDENTIFY, {}, "wang", 1, again)
    said = [(e["actor"], e["action"], e["after"].get("op"), e["after"].get("outcome")) for e in events(database)]
    assert said == [
        ("operator:wang", "command_sent", "read_now", None),
        ("operator:wang", "command_answered", None, "done"),
        ("operator:wang", "command_sent", "identify", None),
        ("operator:wang", "command_answered", None, "none"),
    ]


def test_a_configuration_is_published_from_the_meterings_in_force_with_rising_versions(
    environment, site, database, instruments
):
    agent, profile = f"a-{instruments[0]}", {"on_w": 300.0, "off_w": 250.0, "standby_w": 20.0}
    with commanding.office() as at:
        with pytest.raises(running.CannotRun, match="not a detector's: it lacks off_w, on_w, standby_w"):
            commanding.configure(at, f"a-{instruments[1]}", "wang")
        with database.write() as session:
            for fact in session.scalars(select(Metering).where(Metering.agent_id == agent)):
                fact.profile = json.dumps(profile)
        first, second = (commanding.configure(at, agent, "wang") for _ in range(2))
    assert (first.version, second.version, first.profiles) == (1, 2, {instruments[0]: profile})
    with agent_station(site, agent) as station:
        [kept] = [d for d in station.wait_heard(1) if d.topic == down(agent, Channel.CONFIG)]
        assert kept.retained
        assert decode(Config, kept.payload) == second
    assert [e["after"]["version"] for e in events(database)] == [1, 2]


def test_a_command_that_somebody_published_retained_is_taken_off_the_broker(site, quick, instruments):
    agent, order = f"a-{instruments[0]}", new_ulid()
    with Station(site.url_for(GATEWAY), "somebody") as somebody:
        somebody.send(down(agent, Channel.COMMAND), b"a command", retain=True)
    with agent_station(site, agent) as station:
        [kept] = [d for d in station.wait_heard(1) if d.topic == down(agent, Channel.COMMAND)]
        assert kept.retained
        wait_until(lambda: quick._desk.connected, "the gateway to listen")
        said = Reply(id=order, op="?", outcome="refused", code="retained", ts=timestamp(0))
        station.send(up(agent, Channel.REPLY, order), encode(said))
        wait_until(lambda: b"" in station.payloads, "the empty message that takes it away")
    with Station(site.url_for(agent), "somebody-else", [all_down(agent)]) as late:
        with Station(site.url_for(GATEWAY), "somebody") as somebody:
            somebody.send(down(agent, Channel.ACK), b"marker")
        wait_until(lambda: b"marker" in late.payloads, "the marker")
        assert late.payloads == [b"marker"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (
            ("a-xc-h01-01", "identify", "--by", "wang", "--wait", "1"),
            1,
            "did not answer within 1 s; the same command again, with --id 0",
        ),
        (("a-nobody", "identify", "--by", "wang"), 2, "no agent is registered as a-nobody"),
    ],
    ids=str,
)
def test_the_command_line_says_what_became_of_an_order(environment, site, instruments, arguments, code, says):
    result = call(cli.main, "command", *arguments)
    assert (result.returncode, says in result.stderr) == (code, True), result.stderr


@pytest.mark.parametrize("pair", ["alone", "=x"])
def test_an_argument_that_is_not_a_pair_is_refused(pair: str):
    with pytest.raises(running.CannotRun, match="key=value"):
        commanding.parsed([pair])


def test_arguments_are_json_where_they_can_be():
    assert commanding.parsed(["a=1", "b=[[1,2]]", "c=xc-h01-01", "d=true"]) == {
        "a": 1, "b": [[1, 2]], "c": "xc-h01-01", "d": True,
    }  # fmt: skip
