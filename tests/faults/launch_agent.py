"""`openlab-agent run` with a step at which it dies, or with a wall clock that a test sets.

python -m tests.faults.launch_agent --config agent.json --truth truth.json [--die POINT:N] [--wall FILE]
"""

import argparse
import json
import signal
import threading
from dataclasses import asdict
from pathlib import Path

from edge_agents.compose import build_agent, clock_of
from edge_agents.fleet import Fleet
from edge_agents.settings import load_settings
from edge_agents.truth import spooled_sessions
from tests.faults.kill_points import killer
from wire.clock import Clock


class SetClock:
    """A clock whose wall time is off by as many milliseconds as a file says; what is monotonic does not notice."""

    def __init__(self, true: Clock, file: Path) -> None:
        self._true = true
        self._file = file
        self.boot = true.boot
        self.speed = true.speed

    def now_ms(self) -> int:
        return max(0, self._true.now_ms() + int(self._file.read_text()))

    def mono_ms(self) -> int:
        return self._true.mono_ms()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--drain", type=float, default=90.0)
    parser.add_argument("--die")
    parser.add_argument("--wall", type=Path)
    given = parser.parse_args()
    settings = load_settings(given.config)
    clock = clock_of(settings)
    if given.wall is not None:
        clock = SetClock(clock, given.wall)
    checkpoint = killer(given.die) if given.die else lambda name: None
    until = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: until.set())
    agent = build_agent(settings, clock, checkpoint)
    Fleet([agent]).run(until, drain_timeout_s=given.drain)
    sessions = [asdict(session) for session in spooled_sessions(agent.folder / "usage.db")]
    given.truth.write_text(json.dumps({"agents": [agent.truth().as_json() | {"sessions": sessions}]}))


if __name__ == "__main__":
    main()
