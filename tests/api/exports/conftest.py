"""Fixtures of the export tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from store.database import Database
from tests.api.rewards.building import RewardCounty, build_rewards


@pytest.fixture
def county(database: Database, tmp_path: Path) -> Iterator[RewardCounty]:
    """The county of the reward tests, on each database engine in turn."""
    built = build_rewards(database, tmp_path)
    yield built
    built.series.close()
