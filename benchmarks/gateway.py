"""What one gateway can take: `python -m benchmarks.gateway [--records 20000] [--agents 82] [--rounds 3]`.

Records of many agents wait in a persistent session of a real Mosquitto; one gateway (a process of its own, started as
an operator would) commits and acknowledges them all, on SQLite and on PostgreSQL. Beside it the least that must be
done: a bare paho loop, in a process of its own too, that commits the same bytes under the same key in batches of the
same size and acknowledges after the commit. Speed is taken between a tenth and the end of the backlog, so starting
counts for neither. Rounds alternate; each is printed, with the load of the machine, and the best of each is compared.
Then the time from publishing a record to hearing its acknowledgement, at rest and while a backlog drains.
PostgreSQL runs with fsync off, as in the tests, on both sides of the comparison.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from sqlalchemy import func, select

from store.database import Database
from store.series_sqlite import create_schema
from store.tables.usage import UsageStream
from tests.faults.processes import Process
from tests.support.brokers import MosquittoBroker
from tests.support.databases import DatabaseServers, opened
from tests.support.mqtt import Station
from tests.support.usage import StreamWriter, add_registry
from tests.support.waiting import wait_until
from wire.broker_access import Login, Role
from wire.messages import Ack, PowerState, decode, encode
from wire.topics import Channel, down, up

BATCH = 1000
RECORDS_A_DAY = 1440  # a tick a minute
WINDOW = 100  # as edge_agents.lane
NAME = "gw-bench"
TOKEN = "token-of-gateway"
Message = tuple[str, bytes]


@dataclass(frozen=True)
class Drained:
    """How fast a backlog went after its first tenth, what it cost the process, and its memory at most (MiB)."""

    per_s: float
    cpu_us: float
    most_mib: float = 0.0


def records_of(writer: StreamWriter, count: int) -> Iterator[Message]:
    """The next `count` records of one agent, made as they are taken: half-hour runs with a tick a minute."""
    topic = up(writer.agent, Channel.USAGE, writer.instrument)
    for number in range(count):
        phase = number % 45
        if phase == 5 and writer.session is None:
            writer.open(60)
        elif phase == 36 and writer.session is not None:
            writer.close(60)
        else:
            writer.tick(PowerState.RUNNING if writer.session else PowerState.STANDBY, 60)
        yield topic, encode(writer.records.pop())


def backlog(writers: Sequence[StreamWriter], each: int) -> list[Message]:
    """The next `each` records of every agent, interleaved."""
    return [message for row in zip(*(records_of(writer, each) for writer in writers), strict=True) for message in row]


class Bench:
    """A broker with a gateway's login and one an agent."""

    def __init__(self, folder: Path, instruments: Sequence[str]) -> None:
        agents = [Login(f"a-{instrument}", f"token-of-{instrument}") for instrument in instruments]
        self.broker = MosquittoBroker(folder / "broker", [*agents, Login(NAME, TOKEN, Role.GATEWAY)])
        self.folder = folder
        # The tests' broker writes its whole queue to disk at every change: with a backlog that is all it would do.
        config = folder / "broker" / "mosquitto.conf"
        config.write_text(config.read_text().replace("autosave_on_changes true", "autosave_on_changes false"))
        config.write_text(config.read_text().replace("autosave_interval 1\n", "autosave_interval 1800\n"))
        self.broker.start()

    def publish(self, messages: Sequence[Message]) -> None:
        """Hand messages to the broker, each under its agent's login, and wait until it has them all."""
        by_agent: dict[str, list[Message]] = {}
        for message in messages:
            by_agent.setdefault(message[0].split("/")[3], []).append(message)
        for agent, own in by_agent.items():
            with Station(self.broker.url_for(agent), agent) as station:
                for topic, payload in own[:-1]:
                    station.hand_over(topic, payload)
                station.send(*own[-1])

    @contextmanager
    def gateway(self, database: Database) -> Iterator[psutil.Process]:
        """A gateway process on this broker; nothing is sent to its series here."""
        series = self.folder / "series.db"
        if not series.exists():
            create_schema(series)
        env = {
            "OPENLAB_DATABASE_URL": database.engine.url.render_as_string(hide_password=False),
            "OPENLAB_SERIES_URL": f"sqlite:///{series}",
            "OPENLAB_BROKER_URL": f"mqtt://127.0.0.1:{self.broker.port}",
            "OPENLAB_BROKER_USERNAME": NAME,
            "OPENLAB_BROKER_PASSWORD": TOKEN,
            "OPENLAB_GATEWAY_NAME": NAME,
            "OPENLAB_BATCH_RECORDS": str(BATCH),
        }
        log = self.folder / "gateway.log"
        log.unlink(missing_ok=True)
        running = Process(NAME, "gateway.cli", ["run"], log, env)
        try:
            wait_until(lambda: "gateway online" in running.said(), f"the gateway\n{running.said()}", 30)
            yield psutil.Process(running.pid)
        finally:
            running.ask_to_end()
            running.wait(30)


def drain(gateway: psutil.Process, progress: Callable[[], int], count: int) -> Drained:
    """Watch a gateway until `count` records are done."""
    marks: list[tuple[int, float, float]] = []
    most = 0.0
    while not marks or marks[-1][0] < count:
        done = progress()
        used = gateway.cpu_times()
        mark = (done, time.perf_counter(), used.user + used.system)
        if done >= count or (not marks and done >= count / 10):
            marks.append(mark)
        most = max(most, gateway.memory_info().rss / 2**20)
        time.sleep(0.01)
    (first, began, cpu), (last, ended, cpu_ended) = marks[0], marks[-1]
    records = max(1, last - first)
    return Drained(records / max(ended - began, 1e-9), (cpu_ended - cpu) / records * 1e6, most)


def bare(bench: Bench, table_url: str, count: int) -> Drained:
    """A paho loop that commits what it gets and acknowledges afterwards."""
    command = [sys.executable, "-m", "benchmarks._bare_loop"]
    arguments = [bench.broker.url_for(NAME), f"{NAME}-usage", table_url, str(count), str(BATCH)]
    ended = subprocess.run([*command, *arguments], capture_output=True, check=True, timeout=300)
    return Drained(**json.loads(ended.stdout))


def committed(database: Database) -> int:
    """How many usage records are committed in unbroken order."""
    with database.read() as session:
        return int(session.scalar(select(func.coalesce(func.sum(UsageStream.upto), 0))) or 0)


def acknowledged_after(
    bench: Bench, writers: Sequence[StreamWriter], seconds: float, until: threading.Event
) -> list[float]:
    """Let agents send a record each in turn; return the seconds from handing it over to its acknowledgement."""
    found: list[float] = []
    stations = []
    try:
        for writer in writers:
            station = Station(bench.broker.url_for(writer.agent), writer.agent, [down(writer.agent, Channel.ACK)])
            stations.append(station.__enter__())
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not until.is_set():
            for writer, station in zip(writers, stations, strict=True):
                record = writer.tick(PowerState.STANDBY, 1)
                began = time.perf_counter()
                station.hand_over(up(writer.agent, Channel.USAGE, writer.instrument), encode(record))
                wait_heard(station, record.seq)
                found.append(time.perf_counter() - began)
                station.forget()
    finally:
        for station in stations:
            station.__exit__(None, None, None)
    return found


def wait_heard(station: Station, seq: int) -> None:
    """Wait until a record is acknowledged, looking every millisecond."""
    deadline = time.monotonic() + 30
    while not any(decode(Ack, heard.payload).upto >= seq for heard in station.heard):
        if time.monotonic() > deadline:
            raise TimeoutError(f"record {seq} was not acknowledged within 30 s")
        time.sleep(0.001)


def percentiles(found: list[float]) -> str:
    """p50 and p95 in milliseconds."""
    ordered = sorted(found)
    if not ordered:
        return "not measured"
    p50, p95 = (ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e3 for share in (0.5, 0.95))
    return f"p50 {p50:.1f} ms, p95 {p95:.1f} ms of {len(ordered)}"


def send_windows(bench: Bench, writers: Sequence[StreamWriter], each: int, over: threading.Event) -> None:
    """Send `each` records of every agent as agents do: at most WINDOW at a time that are not acknowledged."""
    base = {writer.agent: writer.seq for writer in writers}
    waiting = {writer.agent: records_of(writer, each) for writer in writers}
    stations = {a: Station(bench.broker.url_for(a), a, [down(a, Channel.ACK)]) for a in base}
    sent, done = dict.fromkeys(base, 0), dict.fromkeys(base, 0)
    with ExitStack() as open_stations:
        for station in stations.values():
            open_stations.enter_context(station)
        while min(done.values()) < each and not over.is_set():
            for agent, station in stations.items():
                for heard in station.heard:
                    done[agent] = max(done[agent], decode(Ack, heard.payload).upto - base[agent])
                station.forget()
                while sent[agent] < min(each, done[agent] + WINDOW):
                    station.hand_over(*next(waiting[agent]))
                    sent[agent] += 1
            over.wait(0.005)


def drain_beside(
    bench: Bench, database: Database, whose: Sequence[StreamWriter], live: StreamWriter, each: int
) -> tuple[Drained, list[float]]:
    """Let the backlog of some agents drain while another agent works live; return the speed and the live latencies."""
    already, was_live = committed(database), live.seq
    over, lag = threading.Event(), list[float]()
    beside = [
        threading.Thread(target=lambda: lag.extend(acknowledged_after(bench, [live], 3600.0, over))),
        threading.Thread(target=lambda: send_windows(bench, whose, each, over)),
    ]
    with bench.gateway(database) as running:
        for thread in beside:
            thread.start()
        # One live record may be on its way.
        gone = drain(running, lambda: committed(database) - already - (live.seq - was_live) + 1, each * len(whose))
        over.set()
        for thread in beside:
            thread.join()
    return gone, lag


def rounds_of(bench: Bench, database: Database, url: str, many: Sequence[StreamWriter], each: int, rounds: int) -> None:
    """Drain the same backlog by both, in turn; print each round and the best."""
    slow, full = list[Drained](), list[Drained]()
    for _ in range(rounds):
        messages = backlog(many, each)
        bench.publish(messages)
        slow.append(bare(bench, url, len(messages)))
        bench.publish(messages)
        already = committed(database)
        load = os.getloadavg()[0]
        with bench.gateway(database) as running:
            full.append(drain(running, lambda before=already: committed(database) - before, len(messages)))  # type: ignore[misc]
        print(f"{'':11} bare {slow[-1].per_s:,.0f}/s {slow[-1].cpu_us:.0f} us; gateway {full[-1].per_s:,.0f}/s "
              f"{full[-1].cpu_us:.0f} us, {full[-1].most_mib:.0f} MiB; load {load:.1f}")  # fmt: skip
    best, least = max(d.per_s for d in full), max(d.per_s for d in slow)
    cpu, cpu_least = min(d.cpu_us for d in full), min(d.cpu_us for d in slow)
    print(f"{'':11} best of {rounds}: bare {least:,.0f}/s, gateway {best:,.0f}/s, ratio {best / least:.2f}; "
          f"processor time {cpu_least:.0f} and {cpu:.0f} us, ratio {cpu_least / cpu:.2f}")  # fmt: skip


def measure(engine: str, servers: DatabaseServers, folder: Path, asked: argparse.Namespace) -> None:
    """Everything on one engine, printed as it comes."""
    records, agents = asked.records, asked.agents
    with servers.fresh_url(engine) as url, opened(url) as database:
        with database.write() as session:
            instruments = add_registry(session, agents + 1)
        bench = Bench(folder / engine, instruments)
        writers = [StreamWriter(instrument) for instrument in instruments]
        many, live = writers[:agents], writers[agents]
        try:
            with bench.gateway(database):
                pass  # its session stays with the broker and collects
            print(f"{engine:11} {records:,} records of {agents} agents")
            rounds_of(bench, database, url, many, max(1, records // agents), asked.rounds)
            with bench.gateway(database):
                print(f"{'':11} edge to acknowledged, {agents} agents in turn: "
                      + percentiles(acknowledged_after(bench, many, 5.0, threading.Event())))  # fmt: skip
            for days, whose in ((asked.days, many[:1]), (asked.days_of_all, many)):
                gone, lag = drain_beside(bench, database, whose, live, max(1, round(days * RECORDS_A_DAY)))
                print(f"{'':11} backlog of {days:g} days of {len(whose)} at once: {gone.per_s:,.0f}/s, at most "
                      f"{gone.most_mib:.0f} MiB; live meanwhile {percentiles(lag)}")  # fmt: skip
        finally:
            bench.broker.stop()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--agents", type=int, default=82)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--days", type=float, default=30, help="of backlog of one agent")
    parser.add_argument("--days-of-all", type=float, default=1, help="of backlog of all agents at once")
    parser.add_argument("--engine", choices=["sqlite", "postgresql"], action="append")
    asked = parser.parse_args()
    servers = DatabaseServers()
    try:
        with tempfile.TemporaryDirectory(prefix="openlab-bench-") as folder:
            for engine in asked.engine or ["sqlite", "postgresql"]:
                measure(engine, servers, Path(folder), asked)
    finally:
        servers.close()


if __name__ == "__main__":
    main()
