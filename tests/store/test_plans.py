"""A commit of usage costs what its batch costs: it never reads the whole ledger, however large that has grown.

SQLite says of each statement how it will find its rows, whatever the tables hold; two statements that read every record
there was for a repeat, and after each restart of a gateway, were found only when the ledger had grown.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from store.database import Database
from store.ledger import Arrival, ChainMemory, commit_usage
from tests.support.usage import StreamWriter, add_registry
from wire.messages import PowerState

GROWS = ("usage_record", "usage_session", "usage_entry")
NOW_MS = 1_800_000_000_000


@contextmanager
def reading_everything(database: Database) -> Iterator[list[str]]:
    """Collect what statements in the block would read whole tables that grow."""
    asked: dict[str, Any] = {}

    def note(_conn: object, _cursor: object, statement: str, given: Any, _context: object, many: bool) -> None:
        if statement.lstrip().startswith(("SELECT", "WITH", "UPDATE", "DELETE")):
            asked.setdefault(statement, given[0] if many else given)

    found: list[str] = []
    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
    with database.engine.connect() as connection:
        for statement, given in asked.items():
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", given).all()
            found += [
                f"{row[3]}: {statement}"
                for row in plan
                if any(row[3].split(" USING ")[0] == f"SCAN {table}" for table in GROWS)
            ]


def commit(database: Database, arrivals: Sequence[Arrival], memory: ChainMemory) -> None:
    with database.write() as session:
        result = commit_usage(session, arrivals, NOW_MS, "gateway:test", memory)
    memory.keep(result.pending)


def test_new_records_and_repeats_and_a_restarted_gateway_read_only_what_they_ask_for(
    sqlite_database: Database,
) -> None:
    with sqlite_database.write() as session:
        writers = [StreamWriter(instrument) for instrument in add_registry(session, 2)]
    for writer in writers:
        writer.open(60)
        writer.tick(PowerState.RUNNING, 60)
    first = [one for writer in writers for one in writer.arrivals()]
    with reading_everything(sqlite_database) as found:
        memory = ChainMemory()
        commit(sqlite_database, first, memory)
        commit(sqlite_database, first, memory)  # all of it again
        for writer in writers:
            writer.tick(PowerState.RUNNING, 60)
            writer.close(60)
        late = [one for writer in writers for one in writer.arrivals()[2:]]
        commit(sqlite_database, [one for one in late if one.seq == 4], ChainMemory())  # restarted, and with a hole
        commit(sqlite_database, late, ChainMemory())
    assert not found
