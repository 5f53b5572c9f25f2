"""When an agent stays away from a broker: only where somebody else takes its connection, again and again."""

from edge_agents.trouble import LOSSES, LOST_SOON_S, ConnectionLosses


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
