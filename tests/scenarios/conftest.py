"""The lab of the stories, on each database."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from store.database import Database
from store.periods import SHANGHAI
from store.series import open_series
from store.series_sqlite import create_schema
from tests.scenarios.lab import Lab
from tests.support.brokers import NatsBroker
from wire.clock import ManualClock, to_ms

MONDAY_MORNING = datetime(2026, 3, 2, 8, 0, tzinfo=SHANGHAI)


@pytest.fixture
def lab(database: Database, database_url: str, nats_broker: NatsBroker, tmp_path: Path) -> Iterator[Lab]:
    """The seeded county on Monday, 2 March 2026, 08:00."""
    path = tmp_path / "series.db"
    create_schema(path)
    series_url = f"sqlite:///{path}"
    series = open_series(series_url)
    place = Lab(database, database_url, series, series_url, nats_broker, ManualClock(to_ms(MONDAY_MORNING)), tmp_path)
    yield place
    place.close()
    series.close()
