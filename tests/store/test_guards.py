"""What the database itself refuses, on both engines: overlaps on a calendar, and edits of what was recorded.

Each forbidden write must be refused by its own guard and not by something else that happened to be wrong, so rows are
made up past keys and checks.
"""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Table, delete, func, insert, select, text, update

from store.database import Database
from store.errors import AppendOnly, CalendarOverlap, OutOfOrder, TryAgain
from store.tables import metadata
from store.tables.calendar import CalendarRow
from tests.support.loose_rows import insert_loose, made_up

NINE = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
ALWAYS = (
    "usage_entry",
    "usage_conflict",
    "charge",
    "charge_line",
    "charge_evidence",
    "invoice",
    "payment",
    "settlement",
    "tariff_version",
    "reward_policy_version",
    "assessment",
    "reward_input",
    "reward_result",
    "audit_event",
    "booking_event",
    "export_file",
    "anomaly_decision",
    "affiliation_event",
    "billing_terms",
    "month_seal",
    "credit_entry",
    "dispute",
    "correction",
    "correction_decision",
    "dispute_end",
    "reward_step",
    "reward_objection_answer",
    "assessment_proposal",
    "assessment_decision",
    "reward_mark",
    "reward_mark_decision",
    "affiliation_claim",
    "affiliation_decision",
    "booking_item",
    "qualification_event",
    "strike",
    "strike_lift",
    "wrong_code",
    "access_card",
    "card_revocation",
    "card_reading",
)


def _harmless(table: Table) -> dict[str, Any]:
    """An update that changes nothing: even that is refused."""
    column = next(column for column in table.columns if not column.primary_key and not column.foreign_keys)
    return {column.name: column}


def test_what_was_recorded_is_neither_edited_nor_deleted(database: Database) -> None:
    """All tables in one database: another one for each takes its time."""
    for name in ALWAYS:
        table = metadata.tables[name]
        insert_loose(database, table)
        with pytest.raises(AppendOnly, match=name), database.write() as session:
            session.execute(update(table).values(_harmless(table)))
        with pytest.raises(AppendOnly, match=name), database.write() as session:
            session.execute(delete(table))
        with database.read() as session:
            assert session.scalar(select(func.count()).select_from(table)) == 1, name


def test_a_record_is_never_edited_and_only_a_tick_may_go(database: Database) -> None:
    table = metadata.tables["usage_record"]
    insert_loose(database, table, seq=1, kind="tick")
    insert_loose(database, table, seq=2, kind="open")
    with pytest.raises(AppendOnly), database.write() as session:
        session.execute(update(table).where(table.c.seq == 1).values(payload=b"other"))
    with pytest.raises(AppendOnly), database.write() as session:
        session.execute(delete(table).where(table.c.seq == 2))
    with database.write() as session:
        session.execute(delete(table).where(table.c.seq == 1))


def test_a_draft_statement_changes_and_a_final_one_does_not(database: Database) -> None:
    statement, line = metadata.tables["statement"], metadata.tables["statement_line"]
    draft = {"number": None, "finalized_by": None, "finalized_at": None}
    insert_loose(database, statement, statement_id="s-1", state="draft", kind="statement", part=1, **draft)
    insert_loose(database, line, statement_id="s-1", line_no=1, line_count=1)
    with pytest.raises(AppendOnly, match="statement_line"), database.write() as session:
        session.execute(update(line).values(amount_fen=2))
    with database.write() as session:
        session.execute(update(statement).values(total_fen=5))
    final = {"state": "final", "number": "N-1", "finalized_by": "p", "finalized_at": NINE}
    with database.write() as session:
        session.execute(update(statement).values(final))
    with pytest.raises(AppendOnly, match="statement"), database.write() as session:
        session.execute(update(statement).values(total_fen=6))
    with pytest.raises(AppendOnly, match="statement_line"), database.write() as session:
        session.execute(delete(line))
    with pytest.raises(AppendOnly, match="statement"), database.write() as session:
        session.execute(delete(statement))


def test_the_lines_of_a_draft_may_be_done_again(database: Database) -> None:
    statement, line = metadata.tables["statement"], metadata.tables["statement_line"]
    draft = {"number": None, "finalized_by": None, "finalized_at": None}
    insert_loose(database, statement, statement_id="s-1", state="draft", kind="statement", part=1, **draft)
    insert_loose(database, line, statement_id="s-1", line_no=1, line_count=1)
    with database.write() as session:
        session.execute(delete(line))
        session.execute(delete(statement))


def test_a_reward_run_is_closed_once_and_its_result_never_changes(database: Database) -> None:
    table = metadata.tables["reward_run"]
    prepared = {"state": "prepared", "closed_by": None, "closed_at": None, "period_kind": "month"}
    insert_loose(database, table, **prepared)
    with pytest.raises(AppendOnly, match="reward_run"), database.write() as session:
        session.execute(update(table).values(result_sha256="other"))
    insert_loose(database, metadata.tables["person"], person_id="p-2")
    locked = {"state": "locked", "closed_by": "p-2", "closed_at": NINE}
    with pytest.raises(OutOfOrder, match="reward_run"), database.write() as session:
        session.execute(update(table).values(locked))
    insert_loose(database, metadata.tables["reward_step"], action="lock", to_stage="locked", done_by="p-2")
    with database.write() as session:
        session.execute(update(table).values(locked))
    with pytest.raises(AppendOnly, match="reward_run"), database.write() as session:
        session.execute(update(table).values(state="prepared"))
    with pytest.raises(AppendOnly, match="reward_run"), database.write() as session:
        session.execute(delete(table))


def test_the_list_of_guarded_tables_is_complete(database: Database) -> None:
    """Every trigger of the database is tried by a test of this file."""
    query = {
        "sqlite": "SELECT tbl_name FROM sqlite_master WHERE type = 'trigger'",
        "postgresql": "SELECT tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal",
    }[database.engine.dialect.name]
    with database.read() as session:
        guarded = set(session.execute(text(query)).scalars())
    conditional = {"usage_record", "statement", "statement_line", "reward_run"}
    conditional |= {"reward_objection", "reward_payment"}  # tried in tests/api/rewards/test_steps.py
    # Their triggers number changes for the catalogue's index: tests/api/registry.
    counted = {"host", "lab", "instrument", "org", "special_day", "test_item"}
    assert guarded - {"calendar_row"} - counted == set(ALWAYS) | conditional


TABLE = metadata.tables["calendar_row"]


def _slot(row_id: str, start_h: float, end_h: float, instrument: str = "xc-1", active: bool = True) -> dict[str, Any]:
    times = {"from_at": NINE + timedelta(hours=start_h), "to_at": NINE + timedelta(hours=end_h)}
    return made_up(TABLE, row_id=row_id, instrument_id=instrument, kind="booking", active=active, **times)


@pytest.fixture
def calendar(database: Database) -> Database:
    """A database with two instruments."""
    instrument = metadata.tables["instrument"]
    for number in (1, 2):
        insert_loose(database, instrument, instrument_id=f"xc-{number}", code=f"XC-{number}")
    return database


def _add(database: Database, **row: Any) -> None:
    with database.write() as session:
        session.execute(insert(TABLE).values(row))


@pytest.mark.parametrize(("start", "end"), [(0.5, 1.5), (-1, 0.001), (0.999, 3), (0.25, 0.5), (-1, 5), (0, 1)])
def test_two_active_rows_of_one_instrument_never_overlap(calendar: Database, start: float, end: float) -> None:
    _add(calendar, **_slot("first", 0, 1))
    with pytest.raises(CalendarOverlap):
        _add(calendar, **_slot("second", start, end))


def test_rows_that_touch_or_rest_or_belong_elsewhere_are_taken(calendar: Database) -> None:
    _add(calendar, **_slot("first", 0, 1))
    _add(calendar, **_slot("before", -1, 0))
    _add(calendar, **_slot("after", 1, 2))
    _add(calendar, **_slot("elsewhere", 0, 1, instrument="xc-2"))
    _add(calendar, **_slot("resting", 0, 1, active=False))


def test_an_update_cannot_bring_about_an_overlap(calendar: Database) -> None:
    _add(calendar, **_slot("first", 0, 1))
    _add(calendar, **_slot("second", 2, 3))
    _add(calendar, **_slot("resting", 0, 1, active=False))
    with pytest.raises(CalendarOverlap), calendar.write() as session:
        session.execute(update(TABLE).where(TABLE.c.row_id == "resting").values(active=True))
    with pytest.raises(CalendarOverlap), calendar.write() as session:
        session.execute(update(TABLE).where(TABLE.c.row_id == "second").values(from_at=NINE + timedelta(minutes=59)))
    with calendar.write() as session:  # a row does not clash with itself
        session.execute(update(TABLE).where(TABLE.c.row_id == "second").values(from_at=NINE + timedelta(hours=1)))


def test_of_many_who_want_one_slot_at_once_one_gets_it(calendar: Database) -> None:
    outcomes: list[str] = []

    def contend(number: int) -> None:
        try:
            _add(calendar, **_slot(f"row-{number}", number / 100, 1 + number / 100))
            outcomes.append("got it")
        except (CalendarOverlap, TryAgain) as refusal:
            outcomes.append(type(refusal).__name__)

    threads = [threading.Thread(target=contend, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(outcomes) == 8
    assert outcomes.count("got it") == 1
    with calendar.read() as session:
        assert session.scalar(select(func.count()).select_from(CalendarRow)) == 1
