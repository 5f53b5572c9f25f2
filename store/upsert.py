"""Insert what is not there yet: the two statements that SQL databases spell alike only in part."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import CursorResult
from sqlalchemy.orm import Session

from store.database import Base, insert_statement


def insert_if_absent(session: Session, table: type[Base], values: dict[str, Any]) -> bool:
    """Insert a row unless its key is taken; return whether it was inserted. Never raises for a repeat."""
    statement = insert_statement(session, table).values(values).on_conflict_do_nothing()
    # Without this option the count of an INSERT is -1 on PostgreSQL: the cursor is closed before anybody asks.
    result = session.execute(statement, execution_options={"preserve_rowcount": True})
    assert isinstance(result, CursorResult)
    return result.rowcount == 1


def insert_or_update(
    session: Session, table: type[Base], values: dict[str, Any], key: Sequence[str], update: Sequence[str]
) -> None:
    """Insert a row, or set the columns `update` of the one with the same `key` to the new values."""
    statement = insert_statement(session, table).values(values)
    session.execute(
        statement.on_conflict_do_update(index_elements=list(key), set_={column: values[column] for column in update})
    )
