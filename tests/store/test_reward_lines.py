"""The lines of a reward run name a run and a charge that are there, and these stay: keys see to it on SQLite, a trigger
for each statement on PostgreSQL (docs/adr/0012). By every way in which rows come in."""

from collections.abc import Callable

import pytest
from sqlalchemy import func, insert, literal, select, text
from sqlalchemy.orm import Session

from store.database import Database, insert_lines, insert_many
from store.errors import AppendOnly, StillReferenced
from store.tables import metadata
from store.tables.rewards import RewardInput, RewardResult
from tests.support.databases import DatabaseServers, opened
from tests.support.loose_rows import insert_loose, loose, made_up

CHARGE, RUN = metadata.tables["charge"], metadata.tables["reward_run"]
Line = tuple[str, str]
"""Run and charge."""


def one_by_one(session: Session, lines: list[Line]) -> None:
    for run_id, charge_id in lines:
        session.execute(insert(RewardInput).values(_row(run_id, charge_id)))


def in_one_statement(session: Session, lines: list[Line]) -> None:
    session.execute(insert(RewardInput).values([_row(*line) for line in lines]))


def from_a_query(session: Session, lines: list[Line]) -> None:
    for run_id, charge_id in lines:
        row = _row(run_id, charge_id)
        session.execute(insert(RewardInput).from_select(list(row), select(*map(literal, row.values()))))


def many(session: Session, lines: list[Line]) -> None:
    insert_many(session, RewardInput, [_row(*line) for line in lines])


def as_lines(session: Session, lines: list[Line]) -> None:
    columns = ("charge_id", "host_id", "amount_fen", "eligible_fen", "reason")
    [run_id] = {run_id for run_id, _ in lines}
    text = "".join(f"{charge_id}\th\t1\t1\teligible\n" for _, charge_id in lines)
    insert_lines(session, RewardInput, ("run_id", run_id), columns, [text.encode()])


def with_a_table_of_ones_own(session: Session, lines: list[Line]) -> None:
    session.execute(text("CREATE TEMPORARY TABLE charge (charge_id text PRIMARY KEY)"))
    session.execute(text("INSERT INTO pg_temp.charge VALUES (:id)"), [{"id": charge_id} for _, charge_id in lines])
    many(session, lines)


WAYS: tuple[Callable[[Session, list[Line]], None], ...] = (one_by_one, in_one_statement, from_a_query, many, as_lines)


def runs_and_charges(database: Database) -> None:
    """One run without lines, and a charge for every way."""
    insert_loose(database, RUN, run_id="r", state="prepared", closed_by=None, closed_at=None)
    for way in WAYS:
        insert_loose(database, CHARGE, **_charge(way.__name__))


@pytest.fixture
def ledger(database: Database) -> Database:
    """One run without lines, and a charge for every way, on each engine in turn."""
    runs_and_charges(database)
    return database


def test_no_line_names_a_run_or_a_charge_that_is_not_there(ledger: Database) -> None:
    for way in WAYS:
        known = way.__name__
        for lines in ([("r", known), ("r", "nobody's")], [("r", "nobody's")], [("no run", known)]):
            with pytest.raises(StillReferenced), ledger.write() as session:
                way(session, lines)
        with ledger.write() as session:
            assert session.scalar(select(func.count()).select_from(RewardInput)) == 0
    for way in WAYS:
        with ledger.write() as session:
            way(session, [("r", way.__name__)])
    with ledger.read() as session:
        assert session.scalar(select(func.count()).select_from(RewardInput)) == len(WAYS)


def test_neither_a_run_nor_a_charge_goes_or_gets_another_name(ledger: Database) -> None:
    with ledger.write() as session:
        many(session, [("r", "many")])
    changes = [
        "DELETE FROM charge",
        "UPDATE charge SET charge_id = 'other' WHERE charge_id = 'many'",
        "DELETE FROM reward_run",
        "UPDATE reward_run SET run_id = 'other'",
        "UPDATE reward_input SET charge_id = 'other'",
        "UPDATE reward_input SET run_id = 'other'",
    ]
    if ledger.engine.dialect.name == "postgresql":
        changes += [f"TRUNCATE {table} CASCADE" for table in ("charge", "reward_run", "reward_input")]
    for change in changes:
        with pytest.raises(AppendOnly), ledger.write() as session:
            session.execute(text(change))


@pytest.mark.parametrize("end", ["locked", "withdrawn"])
def test_a_run_that_has_ended_takes_neither_lines_nor_results(ledger: Database, end: str) -> None:
    insert_loose(ledger, RUN, run_id="ended", state=end, run_no=2)
    for way in WAYS:
        with pytest.raises(AppendOnly), ledger.write() as session:
            way(session, [("ended", way.__name__)])
    insert_loose(ledger, metadata.tables["host"], host_id="h")
    result = dict.fromkeys(RewardResult.__table__.columns.keys(), 0)
    late = result | {"run_id": "ended", "host_id": "h", "grade": "A", "explanation": ""}
    with pytest.raises(AppendOnly), ledger.write() as session:
        session.execute(insert(RewardResult).values(late))


def test_a_charge_is_there_for_others_once_it_is_committed_and_a_table_of_ones_own_is_none(
    database_servers: DatabaseServers,
) -> None:
    """Where others may write meanwhile, and a session's own tables are looked into first: on PostgreSQL."""
    with database_servers.fresh_url("postgresql", runs_and_charges) as url, opened(url) as ledger:
        with loose(ledger) as connection, Session(connection) as session:
            session.execute(insert(CHARGE), made_up(CHARGE, **_charge("new")))
            with pytest.raises(StillReferenced), ledger.write() as other:
                many(other, [("r", "new")])
            session.execute(text("SET LOCAL session_replication_role = origin"))
            many(session, [("r", "new")])
        with ledger.read() as session:
            assert session.scalars(select(RewardInput.charge_id)).all() == ["new"]
        with pytest.raises(StillReferenced, match="mine"), ledger.write() as session:
            with_a_table_of_ones_own(session, [("r", "mine")])


def _charge(name: str) -> dict[str, object]:
    return {"charge_id": name, "booking_id": name, "row_hash": name}


def _row(run_id: str, charge_id: str) -> dict[str, object]:
    return {
        "run_id": run_id,
        "charge_id": charge_id,
        "host_id": "h",
        "amount_fen": 1,
        "eligible_fen": 1,
        "reason": "eligible",
    }
