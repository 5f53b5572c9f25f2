"""One stream's window: what was asked for again is sent, whatever the gateway says or the connection does meanwhile."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agents.lane import RESEND_AFTER_S, WINDOW_BYTES, Lane
from edge_agents.outbox import AckOutcome, Outbox, Row
from wire.messages import Ack, StreamKind
from wire.topics import Channel

NOW = 1_750_000_000_000


@pytest.fixture
def lane(tmp_path: Path) -> Iterator[Lane]:
    """Six rows, all sent and acknowledged, of which the first three are no longer kept."""
    box = Outbox(tmp_path / "usage.db", StreamKind.USAGE)
    box.append([Row(seq, "xc-h01-01", f"record {seq}".encode()) for seq in range(1, 7)])
    lane = Lane(box, Channel.USAGE)
    assert sent(lane) == [1, 2, 3, 4, 5, 6]
    assert acknowledged(lane, 6) is AckOutcome.TAKEN
    box._delete_below(4)
    yield lane
    box.close()


def sent(lane: Lane, now: float = 0.0) -> list[int]:
    seqs = []
    for row in lane.due(now):
        seqs.append(row.seq)
        lane.sent(row, now)
    return seqs


def acknowledged(lane: Lane, upto: int, *holes: tuple[int, int]) -> AckOutcome:
    return lane.acknowledged(Ack(stream=lane.outbox.stream, upto=upto, holes=holes), 0.0, NOW)


def fallen_back(lane: Lane, upto: int) -> AckOutcome:
    """The gateway says twice that it has less than it had."""
    assert acknowledged(lane, upto) is AckOutcome.DOUBTED
    return acknowledged(lane, upto)


def test_an_old_word_that_was_overtaken_changes_nothing(lane: Lane) -> None:
    for _ in range(3):
        assert acknowledged(lane, 2) is AckOutcome.DOUBTED
        assert lane.outbox.upto == 6
        assert acknowledged(lane, 6) is AckOutcome.TAKEN
    assert acknowledged(lane, 6, (2, 3)) is AckOutcome.DOUBTED
    assert sent(lane, 1_000.0) == []


def test_a_wish_that_comes_before_the_word_that_the_database_fell_back_is_fulfilled(lane: Lane) -> None:
    assert lane.replay([(1, 6)]).gone == ((1, 3),)
    assert fallen_back(lane, 0) is AckOutcome.REWOUND
    assert sorted(set(sent(lane))) == [1, 2, 3, 4, 5, 6]


def test_a_wish_that_comes_before_anything_was_sent_again_still_tells_what_is_gone(lane: Lane) -> None:
    assert fallen_back(lane, 0) is AckOutcome.REWOUND
    assert lane.replay([(1, 6)]).gone == ((1, 3),)
    assert sent(lane) == [1, 2, 3, 4, 5, 6]


def test_a_wish_outlives_the_connection_it_was_half_fulfilled_on(lane: Lane) -> None:
    lane.replay([(1, 6)])
    rows = lane.due(0.0)
    for _ in range(2):
        lane.sent(next(rows), 0.0)
    next(rows)  # handed out, and the connection did not take it
    rows.close()
    lane.rewind()
    assert sent(lane) == [1, 2, 3, 4, 5, 6]
    assert sent(lane, 1.0) == []


def test_what_came_of_a_wish_is_not_sent_again_after_the_gateway_has_it(lane: Lane) -> None:
    lane.replay([(1, 6)])
    assert sent(lane) == [1, 2, 3, 4, 5, 6]
    assert acknowledged(lane, 6) is AckOutcome.TAKEN
    lane.rewind()
    assert sent(lane, 1_000.0) == []


def test_rows_behind_a_hole_do_not_keep_what_fills_it_from_being_sent(tmp_path: Path) -> None:
    """The gateway takes nothing behind a hole: those rows fly until it is filled, and must not take all the room."""
    box = Outbox(tmp_path / "usage.db", StreamKind.USAGE)
    box.append([Row(seq, "xc-h01-01", b"record") for seq in range(1, 501)])
    box._delete_below(151)
    lane = Lane(box, Channel.USAGE)
    assert sent(lane) == list(range(151, 251))
    assert acknowledged(lane, 0, (1, 150)) is AckOutcome.TAKEN
    lane.replay([(1, 150)])
    assert sent(lane) == list(range(1, 101))
    assert sent(lane) == [], "what fills a hole has a window of its own"
    assert acknowledged(lane, 100, (101, 150)) is AckOutcome.TAKEN
    assert sent(lane) == list(range(101, 151))
    assert acknowledged(lane, 250) is AckOutcome.TAKEN
    assert sent(lane) == list(range(251, 351))
    box.close()


def test_large_rows_do_not_fill_a_slow_link_for_longer_than_the_patience_for_them(tmp_path: Path) -> None:
    box = Outbox(tmp_path / "telemetry.db", StreamKind.TELEMETRY)
    tenth = WINDOW_BYTES // 10
    box.append([Row(seq, "xc-h01-01", bytes(tenth)) for seq in range(1, 31)])
    box.append([Row(31, "xc-h01-01", bytes(WINDOW_BYTES * 2))])
    lane = Lane(box, Channel.TELEMETRY)
    assert sent(lane) == list(range(1, 11))
    assert sent(lane) == []
    assert acknowledged(lane, 4) is AckOutcome.TAKEN
    assert sent(lane) == [11, 12, 13, 14]
    assert acknowledged(lane, 14) is AckOutcome.TAKEN
    assert sent(lane) == list(range(15, 25))
    assert acknowledged(lane, 24) is AckOutcome.TAKEN
    assert sent(lane) == list(range(25, 31))
    assert acknowledged(lane, 30) is AckOutcome.TAKEN
    assert sent(lane) == [31], "a row larger than the window goes by itself"
    box.close()


def test_nothing_is_repeated_while_the_mark_rises_but_what_it_names_as_missing(tmp_path: Path) -> None:
    """A link that loses a third keeps rows on their way for longer than the patience; sending them twice fills it."""
    box = Outbox(tmp_path / "usage.db", StreamKind.USAGE)
    box.append([Row(seq, "xc-h01-01", b"record") for seq in range(1, 11)])
    lane = Lane(box, Channel.USAGE)
    assert sent(lane) == list(range(1, 11))
    soon = RESEND_AFTER_S * 0.9
    for number in range(1, 4):
        now = number * soon
        assert lane.acknowledged(Ack(stream=box.stream, upto=number, holes=()), now, NOW) is AckOutcome.TAKEN
        assert sent(lane, now + soon) == []
    assert lane.acknowledged(Ack(stream=box.stream, upto=4, holes=((5, 6),)), 4 * soon, NOW) is AckOutcome.TAKEN
    assert sent(lane, 4 * soon) == [5, 6]
    assert sent(lane, 4 * soon + RESEND_AFTER_S) == [7, 8, 9, 10], "the mark stands: patience ends"
    assert sent(lane, 4 * soon + 2 * RESEND_AFTER_S) == [5, 6], "it doubles with each time"
    box.close()
