"""Agents, gateway and broker killed at random, several seeds; `make torture` does the same for as long as one likes."""

import random
import time

import pytest

from tests.faults.conftest import MakeSite
from tests.support.brokers import NatsBroker


@pytest.mark.parametrize("seed", [11, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (12, 13))])
def test_whatever_is_killed_the_books_agree(make_site: MakeSite, nats_broker: NatsBroker, seed: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    site = make_site(seed=seed, agents=3)
    site.start_all()
    site.await_records(2)
    ends = time.monotonic() + 10
    kills = 0
    while time.monotonic() < ends:
        victim = chance.choice([*site.running, *site.agents, "broker"])
        if victim == "broker":
            nats_broker.kill()
            time.sleep(chance.uniform(0.0, 1.0))
            nats_broker.start()
        else:
            site.kill(victim)
        kills += 1
        # How long it is left in peace is part of the seed: nothing is waited for.
        time.sleep(chance.uniform(0.1, 1.5))
        site.keep_alive()
    verdict = site.finish(explain=True)
    print(f"{kills} kills, {verdict.records} records, {verdict.sessions} sessions, {verdict.unknown_ms} ms unknown")
    verdict.assert_exact()
