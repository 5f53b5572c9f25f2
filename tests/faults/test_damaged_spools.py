"""A spool that a disk has damaged: the agent starts, keeps the file, says what it lost, and the books still agree."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from sqlalchemy import select

from store.tables.usage import Alert, UsageStream
from tests.faults.conftest import MakeSite
from tests.faults.grounds import EITHER_DATABASE, on_grounds
from tests.faults.judge import records_of
from tests.support.waiting import wait_until
from wire.messages import RecordKind


def beheaded(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"x" * 100)


def holed(path: Path) -> None:
    """The middle of the file is something else."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2 // 4096 * 4096)
        file.write(b"\xa5" * 4096)


def with_a_wrong_fact(path: Path) -> None:
    """A fact that does not fit its check sum, in a file that SQLite finds sound."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE spool_facts SET value = '1' WHERE name = 'last_seq'")
        connection.commit()


def without_log(path: Path) -> None:
    path.with_name(path.name + "-wal").unlink()


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


HARMS: list[Callable[[Path], None]] = [beheaded, holed, with_a_wrong_fact, without_log, emptied, zeroed]


@on_grounds(EITHER_DATABASE, quick=[1])
def test_damaged_spools_are_kept_and_reported_and_the_agents_go_on(make_site: MakeSite) -> None:
    site = make_site(agents=len(HARMS))
    site.start_all()
    site.await_records(6)
    harmed = dict(zip(site.agents, HARMS, strict=True))
    for agent, harm in harmed.items():
        spool = site.spool(agent) / "usage.db"
        site.kill(agent)
        if harm is holed:
            # So that there is a middle: what the log holds is folded in, as an agent does every ten minutes.
            with closing(sqlite3.connect(spool)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            (spool.with_name("usage.db-wal")).touch()
        harm(spool)
        site.start_agent(agent)

    def lost() -> set[str]:
        with site.database.read() as session:
            return set(session.scalars(select(Alert.subject).where(Alert.rule == "spool_lost_damaged")))

    wait_until(lambda: lost() == set(site.agents), "every agent's report and the county's alert")
    verdict = site.finish()
    verdict.assert_exact()
    assert verdict.streams == 2 * len(site.agents)
    with site.database.read() as session:
        for agent in site.agents:
            assert list(site.spool(agent).glob("usage.db.damaged-1")), harmed[agent].__name__
            streams = session.scalars(
                select(UsageStream).where(UsageStream.agent_id == agent, UsageStream.kind == "usage")
            )
            old, new = sorted(streams, key=lambda stream: stream.stream)
            first = records_of(session, agent, new.stream)[0]
            assert first.kind is RecordKind.SPOOL_LOST
            # What could still be read of the old file is named.
            assert first.detail["stream"] in (old.stream, None)


def test_a_log_that_was_cut_before_it_was_sent_costs_only_unknown_time(make_site: MakeSite) -> None:
    site = make_site(agents=1)
    [agent] = site.agents
    gateway = site.start_gateway()
    site.wait(lambda: "gateway online" in gateway.said(), "a gateway")
    # Last, and not for long: a log of 1 MB is folded in, and written from its beginning again.
    site.start_agent(agent)
    site.await_records(2)
    site.kill("gw-1")
    log = site.spool(agent) / "usage.db-wal"
    sent, size = site.upto(agent), log.stat().st_size
    wait_until(lambda: log.stat().st_size > size + 40_000, "records that nobody took")
    site.kill(agent)
    # A torn last page: the power failed while it was being written.
    os.truncate(log, log.stat().st_size - 2_000)
    site.start_agent(agent)
    site.start_gateway()
    site.await_records(6)
    verdict = site.finish()
    verdict.assert_exact()
    assert site.upto(agent) > sent
    assert verdict.streams == 1
    assert len(verdict.holes) == 1
