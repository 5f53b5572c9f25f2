"""A county in small, of real processes over one folder: broker, gateways, agents with simulated instruments.

Every process is started through its console entry (or, to die at a step, through a launcher of this folder), knows
the others only over the network, and shares one accelerated clock. Used by the fault tests and `benchmarks.torture`.
"""

import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from api.embedded.broker import write_secret
from api.embedded.reconcile import load_truths
from store.database import Database, open_database
from store.series_sqlite import create_schema
from store.tables.usage import UsageStream
from tests.faults.judge import Plan, Span, Verdict, judge
from tests.faults.processes import Process
from tests.support.brokers import AnyBroker
from tests.support.usage import NINE, add_registry
from tests.support.waiting import wait_until
from wire.broker_access import Login, Role
from wire.clock import ClockSetting, ScaledClock
from wire.ids import new_ulid

MINUTE = 60_000
PATIENCE_S = 150.0
"""More than the minute after which a gateway says again that it is there, to an agent that did not hear it."""
LEVELS = {"standby_w": 60, "idle_w": 250, "running_w": 4200, "run_threshold_w": 1025}
PUNCTUAL = {"no_show": 0.0, "late": 0.0, "ends_early": 0.0, "overruns": 0.0, "walk_ins_per_week": [0, 0]}


def runs_of(seed: object, hours: float) -> list[Span]:
    """What an instrument does from NINE on: runs of 2 to 9 minutes, pauses of 2 to 6. Wall milliseconds."""
    chance, at, runs = random.Random(f"runs/{seed}"), NINE + MINUTE, list[Span]()
    while at < NINE + hours * 3_600_000:
        length = chance.randint(120, 540) * 1000
        runs.append((at, at + length))
        at += length + chance.randint(120, 360) * 1000
    return runs


class Site:
    """Construct over a running broker and a migrated, empty database; `close` ends every process."""

    def __init__(
        self,
        folder: Path,
        broker: AnyBroker,
        database_url: str,
        *,
        agents: int = 2,
        speed: float = 60.0,
        seed: object = 0,
        tick_ms: int = 10_000,
        period_ms: int = 1000,
        hours: float = 6.0,
        broker_port: int | None = None,
        **agent_settings: Any,
    ) -> None:
        self.folder, self.broker, self.database_url = folder, broker, database_url
        self.random = random.Random(f"site/{seed}")
        self.database: Database = open_database(database_url)
        self.logs = folder / "logs"
        for part in ("logs", "agents.d", "spools", "truths", "plans"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        with self.database.write() as session:
            self.instruments = add_registry(session, instruments=agents)
        self.agents = [f"a-{inst}" for inst in self.instruments]
        self.port = broker_port or broker.port
        self.gateway_url = f"{getattr(broker, 'scheme', 'mqtt')}://127.0.0.1:{broker.port}"
        self._logins = [Login(agent, f"token-of-{agent}") for agent in self.agents]
        self._logins += [Login(f"gw-{n}", "gateway-token", Role.GATEWAY) for n in (1, 2)]
        broker.set_logins(self._logins)
        create_schema(folder / "series.db")
        self.speed = speed
        self.begin_clock(NINE)
        self.plans: dict[str, Plan] = {}
        for inst, agent in zip(self.instruments, self.agents, strict=True):
            self.plans[inst] = Plan(runs_of(f"{seed}/{inst}", hours), period_ms)
            (folder / "plans" / f"{inst}.json").write_text(json.dumps(self.plans[inst].runs))
            self.write_agent(agent, inst, period_ms=period_ms, tick_ms=tick_ms, **agent_settings)
        self.running: dict[str, Process] = {}
        self.starts: dict[str, int] = {}
        self.kills: dict[str, list[int]] = {}

    @property
    def clock_file(self) -> Path:
        return self.folder / "clock.json"

    def begin_clock(self, origin_ms: int, boot: str | None = None, file: Path | None = None) -> None:
        """Begin accelerated time at an instant, as a new boot of every machine; for those started from now on."""
        boottime_ms = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
        setting = ClockSetting(origin_ms, boottime_ms, self.speed, boot or new_ulid().lower())
        setting.save(file or self.clock_file)
        self.clock = ScaledClock(setting)

    def write_agent(self, agent: str, inst: str, *, period_ms: int, tick_ms: int, **settings: Any) -> None:
        """Write the settings of one agent; `settings` replace those of the same name."""
        write_secret(self.folder / "agents.d" / f"{agent}.password", f"token-of-{agent}")
        instrument = {
            "id": inst,
            "driver": "simulated",
            "period_ms": period_ms,
            "tick_ms": tick_ms,
            "params": {
                "rated_w": 7500,
                "habits": PUNCTUAL,
                "plan": str(self.folder / "plans" / f"{inst}.json"),
                **LEVELS,
            },
            "catalogue": {**LEVELS, "max_hole_ms": max(30_000, 3 * period_ms)},
        }
        fields = {
            "agent": agent,
            "broker": f"mqtt://127.0.0.1:{self.port}",
            "credential_file": f"{agent}.password",
            "data_dir": str(self.spool(agent)),
            "clock_file": str(self.clock_file),
            "instruments": [instrument | settings.pop("instrument", {})],
        }
        self.config(agent).write_text(json.dumps(fields | settings, indent=1))

    def config(self, agent: str) -> Path:
        return self.folder / "agents.d" / f"{agent}.json"

    def spool(self, agent: str) -> Path:
        return self.folder / "spools" / agent

    def start_gateway(self, name: str = "gw-1", die: str | None = None) -> Process:
        """Start a gateway that dies at a step (`committed:3`) if told so."""
        env = {
            "OPENLAB_DATABASE_URL": self.database_url,
            "OPENLAB_SERIES_URL": f"sqlite:///{self.folder / 'series.db'}",
            "OPENLAB_BROKER_URL": self.gateway_url,
            "OPENLAB_BROKER_USERNAME": name,
            "OPENLAB_BROKER_PASSWORD": "gateway-token",
            "OPENLAB_GATEWAY_NAME": name,
            "OPENLAB_CLOCK_FILE": str(self.clock_file),
        }
        module, arguments = ("tests.faults.launch_gateway", [die]) if die else ("gateway.cli", ["run"])
        return self._start(name, module, arguments, env)

    def start_agent(self, agent: str, *, die: str | None = None, wall: Path | None = None) -> Process:
        """Start an agent that dies at a step, or whose wall clock follows a file, if told so."""
        arguments = ["--config", str(self.config(agent)), "--truth", str(self.truth_file(agent)), "--drain", "60"]
        if die is None and wall is None:
            return self._start(agent, "edge_agents.cli", ["run", *arguments], {})
        extra = [*(["--die", die] if die else []), *(["--wall", str(wall)] if wall else [])]
        return self._start(agent, "tests.faults.launch_agent", [*arguments, *extra], {})

    def start_fleet(self) -> Process:
        """Start all agents in one process, as a demo does; their truth is under the name `fleet`."""
        folder, truth = self.folder / "agents.d", self.truth_file("fleet")
        arguments = ["run", "--config", str(folder), "--truth", str(truth), "--drain", "60"]
        return self._start("fleet", "edge_agents.cli", arguments, {})

    def start_all(self, gateways: Sequence[str] = ("gw-1",)) -> None:
        for gateway in gateways:
            self.start_gateway(gateway)
        for agent in self.agents:
            self.start_agent(agent)

    def keep_alive(self) -> None:
        """Start again what has ended, as a service manager would."""
        for name, process in list(self.running.items()):
            if not process.alive:
                self.start_gateway(name) if name.startswith("gw-") else self.start_agent(name)

    def kill(self, name: str) -> None:
        """kill -9; remembers when."""
        self.kills.setdefault(name, []).append(self.clock.now_ms())
        self.running[name].kill()

    def upto(self, agent: str) -> int:
        """How many usage records of an agent are committed, all its streams together."""
        with self.database.read() as session:
            return sum(
                row.upto
                for row in session.query(UsageStream).filter(UsageStream.agent_id == agent, UsageStream.kind == "usage")
            )

    def await_records(self, count: int, agents: Sequence[str] | None = None, timeout_s: float = PATIENCE_S) -> None:
        """Wait until the ledger holds at least so many records more than now of each agent."""
        wanted = {agent: self.upto(agent) + count for agent in agents or self.agents}
        self.wait(
            lambda: all(self.upto(agent) >= least for agent, least in wanted.items()),
            f"{count} more records of each agent",
            timeout_s,
        )

    def wait(self, condition: Callable[[], object], what: str, timeout_s: float = PATIENCE_S) -> None:
        """Wait for a condition; in vain, say what every process said last, and how far each agent came."""
        try:
            wait_until(condition, what, timeout_s)
        except AssertionError as error:
            came = {agent: self.upto(agent) for agent in self.agents}
            said = "\n".join(f"--- {name}: {process.said()[-600:]}" for name, process in self.running.items())
            raise AssertionError(f"{error}\n{came}\n{said}") from None

    def finish(self, *, expected: Sequence[str] = (), plans: bool = True, explain: bool = False) -> Verdict:
        """End all agents in an orderly way, with everything delivered, and judge.

        With `explain`, every hole has to be one of the kills by `kill`.
        """
        self.keep_alive()
        agents = [self.running[agent] for agent in self.agents if agent in self.running]
        for agent in self.agents:
            # Asked to end before it listens for that, it would just be killed.
            self._await_online(agent)
        for process in agents:
            process.ask_to_end()
        for process in agents:
            assert process.wait(90) == 0, process.said()[-3000:]
        truths = [truth for process in agents for truth in load_truths(self.truth_file(process.name))]
        with self.database.read() as session:
            kills = self.kills if explain else None
            return judge(session, truths, self.plans if plans else {}, expected=expected, kills=kills)

    def truth_file(self, agent: str) -> Path:
        return self.folder / "truths" / f"{agent}.json"

    def close(self) -> None:
        for process in self.running.values():
            if process.alive:
                process.kill()
        self.database.dispose()

    def _await_online(self, agent: str) -> None:
        # What its predecessor had sent may be committed while this process still starts: both are looked at.
        before, process = self.upto(agent), self.running.get(agent)
        listening = f"{agent} to listen for its end"
        self.wait(lambda: process is None or process.hears_sigterm, listening)
        self.wait(lambda: self.upto(agent) > before, f"a record of {agent}")

    def _start(self, name: str, module: str, arguments: Sequence[str], env: dict[str, str]) -> Process:
        self.starts[name] = self.starts.get(name, 0) + 1
        self.running[name] = Process(name, module, arguments, self.logs / f"{name}.log", env)
        return self.running[name]
