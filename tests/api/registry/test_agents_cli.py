"""`openlab agents` with real brokers: a new agent may connect, a revoked one may not, and nobody else notices."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import select
from typer.testing import CliRunner, Result

from api import commands
from api.embedded.broker import find_nats_server
from api.errors import Refused
from api.registry.broker_files import MosquittoFiles, NotReloaded, open_files, reload_broker
from api.settings import BadSettings
from store.audit import check_audit_chain
from store.database import Database
from store.tables.audit import AuditEvent
from store.tables.registry import Agent
from tests.support.brokers import WITH_THIS_PROCESS
from tests.support.county import seed_county
from tests.support.databases import DatabaseServers, opened
from tests.support.mqtt import Station
from tests.support.ports import free_port
from tests.support.requirements import require_binary
from tests.support.waiting import wait_until
from wire.broker_access import Login, Role
from wire.topics import Channel, all_down, up

NEW, OTHER, GATEWAY = "a-h01-new", "a-h02-other", "gateway-1"


@dataclass
class Office:
    """The command line over one county and one broker folder."""

    folder: Path
    database: Database

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(commands.app, ["agents", *arguments, "--broker-dir", str(self.folder)])

    def secret(self, *arguments: str) -> str:
        """Run a command that makes a password and return it."""
        result = self.run(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return str(json.loads(result.stdout)["password"])

    def states(self) -> dict[str, str]:
        listed = json.loads(self.run("list", "--json").stdout)
        return {each["agent"]: each["state"] for each in listed if each["agent"] in (NEW, OTHER)}

    def actions(self) -> list[str]:
        with self.database.read() as session:
            assert check_audit_chain(session, "host:h01") is None
            rows = session.scalars(select(AuditEvent).where(AuditEvent.subject == f"agent:{NEW}"))
            return [row.action for row in sorted(rows, key=lambda row: row.seq)]


@dataclass
class Running:
    """A broker started on the files that the product wrote, and nothing else."""

    office: Office
    port: int
    gateway_password: str
    process: subprocess.Popen[bytes]

    def station(self, name: str, password: str, *topics: str) -> Station:
        return Station(Login(name, password).url("127.0.0.1", self.port), name, topics or [all_down(name)])


@pytest.fixture
def office(tmp_path: Path, database_servers: DatabaseServers, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    with database_servers.fresh_url("sqlite", seed_county) as url, opened(url) as database:
        monkeypatch.setenv("OPENLAB_DATABASE_URL", url)
        monkeypatch.setenv("OPENLAB_SERIES_URL", f"sqlite:///{tmp_path / 'series.db'}")
        yield Office(tmp_path / "broker", database)


@pytest.fixture(params=["nats", "mosquitto"])
def running(request: pytest.FixtureRequest, office: Office) -> Iterator[Running]:
    is_nats = request.param == "nats"
    binary = find_nats_server() if is_nats else require_binary("mosquitto", "apt-get install mosquitto")
    port = free_port()
    run_as = ["--run-as", "root"] if os.geteuid() == 0 else []
    password = office.secret("prepare-broker", "--kind", request.param, "--port", str(port), *run_as)
    config = next(office.folder.glob("*.conf"))
    with (office.folder / "output").open("ab") as output:
        process = subprocess.Popen([*WITH_THIS_PROCESS, str(binary), "-c", str(config)], stdout=output, stderr=output)

    def accepts() -> bool:
        assert process.poll() is None, (office.folder / "output").read_text()
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return (office.folder / "broker.pid").exists()
        except OSError:
            return False

    wait_until(accepts, "the broker to take connections")
    yield Running(office, port, password, process)
    process.terminate()
    process.wait(10)


def connects(station: Station) -> bool:
    """Whether this login is let in; to be asked again: a broker reads its files a moment after it is told."""
    station.client.start()
    try:
        wait_until(lambda: station.client.connected or station.client.refusal, "an answer")
        return station.client.connected
    finally:
        station.client.stop()


def test_agents_come_and_go_and_the_others_stay_connected(running: Running) -> None:
    office = running.office
    other = office.secret("add", OTHER, "--host", "h02")
    wait_until(lambda: connects(running.station(OTHER, other)), "the first agent's login to be known")
    with (
        running.station(OTHER, other) as staying,
        running.station(GATEWAY, running.gateway_password, "lab/v1/up/#") as gateway,
    ):
        connection = staying.client.connection, gateway.client.connection
        secret = office.secret("add", NEW, "--host", "h01")
        wait_until(lambda: connects(running.station(NEW, secret)), "the new one to be let in")
        with running.station(NEW, secret) as new:
            new.send(up(OTHER, Channel.USAGE, "_"), b"forged")
            new.send(up(NEW, Channel.USAGE, "_"), b"honest")
            gateway.wait_heard(1)
            assert gateway.payloads == [b"honest"]
        renewed = office.secret("rotate", NEW)
        assert renewed != secret
        wait_until(lambda: not connects(running.station(NEW, secret)), "the old password to be refused")
        wait_until(lambda: connects(running.station(NEW, renewed)), "the new password to be let in")
        assert office.states() == {NEW: "active", OTHER: "active"}
        assert office.run("revoke", NEW).exit_code == 0
        wait_until(lambda: not connects(running.station(NEW, renewed)), "the revoked one to be refused")
        staying.send(up(OTHER, Channel.USAGE, "_"), b"undisturbed")
        wait_until(lambda: b"undisturbed" in gateway.payloads, "the other one's record")
        assert (staying.client.connection, gateway.client.connection) == connection
    assert office.states() == {NEW: "revoked", OTHER: "active"}
    assert office.actions() == [
        "agent_registered", "agent_credential_made", "agent_credential_rotated", "agent_revoked",
        "agent_credential_removed",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["nats", "mosquitto"])
def test_repeating_a_command_changes_nothing(office: Office, kind: str) -> None:
    assert office.run("prepare-broker", "--kind", kind).exit_code == 0
    office.secret("add", NEW, "--host", "h01")
    files = {path.name: path.read_bytes() for path in office.folder.iterdir()}
    again = office.run("add", NEW, "--host", "h01")
    assert (again.exit_code, "has a login already" in again.stdout) == (0, True)
    assert {path.name: path.read_bytes() for path in office.folder.iterdir()} == files
    for _ in range(2):
        assert office.run("revoke", NEW).exit_code == 0
    assert office.actions() == [
        "agent_registered", "agent_credential_made", "agent_revoked", "agent_credential_removed",
    ]  # fmt: skip
    assert office.run("prepare-broker", "--kind", kind).exception.__class__ is BadSettings


@pytest.mark.parametrize("kind", ["nats", "mosquitto"])
def test_an_addition_that_was_cut_short_is_completed_by_repeating_it(office: Office, kind: str) -> None:
    office.run("prepare-broker", "--kind", kind)
    office.secret("add", NEW, "--host", "h01")
    open_files(office.folder).remove(NEW)
    assert office.states() == {NEW: "no login"}
    assert office.run("list").exit_code == 1
    assert office.secret("add", NEW, "--host", "h01")
    assert office.states() == {NEW: "active"}


@pytest.mark.parametrize("kind", ["nats", "mosquitto"])
def test_secrets_are_for_the_owner_alone_and_hashed_where_the_broker_can_take_a_hash(office: Office, kind: str) -> None:
    office.run("prepare-broker", "--kind", kind)
    secret = office.secret("add", NEW, "--host", "h01")
    for path in office.folder.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
        assert kind == "nats" or secret.encode() not in path.read_bytes()
    with office.database.read() as session:
        assert all(secret.encode() not in row.body for row in session.scalars(select(AuditEvent)))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("add", "A_1", "--host", "h01"), "bad_wire_id"),
        (("add", NEW, "--host", "h99"), "not_found"),
        (("add", GATEWAY, "--host", "h01"), "login_taken"),
        (("rotate", "a-h01-none"), "not_found"),
        (("revoke", "a-h01-none"), "not_found"),
        (("revoke", GATEWAY), "login_taken"),
        (("add", "a-h01-old", "--host", "h02"), "agent_other_host"),
        (("rotate", "a-h01-old"), "agent_revoked"),
        (("add", "a-h01-old", "--host", "h01"), "agent_revoked"),
    ],
    ids=str,
)
def test_what_is_refused_has_a_code_and_changes_nothing(office: Office, arguments: tuple[str, ...], code: str) -> None:
    office.run("prepare-broker", "--kind", "mosquitto")
    office.secret("add", "a-h01-old", "--host", "h01")
    office.run("revoke", "a-h01-old")
    files = {path.name: path.read_bytes() for path in office.folder.iterdir()}
    refused = office.run(*arguments).exception
    assert isinstance(refused, Refused)
    assert refused.code == code
    assert {path.name: path.read_bytes() for path in office.folder.iterdir()} == files
    with office.database.read() as session:
        assert session.get(Agent, NEW) is None
        assert session.get(Agent, GATEWAY) is None


def test_an_agent_with_use_to_lose_is_revoked_only_when_that_is_said_to_be_meant(office: Office) -> None:
    office.run("prepare-broker", "--kind", "mosquitto")
    metering = "a-h01-01"
    office.secret("add", metering, "--host", "h01")
    files = {path.name: path.read_bytes() for path in office.folder.iterdir()}
    asked = office.run("revoke", metering)
    assert asked.exit_code == 1
    assert "a-h01-01 speaks for xc-h01-01: from then on nobody meters that. First record" in asked.stderr
    assert "nothing was changed" in asked.stderr
    assert {path.name: path.read_bytes() for path in office.folder.iterdir()} == files
    with office.database.read() as session:
        assert session.get_one(Agent, metering).revoked_at is None
    assert office.run("revoke", metering, "--yes").exit_code == 0
    with office.database.read() as session:
        assert session.get_one(Agent, metering).revoked_at is not None
    assert office.run("revoke", metering).exit_code == 0


def test_a_folder_that_is_not_a_brokers_is_said_to_be_so(office: Office) -> None:
    result = office.run("add", NEW, "--host", "h01")
    assert isinstance(result.exception, BadSettings)
    assert "prepare-broker" in str(result.exception)
    with office.database.read() as session:
        assert session.get(Agent, NEW) is None


def test_a_login_without_a_registration_is_shown_and_can_be_taken_away(office: Office) -> None:
    office.run("prepare-broker", "--kind", "mosquitto")
    open_files(office.folder).put(Login(NEW, "token-of-nobody"))
    assert office.states() == {NEW: "unregistered"}
    assert office.run("revoke", NEW).exit_code == 0
    assert office.states() == {}


def test_a_password_file_and_an_acl_of_somebody_else_are_added_to_and_not_replaced(tmp_path: Path) -> None:
    acl = "# ours\nuser gateway\ntopic read lab/v1/up/#\n"
    (tmp_path / "acl").write_text(acl)
    (tmp_path / "passwords").write_text("gateway:$7$101$x$y\nolder:$7$101$x$y\n")
    (tmp_path / "passwords").chmod(0o600)
    files = MosquittoFiles(tmp_path)
    files.put(Login(NEW, "token-of-the-new-one"))
    text = (tmp_path / "acl").read_text()
    assert text.startswith(acl)
    assert text.count("pattern") == 3
    files.put(Login(NEW, "token-of-the-new-two"))
    assert (tmp_path / "acl").read_text() == text
    assert files.roles() == {"gateway": Role.GATEWAY, "older": Role.AGENT, NEW: Role.AGENT}
    assert files.remove("older")
    assert not files.remove("older")
    assert (tmp_path / "passwords").read_text().startswith("gateway:$7$101$x$y\n")


def test_a_process_that_is_not_a_broker_is_not_signalled(tmp_path: Path) -> None:
    (tmp_path / "broker.pid").write_text(f"{os.getpid()}\n")
    with pytest.raises(NotReloaded, match="not a broker"):
        reload_broker(tmp_path, None, None)
    with pytest.raises(NotReloaded, match="no pid file"):
        reload_broker(tmp_path, None, tmp_path / "elsewhere.pid")
    (tmp_path / "broker.pid").write_text("soon")
    with pytest.raises(NotReloaded, match="no process id"):
        reload_broker(tmp_path, None, None)
    (tmp_path / "broker.pid").unlink()
    assert reload_broker(tmp_path, None, None) is None


def test_a_secret_is_shown_even_where_the_broker_cannot_be_told(office: Office) -> None:
    office.run("prepare-broker", "--kind", "mosquitto")
    result = office.run("add", NEW, "--host", "h01", "--pid", str(os.getpid()))
    assert result.exit_code == 1
    assert result.stdout.startswith(f"{NEW} ")
    assert "was not told" in result.stderr
    assert office.states() == {NEW: "active"}
