"""Agents, gateway and broker killed at random, several seeds; `make torture` does the same for as long as one likes."""

import random
import time

from tests.faults.conftest import MakeSite
from tests.faults.grounds import each_on_grounds
from tests.support.brokers import AnyBroker
from wire.connection_losses import LOSSES

TORMENT_S = 6


@each_on_grounds("seed", [11, 12, 13], quick=2)
def test_whatever_is_killed_the_books_agree(make_site: MakeSite, broker: AnyBroker, seed: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    site = make_site(seed=seed, agents=3)
    site.start_all()
    site.await_records(2)
    ends = time.monotonic() + TORMENT_S
    kills = broker_kills = 0
    while time.monotonic() < ends:
        victim = chance.choice([*site.running, *site.agents, "broker"])
        if victim == "broker":
            broker_kills += 1
            if broker_kills >= LOSSES:
                continue
            broker.kill()
            time.sleep(chance.uniform(0.0, 1.0))
            broker.start()
        else:
            site.kill(victim)
        kills += 1
        # How long it is left in peace is part of the seed: nothing is waited for.
        time.sleep(chance.uniform(0.1, 1.5))
        site.keep_alive()
    verdict = site.finish(explain=True)
    print(f"{kills} kills, {verdict.records} records, {verdict.sessions} sessions, {verdict.unknown_ms} ms unknown")
    verdict.assert_exact()
