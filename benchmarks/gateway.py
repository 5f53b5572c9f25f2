"""What one gateway can take: `python -m benchmarks.gateway [--records 20000] [--agents 82]`.

Records of many agents wait in a persistent session of a real Mosquitto; one gateway starts and commits and acknowledges
them all, on SQLite and on PostgreSQL. Beside it the least that must be done: a bare paho loop that commits the same
bytes under the same key in batches of the same size and acknowledges after the commit. Then, with a gateway that has
caught up, the time from publishing a record to hearing its acknowledgement, at rest and while a backlog drains.
PostgreSQL runs with fsync off, as in the tests, on both sides of the comparison.
"""

import argparse
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import paho.mqtt.client as paho
import psutil
import psycopg
from paho.mqtt.enums import CallbackAPIVersion
from sqlalchemy import func, make_url, select

from gateway.bridge import Gateway
from gateway.metrics import GatewayMetrics
from gateway.settings import GatewaySettings
from store.database import Database
from store.series import open_series
from store.series_sqlite import create_schema
from store.tables.usage import UsageStream
from tests.support.brokers import MosquittoBroker
from tests.support.databases import DatabaseServers, opened
from tests.support.mqtt import Station
from tests.support.usage import StreamWriter, add_registry
from wire.broker_access import Login, Role
from wire.client import BrokerAddress
from wire.clock import SystemClock
from wire.messages import Ack, PowerState, UsageRecord, decode, encode
from wire.topics import Channel, all_up, down, up

BATCH = 500
WINDOW = 100  # as edge_agents.sender
NAME = "gw-bench"
Message = tuple[str, bytes]


@dataclass(frozen=True)
class Drained:
    """How fast a backlog went, what it cost this process, and its memory before and at most meanwhile (MiB)."""

    per_s: float
    cpu_us: float
    before_mib: float
    most_mib: float


def backlog(writers: Sequence[StreamWriter], each: int) -> list[Message]:
    """The next `each` records of every agent, interleaved: half-hour runs with a tick a minute."""
    columns = []
    for writer in writers:
        first = writer.seq
        for number in range(each):
            phase = number % 45
            if phase == 5 and writer.session is None:
                writer.open(60)
            elif phase == 36 and writer.session is not None:
                writer.close(60)
            else:
                writer.tick(PowerState.RUNNING if writer.session else PowerState.STANDBY, 60)
        topic = up(writer.agent, Channel.USAGE, writer.instrument)
        columns.append([(topic, encode(record)) for record in writer.records[first:]])
    return [message for row in zip(*columns, strict=True) for message in row]


class Bench:
    """A broker with a gateway's login and one an agent."""

    def __init__(self, folder: Path, instruments: Sequence[str]) -> None:
        agents = [Login(f"a-{instrument}", f"token-of-{instrument}") for instrument in instruments]
        self.broker = MosquittoBroker(folder / "broker", [*agents, Login(NAME, "token-of-gateway", Role.GATEWAY)])
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

    def gateway(self, database: Database) -> Gateway:
        """A gateway on this broker; series and clock are real, nothing is sent to the series here."""
        path = self.folder / "series.db"
        if not path.exists():
            create_schema(path)
        settings = GatewaySettings(
            database_url="unused:", series_url="unused:", broker_url="unused:", gateway_name=NAME, batch_records=BATCH
        )
        address = BrokerAddress.parse(self.broker.url_for(NAME))
        series = open_series(f"sqlite:///{path}")
        return Gateway(settings, address, database, series, SystemClock(), GatewayMetrics())


def drain(work: Callable[[], Callable[[], bool]], count: int) -> Drained:
    """Start something and wait until it says that all is done."""
    process = psutil.Process()
    before = most = process.memory_info().rss / 2**20
    began, cpu = time.perf_counter(), time.process_time()
    finished = work()
    while not finished():
        most = max(most, process.memory_info().rss / 2**20)
        time.sleep(0.05)
    cpu_us = (time.process_time() - cpu) / count * 1e6
    return Drained(count / (time.perf_counter() - began), cpu_us, before, most)


def bare(bench: Bench, commit: Callable[[list[Message]], None], count: int) -> Drained:
    """A paho loop that commits what it gets and acknowledges afterwards; nothing is understood."""
    address = BrokerAddress.parse(bench.broker.url_for(NAME))
    client = paho.Client(CallbackAPIVersion.VERSION2, f"{NAME}-usage", clean_session=False, manual_ack=True)
    client.username_pw_set(address.username, address.password)
    batch: list[tuple[Message, int]] = []
    done = 0

    def flush() -> None:
        nonlocal done
        commit([message for message, _ in batch])
        for _, mid in batch:
            client.ack(mid, 1)
        done += len(batch)
        batch.clear()

    def on_message(_client: object, _data: object, message: paho.MQTTMessage) -> None:
        batch.append(((message.topic, message.payload), message.mid))
        if len(batch) >= BATCH or done + len(batch) == count:
            flush()

    def connected(*_: object) -> None:
        client.subscribe(all_up(Channel.USAGE), 1)

    client.on_message, client.on_connect = on_message, connected

    def work() -> Callable[[], bool]:
        client.connect(address.host, address.port)
        client.loop_start()
        return lambda: done >= count

    result = drain(work, count)
    client.disconnect()
    client.loop_stop()
    return result


@contextmanager
def bare_table(url: str) -> Iterator[Callable[[list[Message]], None]]:
    """A table with the same key and the same bytes, on the same engine, and the commit into it."""
    create = "CREATE TABLE bare (topic TEXT, seq BIGINT, payload {}, PRIMARY KEY (topic, seq))"
    seen = 0

    def rows(messages: list[Message]) -> list[tuple[str, int, bytes]]:
        nonlocal seen
        seen += len(messages)
        return [(topic, seen - n, payload) for n, (topic, payload) in enumerate(messages)]

    if make_url(url).get_backend_name() == "sqlite":
        with closing(sqlite3.connect(f"{make_url(url).database}.bare", check_same_thread=False)) as lite:
            lite.execute("PRAGMA journal_mode=WAL")
            lite.execute("PRAGMA synchronous=FULL")
            lite.execute(create.format("BLOB"))

            def commit_lite(messages: list[Message]) -> None:
                lite.executemany("INSERT OR IGNORE INTO bare VALUES (?, ?, ?)", rows(messages))
                lite.commit()

            yield commit_lite
        return
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain) as server:
        server.execute(create.format("BYTEA"))  # type: ignore[arg-type]
        server.commit()

        def commit_server(messages: list[Message]) -> None:
            with server.cursor() as cursor:
                cursor.executemany("INSERT INTO bare VALUES (%s, %s, %s) ON CONFLICT DO NOTHING", rows(messages))
            server.commit()

        yield commit_server


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
    p50, p95 = (ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e3 for share in (0.5, 0.95))
    return f"p50 {p50:.1f} ms, p95 {p95:.1f} ms of {len(ordered)}"


def send_windows(bench: Bench, waiting: Sequence[Message], over: threading.Event) -> None:
    """Send as agents do: each at most WINDOW records that are not acknowledged."""
    own: dict[str, list[Message]] = {}
    for message in waiting:
        own.setdefault(message[0].split("/")[3], []).append(message)
    stations = {a: Station(bench.broker.url_for(a), a, [down(a, Channel.ACK)]) for a in own}
    sent = dict.fromkeys(own, 0)
    done = dict.fromkeys(own, 0)
    first: dict[str, int] = {}
    with ExitStack() as open_stations:
        for station in stations.values():
            open_stations.enter_context(station)
        while any(done[a] < len(own[a]) for a in own) and not over.is_set():
            for agent, station in stations.items():
                for heard in station.heard:
                    upto = decode(Ack, heard.payload).upto
                    done[agent] = max(done[agent], upto - first.get(agent, upto))
                station.forget()
                for topic, payload in own[agent][sent[agent] : done[agent] + WINDOW]:
                    first.setdefault(agent, decode(UsageRecord, payload).seq - 1)
                    station.hand_over(topic, payload)
                    sent[agent] += 1
            over.wait(0.005)


def drain_beside(
    bench: Bench, database: Database, whose: Sequence[StreamWriter], live: StreamWriter, each: int
) -> tuple[Drained, list[float]]:
    """Let the backlog of some agents drain while another agent works live; return the speed and the live latencies."""
    waiting = backlog(whose, each)
    target = committed(database) - live.seq + len(waiting)
    running, over, lag = bench.gateway(database), threading.Event(), list[float]()
    beside = [
        threading.Thread(target=lambda: lag.extend(acknowledged_after(bench, [live], 60.0, over))),
        threading.Thread(target=lambda: send_windows(bench, waiting, over)),
    ]

    def start() -> Callable[[], bool]:
        running.start()
        for thread in beside:
            thread.start()
        return lambda: committed(database) - live.seq >= target - 1  # one live record may be on its way

    gone = drain(start, len(waiting))
    over.set()
    for thread in beside:
        thread.join()
    running.stop()
    return gone, lag


def measure(engine: str, servers: DatabaseServers, folder: Path, records: int, agents: int) -> None:
    """Everything on one engine, printed as it comes."""
    with servers.fresh_url(engine) as url, opened(url) as database:
        with database.write() as session:
            instruments = add_registry(session, agents + 1)
        bench = Bench(folder / engine, instruments)
        writers = [StreamWriter(instrument) for instrument in instruments]
        many, live = writers[:agents], writers[agents]
        try:
            first = bench.gateway(database)
            first.start()
            first.stop()  # its session stays with the broker and collects
            each = max(1, records // agents)
            messages = backlog(many, each)
            bench.publish(messages)
            with bare_table(url) as commit:
                least = bare(bench, commit, len(messages))
            bench.publish(messages)
            running = bench.gateway(database)

            def start() -> Callable[[], bool]:
                running.start()
                return lambda: committed(database) == len(messages)

            full = drain(start, len(messages))
            ratio = full.per_s / least.per_s
            print(f"{engine:11} {len(messages):,} records of {agents} agents: bare {least.per_s:,.0f}/s, "
                  f"gateway {full.per_s:,.0f}/s, ratio {ratio:.2f}")  # fmt: skip
            print(f"{'':11} processor time a record: bare {least.cpu_us:.0f} us, gateway {full.cpu_us:.0f} us")
            print(f"{'':11} memory {full.before_mib:.0f} MiB before, at most {full.most_mib:.0f} MiB while draining")
            print(f"{'':11} edge to acknowledged, {agents} agents in turn: "
                  + percentiles(acknowledged_after(bench, many, 5.0, threading.Event())))  # fmt: skip
            running.stop()
            for what, whose in (("one agent", many[:1]), (f"{agents} agents", many)):
                gone, lag = drain_beside(bench, database, whose, live, max(1, records // len(whose)))
                print(f"{'':11} backlog of {what}: {gone.per_s:,.0f}/s; live meanwhile {percentiles(lag)}")
        finally:
            bench.broker.stop()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--agents", type=int, default=82)
    parser.add_argument("--engine", choices=["sqlite", "postgresql"], action="append")
    asked = parser.parse_args()
    servers = DatabaseServers()
    try:
        with tempfile.TemporaryDirectory(prefix="openlab-bench-") as folder:
            for engine in asked.engine or ["sqlite", "postgresql"]:
                measure(engine, servers, Path(folder), asked.records, asked.agents)
    finally:
        servers.close()


if __name__ == "__main__":
    main()
