"""Serve the API: in this process, or in several that listen on one address. Called by `openlab serve`.

Composition root of the API processes. They share the address, the database and the files of their counters, nothing
else: what is judged for the whole county (attempts to sign in, keys of repeats, locks) is in the database, and of what
each counts for itself (`OPENLAB_WRITE_LIMIT`) each lets its part through. No process does the worker's work.
"""

import gc
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

import structlog
import uvicorn

from api.deps import Parts
from api.middleware import COUNTERS_FOLDER
from api.parts import close_parts, open_parts
from api.settings import BadSettings, Settings

_log = structlog.get_logger("openlab.api")
_BACKLOG = 2048


def listen(settings: Settings) -> list[socket.socket]:
    """Return a socket for each worker, bound to the address of the settings. Raises BadSettings where it cannot be had.

    One each, among which the system spreads the connections: of one that all listen on, the first to wake may take all.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    alone = _bound(family, settings.host, settings.port, socket.SO_REUSEADDR)
    if settings.workers == 1:
        return [alone]
    # It was bound by itself, to see that nobody else is there: the others would be let in beside another server.
    port = alone.getsockname()[1]
    alone.close()
    each = [_bound(family, settings.host, port, socket.SO_REUSEPORT) for _ in range(settings.workers)]
    for listening in each:
        # From now on who connects waits for the worker, also for one that takes the place of another.
        listening.listen(_BACKLOG)
    return each


def _bound(family: int, host: str, port: int, option: int) -> socket.socket:
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, option, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise BadSettings(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listening


def server_config(application: Any, trusted_proxies: str) -> uvicorn.Config:
    """Return how the API is served: only `trusted_proxies` (addresses and networks) say for whom they ask. With anybody
    else the limits count the address that the connection comes from."""
    return uvicorn.Config(application, log_level="warning", access_log=False, forwarded_allow_ips=trusted_proxies)


def serve_here(
    parts: Parts, listening: socket.socket, ending: "Ending | None" = None, begun: Callable[[], None] = lambda: None
) -> None:
    """Serve until SIGTERM or Ctrl-C; what is being answered then is answered. `ending`: who heard of it before. `begun`
    is called when all is made and only serving is left."""
    # Only here: all routes and their shapes take a second to build, and who only starts others needs none.
    from api.app import create_app

    server = uvicorn.Server(server_config(create_app(parts), parts.settings.trusted_proxies))
    # What stands now stands to the end: no collection of garbage looks at those 400,000 objects again.
    gc.collect()
    gc.freeze()
    if ending is not None:
        ending.tell(server)
    begun()
    server.run(sockets=[listening])


class Ending:
    """Keeps in mind that a process is to end, until there is a server to be told.

    A signal comes in the middle of anything, also of what swallows exceptions: so its handler raises none.
    """

    def __init__(self) -> None:
        self._come = False
        self._server: uvicorn.Server | None = None

    def __call__(self, *_: object) -> None:
        """Handle a signal. The server, while it runs, has handlers of its own, and hands the signal on afterwards."""
        self._come = True
        if self._server is not None:
            self._server.should_exit = True

    def tell(self, server: uvicorn.Server) -> None:
        """Take the server that is to be told; one that is told before it starts ends as it has started."""
        self._server = server
        if self._come:
            server.should_exit = True


def serve_in_processes(settings: Settings, sockets: Sequence[socket.socket]) -> None:
    """Serve in a process for each socket until SIGTERM or Ctrl-C, and return when all of them have ended.

    One that dies is replaced. They end with this one, however it ends. Raises BadSettings where one ends as it starts.
    """
    until = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: until.set())
    with _counters():
        hands = [_start(settings, listening) for listening in sockets]
        try:
            while not until.is_set():
                wait([hand.process.sentinel for hand in hands], timeout=0.5)
                hands = [hand if until.is_set() else _kept(hand, settings) for hand in hands]
        finally:
            for hand in hands:
                hand.process.terminate()
            for hand in hands:
                hand.process.join()


@dataclass(frozen=True)
class _Hand:
    process: BaseProcess
    listening: socket.socket
    has_served: Any  # a number that both processes see


def _start(settings: Settings, listening: socket.socket) -> _Hand:
    # Not by a fork: threads and connections of this process would be half there.
    spawning = multiprocessing.get_context("spawn")
    has_served = spawning.RawValue("b", 0)
    process = spawning.Process(target=_serve, args=(settings, listening, has_served), daemon=True)
    process.start()
    return _Hand(process, listening, has_served)


def _kept(hand: _Hand, settings: Settings) -> _Hand:
    code = hand.process.exitcode
    if code is None:
        return hand
    if not hand.has_served.value:
        # The next one would end as well: whoever started us is told, instead of new ones being tried for ever.
        raise BadSettings(f"an API process ended as it started (exit code {code}); its log above says why")
    _log.error("an API process ended; another takes its place", pid=hand.process.pid, exit_code=code)
    return _start(settings, hand.listening)


@contextmanager
def _counters() -> Iterator[None]:
    """The files through which each process tells what all of them have counted (see api/middleware.py)."""
    folder = tempfile.mkdtemp(prefix="openlab-counters-")
    os.environ[COUNTERS_FOLDER] = folder
    try:
        yield
    finally:
        del os.environ[COUNTERS_FOLDER]
        shutil.rmtree(folder, ignore_errors=True)


def _serve(settings: Settings, listening: socket.socket, has_served: Any) -> None:
    """One of the processes."""

    def begun() -> None:
        has_served.value = 1

    log_json()
    ending = Ending()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ending)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    parts = open_parts(settings)
    try:
        serve_here(parts, listening, ending, begun)
    finally:
        close_parts(parts)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def log_json() -> None:
    """Log as a line of JSON an event to stderr."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            # The traceback as text: never with the values of local variables, which may be a password.
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
