"""A console command run in the test's own process, which has imported already what a new one would take seconds for.

For commands that refuse or answer and end. One that sets signal handlers or serves gets a process of its own.
"""

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

import structlog


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


def call(main: Callable[[], None], *arguments: str) -> Ended:
    """Run the entry of a command with these arguments. Where it logs to is put back afterwards."""
    argv, logging = sys.argv, structlog.get_config()
    out, err, code = io.StringIO(), io.StringIO(), 0
    sys.argv = ["command", *arguments]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.argv = argv
        structlog.configure(**logging)
    return Ended(code, out.getvalue(), err.getvalue())
