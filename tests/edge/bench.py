"""An agent on a workbench: a clock that stands still, a meter that is told what to say, a folder that survives."""

from collections.abc import Callable
from pathlib import Path

from edge_agents.agent import Agent
from edge_agents.drivers.base import Driver
from edge_agents.drivers.from_callable import CallableDriver
from edge_agents.watch import Watched
from tests.edge.making import A_PROFILE
from tests.support.brokers import AGENT
from tests.support.waiting import wait_until
from wire.client import BrokerAddress
from wire.clock import ManualClock

START = 1_750_000_000_000


class Bench:
    """An agent on a workbench: a clock that stands still and a folder that survives the agent."""

    def __init__(self, url: str, folder: Path, name: str = AGENT, inst: str = "xc-h01-01") -> None:
        self.url, self.folder, self.name, self.inst = url, folder / name, name, inst
        self.clock = ManualClock(START)
        self.power = 0.0
        self.agent: Agent | None = None

    def begin(self, driver: Driver | None = None) -> Agent:
        meter = driver or CallableDriver(lambda: self.power, self.clock)
        address = BrokerAddress.parse(self.url)
        watched = [Watched(self.inst, meter, A_PROFILE)]
        self.agent = Agent(self.name, watched, self.clock, address, self.folder)
        self.agent.start()
        return self.agent

    def pass_time(self, seconds: int) -> None:
        assert self.agent is not None
        for _ in range(seconds):
            self.clock.advance(1000)
            self.agent.step()

    def crash(self) -> None:
        """End without a last word, as a kill does: nothing is settled or saved."""
        assert self.agent is not None
        self.agent._sender._client.stop()
        self.agent._journal.abandon()


def until(agent: Agent, condition: Callable[[], object], what: str) -> None:
    def pumped() -> object:
        agent.pump()
        return condition()

    wait_until(pumped, what)
