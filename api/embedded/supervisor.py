"""The demo's supervisor: prepares the folder, starts broker, server and agents, watches them, and ends them in order.

Composition root of the demo. Everything it starts is a child that does not outlive it; everything it keeps lies in
the data folder, so a second start goes on where the first one stopped.
"""

import fcntl
import os
import secrets
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import select

from api.embedded.broker import EmbeddedBroker
from api.embedded.children import Child, ChildDied, interrupts_held_back
from api.embedded.fleet_files import write_fleet
from api.embedded.folder import BROKER_URL_VARIABLE, GATEWAY_NAME, DemoFolder, DemoState, DemoTime, FolderUnusable
from api.embedded.history import first_day, prepare
from api.embedded.plans import PlanWriter, planned_runs
from api.embedded.reconcile import Reconciliation, load_truths, reconcile
from api.embedded.status import Status, glance
from api.embedded.visitors import Visitors
from store.database import Database, open_database
from store.migrations import upgrade
from store.series_sqlite import create_schema
from store.tables.registry import Agent
from wire.broker_access import Login, Role
from wire.clock import ScaledClock, from_ms, to_ms

RESERVE_EVERY_S = 2.0
LOOK_EVERY_S = 0.25
PLAN_EVERY_S = 2.0
READY_TIMEOUT_S = 60.0
DRAIN_TIMEOUT_S = 45.0


class CannotStart(Exception):
    """The demo cannot start; the message is a sentence for the person who tried."""


class Supervisor:
    """One run of the demo. `say` prints a line for people; `show` is given a fresh status now and then."""

    def __init__(
        self, folder: DemoFolder, *, port: int, speed: float, say: Callable[[str], None], show: Callable[[Status], None]
    ) -> None:
        self._folder = folder
        self._port = port
        self._speed = speed
        self._say = say
        self._show = show
        self._time = DemoTime(folder)
        self._stop = threading.Event()
        self._lock = _lock_folder(folder)
        self._database: Database = open_database(folder.database_url)
        self._broker: EmbeddedBroker | None = None
        self._server: Child | None = None
        self._agents: Child | None = None
        self._clock: ScaledClock | None = None
        self._agent_count = 0
        self.state: DemoState | None = None

    def run(self, run_for_s: float | None, show_every_s: float) -> Reconciliation | None:
        """Start, run until told to stop or until the time is up, end everything.

        Returns the reconciliation where a time was given. Raises CannotStart (or the broker's own error) before
        anything runs, ChildDied where a part ended by itself.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._stop.set())
        began = time.monotonic()
        outcome: Reconciliation | None = None
        try:
            clock = self._start()
            self._say(f"ready after {time.monotonic() - began:.1f} s")
            self._introduce()
            self._watch(clock, run_for_s, show_every_s)
            self._end_agents()
            if run_for_s is not None:
                outcome = self._reconcile()
        finally:
            self._end_all()
        return outcome

    def _start(self) -> ScaledClock:
        _refuse_taken_port(self._port)
        self._say("preparing the databases ...")
        upgrade(self._database.engine)
        create_schema(self._folder.series_path)
        origin_ms = self._seed()
        clock = self._clock = ScaledClock(self._time.begin(origin_ms, self._speed))
        assert self.state is not None
        logins = [Login(agent, password) for agent, password in self.state.agent_passwords.items()]
        logins.append(Login(GATEWAY_NAME, self.state.gateway_password, Role.GATEWAY))
        with interrupts_held_back():
            self._say("starting the broker ...")
            self._broker = EmbeddedBroker(self._folder.broker, _free_port(), logins)
            try:
                self._broker.start()
            except OSError as error:
                raise CannotStart(f"the broker did not start: {error}") from None
            self._say("starting the server (gateway, api, worker) ...")
            self._server = Child(
                "server",
                [
                    sys.executable,
                    *("-m", "api.embedded.server"),
                    *("--data-dir", str(self._folder.path)),
                    *("--port", str(self._port)),
                ],
                self._folder.logs / "server.log",
                {BROKER_URL_VARIABLE: self._broker.url_for(GATEWAY_NAME)},
            )
            with self._database.read() as session:
                self._agent_count = write_fleet(session, self._folder, self._broker.port, self.state.agent_passwords)
            self._write_plans(clock, PlanWriter(self._folder.plans))
            self._await("the server", self._server_answers)
            self._say(f"starting {self._agent_count} agents ...")
            self._folder.truth_file.unlink(missing_ok=True)
            self._agents = Child(
                "agents",
                [
                    *(sys.executable, "-m", "edge_agents.cli", "run"),
                    *("--config", str(self._folder.agent_configs)),
                    *("--truth", str(self._folder.truth_file)),
                    *("--drain", str(DRAIN_TIMEOUT_S)),
                ],
                self._folder.logs / "agents.log",
            )
        self._await("the agents", self._agents_online)
        return clock

    def _seed(self) -> int:
        """Fill an empty folder; return the instant at which demo time goes on."""
        self.state = self._folder.load_state()
        reached_ms = self._time.reached_ms()
        if self.state is not None and self.state.seeded:
            return reached_ms if reached_ms is not None else to_ms(first_day(datetime.now(UTC)))
        origin = first_day(datetime.now(UTC))
        self._say("first start: making hosts, labs, instruments, people, prices and a week of use ...")
        logins = prepare(self._database, self._folder, origin, self._say)
        with self._database.read() as session:
            agents = session.scalars(select(Agent.agent_id)).all()
        self.state = DemoState(
            gateway_password=secrets.token_urlsafe(24),
            agent_passwords={agent: secrets.token_urlsafe(24) for agent in agents},
            logins=logins,
            seeded=True,
        )
        self._folder.save_state(self.state)
        return to_ms(origin)

    def _introduce(self) -> None:
        assert self.state is not None
        base = f"http://127.0.0.1:{self._port}"
        self._say("")
        self._say(f"  API            {base}/api/v1")
        self._say(f"  documentation  {base}/docs")
        self._say(f"  data           {self._folder.path}")
        for login in self.state.logins:
            self._say(f"  {login.role:<14} {login.login} / {login.password}   ({login.name})")
        self._say("")
        self._say("  Ctrl-C ends the demo; the next start goes on from here.")
        self._say("")

    def _watch(self, clock: ScaledClock, run_for_s: float | None, show_every_s: float) -> None:
        plans, visitors = PlanWriter(self._folder.plans), Visitors(self._database)
        deadline = None if run_for_s is None else time.monotonic() + run_for_s
        reserve_at = plan_at = show_at = 0.0
        while not self._stop.is_set() and (deadline is None or time.monotonic() < deadline):
            self._check_children()
            now = time.monotonic()
            if now >= reserve_at:
                self._time.reserve(clock.now_ms(), self._speed)
                reserve_at = now + RESERVE_EVERY_S
            if now >= plan_at:
                visitors.act(from_ms(clock.now_ms()))
                self._write_plans(clock, plans)
                plan_at = now + PLAN_EVERY_S
            if now >= show_at:
                with self._database.read() as session:
                    self._show(glance(session, from_ms(clock.now_ms())))
                show_at = now + show_every_s
            self._stop.wait(LOOK_EVERY_S)

    def _write_plans(self, clock: ScaledClock, plans: PlanWriter) -> None:
        with self._database.read() as session:
            runs = planned_runs(session, from_ms(clock.now_ms()))
        plans.write(runs)

    def _check_children(self) -> None:
        for child in (self._server, self._agents):
            if child is not None:
                child.check()
        if self._broker is not None and self._broker.pid is None:
            raise ChildDied(f"the broker ended by itself; see {self._broker.log_path}")

    def _await(self, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not condition():
            self._check_children()
            if self._stop.is_set():
                raise CannotStart("interrupted while starting")
            if time.monotonic() > deadline:
                raise CannotStart(f"{what} did not come up within {READY_TIMEOUT_S:g} s; see {self._folder.logs}")
            time.sleep(0.05)

    def _server_answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _agents_online(self) -> bool:
        with self._database.read() as session:
            return glance(session, datetime.now(UTC)).agents_online >= self._agent_count

    def _end_agents(self) -> None:
        if self._agents is not None:
            self._say("ending the agents: everything they recorded is being delivered ...")
            self._agents.end(DRAIN_TIMEOUT_S + 15)
            self._agents = None

    def _reconcile(self) -> Reconciliation:
        try:
            truths = load_truths(self._folder.truth_file)
        except FileNotFoundError:
            truths = []
        with self._database.read() as session:
            return reconcile(truths, session, self._agent_count)

    def _end_all(self) -> None:
        if self._agents is not None:
            self._agents.end(DRAIN_TIMEOUT_S + 15)
        if self._server is not None:
            self._server.end(30)
        if self._broker is not None:
            self._broker.stop()
        if self._clock is not None:
            # After all children: nothing they stamped lies behind this.
            self._time.keep(self._clock.now_ms() + 1)
        self._database.dispose()
        os.close(self._lock)


def _lock_folder(folder: DemoFolder) -> int:
    lock = os.open(folder.path / "demo.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise FolderUnusable(
            f"a demo is already running on {folder.path}; end it, or choose another folder with --data-dir"
        ) from None
    return lock


def _refuse_taken_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise CannotStart(
                f"port {port} of this machine cannot be used ({error.strerror}); choose another with --port"
            ) from None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
