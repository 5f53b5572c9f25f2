"""What the catalogue says an instrument is doing: only as far as its agent is heard of now."""

import pytest

from api.registry.search_source import LiveState, live
from store.database import Database
from store.ledger import commit_usage
from store.liveness import Heard, note_heard
from tests.support.usage import NINE, StreamWriter, add_registry
from wire.clock import from_ms
from wire.messages import PowerState


@pytest.mark.parametrize(
    ("minutes", "speed", "state"),
    [(2, 1.0, "running"), (4, 1.0, "unknown"), (4, 60.0, "running"), (181, 60.0, "unknown")],
)
def test_the_state_of_an_instrument_is_unknown_when_its_agent_was_not_heard_for_three_minutes(
    sqlite_database: Database, minutes: int, speed: float, state: str
) -> None:
    with sqlite_database.write() as session:
        first, _ = add_registry(session)
        writer = StreamWriter(first)
        writer.open(1)
        writer.tick(PowerState.RUNNING, 60)
        commit_usage(session, writer.arrivals(), NINE, "test")
        note_heard(session, Heard(writer.agent, True, NINE, "b1", "test", 0, 0, 0))
    with sqlite_database.read() as session:
        found = live(session, [first], from_ms(NINE + minutes * 60_000), speed)
    assert found == {first: LiveState(state, from_ms(NINE))}
