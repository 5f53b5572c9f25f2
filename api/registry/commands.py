"""`openlab agents`: the agents and their logins at the broker. A typer application that api.commands adds.

It writes the broker's files and tells the broker to read them; other connections stay. Each new secret is printed once.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from api.command_line import open_ledger
from api.registry import credentials, revoking
from api.registry.broker_files import (
    BrokerFiles,
    BrokerFolderUnusable,
    NotReloaded,
    locked,
    new_secret,
    open_files,
    prepare,
    reload_broker,
)
from api.settings import BadSettings
from wire.broker_access import Login, Role

agents = typer.Typer(
    help="Agents and their logins at the broker: add, revoke, list, rotate.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

AgentName = Annotated[str, typer.Argument(help="The agent's wire id: its login and its branch of the topic tree.")]
BrokerDir = Annotated[
    Path, typer.Option(help="Folder with the broker's logins.", envvar="OPENLAB_BROKER_DIR", show_default=False)
]
Pid = Annotated[int | None, typer.Option(help="Process id of the broker, to be told.", min=2)]
PidFile = Annotated[
    Path | None,
    typer.Option(help="Where its process id is (default: broker.pid in its folder).", envvar="OPENLAB_BROKER_PID_FILE"),
]
DataDir = Annotated[Path | None, typer.Option(help="Folder of the databases, where no URL is set.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]


@agents.command()
def add(
    agent: AgentName,
    host: Annotated[str, typer.Option(help="The host whose instruments it reads, like h01.", show_default=False)],
    broker_dir: BrokerDir,
    pid: Pid = None,
    pid_file: PidFile = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Register an agent and give it a login; the password is printed once. Repeating it changes nothing.

    Example: openlab agents add a-h01-l1 --host h01 --broker-dir /srv/openlab/broker
    """
    with _usable(), locked(broker_dir), open_ledger(data_dir=data_dir) as ledger:
        files = open_files(broker_dir)
        with ledger.unit("agents") as work:
            is_new = credentials.admit(work, files, agent, host)
        if is_new:
            _put(files, agent, as_json)
        else:
            _say(as_json, f"{agent} has a login already; `openlab agents rotate` makes a new one", agent=agent)
        _reload(broker_dir, pid, pid_file)


@agents.command()
def rotate(
    agent: AgentName,
    broker_dir: BrokerDir,
    pid: Pid = None,
    pid_file: PidFile = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Give an agent a new password, printed once; the old one is refused from its next connect on.

    Example: openlab agents rotate a-h01-l1 --broker-dir /srv/openlab/broker
    """
    with _usable(), locked(broker_dir), open_ledger(data_dir=data_dir) as ledger:
        files = open_files(broker_dir)
        with ledger.unit("agents") as work:
            credentials.renew(work, files, agent)
        _put(files, agent, as_json)
        _reload(broker_dir, pid, pid_file)


@agents.command()
def revoke(
    agent: AgentName,
    broker_dir: BrokerDir,
    do_it: Annotated[bool, typer.Option("--yes", help="Do it although use is lost; without, it is said what.")] = False,
    pid: Pid = None,
    pid_file: PidFile = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """From now on the agent's word does not count and its login is refused. Harmless to repeat.

    Example: openlab agents revoke a-h01-l1 --broker-dir /srv/openlab/broker

    Where use would be lost (records wait at the agent, or it speaks for an instrument) it says so and what to do first,
    changes nothing and exits 1; --yes revokes all the same, at once: for a stolen login.
    """
    with _usable(), locked(broker_dir), open_ledger(data_dir=data_dir) as ledger:
        files = open_files(broker_dir)
        with ledger.look("agents") as work:
            lost = [] if credentials.is_revoked(work, agent) else revoking.cautions(work, agent)
        for caution in lost:
            typer.echo(f"openlab: {caution.en}", err=True)
        if lost and not do_it:
            typer.echo("openlab: nothing was changed; with --yes it is revoked all the same", err=True)
            raise typer.Exit(1)
        with ledger.unit("agents") as work:
            credentials.expel(work, files, agent)
        files.remove(agent)
        _say(as_json, f"{agent} is revoked", agent=agent)
        _reload(broker_dir, pid, pid_file)


@agents.command("list")
def list_agents(broker_dir: BrokerDir, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Show every agent: its host, and whether registry and broker agree about it. Exit 1 where they do not.

    Example: openlab agents list --broker-dir /srv/openlab/broker
    """
    with _usable(), locked(broker_dir), open_ledger(data_dir=data_dir) as ledger, ledger.look("agents") as work:
        found = credentials.standings(work, open_files(broker_dir))
    if as_json:
        typer.echo(json.dumps([{"agent": s.agent_id, "host": s.host_id, "state": s.state} for s in found]))
    else:
        for standing in found:
            typer.echo(f"{standing.agent_id:32}  {standing.host_id or '-':12}  {standing.state}")
    if any(standing.state not in ("active", "revoked") for standing in found):
        raise typer.Exit(1)


@agents.command()
def prepare_broker(
    broker_dir: BrokerDir,
    kind: Annotated[Literal["mosquitto", "nats"], typer.Option(help="Which broker.", show_default=False)],
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.", min=1, max=65535)] = 1883,
    gateway: Annotated[str, typer.Option(help="Name of the gateway's login.")] = "gateway-1",
    run_as: Annotated[str | None, typer.Option(help="User that Mosquitto becomes when root starts it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the files of a new broker: its configuration and the gateway's login, whose password is printed once.

    Example: openlab agents prepare-broker --broker-dir /srv/openlab/broker --kind mosquitto
    """
    folder = broker_dir.absolute()
    with _usable(), locked(folder):
        try:
            login = Login(gateway, new_secret(), Role.GATEWAY)
        except ValueError as error:
            raise BadSettings(str(error)) from None
        config = prepare(folder, kind, port, login, run_as)
    _say(as_json, f"{gateway} {login.password}", login=gateway, password=login.password, config=str(config))


def _put(files: BrokerFiles, agent: str, as_json: bool) -> None:
    login = Login(agent, new_secret())
    files.put(login)
    # Before anything else can go wrong: it is kept nowhere else.
    _say(as_json, f"{agent} {login.password}", agent=agent, password=login.password)


def _say(as_json: bool, sentence: str, **fields: str) -> None:
    typer.echo(json.dumps(fields) if as_json else sentence)


def _reload(broker_dir: Path, pid: int | None, pid_file: Path | None) -> None:
    try:
        told = reload_broker(broker_dir, pid, pid_file)
    except NotReloaded as error:
        typer.echo(f"openlab: the files are written, but the broker was not told: {error}", err=True)
        raise typer.Exit(1) from None
    if told is None:
        typer.echo("openlab: no process id is known; the broker reads the files at SIGHUP or its next start", err=True)


@contextmanager
def _usable() -> Iterator[None]:
    """Turn what is wrong with the broker's folder into one sentence and exit code 2."""
    try:
        yield
    except BrokerFolderUnusable as error:
        raise BadSettings(str(error)) from None
