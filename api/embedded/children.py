"""Start and end the demo's child processes, so that none outlives it.

The terminal's Ctrl-C goes to every process of the group at once; the children must not see it, because they are
ended in an order (agents, server, broker). They inherit a blocked SIGINT; the supervisor sends them SIGTERM.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


class ChildDied(Exception):
    """A child ended by itself; the message names it, its exit code and its last words."""


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Processes started in this block never see SIGINT; one that comes meanwhile reaches this process afterwards."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


class Child:
    """One child process with its output in a log file."""

    def __init__(self, name: str, command: Sequence[str], log_path: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.log_path = log_path
        # If the supervisor is killed, the kernel ends its children (see api/embedded/broker.py).
        setpriv = shutil.which("setpriv")
        shielded = [setpriv, "--pdeathsig", "TERM", *command] if setpriv else list(command)
        with open(os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as log:
            self._process = subprocess.Popen(
                shielded, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **(env or {})}
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Raise ChildDied if it is not running any more."""
        code = self._process.poll()
        if code is not None:
            raise ChildDied(f"the {self.name} ended by itself with code {code}: {self.last_words()}")

    def end(self, timeout_s: float) -> int:
        """Ask it to end, wait, and kill it if it does not; return its exit code."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait(5)

    def last_words(self) -> str:
        """Return the last line of its log."""
        lines = self.log_path.read_text(errors="replace").splitlines() if self.log_path.exists() else []
        return lines[-1] if lines else "(its log is empty)"
