"""The place of the stories: the seeded county with one real agent, broker, gateway, worker and API on one clock.

Nothing is pretended but time: the clock stands still until the story moves it.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from fastapi import FastAPI
from sqlalchemy import select

from api.app import create_app
from api.rewards.policies import seed_policies
from api.seeding.registry import load_registry
from api.work import Work, system_actor
from api.worker import Worker
from edge_agents.agent import Agent
from edge_agents.detector import DetectorProfile
from edge_agents.drivers.base import Driver
from edge_agents.drivers.cards import CardReader
from edge_agents.drivers.trace import TraceDriver
from edge_agents.watch import Watched
from gateway.bridge import Gateway
from gateway.metrics import GatewayMetrics
from gateway.settings import GatewaySettings
from store.database import Database
from store.series import SeriesStore
from store.tables.usage import MeterPosition, UsageStream
from tests.scenarios.people import PASSWORD, Someone
from tests.support.api_client import test_parts
from tests.support.brokers import AnyBroker
from tests.support.waiting import wait_until
from wire.broker_access import Login, Role
from wire.client import BrokerAddress
from wire.clock import ManualClock, from_ms, to_ms

INSTRUMENT, AGENT, GATEWAY = "xc-h01-02", "a-h01-02", "gw-1"
TAUGHT = DetectorProfile(on_w=10, off_w=5, standby_w=2, up_ms=4_000, down_ms=60_000, max_hole_ms=30_000)

PRICE = {
    "schema": "openlab.tariff/1",
    "default": {"time": {"per": "hour", "unit_fen": 40_000, "step_s": 1800, "minimum_s": 0}},
}


class Lab:
    """A county of one day. Everything in it is the product's own."""

    def __init__(
        self,
        database: Database,
        database_url: str,
        series: SeriesStore,
        series_url: str,
        broker: AnyBroker,
        clock: ManualClock,
        folder: Path,
    ) -> None:
        self.database, self.series, self.clock, self.broker = database, series, clock, broker
        self._folder = folder
        self._env = {"OPENLAB_DATABASE_URL": database_url, "OPENLAB_SERIES_URL": series_url}
        with database.write() as session:
            work = Work(session, system_actor("seed"), self.now)
            load_registry(work, password_for=lambda login: PASSWORD, sample_period_ms=2_000)
            seed_policies(work, "p-officer-1", "p-officer-2")
        broker.set_logins([Login(AGENT, "token-of-the-agent"), Login(GATEWAY, "gateway-token", Role.GATEWAY)])
        self.app: FastAPI = create_app(test_parts(database, series, clock))
        self.worker = Worker(database, series, clock)
        self.gateway = Gateway(
            GatewaySettings(
                database_url="unused:",
                series_url="unused:",
                broker_url="unused:",
                gateway_name=GATEWAY,
                batch_wait_ms=5,
            ),
            BrokerAddress.parse(broker.url_for(GATEWAY)),
            database,
            series,
            clock,
            GatewayMetrics(),
        )
        self.gateway.start()

    @property
    def now(self) -> datetime:
        return from_ms(self.clock.now_ms())

    def someone(self, login: str) -> Someone:
        """A person signs in."""
        return Someone(self.app, login)

    def wait_until(self, moment: datetime) -> None:
        """Time passes, and nothing else happens."""
        self.clock.advance(to_ms(moment) - self.clock.now_ms())

    def play(
        self,
        curve: Path,
        lasts: timedelta,
        readers: Sequence[CardReader] = (),
        meanwhile: Callable[[Agent, int], None] = lambda agent, minute: None,
    ) -> None:
        """Put an agent beside the instrument, let it read a power curve to its end, and bring all of it home.

        `meanwhile` is told each minute that begins, before the agent takes its step.
        """
        agent = self.agent_beside(TraceDriver.from_csv(curve, self.clock, start_ms=self.clock.now_ms()), readers)
        agent.step()
        begun_ms = self.clock.now_ms()
        end_ms = begun_ms + lasts // timedelta(milliseconds=1)
        while self.clock.now_ms() < end_ms:
            self.clock.advance(60_000)
            meanwhile(agent, (self.clock.now_ms() - begun_ms) // 60_000)
            agent.step()
        self.bring_home(agent)

    def agent_beside(self, driver: Driver, readers: Sequence[CardReader] = ()) -> Agent:
        """Start the agent of the instrument, on the spool it left the time before."""
        agent = Agent(
            AGENT,
            [Watched(INSTRUMENT, driver, TAUGHT)],
            self.clock,
            BrokerAddress.parse(self.broker.url_for(AGENT)),
            self._folder / "spool",
            readers=readers,
        )
        agent.start()
        return agent

    def bring_home(self, agent: Agent) -> None:
        """End the agent in an orderly way, and wait until the ledger has all of its stream."""
        assert agent.stop(drain_timeout_s=90), "the agent could not deliver what it recorded"
        told = agent.truth()

        def committed() -> bool:
            with self.database.read() as session:
                head = session.get(UsageStream, (AGENT, told.usage.stream))
                return head is not None and head.upto == told.usage.last_seq

        wait_until(committed, "the whole stream in the ledger")

    def work(self) -> None:
        """The worker does all that is due now."""
        while self.worker.run_once():
            pass

    def openlab(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run an `openlab` command as a person at a terminal would."""
        return subprocess.run(
            [sys.executable, "-m", "api.cli", *arguments],
            env={**os.environ, **self._env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def running_seconds(self) -> float:
        """What the ledger holds of the instrument's running."""
        with self.database.read() as session:
            rows = session.scalars(select(MeterPosition).where(MeterPosition.instrument_id == INSTRUMENT)).all()
        return sum(row.odo_running_ms for row in rows) / 1000

    def close(self) -> None:
        self.gateway.stop()


def publish_price(lab: Lab) -> None:
    """400 yuan an hour by the half hour: the manager proposes, the deputy approves what she read."""
    manager, deputy = lab.someone("h01-manager"), lab.someone("h01-deputy")
    proposal = manager.does(f"/instruments/{INSTRUMENT}/tariff-proposals", valid_from=lab.now.isoformat(), body=PRICE)
    approval = f"/tariff-proposals/{proposal['proposal_id']}/approval"
    by_herself = manager.tries(approval, body_sha256=proposal["body_sha256"])
    assert (by_herself.status_code, by_herself.json()["code"]) == (409, "same_person")
    deputy.does(approval, body_sha256=proposal["body_sha256"])
