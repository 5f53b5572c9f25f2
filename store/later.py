"""Rows that are only added: written with the next flush of their session, all of a table in one statement.

For what every change leaves behind and nobody holds as an object (events, audit events, notices): an object of the ORM
costs several times as much. Sessions of `store.database.Database` only.
"""

from functools import cache
from typing import Any

from sqlalchemy import insert
from sqlalchemy.orm import DeclarativeBase, Session

_LATER = "rows written later"


class LedgerSession(Session):
    """A session that writes the rows of `write_later` after its objects, which they may refer to."""

    def flush(self, objects: Any = None) -> None:
        """Write what is to be written. Called before any statement over classes, and before the commit."""
        super().flush(objects)
        later: dict[type[DeclarativeBase], list[dict[str, Any]]] = self.info.pop(_LATER, {})
        for table, rows in later.items():
            self.connection().execute(_insert(table), rows if len(rows) > 1 else rows[0])


def write_later(session: Session, table: type[DeclarativeBase], values: dict[str, Any]) -> None:
    """Add a row, by the names of its columns, with the next flush. Raises TypeError for a session of somebody else."""
    if not isinstance(session, LedgerSession):
        raise TypeError("rows are kept for later by sessions of the ledger only")
    session.info.setdefault(_LATER, {}).setdefault(table, []).append(values)


def write_before_commit(session: Session) -> None:
    """Write what is left, also where no object has changed. For the event `before_commit`."""
    session.flush()


@cache
def _insert(table: type[DeclarativeBase]) -> Any:
    return insert(table.__table__)  # type: ignore[arg-type]
