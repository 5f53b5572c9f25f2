"""kill -9 of a gateway at each named step and at random, on PostgreSQL: no second is lost, doubled or made unknown."""

import random

import pytest

from tests.faults.conftest import MakeSite

POINTS = ["decoded", "written", "committed", "acknowledged", "puback", "series_written"]


@pytest.mark.parametrize("point", POINTS)
def test_a_gateway_killed_at_a_step_loses_and_doubles_nothing(make_site: MakeSite, point: str) -> None:
    site = make_site(engine="postgresql")
    for agent in site.agents:
        site.start_agent(agent)
    for passing in (1, 4):
        process = site.start_gateway(die=f"{point}:{passing}")
        assert process.wait(90) == -9, process.said()
    site.start_gateway()
    site.await_records(3)
    verdict = site.finish()
    verdict.assert_exact()
    assert verdict.unknown_ms == 0


def test_two_gateways_killed_at_random_leave_one_truth(make_site: MakeSite) -> None:
    seed = 7
    print(f"seed {seed}")
    chance = random.Random(seed)
    site = make_site(engine="postgresql")
    site.start_all(gateways=("gw-1", "gw-2"))
    for _ in range(5):
        site.await_records(chance.randint(1, 8))
        site.kill(chance.choice(["gw-1", "gw-2"]))
        site.keep_alive()
    verdict = site.finish()
    verdict.assert_exact()
    assert verdict.unknown_ms == 0
