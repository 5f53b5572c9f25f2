"""The two real brokers of the tests, behind one interface: the embedded NATS server and Debian's Mosquitto."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from api.embedded.broker import EmbeddedBroker, write_secret
from tests.support.ports import free_port
from tests.support.requirements import require_binary
from tests.support.waiting import wait_until
from wire.broker_access import (
    MAX_PACKET_BYTES,
    MAX_QUEUED,
    MAX_UNACKNOWLEDGED,
    Login,
    Role,
    mosquitto_acl,
    mosquitto_password_line,
)

# So that a killed test run leaves no broker behind.
WITH_THIS_PROCESS = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []

AGENT, OTHER_AGENT, GATEWAY = "xc-h01-01", "xc-h02-01", "gw-1"
LOGINS = (
    Login(AGENT, "token-of-agent-one"),
    Login(OTHER_AGENT, "token-of-agent-two"),
    Login(GATEWAY, "token-of-the-gateway", Role.GATEWAY),
)


class AnyBroker(Protocol):
    """What a test may do with a broker."""

    port: int
    keeps_acknowledged_over_kill: bool

    def __init__(self, folder: Path) -> None: ...

    def url_for(self, username: str) -> str:
        """Return the address, with password, of one of the logins."""
        ...

    def start(self) -> None: ...

    def kill(self) -> None:
        """SIGKILL, without a chance to save."""
        ...

    def restart(self) -> None:
        """Stop in an orderly way and start on the same data and port."""
        ...

    def stop(self) -> None: ...

    def set_logins(self, logins: Sequence[Login]) -> None:
        """Replace the logins while it runs."""
        ...


class NatsBroker(EmbeddedBroker):
    """The embedded broker. Redelivers unacknowledged messages after one second here, so that a test can wait for it."""

    keeps_acknowledged_over_kill = True

    def __init__(self, folder: Path, logins: Sequence[Login] = LOGINS, *, ack_wait_s: float = 1.0) -> None:
        super().__init__(folder, free_port(), logins, ack_wait_s=ack_wait_s)

    def restart(self) -> None:
        self.stop()
        self.start()

    def set_logins(self, logins: Sequence[Login]) -> None:
        self.reload(logins)


class MosquittoBroker:
    """Debian's Mosquitto with the password and ACL files of `wire.broker_access`. Skips where it is missing."""

    # It saves its queue when it ends and every so often, not before it acknowledges.
    keeps_acknowledged_over_kill = False

    def __init__(self, folder: Path, logins: Sequence[Login] = LOGINS, *, saves_each_change: bool = True) -> None:
        """`saves_each_change` False: once a minute, as in production. Each save writes all that is queued, so under a
        backlog the former is all that the broker does."""
        self._binary = require_binary("mosquitto", "apt-get install mosquitto")
        self._folder = folder
        self.port = free_port()
        self.log_path = folder / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._write_logins(logins)
        lines = [
            f"listener {self.port} 127.0.0.1",
            "allow_anonymous false",
            f"password_file {folder / 'passwords'}",
            f"acl_file {folder / 'acl'}",
            "persistence true",
            f"persistence_location {folder}/",
            *(("autosave_on_changes true", "autosave_interval 1") if saves_each_change else ("autosave_interval 60",)),
            f"max_inflight_messages {MAX_UNACKNOWLEDGED}",
            f"max_queued_messages {MAX_QUEUED}",
            f"max_packet_size {MAX_PACKET_BYTES}",
        ]
        if os.geteuid() == 0:
            # Otherwise it becomes the user `mosquitto`, who may not read the files of this test.
            lines.append("user root")
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")

    def url_for(self, username: str) -> str:
        return self._logins[username].url("127.0.0.1", self.port)

    def start(self) -> None:
        with self.log_path.open("ab") as output:
            self._process = process = subprocess.Popen(
                [*WITH_THIS_PROCESS, str(self._binary), "-c", str(self._folder / "mosquitto.conf")],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

        def accepts() -> bool:
            assert process.poll() is None, f"mosquitto ended at once: {self.log_path.read_text()}"
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return True
            except OSError:
                return False

        wait_until(accepts, "mosquitto to take connections")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def set_logins(self, logins: Sequence[Login]) -> None:
        assert self._process is not None
        self._write_logins(logins)
        position = self.log_path.stat().st_size
        self._process.send_signal(signal.SIGHUP)
        wait_until(lambda: "Reloading config" in self.log_path.read_text()[position:], "mosquitto to reload")

    def _write_logins(self, logins: Sequence[Login]) -> None:
        self._logins = {login.username: login for login in logins}
        lines = [mosquitto_password_line(login, os.urandom(12)) for login in logins]
        write_secret(self._folder / "passwords", "\n".join(lines) + "\n")
        write_secret(self._folder / "acl", mosquitto_acl(logins))
