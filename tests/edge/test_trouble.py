"""When an agent stays away from a broker: only where somebody else takes its connection, again and again."""

from pathlib import Path

from edge_agents.outbox import Outbox
from edge_agents.sender import Greetings, Sender
from wire.client import BrokerAddress
from wire.connection_losses import LOSSES, LOST_SOON_S, ConnectionLosses
from wire.messages import StreamKind


def lose(losses: ConnectionLosses, at: float, after: float = 1.0) -> bool:
    losses.connected(at)
    return losses.lost(at + after)


def test_three_connections_lost_at_once_in_a_row_are_enough() -> None:
    losses = ConnectionLosses()
    assert [lose(losses, 10.0 * n) for n in range(2 * LOSSES)] == [False, False, True] * 2


def test_a_connection_that_lasted_begins_the_count_anew() -> None:
    losses = ConnectionLosses()
    assert not lose(losses, 0)
    assert not lose(losses, 10)
    assert not lose(losses, 20, LOST_SOON_S)
    assert [lose(losses, 100.0 + n) for n in range(3)] == [False, False, True]


def test_a_broker_that_is_away_in_between_explains_the_loss() -> None:
    losses = ConnectionLosses()
    for n in range(10):
        assert not lose(losses, 5.0 * n)
        losses.unreachable()


def test_an_end_without_a_beginning_counts_for_nothing() -> None:
    losses = ConnectionLosses()
    assert not any(losses.lost(float(n)) for n in range(10))


def test_a_loss_is_judged_by_when_it_was_and_not_by_when_there_was_time_to_look(tmp_path: Path) -> None:
    """A busy box that steps eighty agents in turn finds a connection and its loss half a minute later at once."""
    now = [0.0]
    usage, telemetry = (Outbox(tmp_path / f"{kind}.db", kind) for kind in (StreamKind.USAGE, StreamKind.TELEMETRY))
    greetings = Greetings(state=bytes, birth=bytes, will=bytes, now_ms=lambda: 0)
    address = BrokerAddress.parse("mqtt://127.0.0.1:1")
    sender = Sender("xc-h01-01", address, usage, telemetry, greetings, monotonic=lambda: now[0])
    client = sender._client

    def lives(seconds: float) -> None:
        assert client._on_connect is not None
        assert client._on_disconnect is not None
        client._on_connect()
        now[0] += seconds
        client._on_disconnect()

    for _ in range(2 * LOSSES):
        lives(LOST_SOON_S)
    assert sender.pump() == []
    for _ in range(LOSSES):
        lives(1.0)
        now[0] += LOST_SOON_S
    assert [trouble.reason for trouble in sender.pump()] == ["connection_taken"]
    usage.close()
    telemetry.close()
