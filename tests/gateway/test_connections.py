"""A gateway that is not let in, may not listen, or shares its name with another: it says so, and misleads no agent."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from gateway.bridge import Gateway
from gateway.metrics import GatewayMetrics
from gateway.name_guard import NameGuard
from gateway.settings import GatewaySettings
from gateway.watch import CALM_AFTER, Watch
from store.alerts import raise_alert
from store.database import Database
from store.series import SeriesStore
from store.tables.usage import Alert
from tests.support.brokers import AGENT, GATEWAY, AnyBroker, MosquittoBroker, NatsBroker
from tests.support.mqtt import Station
from tests.support.waiting import wait_until
from wire.client import BrokerAddress, SubscriptionDenied
from wire.clock import ManualClock
from wire.connection_losses import LOSSES, LOST_SOON_S
from wire.messages import ServerState, decode
from wire.topics import SERVER_STATES, server_state


def gateway(
    broker: AnyBroker, database: Database, series: SeriesStore, clock: ManualClock, login: str = GATEWAY, **more: str
) -> Gateway:
    settings = GatewaySettings(
        database_url="unused:", series_url="unused:", broker_url="unused:", gateway_name=GATEWAY, **more
    )
    address = BrokerAddress.parse(broker.url_for(login))
    return Gateway(settings, address, database, series, clock, GatewayMetrics())


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[MosquittoBroker]:
    """Lets two fight for a name at once, where the embedded broker makes each wait for a second."""
    broker = MosquittoBroker(tmp_path / "mosquitto")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def listener(nats_broker: NatsBroker) -> Iterator[Station]:
    with Station(nats_broker.url_for(GATEWAY), "listener", [SERVER_STATES]) as station:
        yield station


def said(listener: Station) -> list[bool]:
    return [decode(ServerState, payload).online for payload in listener.payloads]


def marked(listener: Station, broker: NatsBroker) -> list[bool]:
    """What was said up to now."""
    with Station(broker.url_for(GATEWAY), "marker") as marker:
        marker.send(server_state(GATEWAY), b"mark")
    wait_until(lambda: b"mark" in listener.payloads, "the marker")
    return [decode(ServerState, payload).online for payload in listener.payloads if payload != b"mark"]


@pytest.mark.parametrize(
    ("login", "more", "setting"),
    [
        (GATEWAY, {"share_group": "county"}, r"\$share/county/.*Instead of OPENLAB_SHARE_GROUP set OPENLAB_SHARD"),
        (AGENT, {}, rf"lab/v1/up/\+/tel/\+: OPENLAB_BROKER_USERNAME \({AGENT}\) is not a gateway's login"),
    ],
    ids=["a broker that cannot share", "an agent's login"],
)
def test_a_gateway_that_may_not_listen_ends_with_the_setting_that_is_wrong_and_never_says_it_is_there(
    nats_broker, listener, sqlite_database, series, clock, login, more, setting
):
    refused = gateway(nats_broker, sqlite_database, series, clock, login, **more)
    with pytest.raises(SubscriptionDenied, match=setting):
        refused.start()
    assert True not in marked(listener, nats_broker)


def test_a_gateway_that_is_not_allowed_to_listen_any_more_takes_its_word_back_and_says_why(
    nats_broker, listener, sqlite_database, series, clock
):
    running = gateway(nats_broker, sqlite_database, series, clock)
    running.start()
    try:
        wait_until(lambda: said(listener) == [True], "the gateway to say that it is there")
        assert running.why_not_ready() is None
        # What another broker, with other rights, answers when the gateway connects again.
        running._telemetry_client.denied = ("lab/v1/up/+/tel/+",)
        running._say_now.set()
        wait_until(lambda: said(listener)[-1:] == [False], "the word to be taken back")
        assert "OPENLAB_BROKER_USERNAME" in str(running.why_not_ready())
    finally:
        running.stop()


def test_two_gateways_with_one_name_are_told_once_and_one_of_them_stays_away(mosquitto, sqlite_database, series, clock):
    two = [gateway(mosquitto, sqlite_database, series, clock) for _ in range(2)]
    for each, delay_s in zip(two, (0.3, 0.1), strict=True):
        for client in (each._usage_client, each._telemetry_client):
            client._paho.reconnect_delay_set(min_delay=delay_s, max_delay=delay_s)
        each._guard._rest_s = 5  # for a busy machine, on which both may stay away

    def told() -> list[tuple[str, str, str]]:
        with sqlite_database.read() as session:
            return [(a.rule, a.subject, a.owner) for a in session.scalars(select(Alert))]

    with capture_logs() as logs:
        for each in two:
            each.start()
        wait_until(told, "the alert")
    assert told() == [("gateway_name_taken", GATEWAY, "")]
    assert any("OPENLAB_GATEWAY_NAME" in line["event"] and line["gateway"] == GATEWAY for line in logs)
    assert any("OPENLAB_GATEWAY_NAME" in str(each.why_not_ready()) for each in two)
    wait_until(lambda: any(each.why_not_ready() is None for each in two), "the other one to work")
    for each in two:
        each.stop()


def test_a_name_that_is_taken_is_left_alone_for_a_while_and_then_tried_again() -> None:
    now, done = [0.0], list[str]()
    guard = NameGuard(
        "gw-1",
        lambda: done.append("leave"),
        lambda: done.append("tell"),
        lambda: done.append("come back"),
        rest_s=0.01,
        monotonic=lambda: now[0],
    )

    def lives(seconds: float) -> None:
        guard.connected()
        now[0] += seconds
        guard.lost()

    guard.start()
    for _ in range(2 * LOSSES):
        lives(LOST_SOON_S)
    for _ in range(2 * LOSSES):  # a broker that is started again and again, and is away in between
        lives(1)
        guard.unreachable()
    assert done == []
    for _ in range(LOSSES):
        lives(1)
    wait_until(lambda: len(done) == 3, "the return")
    guard.stop()
    assert done == ["leave", "tell", "come back"]


def test_a_fight_for_a_name_is_forgotten_an_hour_after_it_was_last_seen(sqlite_database, clock):
    with sqlite_database.write() as session:
        raise_alert(session, "gateway_name_taken", "gw-1", "two of them", clock.now_ms(), owner="")
    watch = Watch(sqlite_database, clock, dict)
    assert watch.look() == (0, 0)
    clock.advance(int(CALM_AFTER.total_seconds() * 1000) + 1_000)
    assert watch.look() == (0, 1)


def test_a_broker_that_is_not_there_is_told_once_an_outage(nats_broker, sqlite_database, series, clock):
    address = replace(BrokerAddress.parse(nats_broker.url_for(GATEWAY)), host="no-such-host.invalid", port=1884)
    settings = GatewaySettings(database_url="u:", series_url="u:", broker_url="u:", gateway_name=GATEWAY)
    nowhere = Gateway(settings, address, sqlite_database, series, clock, GatewayMetrics())
    for client in (nowhere._usage_client, nowhere._telemetry_client):
        client._paho.reconnect_delay_set(min_delay=0.02, max_delay=0.02)
    with capture_logs() as logs, pytest.raises(TimeoutError, match=r"no-such-host\.invalid:1884"):
        nowhere.start(0.3)
    assert len([line for line in logs if line["event"].startswith("no broker at no-such-host.invalid:1884")]) == 1
