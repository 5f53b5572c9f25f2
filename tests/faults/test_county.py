"""What takes a minute or more: a county cut off for a day, a gateway before fifty thousand records, two hundred kills.

`pytest -m slow tests/faults/test_county.py [-k partition|memory|kills]`
"""

import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select

from api.embedded.reconcile import load_truths
from store.tables.usage import Alert
from tests.faults.conftest import MakeSite
from tests.faults.grounds import BOTH, Ground, on_grounds
from tests.faults.judge import judge
from tests.faults.test_partition import spooled
from tests.support.brokers import AnyBroker, MosquittoBroker, NatsBroker
from tests.support.cable import Cable
from tests.support.mqtt import Station
from tests.support.usage import NINE, StreamWriter
from tests.support.waiting import wait_until
from wire.client import Publication
from wire.messages import PowerState, encode
from wire.topics import Channel, up

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

COUNTY = 82
DAY_MS = 24 * 3_600_000
RECORDS = 100  # of each agent at least, of a day with a tick every ten minutes
BACKLOG = 50_000
KILLS = 200


@pytest.fixture
def county_broker(ground: Ground, tmp_path: Path) -> Iterator[AnyBroker]:
    """As in production: NATS delivers again after half a minute only, Mosquitto saves its queue once a minute."""
    folder = tmp_path / "county-broker"
    broker: AnyBroker
    if ground.broker == "nats":
        broker = NatsBroker(folder, ack_wait_s=30.0)
    else:
        broker = MosquittoBroker(folder, saves_each_change=False)
    broker.start()
    yield broker
    broker.stop()


def backlog_of(spool: Path, folder: Path) -> int:
    """How many records a stopped agent has; counted in a copy, as its own spool must be opened by nobody else."""
    shutil.copytree(spool, folder)
    try:
        with closing(sqlite3.connect(folder / "usage.db")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return spooled(folder)
    finally:
        shutil.rmtree(folder)


@on_grounds(BOTH)
def test_a_county_behind_a_partition_is_delivered_to_the_second(
    make_site: MakeSite, county_broker: AnyBroker, tmp_path: Path
) -> None:
    with Cable(county_broker.port) as cable:
        site = make_site(
            broker=county_broker,
            broker_port=cable.port,
            agents=COUNTY,
            speed=1_200.0,
            period_ms=300_000,
            tick_ms=600_000,
            hours=24.0 * 40,
        )
        cable.cut()
        site.begin_clock(NINE)
        site.start_gateway()
        fleet = site.start_fleet()
        spools = [site.spool(agent) / "usage.db-wal" for agent in site.agents]
        site.wait(lambda: all(spool.exists() for spool in spools), "the spools", 240)
        until_ms = site.clock.now_ms() + DAY_MS
        backlog: dict[str, int] = {}

        def is_enough() -> bool:
            """Look at all spools at one instant. Eighty-two agents on a busy machine may need longer than a day."""
            nonlocal until_ms
            if site.clock.now_ms() < until_ms:
                return False
            fleet.pause()
            backlog.update({agent: backlog_of(site.spool(agent), tmp_path / agent) for agent in site.agents})
            if min(backlog.values()) <= RECORDS:
                until_ms = site.clock.now_ms() + DAY_MS // 8
                fleet.resume()
                return False
            return True

        site.wait(is_enough, "a day without a network", 400)
        site.kill("fleet")
        assert sum(site.upto(agent) for agent in site.agents) == 0
        cable.mend()
        now_ms, site.speed = site.clock.now_ms(), 60.0
        site.begin_clock(now_ms)
        fleet = site.start_fleet()
        site.wait(lambda: all(site.upto(agent) > backlog[agent] for agent in site.agents), "the backlog", 240)
        fleet.ask_to_end()
        assert fleet.wait(120) == 0, fleet.said()[-3000:]
    with site.database.read() as session:
        verdict = judge(session, load_truths(site.truth_file("fleet")), {})
        # Eighty-two that come back at once are a load, and neither rivals nor a ledger that was restored.
        assert set(session.scalars(select(Alert.rule))).isdisjoint({"fault_connection_taken", "duplicate_identity"})
    assert "taken away" not in fleet.said()
    assert "less than it had" not in fleet.said()
    verdict.assert_exact()
    assert verdict.records >= sum(backlog.values())
    assert len(verdict.holes) == COUNTY, "one hole an instrument: from the last record to the new boot"


@on_grounds(BOTH)
def test_the_memory_of_a_gateway_does_not_follow_the_backlog(make_site: MakeSite, county_broker: AnyBroker) -> None:
    site = make_site(broker=county_broker, agents=10)
    first = site.start_gateway()
    wait_until(lambda: "gateway online" in first.said(), "its session at the broker")
    first.ask_to_end()
    assert first.wait(30) == 0
    for instrument in site.instruments:
        writer = StreamWriter(instrument)
        topic = up(writer.agent, Channel.USAGE, instrument)
        with Station(county_broker.url_for(writer.agent), writer.agent) as station:
            for _ in range(BACKLOG // len(site.instruments) - 1):
                station.hand_over(topic, encode(writer.tick(PowerState.OFF, 10)))
            last = Publication(topic, encode(writer.tick(PowerState.OFF, 10)))
            assert station.client.publish_and_wait(last, 100), "the broker has not taken all of it"
    gateway = psutil.Process(site.start_gateway().pid)
    found: dict[int, float] = {}

    def all_committed() -> bool:
        done = sum(site.upto(agent) for agent in site.agents)
        if done:
            found[done] = max(found.get(done, 0.0), gateway.memory_info().rss / 2**20)
        return done == BACKLOG

    site.wait(all_committed, "the backlog", 240)
    early = max(mib for done, mib in found.items() if done <= BACKLOG / 5)
    late = max(found.values())
    print(f"{early:.0f} MiB within the first fifth, {late:.0f} MiB at most")
    assert late < early + 32
    assert late < 256


@on_grounds(BOTH)
def test_two_hundred_kills_of_agents_cost_only_the_time_they_were_away(make_site: MakeSite) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    chance = random.Random(seed)
    site = make_site(agents=4, hours=48.0)
    site.start_all()
    site.await_records(2, timeout_s=60)
    for _ in range(KILLS):
        agent = chance.choice(site.agents)
        # Anywhere in its life: while it starts, connects, drains, works.
        at = site.clock.now_ms() + chance.randint(0, 2_000) * site.speed
        wait_until(lambda at=at: site.clock.now_ms() >= at, "the instant of a kill")  # type: ignore[misc]
        site.kill(agent)
        site.start_agent(agent)
    verdict = site.finish(explain=True)
    print(f"{verdict.records} records, {verdict.sessions} sessions, {verdict.unknown_ms} ms unknown")
    verdict.assert_exact()
    assert verdict.streams == len(site.agents)
    assert all("inferred" in hole.flags for hole in verdict.holes)
