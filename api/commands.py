"""The `openlab` commands. Each domain adds its own in `api/<domain>/commands.py`; the list is at the end of this file.

Composition root of the processes it starts. Errors become one sentence on stderr and an exit code (see `run`).
"""

import json
import signal
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from prometheus_client import generate_latest
from sqlalchemy.exc import SQLAlchemyError

from api.accounts.commands import app as accounts
from api.alerts.commands import app as alerts
from api.bundle.commands import bundle_command
from api.charging.commands import close_month, explain
from api.charging.tariff_commands import tariff_diff
from api.chores import chores_of
from api.command_line import open_ledger, usable
from api.doctor.commands import doctor, expire, quarantine
from api.embedded.commands import demo
from api.errors import Refused
from api.exports.commands import app as export
from api.health import why_not_ready
from api.notices.running import postman_at_work
from api.parts import close_parts, open_parts
from api.registry.commands import agents
from api.registry.transfer_commands import registry
from api.rewards.commands import app as rewards
from api.seeding import Seeded, load_registry
from api.serving import listen, log_json, serve_here, serve_in_processes
from api.settings import BadSettings, load_settings
from api.simulation.commands import simulate_year_command
from api.verify.commands import app as verify
from api.worker import Worker
from store.database import open_database
from store.errors import SchemaOutdated, StoreError
from store.migrations import current, require_current, upgrade
from store.series import prepare_series
from wire.health_page import HealthPage

app = typer.Typer(
    help="OpenLab: shared laboratory instruments of a county. Settings come from OPENLAB_… variables.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

DataDir = Annotated[Path | None, typer.Option(help="Folder of the databases, where no URL is set.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]


def run() -> int:
    """Run the command that the arguments name; return its exit code.

    0: done. 1: refused, or a check found a difference. 2: cannot run as configured.
    """
    try:
        app(standalone_mode=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else (0 if end.code is None else 1)
    except Refused as refused:
        sys.stderr.write(f"openlab: {refused.zh}\nopenlab: {refused.en}\n")
        return 1
    except (BadSettings, SchemaOutdated) as error:
        sys.stderr.write(f"openlab: {error}\n")
        return 2
    except (SQLAlchemyError, StoreError) as error:
        sys.stderr.write(f"openlab: the database does not answer as it should: {_first_line(error)}\n")
        return 2
    return 0


@app.command()
def migrate(data_dir: DataDir = None) -> None:
    """Bring the databases to the version this program needs. Harmless where nothing is missing.

    Example: OPENLAB_DATABASE_URL=postgresql+psycopg://… openlab migrate
    """
    settings = load_settings(data_dir=data_dir)
    with usable():
        database = open_database(settings.database_url)
        prepared = prepare_series(settings.series_url)
    try:
        before = current(database.engine)
        upgrade(database.engine)
        typer.echo(f"ledger: {before or 'empty'} -> {current(database.engine)}")
    finally:
        database.dispose()
    typer.echo("series: up to date" if prepared else "series: kept by its own server")


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (default 127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="Port (default 8000).", min=0, max=65535)] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that answer (default 1).", min=1, max=64)] = None,
    data_dir: DataDir = None,
) -> None:
    """Serve the API until SIGTERM or Ctrl-C. The databases must be migrated.

    Example: openlab serve --port 8000 --workers 2
    """
    log_json()
    settings = load_settings(host=host, port=port, workers=workers, data_dir=data_dir)
    with usable():
        parts = open_parts(settings)
    try:
        require_current(parts.database.engine)
        with ExitStack() as opened:
            sockets = [opened.enter_context(each) for each in listen(settings)]
            typer.echo(f"http://{settings.host}:{sockets[0].getsockname()[1]}/docs")
            if len(sockets) == 1:
                serve_here(parts, sockets[0])
                return
            close_parts(parts)  # each process opens its own
            serve_in_processes(settings, sockets)
    finally:
        close_parts(parts)


@app.command()
def worker(data_dir: DataDir = None) -> None:
    """Match closed sessions to bookings, charge, expire and send e-mail, until SIGTERM or Ctrl-C. Any number may run.

    Example: openlab worker
    """
    log_json()
    until = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: until.set())
    settings = load_settings(data_dir=data_dir)
    with usable():
        parts = open_parts(settings)
    page = None
    try:
        require_current(parts.database.engine)
        hand = Worker(parts.database, parts.series, parts.clock, chores=chores_of(settings, parts.series))
        if settings.metrics_port is not None:
            page = HealthPage(
                settings.metrics_host,
                settings.metrics_port,
                lambda: why_not_ready(parts.database),
                lambda: generate_latest(hand.metrics.registry),
            )
        with postman_at_work(parts):
            hand.run(until)
    finally:
        if page is not None:
            page.close()
        close_parts(parts)


@app.command()
def seed(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Load the demonstration county: hosts, labs, instruments, firms, people. A second run changes nothing.

    Example: openlab seed --json > logins.json

    Each new person's password is made at random and printed once; it is kept nowhere.
    """
    with open_ledger(data_dir=data_dir) as ledger, ledger.unit("seed") as work:
        # Printed before the commit: if nobody can read the passwords, nobody gets one.
        _print_seeded(load_registry(work), as_json)


def _print_seeded(seeded: Seeded, as_json: bool) -> None:
    if as_json:
        logins = [{"login": each.login, "password": each.password, "role": each.role.value} for each in seeded.logins]
        counts = {"hosts": seeded.hosts, "labs": seeded.labs, "instruments": seeded.instruments, "orgs": seeded.orgs}
        typer.echo(json.dumps({"added": counts, "logins": logins}, ensure_ascii=False))
        return
    typer.echo(
        f"added {seeded.hosts} hosts, {seeded.labs} labs, {seeded.instruments} instruments, {seeded.orgs} organisations"
    )
    for each in seeded.logins:
        typer.echo(f"{each.role.value:15} {each.login:20} {each.password}")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


# The commands of the domains, one line each.
app.command()(demo)
app.command()(close_month)
app.command()(explain)
app.command()(tariff_diff)
app.add_typer(accounts, name="accounts")
app.add_typer(agents, name="agents")
app.add_typer(registry, name="registry")
app.add_typer(rewards, name="rewards")
app.add_typer(export, name="export")
app.command("bundle")(bundle_command)
app.add_typer(verify, name="verify")
app.command()(doctor)
app.command()(expire)
app.add_typer(quarantine, name="quarantine")
app.add_typer(alerts, name="alerts")
app.command("simulate-year")(simulate_year_command)
