"""Thirty days without a network, several agents at once: all of it arrives afterwards, and what is new with it."""

import sqlite3
from contextlib import closing

import pytest

from tests.faults.conftest import MakeSite
from tests.faults.grounds import BOTH, on_grounds
from tests.support.brokers import AnyBroker
from tests.support.cable import Cable
from tests.support.usage import NINE
from tests.support.waiting import wait_until

DAYS = 30
DAY = 24 * 3_600_000
RECORDS_A_DAY = 100


@pytest.mark.slow
@pytest.mark.timeout(900)
@on_grounds(BOTH)
def test_a_month_without_a_network_is_delivered_to_the_second(make_site: MakeSite, broker: AnyBroker) -> None:
    with Cable(broker.port) as cable:
        # A month in some seconds: the slowest sampling and the longest ticks that settings allow.
        site = make_site(
            broker_port=cable.port,
            agents=2,
            speed=400_000.0,
            period_ms=300_000,
            tick_ms=600_000,
            hours=24.0 * (DAYS + 60),
        )
        cable.cut()
        site.begin_clock(NINE)
        site.start_all()
        wait_until(lambda: all(spooled(site.spool(a)) > DAYS * RECORDS_A_DAY for a in site.agents), "thirty days", 240)
        for agent in site.agents:
            site.kill(agent)
        backlog = {agent: spooled(site.spool(agent)) for agent in site.agents}
        assert [site.upto(agent) for agent in site.agents] == [0, 0]
        # The network is back, on machines that were booted again; from here on time is slower.
        cable.mend()
        now_ms, site.speed = site.clock.now_ms(), 60.0
        site.begin_clock(now_ms)
        for agent in site.agents:
            site.start_agent(agent)
        site.wait(lambda: all(site.upto(agent) > backlog[agent] for agent in site.agents), "the backlog", 240)
        verdict = site.finish(plans=False)
    verdict.assert_exact()
    assert verdict.records > 2 * DAYS * RECORDS_A_DAY
    assert len(verdict.holes) == 2, "one hole an instrument: from the last record to the new boot"


def spooled(folder) -> int:
    """How many records an agent has written: read from the log while it runs, which takes no lock of its own."""
    spool = folder / "usage.db"
    if not spool.exists():
        return 0
    with closing(sqlite3.connect(f"file:{spool}?immutable=1&mode=ro", uri=True)) as connection:
        try:
            [(count,)] = connection.execute("SELECT coalesce(max(seq), 0) FROM spool_rows").fetchall()
        except sqlite3.DatabaseError:
            return 0  # caught in the middle of a checkpoint
        return int(count)
