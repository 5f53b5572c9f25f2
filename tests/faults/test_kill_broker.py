"""kill -9 of the broker, with all that it had not written down: agents and gateway make good what it forgot."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import MakeSite
from tests.support.brokers import AnyBroker, MosquittoBroker, NatsBroker
from tests.support.waiting import wait_until


class ForgetfulMosquitto(MosquittoBroker):
    """Mosquitto as Debian ships it, without persistence: a kill takes sessions, queues and retained messages."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        conf = folder / "mosquitto.conf"
        conf.write_text(conf.read_text().replace("persistence true", "persistence false"))


class ForgetfulNats(NatsBroker):
    """NATS whose store is gone after a kill, as on a disk that was replaced."""

    def kill(self) -> None:
        super().kill()
        shutil.rmtree(self.folder / "store")


Kind = Callable[[Path], AnyBroker]


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(NatsBroker, marks=pytest.mark.slow),
        ForgetfulNats,
        MosquittoBroker,
        pytest.param(ForgetfulMosquitto, marks=pytest.mark.slow),
    ],
    ids=lambda kind: kind.__name__,
)
def test_a_broker_that_is_killed_costs_no_second(make_site: MakeSite, tmp_path: Path, kind: Kind) -> None:
    broker = kind(tmp_path / "broker")
    broker.start()
    try:
        site = make_site(broker=broker)
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
    finally:
        broker.stop()
    verdict.assert_exact()
    assert verdict.unknown_ms == 0
