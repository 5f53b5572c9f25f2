"""Fixtures of the contract tests: each port's implementations in turn, on real servers."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from store.series import SeriesStore, open_series
from store.series_sqlite import create_schema
from tests.support.influx import InfluxServer


@dataclass(frozen=True)
class SeriesCase:
    """A set-up, empty time-series store. `hung()` makes it unable to take a write for as long as the block lasts."""

    url_with: Callable[[int], str]
    hung: Callable[[], AbstractContextManager[None]]

    @property
    def url(self) -> str:
        return self.url_with(10_000)


@pytest.fixture(scope="session")
def influx_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxServer]:
    """One server for the whole run; each test has a database of its own."""
    server = InfluxServer(tmp_path_factory.mktemp("influx"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def influx_case(influx_server: InfluxServer, tmp_path: Path) -> Iterator[SeriesCase]:
    """An empty InfluxDB database."""
    database = f"t{abs(hash(tmp_path)):x}"
    influx_server.create(database)
    yield SeriesCase(lambda timeout_ms: influx_server.url_of(database, timeout_ms), influx_server.hung)
    influx_server.drop(database)


@pytest.fixture
def sqlite_case(tmp_path: Path) -> SeriesCase:
    """An empty SQLite file."""
    path = tmp_path / "series" / "series.db"
    create_schema(path)

    @contextmanager
    def hung() -> Iterator[None]:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield

    return SeriesCase(lambda timeout_ms: f"sqlite:///{path}?timeout_ms={timeout_ms}", hung)


@pytest.fixture(params=["sqlite", "influxdb"])
def series_case(request: pytest.FixtureRequest) -> SeriesCase:
    """Each backend of the time series in turn."""
    case: SeriesCase = request.getfixturevalue({"sqlite": "sqlite_case", "influxdb": "influx_case"}[request.param])
    return case


@pytest.fixture
def series(series_case: SeriesCase) -> Iterator[SeriesStore]:
    """Each backend of the time series in turn, open and empty."""
    store = open_series(series_case.url)
    yield store
    store.close()
