"""Many rows in one statement: what is written is what one statement a row would have written, on both engines."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import literal, select

from store.database import Database, insert_lines, insert_many, read_tuples, update_many
from store.errors import AlreadyThere
from store.tables.rewards import RewardPolicy
from store.tables.usage import Alert
from wire.ids import new_ulid

ODD = ["\\", "\\N", "\\.", "a\\tb", "c\rd", "", " ", "试验", "'; --", "%s", "NULL"]
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def alert(subject: str, **fields: object) -> dict[str, object]:
    return {
        "alert_id": new_ulid(),
        "rule": "r",
        "subject": subject,
        "open_slot": 1,
        "owner": "",
        "detail": "naïve 'quotes' \\ and 中文",
        "times": 1,
        "first_at": NOON,
        "last_at": NOON,
        "done_by": None,
        **fields,
    }


def stored(database: Database) -> dict[str, tuple[object, ...]]:
    with database.read() as session:
        rows = session.scalars(select(Alert))
        return {row.subject: (row.open_slot, row.detail, row.times, row.last_at, row.done_by) for row in rows}


def test_rows_found_by_their_key_are_changed_and_no_others(database: Database) -> None:
    made = [alert("a"), alert("b", done_by="x"), alert("c")]
    with database.write() as session:
        insert_many(session, Alert, made)
    later = NOON + timedelta(milliseconds=1)
    changes = [
        {
            "alert_id": made[0]["alert_id"],
            "rule": "r",
            "open_slot": None,
            "last_at": later,
            "done_by": "li",
            "times": 2,
        },
        {"alert_id": made[1]["alert_id"], "rule": "r", "open_slot": 1, "last_at": NOON, "done_by": None, "times": 3},
        {"alert_id": made[2]["alert_id"], "rule": "other", "open_slot": 1, "last_at": NOON, "done_by": "x", "times": 9},
        {"alert_id": "never made", "rule": "r", "open_slot": 1, "last_at": NOON, "done_by": "x", "times": 9},
    ]
    with database.write() as session:
        update_many(session, Alert, ["alert_id", "rule"], changes)
        update_many(session, Alert, ["alert_id", "rule"], [])
    text = made[0]["detail"]
    assert stored(database) == {
        "a": (None, text, 2, later, "li"),
        "b": (1, text, 3, NOON, None),
        "c": (1, text, 1, NOON, None),
    }


def test_a_change_that_a_constraint_refuses_changes_nothing(database: Database) -> None:
    made = [alert("a"), alert("b")]
    with database.write() as session:
        insert_many(session, Alert, made)
    twice = [{"alert_id": row["alert_id"], "subject": "same"} for row in made]
    with pytest.raises(AlreadyThere), database.write() as session:
        update_many(session, Alert, ["alert_id"], twice)
    assert set(stored(database)) == {"a", "b"}


def test_lines_are_inserted_as_they_are_and_read_in_parts(database: Database) -> None:
    lines = "".join(f"p{number}\t{text}\n" for number, text in enumerate(ODD)).encode()
    with database.write() as session:
        cut = lines.index(b"\n") + 1
        insert_lines(session, RewardPolicy, ("name_en", "N\\A"), ("policy_id", "name_zh"), [lines[:cut], lines[cut:]])
        insert_lines(session, RewardPolicy, ("name_en", ""), ("policy_id", "name_zh"), [])
    table = RewardPolicy
    statement = select(table.name_zh, table.name_en, literal(7)).order_by(table.policy_id)
    with database.read() as session:
        parts: list[Sequence[tuple[str, str, int]]] = list(read_tuples(session, statement, 4))
    assert [len(part) for part in parts] == [4, 4, 3]
    wanted = sorted((f"p{number}", text) for number, text in enumerate(ODD))
    assert [tuple(row) for part in parts for row in part] == [(text, "N\\A", 7) for _, text in wanted]


@pytest.mark.parametrize("count", [99, 100, 101, 250])
def test_lines_of_any_number_are_stored_each_once(database: Database, count: int) -> None:
    wanted = [(f"p{number:03}", ODD[number % len(ODD)]) for number in range(count)]
    lines = "".join(f"{policy}\t{text}\n" for policy, text in wanted).encode()
    with database.write() as session:
        insert_lines(session, RewardPolicy, ("name_en", "N"), ("policy_id", "name_zh"), [lines])
    with database.read() as session:
        stored = select(RewardPolicy.policy_id, RewardPolicy.name_zh).order_by(RewardPolicy.policy_id)
        assert [tuple(row) for row in session.execute(stored)] == wanted
