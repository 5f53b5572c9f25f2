"""kill -9 of an agent, at random and at each step: nothing is lost or doubled, the time it was away is unknown."""

import random
from collections.abc import Sequence
from itertools import pairwise

import pytest

from tests.faults.conftest import MakeSite
from tests.faults.grounds import BOTH, each_on_grounds, on_grounds
from tests.faults.site import PATIENCE_S, Site
from tests.support.usage import NINE

POINTS = ["read", "spooled", "sent"]


@each_on_grounds("seed", [1, 2], quick=1)
def test_an_agent_killed_at_random_times_loses_only_the_time_it_was_away(site: Site, seed: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    site.start_all()
    back = []
    for _ in range(4):
        site.await_records(chance.randint(1, 12))
        back.append(site.clock.now_ms())
        for agent in site.agents:
            site.kill(agent)
            site.start_agent(agent)
    verdict = site.finish(explain=True)
    back.append(site.clock.now_ms())
    verdict.assert_exact()
    assert len(verdict.holes) <= 4 * len(site.agents)
    assert all("inferred" in hole.flags for hole in verdict.holes)
    # Every hole is one start of a process (a minute and a half of accelerated time) with its last checkpoint.
    longest_ms = max(later - earlier for earlier, later in pairwise(back))
    assert verdict.holes[0].to_ms - verdict.holes[0].from_ms < longest_ms + 5_000 * site.speed


def kill_at(site: Site, deaths: Sequence[str]) -> None:
    """Let an agent die at one step after the other, beside one that lives, and judge."""
    site.start_gateway()
    agent, *others = site.agents
    for other in others:
        site.start_agent(other)
    for death in deaths:
        process = site.start_agent(agent, die=death)
        assert process.wait(PATIENCE_S) == -9, process.said()
    site.start_agent(agent)
    verdict = site.finish()
    verdict.assert_exact()
    assert verdict.streams == len(site.agents)
    assert verdict.running_ms + verdict.unknown_ms > 0


@on_grounds(BOTH, quick=[1])
def test_an_agent_killed_at_every_step_in_turn_goes_on_as_the_same_session(site: Site) -> None:
    kill_at(site, [f"{point}:{passing}" for passing in (1, 8) for point in POINTS])


@pytest.mark.slow
@each_on_grounds("point", POINTS)
def test_an_agent_killed_at_a_step_goes_on_as_the_same_session(site: Site, point: str) -> None:
    kill_at(site, [f"{point}:{passing}" for passing in (1, 3, 8, 13)])


def test_an_agent_killed_while_it_prunes_goes_on(make_site: MakeSite) -> None:
    site = make_site(agents=1, speed=2400, tick_ms=120_000, period_ms=10_000)
    [agent] = site.agents
    site.start_gateway()
    site.start_agent(agent)
    # What is acknowledged is dated once an hour, and the first date may stand at nothing at all.
    site.await_records(1)
    later = site.clock.now_ms() + 2 * 3_600_000
    site.wait(lambda: site.clock.now_ms() > later, "two hours to pass")
    site.await_records(1)
    site.running[agent].ask_to_end()
    site.running[agent].wait(90)
    # Eight days later, on a machine that was booted again, what was acknowledged may go.
    site.begin_clock(NINE + 8 * 24 * 3_600_000)
    process = site.start_agent(agent, die="pruned:1")
    assert process.wait(PATIENCE_S) == -9, process.said()
    site.start_agent(agent)
    verdict = site.finish(plans=False)
    verdict.assert_exact()
    assert verdict.streams == 1
    assert verdict.holes[0].detail["by"] == "wall"
