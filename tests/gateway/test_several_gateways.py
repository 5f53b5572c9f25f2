"""Several gateways at once: every record is in the ledger exactly once, chains hold, whoever stops and starts."""

import threading
from collections.abc import Iterator

import pytest
from pydantic import ValidationError
from sqlalchemy import func, select

from gateway.bridge import Gateway
from gateway.metrics import GatewayMetrics
from gateway.settings import GatewaySettings
from gateway.shard import Shard
from store.database import Database
from store.ledger import check_usage_chain, refold, stream_marks
from store.tables.usage import UsageConflict, UsageRecordRow
from tests.support.brokers import MosquittoBroker, NatsBroker
from tests.support.mqtt import Station
from tests.support.usage import StreamWriter, add_registry
from tests.support.waiting import wait_until
from wire.broker_access import Login, Role
from wire.client import BrokerAddress
from wire.messages import Ack, decode, encode
from wire.topics import Channel, down, up

NAMES = ("gw-one", "gw-two")
AGENTS = 6


@pytest.fixture
def instruments(database: Database) -> list[str]:
    with database.write() as session:
        return add_registry(session, AGENTS)


class Sender:
    """An agent's side: sends its records, and again what is not acknowledged, until all is."""

    def __init__(self, broker, writer: StreamWriter) -> None:
        self.writer, self.broker, self.upto = writer, broker, 0

    def run(self) -> None:
        with Station(
            self.broker.url_for(self.writer.agent), self.writer.agent, [down(self.writer.agent, Channel.ACK)]
        ) as me:
            topic = up(self.writer.agent, Channel.USAGE, self.writer.instrument)

            def acknowledged() -> bool:
                said = [decode(Ack, d.payload).upto for d in me.heard]
                self.upto = max([self.upto, *said])
                return self.upto == self.writer.seq

            while not acknowledged():
                for record in self.writer.records[self.upto :]:
                    me.hand_over(topic, encode(record))
                try:
                    wait_until(acknowledged, "everything acknowledged", timeout_s=4)
                except AssertionError:
                    continue


def gateway(broker, database, series, clock, name: str, **settings) -> Gateway:
    chosen = GatewaySettings(
        database_url="unused:", series_url="unused:", broker_url="unused:", gateway_name=name, batch_wait_ms=5,
        batch_records=50, **settings,
    )  # fmt: skip
    return Gateway(chosen, BrokerAddress.parse(broker.url_for(name)), database, series, clock, GatewayMetrics())


def send_all(broker, writers: list[StreamWriter], meanwhile) -> None:
    threads = [threading.Thread(target=Sender(broker, writer).run) for writer in writers]
    for thread in threads:
        thread.start()
    meanwhile()
    for thread in threads:
        thread.join(90)
    assert not any(thread.is_alive() for thread in threads)


def check(database: Database, writers: list[StreamWriter]) -> None:
    with database.read() as session:
        for writer in writers:
            key = (writer.agent, writer.stream)
            assert stream_marks(session, [key])[key].upto == writer.seq
            assert check_usage_chain(session, *key) is None
            assert list(refold(session, *key)) == []
        assert session.scalar(select(func.count()).select_from(UsageRecordRow)) == sum(w.seq for w in writers)
        assert session.scalar(select(func.count()).select_from(UsageConflict)) == 0


def writers_of(instruments: list[str]) -> list[StreamWriter]:
    writers = [StreamWriter(instrument) for instrument in instruments]
    for writer in writers:
        for minutes in (60, 30, 45):
            writer.run(minutes=minutes)
    return writers


def logins(instruments: list[str]) -> list[Login]:
    agents = [Login(f"a-{instrument}", f"token-of-{instrument}") for instrument in instruments]
    return [*agents, *(Login(name, f"token-of-{name}", Role.GATEWAY) for name in NAMES)]


@pytest.fixture
def mosquitto(tmp_path, instruments) -> Iterator[MosquittoBroker]:
    broker = MosquittoBroker(tmp_path / "mosquitto", logins(instruments))
    broker.start()
    yield broker
    broker.stop()


def test_two_gateways_share_the_work_through_mosquitto_while_one_leaves_and_returns(
    mosquitto, database, series, clock, instruments
):
    one = gateway(mosquitto, database, series, clock, NAMES[0], share_group="county")
    two = gateway(mosquitto, database, series, clock, NAMES[1], share_group="county")
    writers = writers_of(instruments)
    worked: list[Gateway] = [one, two]

    def leave_and_return() -> None:
        wait_until(lambda: all(appended(g) > 0 for g in (one, two)), "work for both")
        two.stop()
        again = gateway(mosquitto, database, series, clock, NAMES[1], share_group="county")
        again.start()
        worked.append(again)

    one.start()
    two.start()
    try:
        send_all(mosquitto, writers, leave_and_return)
    finally:
        for each in worked:
            each.stop()
    check(database, writers)


def appended(each: Gateway) -> float:
    return each.metrics.records.labels("appended")._value.get()


def test_shards_divide_the_agents_where_the_broker_cannot_share_while_one_leaves_and_returns(
    tmp_path, database, series, clock, instruments
):
    broker = NatsBroker(tmp_path / "nats", logins(instruments))
    broker.start()
    one = gateway(broker, database, series, clock, NAMES[0], shard="1/2")
    two = gateway(broker, database, series, clock, NAMES[1], shard="2/2")
    writers = writers_of(instruments)
    ours = sum(w.seq for w in writers if Shard(1, 2).owns(w.agent))
    worked = [one, two]

    def leave_and_return() -> None:
        wait_until(lambda: appended(two) > 0, "work for the second")
        two.stop()
        again = gateway(broker, database, series, clock, NAMES[1], shard="2/2")
        again.start()
        worked.append(again)

    one.start()
    two.start()
    try:
        send_all(broker, writers, leave_and_return)
    finally:
        for each in worked:
            each.stop()
        broker.stop()
    assert appended(one) == ours
    check(database, writers)


def test_every_agent_belongs_to_exactly_one_shard_and_always_to_the_same():
    agents = [f"xc-h{host:02d}-{number:02d}" for host in range(1, 21) for number in range(1, 10)]
    for of in (1, 2, 3, 7):
        owners = [[n for n in range(1, of + 1) if Shard(n, of).owns(agent)] for agent in agents]
        assert all(len(owner) == 1 for owner in owners)
    assert [Shard(1, 3).owns(agent) for agent in ("xc-h01-01", "xc-h01-02", "xc-h02-01")] == [False, True, False]


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", ""])
def test_a_shard_that_does_not_exist_is_refused_with_the_form_that_does(text):
    with pytest.raises(ValidationError, match="1/3"):
        GatewaySettings(database_url="u:", series_url="u:", broker_url="u:", shard=text)


def test_a_share_group_and_a_shard_together_are_refused():
    with pytest.raises(ValidationError, match="not both"):
        GatewaySettings(database_url="u:", series_url="u:", broker_url="u:", shard="1/2", share_group="g")
