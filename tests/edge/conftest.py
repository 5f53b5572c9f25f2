"""What the tests of the edge share."""

import pytest


@pytest.fixture(autouse=True)
def _no_time_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the machine of the tests is synchronised decides nothing here; a test that wants it says so."""
    monkeypatch.setattr("edge_agents.wall.is_synchronised", lambda: False)
