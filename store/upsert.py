"""Insert what is not there yet: the two statements that SQL databases spell alike only in part.

Statements are put together once a table, engine and shape: that costs more than the database's answer to them.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import CursorResult, Select, bindparam
from sqlalchemy.orm import Session

from store.database import Base, engine_of, insert_into


def insert_if_absent(session: Session, table: type[Base], values: dict[str, Any]) -> bool:
    """Insert a row unless its key is taken; return whether it was inserted. Never raises for a repeat.

    `values` by the names of the columns. What the session has not written yet is written before, as with
    any statement of the session.
    """
    return _inserts(session, _absent(engine_of(session), table), values)


def insert_where(
    session: Session, table: type[Base], values: dict[str, Any], found: Select[Any], asked: dict[str, Any]
) -> bool:
    """Insert a row if `found`, a selection made once, finds one with what is `asked`, and unless its key is taken, in
    one statement; return whether it was inserted. A lock that `found` asks for is taken before."""
    statement = _where(engine_of(session), table, tuple(values), found)
    return _inserts(session, statement, values | asked)


def insert_or_update(
    session: Session, table: type[Base], values: dict[str, Any], key: Sequence[str], update: Sequence[str]
) -> None:
    """Insert a row, or set the columns `update` of the one with the same `key` to the new values."""
    if session.autoflush:
        session.flush()
    session.execute(_or_update(engine_of(session), table, tuple(key), tuple(update)), values)


def _inserts(session: Session, statement: Any, given: dict[str, Any]) -> bool:
    if session.autoflush:
        session.flush()
    # Without this option the count of an INSERT is -1 on PostgreSQL: the cursor is closed before anybody asks.
    result = session.execute(statement, given, execution_options={"preserve_rowcount": True})
    assert isinstance(result, CursorResult)
    return result.rowcount == 1


@lru_cache(maxsize=256)
def _absent(engine: str, table: type[Base]) -> Any:
    return insert_into(engine, table).on_conflict_do_nothing()


@lru_cache(maxsize=256)
def _where(engine: str, table: type[Base], names: tuple[str, ...], found: Select[Any]) -> Any:
    columns = table.__table__.c
    row = found.with_only_columns(*(bindparam(name, type_=columns[name].type) for name in names))
    return insert_into(engine, table).from_select(names, row).on_conflict_do_nothing()


@lru_cache(maxsize=256)
def _or_update(engine: str, table: type[Base], key: tuple[str, ...], update: tuple[str, ...]) -> Any:
    statement = insert_into(engine, table)
    given = {column: statement.excluded[column] for column in update}
    return statement.on_conflict_do_update(index_elements=list(key), set_=given)
