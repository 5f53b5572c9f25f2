"""Fixtures of the fault tests: a site of real processes that leaves nothing behind."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.site import Site
from tests.support.brokers import MosquittoBroker, NatsBroker
from tests.support.databases import DatabaseServers

MakeSite = Callable[..., Site]


class LimitedBroker(MosquittoBroker):
    """Mosquitto with a line of its configuration replaced."""

    def set(self, **options: object) -> None:
        """Write options; they count from the next start."""
        config = self._folder / "mosquitto.conf"
        lines = [line for line in config.read_text().splitlines() if line.split()[0] not in options]
        config.write_text("\n".join([*lines, *(f"{name} {value}" for name, value in options.items())]) + "\n")


@pytest.fixture
def make_site(tmp_path: Path, nats_broker: NatsBroker, database_servers: DatabaseServers) -> Iterator[MakeSite]:
    """Build a site: on SQLite unless `engine` says otherwise, on NATS unless a `broker` is given."""
    closing = []

    def make(**options) -> Site:
        url = database_servers.fresh_url(options.pop("engine", "sqlite"))
        database_url = url.__enter__()
        site = Site(tmp_path / "site", options.pop("broker", nats_broker), database_url, **options)
        closing.append((site, url))
        return site

    yield make
    for site, url in reversed(closing):
        site.close()
        url.__exit__(None, None, None)


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    """Two agents at sixty times the speed, on SQLite and the embedded broker."""
    return make_site()


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[LimitedBroker]:
    """Not started yet."""
    broker = LimitedBroker(tmp_path / "mosquitto")
    yield broker
    broker.stop()
