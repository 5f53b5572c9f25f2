"""kill -9 of a gateway at each named step and at random: no second is lost, doubled or made unknown."""

import random
from collections.abc import Sequence

import pytest

from tests.faults.grounds import BOTH, each_on_grounds, on_grounds
from tests.faults.site import PATIENCE_S, Site

POINTS = ["decoded", "written", "committed", "acknowledged", "puback", "series_written"]


def kill_at(site: Site, deaths: Sequence[str]) -> None:
    """Let a gateway die at one step after the other, then one live, and judge."""
    for agent in site.agents:
        site.start_agent(agent)
    for death in deaths:
        process = site.start_gateway(die=death)
        assert process.wait(PATIENCE_S) == -9, process.said()
    site.start_gateway()
    site.await_records(3)
    verdict = site.finish()
    verdict.assert_exact()
    assert verdict.unknown_ms == 0


@on_grounds(BOTH)
def test_a_gateway_killed_at_every_step_in_turn_loses_and_doubles_nothing(site: Site) -> None:
    kill_at(site, [f"{point}:2" for point in POINTS])


@pytest.mark.slow
@each_on_grounds("point", POINTS)
def test_a_gateway_killed_at_a_step_loses_and_doubles_nothing(site: Site, point: str) -> None:
    kill_at(site, [f"{point}:1", f"{point}:4"])


@on_grounds(BOTH, quick=[0])
def test_two_gateways_killed_at_random_leave_one_truth(site: Site) -> None:
    seed = 7
    print(f"seed {seed}")
    chance = random.Random(seed)
    site.start_all(gateways=("gw-1", "gw-2"))
    for _ in range(5):
        site.await_records(chance.randint(1, 8))
        site.kill(chance.choice(["gw-1", "gw-2"]))
        site.keep_alive()
    verdict = site.finish()
    verdict.assert_exact()
    assert verdict.unknown_ms == 0
