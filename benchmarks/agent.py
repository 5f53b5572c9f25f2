"""What one agent costs its machine: `python -m benchmarks.agent [--seconds 60] [--instruments 4]`.

`openlab-agent run` as an operator starts it, with simulated instruments read once a second, a real Mosquitto and a
real gateway that acknowledges. After a warm-up its memory and processor time are taken for a while, and what it wrote
to its disk. Goal: under 80 MB and 3 % of a core for four instruments.
"""

import argparse
import json
import os
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import psutil
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.embedded.broker import write_secret
from store.database import Database
from store.series_sqlite import create_schema
from store.tables.registry import Metering
from store.tables.usage import UsageStream
from tests.faults.processes import Process
from tests.support.brokers import MosquittoBroker
from tests.support.databases import DatabaseServers, opened
from tests.support.usage import LONG_AGO, add_registry
from tests.support.waiting import wait_until
from wire.broker_access import Login, Role

GATEWAY = "gw-bench"
WARM_UP_S = 10.0
LEVELS = {"standby_w": 60, "idle_w": 250, "running_w": 4200, "run_threshold_w": 1025}


def one_agent_for_all(session: Session, instruments: list[str]) -> str:
    """Let the first instrument's agent speak for all of them; return its name."""
    agent = f"a-{instruments[0]}"
    for instrument in instruments[1:]:
        session.add(
            Metering(
                instrument_id=instrument,
                effective_at=LONG_AGO + timedelta(days=1),
                agent_id=agent,
                meter_serial=f"M-{instrument}",
                ct_ratio_milli=1000,
                profile="{}",
                profile_sha256="0" * 64,
                sample_period_ms=1000,
                installed_by="benchmark",
                recorded_by="benchmark",
                recorded_at=LONG_AGO,
            )
        )
    return agent


def start(folder: Path, broker: MosquittoBroker, database: Database, instruments: list[str]) -> tuple[Process, Process]:
    """Start a gateway and the agent."""
    with database.write() as session:
        agent = one_agent_for_all(session, instruments)
    create_schema(folder / "series.db")
    env = {
        "OPENLAB_DATABASE_URL": database.engine.url.render_as_string(hide_password=False),
        "OPENLAB_SERIES_URL": f"sqlite:///{folder / 'series.db'}",
        "OPENLAB_BROKER_URL": broker.url_for(GATEWAY),
        "OPENLAB_BROKER_USERNAME": GATEWAY,
        "OPENLAB_BROKER_PASSWORD": "token-of-gateway",
        "OPENLAB_GATEWAY_NAME": GATEWAY,
    }
    gateway = Process(GATEWAY, "gateway.cli", ["run"], folder / "gateway.log", env)
    wait_until(lambda: "gateway online" in gateway.said(), "the gateway", 30)
    write_secret(folder / "agent.password", f"token-of-{agent}")
    settings = {
        "agent": agent,
        "broker": f"mqtt://127.0.0.1:{broker.port}",
        "credential_file": "agent.password",
        "data_dir": "spool",
        "instruments": [
            {"id": name, "driver": "simulated", "params": {"rated_w": 7500, **LEVELS}, "catalogue": LEVELS}
            for name in instruments
        ],
    }
    (folder / "agent.json").write_text(json.dumps(settings))
    return gateway, Process(agent, "edge_agents.cli", ["run", "--config", str(folder / "agent.json")],
                            folder / "agent.log", {})  # fmt: skip


def acknowledged(database: Database) -> int:
    """How many messages of the agent are committed: usage records and batches of samples."""
    with database.read() as session:
        return int(session.scalar(select(func.coalesce(func.sum(UsageStream.upto), 0))) or 0)


def measure(folder: Path, servers: DatabaseServers, asked: argparse.Namespace) -> None:
    """Run it and print."""
    with servers.fresh_url("sqlite") as url, opened(url) as database:
        with database.write() as session:
            instruments = add_registry(session, asked.instruments)
        logins = [Login(f"a-{name}", f"token-of-a-{name}") for name in instruments]
        broker = MosquittoBroker(folder / "broker", [*logins, Login(GATEWAY, "token-of-gateway", Role.GATEWAY)])
        broker.start()
        processes: tuple[Process, ...] = ()
        try:
            processes = start(folder, broker, database, instruments)
            watched = psutil.Process(processes[1].pid)
            wait_until(lambda: acknowledged(database) > 0, "the first acknowledged record", 90)
            time.sleep(WARM_UP_S)
            before, began, most = watched.cpu_times(), time.monotonic(), 0.0
            written, done = watched.io_counters().write_bytes, acknowledged(database)
            while time.monotonic() - began < asked.seconds:
                most = max(most, watched.memory_info().rss / 1e6)
                time.sleep(1)
            after, took = watched.cpu_times(), time.monotonic() - began
            used = after.user + after.system - before.user - before.system
            disk = (watched.io_counters().write_bytes - written) / took * 86_400 / 1e6
            print(f"{asked.instruments} instruments at 1 Hz for {took:.0f} s, "
                  f"{acknowledged(database) - done} messages acknowledged; load {os.getloadavg()[0]:.1f}")  # fmt: skip
            print(f"processor {used / took * 100:.1f} % of a core, memory at most {most:.0f} MB, "
                  f"written to disk {disk:,.0f} MB a day")  # fmt: skip
        finally:
            for process in reversed(processes):
                process.ask_to_end()
                process.wait(30)
            broker.stop()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--instruments", type=int, default=4)
    asked = parser.parse_args()
    servers = DatabaseServers()
    try:
        with tempfile.TemporaryDirectory(prefix="openlab-bench-") as folder:
            measure(Path(folder), servers, asked)
    finally:
        servers.close()


if __name__ == "__main__":
    main()
