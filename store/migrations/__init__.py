"""Bring a database to the version this program needs, and say so where it is not. Alembic, one history a file:

`ledger` for the ledger database (SQLite or PostgreSQL, the same migrations), `series` for the SQLite time series.
"""

from enum import StrEnum
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from store.errors import SchemaOutdated

_HERE = Path(__file__).parent


class History(StrEnum):
    """Which of the two histories a database follows."""

    LEDGER = "ledger"
    SERIES = "series"


def upgrade(engine: Engine, history: History = History.LEDGER, revision: str = "head") -> None:
    """Apply what is missing up to `revision`. Harmless where nothing is missing; one transaction."""
    with engine.begin() as connection:
        command.upgrade(_config(history, connection), revision)


def downgrade(engine: Engine, history: History = History.LEDGER, revision: str = "base") -> None:
    """Take migrations back to `revision`. Loses what only the newer version could keep."""
    with engine.begin() as connection:
        command.downgrade(_config(history, connection), revision)


def current(engine: Engine) -> str | None:
    """Return the revision a database is at, None where it was never migrated."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def require_current(engine: Engine, history: History = History.LEDGER) -> None:
    """Raise SchemaOutdated, naming both revisions and the command that mends it, unless at head."""
    head = ScriptDirectory.from_config(_config(history, None)).get_current_head()
    found = current(engine)
    if found != head:
        raise SchemaOutdated(
            f"the {history} database is at revision {found or 'none'}, this program needs {head}; run `openlab migrate`"
        )


def _config(history: History, connection: object) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_HERE))
    config.set_main_option("version_locations", str(_HERE / history.value))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    config.attributes["history"] = history
    return config
