"""What every `openlab` command shares: the settings, an open database, a unit of work of the system, how it ends.

Domain commands (`api/<domain>/commands.py`) use `unit` and raise `Refused`; api.commands turns errors into exit codes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import ArgumentError

from api.settings import BadSettings, Settings, load_settings
from api.work import Work, system_actor
from store.database import Database, open_database
from store.migrations import require_current
from wire.clock import Clock, from_ms, open_clock


@dataclass(frozen=True)
class Ledger:
    """The ledger as a command sees it: migrated, with the process' clock."""

    settings: Settings
    database: Database
    clock: Clock

    @contextmanager
    def unit(self, part: str) -> Iterator[Work]:
        """One changing transaction in the name of `system:<part>`; commits when the block ends."""
        with self.database.write() as session:
            yield Work(session, system_actor(part), from_ms(self.clock.now_ms()))

    @contextmanager
    def look(self, part: str) -> Iterator[Work]:
        """One read-only transaction."""
        with self.database.read() as session:
            yield Work(session, system_actor(part), from_ms(self.clock.now_ms()))


@contextmanager
def usable() -> Iterator[None]:
    """Turn what goes wrong while parts are opened into BadSettings: a URL nobody knows, a folder that is closed."""
    try:
        yield
    except (ValueError, ArgumentError, OSError) as error:
        raise BadSettings(str(error)) from error


@contextmanager
def open_ledger(**overrides: Any) -> Iterator[Ledger]:
    """Open the ledger that the settings name, for the length of a command.

    Raises BadSettings, and SchemaOutdated, which says to run `openlab migrate`.
    """
    settings = load_settings(**overrides)
    with usable():
        database = open_database(settings.database_url)
        clock = open_clock(settings.clock_file)
    try:
        require_current(database.engine)
        yield Ledger(settings, database, clock)
    finally:
        database.dispose()
