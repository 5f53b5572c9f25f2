"""Fixtures that tests of several folders share. The parts behind them are in tests/support/."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from store.database import Database
from tests.support.brokers import AnyBroker, MosquittoBroker, NatsBroker
from tests.support.databases import ENGINES, DatabaseServers, opened


@pytest.fixture
def nats_broker(tmp_path: Path) -> Iterator[NatsBroker]:
    """A running embedded broker of this test alone."""
    broker = NatsBroker(tmp_path / "nats")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(params=["nats", "mosquitto"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyBroker]:
    """Each broker that is supported, in turn: what holds for one must hold for both."""
    kinds: dict[str, type[AnyBroker]] = {"nats": NatsBroker, "mosquitto": MosquittoBroker}
    chosen = kinds[request.param](tmp_path / "broker")
    chosen.start()
    yield chosen
    chosen.stop()


@pytest.fixture(scope="session")
def database_servers() -> Iterator[DatabaseServers]:
    """The database servers of this run; PostgreSQL starts with the first test that asks for it."""
    servers = DatabaseServers()
    yield servers
    servers.close()


@pytest.fixture(params=ENGINES)
def database_url(request: pytest.FixtureRequest, database_servers: DatabaseServers) -> Iterator[str]:
    """The address of a fresh, migrated database, on each engine in turn."""
    with database_servers.fresh_url(request.param) as url:
        yield url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A fresh, migrated database, on each engine in turn."""
    with opened(database_url) as fresh:
        yield fresh


@pytest.fixture
def sqlite_database(database_servers: DatabaseServers) -> Iterator[Database]:
    """A fresh, migrated SQLite database, for what does not depend on the engine."""
    with database_servers.fresh_url("sqlite") as url, opened(url) as fresh:
        yield fresh


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is marked `slow_on_postgresql` runs on SQLite in the suite, and on PostgreSQL with the slow tests."""
    for item in items:
        given = item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
        if "postgresql" in given and item.get_closest_marker("slow_on_postgresql"):
            item.add_marker(pytest.mark.slow)
