"""kill -9 of the broker, with all that it had not written down: agents and gateway make good what it forgot."""

from tests.faults.grounds import Ground, on_grounds
from tests.faults.site import Site
from tests.support.brokers import AnyBroker
from tests.support.waiting import wait_until

GROUNDS = [
    Ground("forgetful-nats", "postgresql"),
    Ground("mosquitto", "sqlite"),
    Ground("forgetful-nats", "sqlite"),
    Ground("mosquitto", "postgresql"),
    *(Ground(broker, engine) for broker in ("nats", "forgetful-mosquitto") for engine in ("sqlite", "postgresql")),
]


@on_grounds(GROUNDS)
def test_a_broker_that_is_killed_costs_no_second(site: Site, broker: AnyBroker) -> None:
    site.start_all()
    for _ in range(2):
        site.await_records(3)
        broker.kill()
        spooled = {agent: (site.spool(agent) / "usage.db-wal").stat().st_mtime_ns for agent in site.agents}
        wait_until(
            lambda spooled=spooled: all(
                (site.spool(agent) / "usage.db-wal").stat().st_mtime_ns > at for agent, at in spooled.items()
            ),
            "the agents to go on recording",
        )
        broker.start()
    site.await_records(3)
    verdict = site.finish()
    verdict.assert_exact()
    assert verdict.unknown_ms == 0
