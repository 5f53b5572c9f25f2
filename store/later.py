"""Rows that are only added, and values that only have to stand at the end: written with their session's next flush.

For what every change leaves behind and nobody holds as an object (events, audit events, notices, the head of a chain):
an object of the ORM costs several times as much. All of it goes to the database at once, in the way that
`store.database` gave the session. Sessions of `store.database.Database` only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect, Table
from sqlalchemy.orm import DeclarativeBase, Session

Statement = tuple[str, tuple[Any, ...]]
"""The text of a statement in the words of a driver, and what it is given."""
Send = Callable[[Connection, Sequence[Statement]], None]
"""Runs statements of which nobody wants an answer; raises what the first one that fails does."""

SEND = "how what is written later is sent"
_LATER = "what is written later"

_TableClass = type[DeclarativeBase]
_Key = tuple[tuple[str, Any], ...]


@dataclass
class _Later:
    rows: dict[tuple[_TableClass, bool], list[dict[str, Any]]] = field(default_factory=dict)
    values: dict[tuple[_TableClass, _Key], dict[str, Any]] = field(default_factory=dict)


class LedgerSession(Session):
    """A session that writes what is kept for later after its objects, which the rows may refer to."""

    def flush(self, objects: Any = None) -> None:
        """Write what is to be written. Called before any statement over classes, and before the commit."""
        super().flush(objects)
        later: _Later | None = self.info.pop(_LATER, None)
        if later is None:
            return
        connection, send = self.connection(), self.info[SEND]
        statements = [_insert(connection.dialect, *key, rows) for key, rows in later.rows.items()]
        for (table, key), values in later.values.items():
            statements.append(_update(connection.dialect, table, dict(key), values))
        send(connection, statements)


def write_later(session: Session, table: _TableClass, values: dict[str, Any], *, if_absent: bool = False) -> None:
    """Add a row, by the names of its columns, with the next flush; `if_absent`: unless its key is taken.

    All rows of a table name the same columns. Raises TypeError for a session of somebody else.
    """
    _later(session).rows.setdefault((table, if_absent), []).append(values)


def set_later(session: Session, table: _TableClass, key: dict[str, Any], values: dict[str, Any]) -> None:
    """Set columns of the row with this key, which is there, with the next flush; what is said last stands.

    Raises TypeError for a session of somebody else.
    """
    _later(session).values.setdefault((table, tuple(key.items())), {}).update(values)


def write_before_commit(session: Session) -> None:
    """Write what is left, also where no object has changed. For the event `before_commit`."""
    session.flush()


def forget_what_is_undone(session: Session, undone: object) -> None:
    """Drop what was to be written in a transaction, or in a savepoint, that is rolled back: all that came before a
    savepoint was written when it was set. For the event `after_soft_rollback`."""
    session.info.pop(_LATER, None)


def _later(session: Session) -> _Later:
    if not isinstance(session, LedgerSession):
        raise TypeError("rows are kept for later by sessions of the ledger only")
    found: _Later = session.info.setdefault(_LATER, _Later())
    return found


def _insert(dialect: Dialect, table: _TableClass, if_absent: bool, rows: list[dict[str, Any]]) -> Statement:
    names = tuple(rows[0])
    converts = _converts(dialect, table, names)
    given = (row[name] if convert is None else convert(row[name]) for row in rows for name, convert in converts)
    return _insert_text(dialect, table, names, len(rows), if_absent), tuple(given)


def _update(dialect: Dialect, table: _TableClass, key: dict[str, Any], values: dict[str, Any]) -> Statement:
    whole = values | key
    converts = _converts(dialect, table, tuple(whole))
    given = (whole[name] if convert is None else convert(whole[name]) for name, convert in converts)
    return _update_text(dialect, table, tuple(values), tuple(key)), tuple(given)


# Put together once: that costs more than sending them.
@lru_cache(maxsize=256)
def _insert_text(dialect: Dialect, table: _TableClass, names: tuple[str, ...], rows: int, if_absent: bool) -> str:
    row = f"({', '.join(_mark(dialect, table, name) for name in names)})"
    unless = " ON CONFLICT DO NOTHING" if if_absent else ""
    return f"INSERT INTO {table.__tablename__} ({', '.join(names)}) VALUES {', '.join([row] * rows)}{unless}"


@lru_cache(maxsize=256)
def _update_text(dialect: Dialect, table: _TableClass, names: tuple[str, ...], key: tuple[str, ...]) -> str:
    changes = ", ".join(f"{name} = {_mark(dialect, table, name)}" for name in names)
    found = " AND ".join(f"{name} = {_mark(dialect, table, name)}" for name in key)
    return f"UPDATE {table.__tablename__} SET {changes} WHERE {found}"


@lru_cache(maxsize=256)
def _converts(
    dialect: Dialect, table: _TableClass, names: tuple[str, ...]
) -> tuple[tuple[str, Callable[[Any], Any] | None], ...]:
    types = [(name, _columns(table)[name].type.dialect_impl(dialect)) for name in names]
    return tuple((name, each.bind_processor(dialect)) for name, each in types)


def _mark(dialect: Dialect, table: _TableClass, name: str) -> str:
    if dialect.paramstyle == "qmark":
        return "?"
    # Of rows that all hold NULL there, a server could not tell what NULL it is.
    return f"%s::{_columns(table)[name].type.compile(dialect)}"


def _columns(table: _TableClass) -> Any:
    own = table.__table__
    assert isinstance(own, Table)
    return own.c
