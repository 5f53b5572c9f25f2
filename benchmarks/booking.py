"""What booking costs over real HTTP: `python -m benchmarks booking [--engine postgresql] [--stored 0 100000 1000000]`.

82 instruments with every rule set (open hours, special days, lead time, length, step, buffer, qualification,
certificates, strikes), so many bookings stored, two API processes behind one socket. For each amount: creating with one
client and with eight, one instrument's week (times for everybody, bookings for the county), 200 requests for one slot
at once. Server, database and clients share the machine. PostgreSQL is the embedded one; fsync is on
unless --no-fsync says otherwise.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import create_engine, text

from benchmarks._bookings import INSTRUMENTS, SLOT, fill, free_slots, midnight, name
from store.database import open_database
from tests.support.api_workers import Answered, Asked, Workers, read_answer, rush, several_workers
from tests.support.databases import ENGINES, DatabaseServers
from wire.clock import SystemClock, from_ms

PEOPLE, CLIENTS, RUSH = 40, 8, 200


@dataclass(frozen=True)
class Load:
    """Answers of some clients, over so many seconds; `processor_s` is that of the API processes."""

    answers: list[Answered]
    seconds: float
    processor_s: float

    @property
    def p50_ms(self) -> float:
        return statistics.median(answer.seconds for answer in self.answers) * 1000

    def line(self, what: str) -> str:
        """Return one line of the result."""
        p95 = statistics.quantiles((answer.seconds for answer in self.answers), n=20)[18] * 1000
        bad = sum(answer.status >= 400 for answer in self.answers)
        per_s = len(self.answers) / self.seconds
        own = self.processor_s * 1000 / len(self.answers)
        told = f"{what:28} p50 {self.p50_ms:6.1f} ms  p95 {p95:6.1f} ms  {per_s:5.0f}/s  processor {own:4.1f} ms each"
        return told + (f"  {bad} BAD" if bad else "")


class Bench:
    """A filled database behind API processes; every slot that is booked is booked once."""

    def __init__(self, running: Workers, tokens: Sequence[str], officer: str, now: datetime) -> None:
        self._running, self._tokens, self._officer, self._now = running, tokens, officer, now
        self._slots, self._dice = free_slots(now), random.Random(7)

    def creating(self, clients: int, count: int) -> Load:
        """Book free slots, spread over the instruments."""
        return self._load(clients, [self._booking(*next(self._slots)) for _ in range(count)])

    def week_times(self, clients: int, count: int) -> Load:
        """Read when an instrument is taken in one week."""
        return self._load(clients, [self._week("/instruments/{}/calendar?from={}&to={}", n) for n in range(count)])

    def week_bookings(self, clients: int, count: int) -> Load:
        """Read an instrument's bookings of one week (28) as the county."""
        path = "/bookings?instrument_id={}&from_at={}&to_at={}&limit=100"
        return self._load(clients, [self._week(path, number) for number in range(count)])

    def rush(self) -> list[Answered]:
        """Let 200 ask for one slot at once."""
        slot = next(self._slots)
        return rush(self._running.port, [self._booking(*slot) for _ in range(RUSH)])

    def _booking(self, instrument: str, start: datetime) -> Asked:
        slot = {"slot_from": start.isoformat(), "slot_to": (start + SLOT).isoformat()}
        return Asked("POST", "/bookings", self._dice.choice(self._tokens), {"instrument_id": instrument} | slot)

    def _week(self, path: str, number: int) -> Asked:
        start = midnight(self._now) + timedelta(days=2)
        window = [quote(moment.isoformat()) for moment in (start, start + timedelta(days=7))]
        return Asked("GET", path.format(name(number % INSTRUMENTS), *window), self._officer)

    def _load(self, clients: int, asked: Sequence[Asked]) -> Load:
        before, began = self._running.processor_s(), time.monotonic()
        answers = asyncio.run(_clients(self._running.port, clients, asked))
        return Load(answers, time.monotonic() - began, self._running.processor_s() - before)


async def _clients(port: int, clients: int, asked: Sequence[Asked]) -> list[Answered]:
    waiting, answers = list(asked), list[Answered]()

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while waiting:
            wire = waiting.pop().wire()
            began = time.monotonic()
            writer.write(wire)
            answers.append(Answered(*await read_answer(reader, began)))
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return answers


def measure(url: str, stored: int, count: int, rounds: int, workers: int, folder: Path) -> float:
    """Fill a database, measure and print; return the p50 of creating with one client, in milliseconds."""
    now = from_ms(SystemClock().now_ms())
    database = open_database(url)
    began = time.monotonic()
    tokens, officer = fill(database, now, stored, PEOPLE)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
    database.dispose()
    print(f"-- {stored:,} bookings stored (filled in {time.monotonic() - began:.0f} s)")
    with several_workers(url, workers, folder) as running:
        bench = Bench(running, tokens, officer, now)
        bench.creating(CLIENTS, 100)  # warm
        alone = bench.creating(1, count)
        print(alone.line("create, 1 client"))
        print(bench.creating(CLIENTS, 4 * count).line(f"create, {CLIENTS} clients"))
        for what, load in (("week, times", bench.week_times), ("week, 28 bookings", bench.week_bookings)):
            load(CLIENTS, 50)
            print(load(1, count).line(f"{what}, 1 client"))
            print(load(CLIENTS, 2 * count).line(f"{what}, {CLIENTS} clients"))
        for _ in range(rounds):
            before = running.processor_s()
            answers = bench.rush()
            spent = running.processor_s() - before
            statuses = [answer.status for answer in answers]
            told = sorted(answer.seconds for answer in answers if answer.status == 409)
            print(
                f"{RUSH} at one slot: {statuses.count(201)} won, {len(told)} told within {told[-1]:.2f} s"
                f" (median {statistics.median(told):.2f} s),"
                f" processor {spent:.2f} s, others {sorted(set(statuses) - {201, 409})}"
            )
    return alone.p50_ms


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=ENGINES, nargs="+", default=list(ENGINES))
    parser.add_argument("--stored", type=int, nargs="+", default=[0, 100_000])
    parser.add_argument("--count", type=int, default=200, help="requests with one client")
    parser.add_argument("--rounds", type=int, default=5, help="rushes for one slot")
    parser.add_argument("--workers", type=int, default=2, help="API processes")
    parser.add_argument("--fsync", action=argparse.BooleanOptionalAction, default=True, help="PostgreSQL only")
    asked = parser.parse_args()
    servers = DatabaseServers()
    try:
        for engine in asked.engine:
            print(f"== {engine}, {asked.workers} API processes")
            medians = {}
            for stored in asked.stored:
                with servers.fresh_url(engine) as url, tempfile.TemporaryDirectory(prefix="openlab-bench-") as folder:
                    if engine == "postgresql" and asked.fsync:
                        _keep_every_commit(url)
                    medians[stored] = measure(url, stored, asked.count, asked.rounds, asked.workers, Path(folder))
            for stored in asked.stored[1:]:
                ratio = medians[stored] / medians[asked.stored[0]]
                print(f"create, 1 client: p50 among {stored:,} is {ratio:.2f} x that among {asked.stored[0]:,}")
    finally:
        servers.close()


def _keep_every_commit(url: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("ALTER SYSTEM SET fsync = on")
        connection.exec_driver_sql("SELECT pg_reload_conf()")
    engine.dispose()


if __name__ == "__main__":
    main()
