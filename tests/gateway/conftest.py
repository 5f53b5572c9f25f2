"""A running gateway over each broker and each database, and an agent's side of the conversation."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.bridge import Gateway
from gateway.metrics import GatewayMetrics
from gateway.settings import GatewaySettings
from store.database import Database
from store.series import SeriesStore, open_series
from store.series_sqlite import create_schema
from tests.support.brokers import AnyBroker
from tests.support.usage import NINE, add_registry
from wire.broker_access import Login, Role
from wire.client import BrokerAddress
from wire.clock import ManualClock

GATEWAY = "gw-1"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NINE + 3_600_000)


@pytest.fixture
def instruments(database: Database) -> list[str]:
    with database.write() as session:
        return add_registry(session)


@pytest.fixture
def series(tmp_path: Path) -> Iterator[SeriesStore]:
    create_schema(tmp_path / "series.db")
    store = open_series(f"sqlite:///{tmp_path / 'series.db'}")
    yield store
    store.close()


@pytest.fixture
def site(broker: AnyBroker, instruments: list[str]) -> AnyBroker:
    """A broker that knows the gateway and one agent an instrument."""
    agents = [Login(f"a-{instrument}", f"token-of-{instrument}") for instrument in instruments]
    broker.set_logins(
        [*agents, Login("a-stranger", "token-of-stranger"), Login(GATEWAY, "gateway-token", Role.GATEWAY)]
    )
    return broker


def build_gateway(site: AnyBroker, database: Database, series: SeriesStore, clock: ManualClock, **extra) -> Gateway:
    settings = GatewaySettings(
        database_url="unused:", series_url="unused:", broker_url="unused:", gateway_name=GATEWAY, batch_wait_ms=10
    )
    return Gateway(
        settings, BrokerAddress.parse(site.url_for(GATEWAY)), database, series, clock, GatewayMetrics(), **extra
    )


@pytest.fixture
def gateway(site: AnyBroker, database: Database, series: SeriesStore, clock: ManualClock) -> Iterator[Gateway]:
    running = build_gateway(site, database, series, clock)
    running.start()
    yield running
    running.stop()
