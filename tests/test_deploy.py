"""The files under deploy/mosquitto, run with a real Mosquitto: logins, rights, and that they agree with the code."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.brokers import WITH_THIS_PROCESS
from tests.support.mqtt import Station
from tests.support.ports import free_port
from tests.support.requirements import require_binary
from tests.support.waiting import wait_until
from wire.broker_access import MAX_PACKET_BYTES, MAX_QUEUED, MAX_UNACKNOWLEDGED, Role, mosquitto_acl, rights
from wire.client import BrokerRefused

DEPLOY = Path(__file__).parents[1] / "deploy" / "mosquitto"
AGENT = "xc-h01-01"


class DeployedBroker:
    """deploy/mosquitto/broker and its files, with the container's places and port replaced by those of a test."""

    def __init__(self, folder: Path) -> None:
        require_binary("mosquitto", "apt-get install mosquitto")
        self.port = free_port()
        self.data, deploy = folder / "data", folder / "deploy"
        for path in (self.data, deploy / "conf.d"):
            path.mkdir(parents=True)
        for name in ("broker", "acl"):
            (deploy / name).write_bytes((DEPLOY / name).read_bytes())
        text = (DEPLOY / "mosquitto.conf").read_text()
        text = text.replace("/mosquitto/data", str(self.data)).replace("/deploy", str(deploy))
        text = text.replace("listener 1883", f"listener {self.port} 127.0.0.1")
        (deploy / "mosquitto.conf").write_text(text + ("user root\n" if os.geteuid() == 0 else ""))
        self._log = folder / "log"
        self.environment = {
            "PATH": f"{os.environ['PATH']}:/usr/sbin",
            "OPENLAB_BROKER_DATA": str(self.data),
            "OPENLAB_BROKER_DEPLOY": str(deploy),
            "GATEWAY_BROKER_PASSWORD": "of-the-gateway",
        }
        self._command = ["sh", str(deploy / "broker")]
        self._process: subprocess.Popen[bytes] | None = None

    def serve(self) -> None:
        with self._log.open("ab") as log:
            self._process = process = subprocess.Popen(
                [*WITH_THIS_PROCESS, *self._command, "serve"], env=self.environment, stdout=log, stderr=log
            )
        self.environment["OPENLAB_BROKER_PID"] = str(self._process.pid)

        def runs() -> bool:
            assert process.poll() is None, f"the broker ended: {self._log.read_text()}"
            return "running" in self._log.read_text()

        wait_until(runs, "mosquitto to run")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self._command, *arguments], env=self.environment, capture_output=True, text=True)

    def add(self, name: str) -> str:
        """Return the new login's password."""
        reloads = self._log.read_text().count("Reloading config")
        result = self.run("add", name)
        assert result.returncode == 0, result.stderr
        wait_until(lambda: self._log.read_text().count("Reloading config") > reloads, "mosquitto to reload")
        return result.stdout.strip()

    def url(self, name: str, password: str) -> str:
        return f"mqtt://{name}:{password}@127.0.0.1:{self.port}"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[DeployedBroker]:
    """The deployed broker, running."""
    deployed = DeployedBroker(tmp_path)
    deployed.serve()
    yield deployed
    deployed.stop()


def test_the_acl_grants_what_the_code_says_and_no_more() -> None:
    written = [line for line in (DEPLOY / "acl").read_text().splitlines() if line and not line.startswith("#")]
    # Gateways share one login, so where the code names one gateway the deployed file says any.
    gateway = rights(Role.GATEWAY, "+")
    assert written == [
        *mosquitto_acl([]).splitlines(),
        "user gateway",
        *(f"topic write {topic}" for topic in gateway.publish),
        *(f"topic read {topic}" for topic in gateway.subscribe),
    ]


def test_the_broker_is_set_to_the_limits_the_code_counts_on() -> None:
    lines = (DEPLOY / "mosquitto.conf").read_text().splitlines()
    assert {
        "allow_anonymous false",
        "persistence true",
        f"max_inflight_messages {MAX_UNACKNOWLEDGED}",
        f"max_queued_messages {MAX_QUEUED}",
        f"max_packet_size {MAX_PACKET_BYTES}",
    } <= set(lines)


def test_an_agent_with_a_new_login_is_heard_by_every_gateway(broker: DeployedBroker) -> None:
    password = broker.add(AGENT)
    assert len(password) == 48
    gateway = broker.url("gateway", "of-the-gateway")
    with (
        Station(gateway, "gw-a", ["lab/v1/up/#", "lab/v1/srv/#"]) as first,
        Station(gateway, "gw-b", ["lab/v1/srv/#"]) as second,
        Station(broker.url(AGENT, password), AGENT, ["lab/v1/srv/+/state"]) as agent,
    ):
        agent.send(f"lab/v1/up/{AGENT}/rec/_", b"record")
        first.send("lab/v1/srv/gw-a/state", b"a")
        second.send("lab/v1/srv/gw-b/state", b"b")
        first.wait_heard(3)
        assert b"record" in first.payloads
        agent.wait_heard(2)
        assert sorted(agent.payloads) == [b"a", b"b"]


def test_an_agent_cannot_write_in_the_name_of_another(broker: DeployedBroker) -> None:
    password = broker.add(AGENT)
    with (
        Station(broker.url("gateway", "of-the-gateway"), "gw-a", ["lab/v1/#"]) as gateway,
        Station(broker.url(AGENT, password), AGENT) as agent,
    ):
        agent.send("lab/v1/up/xc-h02-01/rec/_", b"forged")
        agent.send("lab/v1/srv/gw-a/state", b"forged")
        agent.send(f"lab/v1/up/{AGENT}/rec/_", b"true")
        gateway.wait_heard(1)
        assert gateway.payloads == [b"true"]


def test_a_login_that_was_removed_or_never_made_is_refused(broker: DeployedBroker) -> None:
    password = broker.add(AGENT)
    assert broker.run("list").stdout.split() == ["gateway", AGENT]
    assert broker.run("remove", AGENT).returncode == 0
    assert broker.run("list").stdout.split() == ["gateway"]
    for name, secret in ((AGENT, password), ("gateway", "a-guess")):
        station = Station(broker.url(name, secret), "somebody")
        station.client.start()
        try:
            # The broker takes the new file up a moment after it was told to.
            wait_until(lambda one=station: one.client.refusal, "a refusal")
            with pytest.raises(BrokerRefused):
                station.client.wait_connected(1)
        finally:
            station.client.stop()


def test_logins_survive_a_restart_and_a_renewed_one_replaces_the_old(broker: DeployedBroker) -> None:
    old, new = broker.add(AGENT), broker.add(AGENT)
    assert old != new
    broker.stop()
    broker.serve()
    with Station(broker.url(AGENT, new), AGENT) as agent:
        agent.send(f"lab/v1/up/{AGENT}/rec/_", b"record")
    assert broker.run("list").stdout.split() == ["gateway", AGENT]


def test_passwords_are_kept_hashed_and_for_the_broker_alone(broker: DeployedBroker) -> None:
    password = broker.add(AGENT)
    for path in broker.data.iterdir():
        assert password.encode() not in path.read_bytes()
        assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["XC-H01", "a/b", "ab", "+", "a:b", "x" * 33, "gateway", ""])
def test_a_name_that_would_reach_beyond_its_branch_is_refused(broker: DeployedBroker, name: str) -> None:
    result = broker.run("add", name)
    assert result.returncode == 2
    assert result.stderr.startswith("broker: ")
    assert broker.run("list").stdout.split() == ["gateway"]


def test_without_the_gateways_password_nothing_starts(tmp_path: Path) -> None:
    deployed = DeployedBroker(tmp_path)
    del deployed.environment["GATEWAY_BROKER_PASSWORD"]
    result = deployed.run("serve")
    assert result.returncode == 2
    assert "GATEWAY_BROKER_PASSWORD is not set" in result.stderr
