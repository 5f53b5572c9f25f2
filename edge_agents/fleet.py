"""Many agents in one process: one thread steps them all, and the trouble of one is not the trouble of the others."""

import threading
import time
from collections.abc import Sequence

import structlog

from edge_agents.agent import Agent

log = structlog.get_logger(__name__)

STEP_EVERY_S = 0.2
DRAIN_EVERY_S = 0.02
TRY_AGAIN_AFTER_S = 10.0


class Fleet:
    """Runs agents that were constructed and not started. Used by the demo and by `openlab-agent run`."""

    def __init__(self, agents: Sequence[Agent], *, step_every_s: float = STEP_EVERY_S) -> None:
        self.agents = list(agents)
        self._step_every_s = step_every_s
        self._resting: dict[str, float] = {}
        self.started = threading.Event()

    def run(self, until: threading.Event, *, drain_timeout_s: float = 10.0) -> bool:
        """Start all, step all until `until` is set, then settle, drain and close; return whether all was drained.

        Ends too when an agent was told to restart: whoever keeps the process alive (systemd) starts it again.

        An agent that cannot start at all (spool in use, folder not writable) ends the run: raises what it raised.
        """
        begun: list[Agent] = []
        try:
            for agent in self.agents:
                # One agent's restart must not be the end of the others'.
                agent.orders.may_restart = len(self.agents) == 1
                agent.start()
                begun.append(agent)
            self.started.set()
            while not until.is_set() and not any(agent.orders.restart_wanted for agent in self.agents):
                began = time.monotonic()
                for agent in self.agents:
                    self._step(agent)
                    if until.is_set():
                        break
                until.wait(max(0.01, self._step_every_s - (time.monotonic() - began)))
        finally:
            drained = self._end(begun, drain_timeout_s)
        return drained

    def _step(self, agent: Agent) -> None:
        if time.monotonic() < self._resting.get(agent.name, 0.0):
            return
        try:
            agent.step()
        except Exception:
            # Whatever it is, the other laboratories must not pay for it.
            log.exception("an agent's step failed", agent=agent.name, again_in_s=TRY_AGAIN_AFTER_S)
            self._resting[agent.name] = time.monotonic() + TRY_AGAIN_AFTER_S

    def _end(self, agents: list[Agent], drain_timeout_s: float) -> bool:
        deadline = time.monotonic() + drain_timeout_s
        waiting = [agent for agent in agents if self._safely(agent, "settle")]
        while waiting and time.monotonic() < deadline:
            waiting = [agent for agent in waiting if self._safely(agent, "pump") and not agent.is_drained]
            time.sleep(DRAIN_EVERY_S)
        drained = all(agent.is_drained for agent in agents)
        for agent in agents:
            self._safely(agent, "close")
        return drained

    def _safely(self, agent: Agent, action: str) -> bool:
        try:
            getattr(agent, action)()
        except Exception:
            log.exception("an agent could not end properly", agent=agent.name, action=action)
            return False
        return True
