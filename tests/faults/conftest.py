"""Fixtures of the fault tests: a site of real processes that leaves nothing behind."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.grounds import BROKERS, Ground
from tests.faults.limits import LimitedBroker, LimitedMosquitto, LimitedNats
from tests.faults.site import Site
from tests.support.brokers import AnyBroker
from tests.support.databases import DatabaseServers

MakeSite = Callable[..., Site]


@pytest.fixture
def ground() -> Ground:
    """Where a test runs that says nothing about it: NATS and SQLite. The marks of `grounds` put others here."""
    return Ground()


@pytest.fixture
def broker(ground: Ground, tmp_path: Path) -> Iterator[AnyBroker]:
    """The broker of the ground, running."""
    chosen = BROKERS[ground.broker](tmp_path / "broker")
    chosen.start()
    yield chosen
    chosen.stop()


@pytest.fixture
def make_site(
    request: pytest.FixtureRequest, ground: Ground, tmp_path: Path, database_servers: DatabaseServers
) -> Iterator[MakeSite]:
    """Build a site: on the database of the ground, and on its broker unless a `broker` is given."""
    closing = []

    def make(**options) -> Site:
        url = database_servers.fresh_url(ground.engine)
        database_url = url.__enter__()
        broker = options.pop("broker", None) or request.getfixturevalue("broker")
        site = Site(tmp_path / "site", broker, database_url, **options)
        closing.append((site, url))
        return site

    yield make
    for site, url in reversed(closing):
        site.close()
        url.__exit__(None, None, None)


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    """Two agents at sixty times the speed."""
    return make_site()


@pytest.fixture
def limited(ground: Ground, tmp_path: Path) -> Iterator[LimitedBroker]:
    """The broker of the ground, not started yet."""
    kind = {"nats": LimitedNats, "mosquitto": LimitedMosquitto}[ground.broker]
    broker = kind(tmp_path / "limited")
    yield broker
    broker.stop()
