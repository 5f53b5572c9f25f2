"""Fixtures of the bundle tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from store.database import Database
from tests.api.rewards.building import RewardCounty, build_rewards


@pytest.fixture
def county(sqlite_database: Database, tmp_path: Path) -> Iterator[RewardCounty]:
    """The county of the reward tests; that both engines give the same rows is shown elsewhere."""
    built = build_rewards(sqlite_database, tmp_path)
    yield built
    built.series.close()
