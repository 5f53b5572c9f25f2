"""A process of the product under test: started as an operator would, killed as a power cut would."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.brokers import WITH_THIS_PROCESS

ROOT = Path(__file__).parents[2]


class Process:
    """One child with its output in a log file. It never outlives the process that started it."""

    def __init__(self, name: str, module: str, arguments: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                [*WITH_THIS_PROCESS, sys.executable, "-m", module, *arguments],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **env},
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._popen.kill()
        self._popen.wait(10)

    def pause(self) -> None:
        """SIGSTOP: as a machine that is suspended, or too busy for this process."""
        self._popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: it goes on and does not know that it was away."""
        self._popen.send_signal(signal.SIGCONT)

    @property
    def hears_sigterm(self) -> bool:
        """Whether it has a handler for SIGTERM by now; before that it would just be killed by one."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except FileNotFoundError:
            return False
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
        return bool(int(caught.split()[1], 16) & 1 << (signal.SIGTERM - 1))

    def ask_to_end(self) -> None:
        """SIGTERM; returns at once."""
        if self.alive:
            self._popen.terminate()

    def wait(self, timeout_s: float) -> int:
        """Wait for the end; return the exit code (negative: the signal). Kills it and raises when time is over."""
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end within {timeout_s:g} s:\n{self.said()[-3000:]}") from None

    def said(self) -> str:
        """All that it and its predecessors of the same name wrote."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""
