"""Fixtures of the charging tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from store.database import Database
from tests.api.charging.building import County, build


@pytest.fixture
def county(database: Database, tmp_path: Path) -> Iterator[County]:
    """The little county, on each database engine in turn."""
    built = build(database, tmp_path)
    yield built
    built.series.close()
