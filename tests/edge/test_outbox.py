"""The spool: nothing is lost, no number is given twice, damage is told, and it always opens."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agents.outbox import KEEP_MS, AckOutcome, Outbox, Row
from edge_agents.spool_file import SpoolInUse
from wire.messages import Ack, StreamKind

NOW = 1_750_000_000_000


def opened(path: Path, limit_bytes: int = 10_000_000) -> Outbox:
    return Outbox(path / "usage.db", StreamKind.USAGE, limit_bytes=limit_bytes)


def rows(first: int, count: int, size: int = 20) -> list[Row]:
    return [Row(seq, "xc-h01-01", f"record {seq}".encode().ljust(size)) for seq in range(first, first + count)]


def ack(box: Outbox, upto: int, *holes: tuple[int, int]) -> AckOutcome:
    return box.acknowledge(Ack(stream=box.stream, upto=upto, holes=holes), NOW)


def test_rows_and_checkpoint_are_there_after_a_restart_byte_for_byte(tmp_path: Path) -> None:
    box = opened(tmp_path)
    box.append(rows(1, 3), "where we stood")
    stream = box.stream
    box.close()
    again = opened(tmp_path)
    assert (again.stream, again.last_seq, again.checkpoint) == (stream, 3, "where we stood")
    assert again.rows(0, 10) == rows(1, 3)
    assert again.lost is None
    again.close()


def test_rows_survive_a_process_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from edge_agents.outbox import Outbox, Row\n"
        "from wire.messages import StreamKind\n"
        "box = Outbox(Path(sys.argv[1]) / 'usage.db', StreamKind.USAGE)\n"
        "box.append([Row(1, 'xc-h01-01', b'one')], 'c'); print(box.stream, flush=True); os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 9, done.stderr
    box = opened(tmp_path)
    assert box.lost is None
    assert (box.stream, box.rows(0, 5), box.checkpoint) == (done.stdout.strip(), [Row(1, "xc-h01-01", b"one")], "c")
    box.close()


def test_rows_that_are_not_numbered_on_are_refused(tmp_path: Path) -> None:
    box = opened(tmp_path)
    with pytest.raises(ValueError, match="numbered from 1"):
        box.append(rows(2, 1))
    box.close()


def test_a_number_is_never_given_again_even_after_all_rows_are_gone(tmp_path: Path) -> None:
    box = opened(tmp_path)
    box.append(rows(1, 5))
    ack(box, 5)
    assert box.prune(NOW + KEEP_MS) == 5
    box.close()
    again = opened(tmp_path)
    assert (again.next_seq, again.first_kept, again.unacknowledged) == (6, 6, 0)
    again.close()


def test_acknowledged_rows_are_kept_for_replay_and_then_pruned(tmp_path: Path) -> None:
    box = opened(tmp_path)
    box.append(rows(1, 5))
    assert ack(box, 3) is AckOutcome.TAKEN
    assert box.unacknowledged == 2
    assert box.prune(NOW + KEEP_MS - 1) == 0
    assert box.rows(0, 9) == rows(1, 5)
    assert box.prune(NOW + KEEP_MS) == 3
    assert (box.first_kept, box.rows(0, 9)) == (4, rows(4, 2))
    box.close()


def test_a_clock_that_is_set_far_on_prunes_nothing_that_was_acknowledged_a_moment_ago(tmp_path: Path) -> None:
    box = opened(tmp_path)
    box.append(rows(1, 9))
    day, year = 86_400_000, 365 * 86_400_000
    box.acknowledge(Ack(stream=box.stream, upto=3), NOW - 6 * day)  # an earlier boot, whose clock was right
    wrong = NOW - 50 * year
    box.acknowledge(Ack(stream=box.stream, upto=5), wrong + 3_000)
    box.clock_was_set(50 * year, wrong, wrong + 60_000)
    box.acknowledge(Ack(stream=box.stream, upto=6), NOW + 4_000_000)
    assert box.prune(NOW + 4_000_000) == 0
    assert box.prune(NOW + day) == 3
    assert box.prune(NOW + 7 * day + 3_000) == 2
    box.clock_was_set(-30 * day, NOW, NOW + 8 * day)
    assert box.prune(NOW - 23 * day + 4_000_000) == 1
    box.close()


def test_an_acknowledgement_that_falls_back_makes_the_rows_above_it_unsent(tmp_path: Path) -> None:
    box = opened(tmp_path)
    box.append(rows(1, 10))
    ack(box, 9)
    assert ack(box, 4) is AckOutcome.REWOUND
    assert (box.upto, box.unacknowledged) == (4, 6)
    assert box.prune(NOW + KEEP_MS) == 0
    box.close()


def test_an_acknowledgement_beyond_our_rows_or_for_another_stream_is_refused(tmp_path: Path) -> None:
    box = opened(tmp_path)
    box.append(rows(1, 2))
    assert ack(box, 3) is AckOutcome.BEYOND_LAST
    other = Ack(stream="01J00000000000000000000000", upto=1)
    assert box.acknowledge(other, NOW) is AckOutcome.OTHER_STREAM
    assert (box.upto, box.refused_acks) == (0, 2)
    box.close()


def test_rows_in_the_holes_of_an_acknowledgement_are_not_acknowledged(tmp_path: Path) -> None:
    box = opened(tmp_path)
    box.append(rows(1, 10))
    ack(box, 8, (3, 4), (7, 7))
    assert [seq for seq in range(1, 11) if not box.is_acknowledged(seq)] == [3, 4, 7, 9, 10]
    assert (box.upto, box.unacknowledged) == (2, 5)
    ack(box, 10)
    assert box.unacknowledged == 0
    box.close()


def test_what_was_acknowledged_is_remembered_with_the_next_transaction(tmp_path: Path) -> None:
    box = opened(tmp_path)
    box.append(rows(1, 5))
    ack(box, 4)
    box.append(rows(6, 1))
    box.abandon()
    again = opened(tmp_path)
    assert again.upto == 4
    again.close()


def test_a_full_spool_drops_the_acknowledged_rows_first_and_counts_the_others(tmp_path: Path) -> None:
    box = opened(tmp_path, limit_bytes=100 * 1100)
    box.append(rows(1, 90, 1000))
    ack(box, 50)
    box.append(rows(91, 40, 1000))
    assert (box.dropped, box.position_changed) == (0, False)
    assert box.first_kept > 20
    for start in range(131, 231, 10):
        box.append(rows(start, 10, 1000))
    assert box.size_bytes <= box.limit_bytes
    assert box.position_changed
    assert box.dropped == box.first_kept - 1 - 50
    assert box.rows(0, 1)[0].seq == box.first_kept
    box.close()


def test_a_row_that_rotted_is_replaced_under_its_number_and_counted(tmp_path: Path) -> None:
    box = opened(tmp_path)
    box.append(rows(1, 3))
    box.close()
    flip(tmp_path / "usage.db", b"record 2", b"rexord 2")
    again = opened(tmp_path)
    again.replacement = lambda seq: Row(seq, "_", b"lost")
    expected = [rows(1, 1)[0], Row(2, "_", b"lost"), rows(3, 1)[0]]
    assert again.rows(0, 9) == expected
    assert again.rows(0, 9) == expected
    assert again.damaged_rows == 1
    again.close()


def test_a_droppable_row_that_rotted_is_dropped_and_the_position_tells(tmp_path: Path) -> None:
    box = opened(tmp_path)
    box.append(rows(1, 5))
    box.close()
    flip(tmp_path / "usage.db", b"record 3", b"rexord 3")
    again = opened(tmp_path)
    assert [row.seq for row in again.rows(0, 9)] == [1, 2, 4, 5]
    assert again.dropped == 1
    ack(again, 2)
    assert (again.first_kept, again.position_changed) == (4, True)
    again.close()


def flip(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def beheaded(path: Path) -> None:
    path.write_bytes(b"x" * 100 + path.read_bytes()[100:])


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without_tables(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE spool_facts")
    connection.close()


def with_another_checkpoint(path: Path) -> None:
    flip(path, b"where we stood", b"where we sat..")


def with_fewer_numbers(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE sqlite_sequence SET seq = 3")
    connection.close()


@pytest.mark.parametrize(
    "harm",
    [emptied, zeroed, beheaded, halved, without_tables, with_another_checkpoint, with_fewer_numbers],
    ids=lambda f: f.__name__,
)
def test_a_damaged_file_is_set_aside_and_a_new_stream_begins(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    box = opened(tmp_path)
    stream = box.stream
    box.append(rows(1, 200, 200), "where we stood")
    ack(box, 7)
    box.close()
    harm(tmp_path / "usage.db")
    again = opened(tmp_path)
    assert again.stream != stream
    assert (again.last_seq, again.rows(0, 5), again.checkpoint) == (0, [], None)
    assert again.lost is not None
    assert again.lost.file == "usage.db.damaged-1"
    assert (tmp_path / "usage.db.damaged-1").exists()
    assert again.lost.stream in (stream, None)
    again.append(rows(1, 1))
    again.close()
    third = opened(tmp_path)
    assert (third.lost, third.last_seq) == (None, 1)
    third.close()


def test_what_is_known_of_a_damaged_spool_is_told(tmp_path: Path) -> None:
    box = opened(tmp_path)
    box.append(rows(1, 9), "where we stood")
    ack(box, 4)
    stream = box.stream
    box.close()
    with_fewer_numbers(tmp_path / "usage.db")
    lost = opened(tmp_path).lost
    assert lost is not None
    assert (lost.stream, lost.last_seq, lost.upto, lost.checkpoint) == (stream, 9, 4, "where we stood")


def test_a_log_that_is_gone_after_a_kill_does_not_lead_to_numbers_given_twice(tmp_path: Path) -> None:
    box = opened(tmp_path)
    box.append(rows(1, 5))
    stream = box.stream
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in tmp_path.glob("usage.db*"):
        if not file.name.endswith("-wal"):
            shutil.copy(file, copy)
    box.close()
    again = opened(copy)
    assert again.stream != stream
    assert again.lost is not None
    assert "log is gone" in again.lost.reason
    again.close()


@given(st.integers(0, 60_000))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_log_that_was_cut_anywhere_opens_with_a_whole_beginning(tmp_path: Path, kept: int) -> None:
    folder = tmp_path / f"at-{kept}"
    shutil.rmtree(folder, ignore_errors=True)
    box = opened(folder / "live")
    for start in range(1, 31, 3):
        box.append(rows(start, 3, 200), f"after {start + 2}")
    (folder / "cut").mkdir()
    for file in (folder / "live").iterdir():
        shutil.copy(file, folder / "cut")
    box.close()
    log = folder / "cut" / "usage.db-wal"
    os.truncate(log, min(kept, log.stat().st_size))
    again = opened(folder / "cut")
    assert again.lost is None
    assert again.rows(0, 100) == rows(1, again.last_seq, 200)
    assert again.last_seq % 3 == 0
    assert again.checkpoint == (f"after {again.last_seq}" if again.last_seq else None)
    again.close()


def test_a_spool_that_another_process_holds_is_not_taken_for_damaged(tmp_path: Path) -> None:
    box = opened(tmp_path)
    box.append(rows(1, 1))
    code = (
        "import sys; from pathlib import Path; from edge_agents.outbox import Outbox\n"
        "from edge_agents.spool_file import SpoolInUse; from wire.messages import StreamKind\n"
        "try: Outbox(Path(sys.argv[1]) / 'usage.db', StreamKind.USAGE)\n"
        "except SpoolInUse as e: print(e)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert "already running" in done.stdout, done.stderr
    with pytest.raises(SpoolInUse):
        opened(tmp_path)
    box.append(rows(2, 1))
    box.close()


def test_a_full_disk_keeps_nothing_half_and_works_again_when_there_is_room(tmp_path: Path) -> None:
    box = opened(tmp_path)
    box.append(rows(1, 2), "before")
    [(pages,)] = box._db.execute("PRAGMA page_count").fetchall()
    box._db.execute(f"PRAGMA max_page_count = {pages + 2}").fetchall()
    with pytest.raises(sqlite3.OperationalError, match="full"):
        box.append(rows(3, 50, 2000), "after")
    assert (box.last_seq, box.rows(0, 9), box.checkpoint) == (2, rows(1, 2), "before")
    box._db.execute("PRAGMA max_page_count = 100000").fetchall()
    box.append(rows(3, 50, 2000), "after")
    assert (box.last_seq, box.checkpoint) == (52, "after")
    box.close()
