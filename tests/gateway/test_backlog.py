"""A gateway that was away finds a backlog, and a database that does not take it: what it holds is bounded by the
broker's window, nothing is acknowledged, nothing is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from store.ledger import check_usage_chain, stream_marks
from tests.gateway.conftest import build_gateway
from tests.support.brokers import AnyBroker, MosquittoBroker, NatsBroker
from tests.support.mqtt import Station
from tests.support.usage import StreamWriter
from tests.support.waiting import wait_until
from wire.broker_access import MAX_UNACKNOWLEDGED
from wire.client import Publication
from wire.messages import PowerState, encode
from wire.topics import Channel, up

pytestmark = pytest.mark.slow_on_postgresql

BACKLOG = 2_500


@pytest.fixture(params=["nats", "mosquitto"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyBroker]:
    """Nobody is killed here: Mosquitto saves its queue now and then, as in production, and not with every message."""
    folder = tmp_path / "broker"
    chosen = NatsBroker(folder) if request.param == "nats" else MosquittoBroker(folder, saves_each_change=False)
    chosen.start()
    yield chosen
    chosen.stop()


def test_a_backlog_is_held_by_the_broker_and_not_by_the_gateway_while_the_database_takes_nothing(
    site, database, series, clock, instruments
):
    first = build_gateway(site, database, series, clock)
    first.start()
    first.stop()  # its session stays with the broker and collects
    writer = StreamWriter(instruments[0])
    with Station(site.url_for(writer.agent), writer.agent) as station:
        topic = up(writer.agent, Channel.USAGE, writer.instrument)
        for _ in range(BACKLOG - 1):
            station.hand_over(topic, encode(writer.tick(PowerState.OFF, 60)))
        last = Publication(topic, encode(writer.tick(PowerState.OFF, 60)))
        wait_until(lambda: station.client.publish_and_wait(last, 60), "the broker to have all of it", timeout_s=90)
        running = build_gateway(site, database, series, clock)
        key = (writer.agent, writer.stream)
        held = []
        try:
            with database.write() as session:
                if database.engine.dialect.name == "postgresql":
                    session.execute(text("LOCK TABLE usage_stream IN ACCESS EXCLUSIVE MODE"))
                running.start()
                wait_until(lambda: has_settled(held, running), "the broker to stop sending")
            wait_until(lambda: upto(database, key) == BACKLOG, "all of it", timeout_s=60)
        finally:
            running.stop()
    assert max(held) <= MAX_UNACKNOWLEDGED
    with database.read() as session:
        assert check_usage_chain(session, *key) is None


def has_settled(held: list[int], running) -> bool:
    """Whether something is held, and no more than some looks before."""
    held.append(running._usage.waiting())
    return held[-1] > 0 and len(held) > 30 and len(set(held[-30:])) == 1


def upto(database, key) -> int:
    with database.read() as session:
        return stream_marks(session, [key])[key].upto
