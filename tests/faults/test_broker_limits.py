"""A broker that takes no more, or nothing so large, or whose certificate has expired: patience, a report, no loss."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from store.tables.usage import UsageStream
from tests.faults.conftest import MakeSite
from tests.faults.grounds import EITHER_BROKER, on_grounds
from tests.faults.limits import LimitedBroker
from tests.faults.site import Site
from tests.faults.test_identity import alerts
from tests.support.cable import Cable
from tests.support.requirements import require_binary
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow
ON_NATS, ON_MOSQUITTO = EITHER_BROKER


def telemetry_marks(site: Site) -> list[int]:
    with site.database.read() as session:
        return [row.upto for row in session.query(UsageStream).filter(UsageStream.kind == "telemetry")]


@on_grounds([ON_MOSQUITTO])
def test_what_a_broker_drops_over_its_quota_is_sent_again(make_site: MakeSite, limited: LimitedBroker) -> None:
    limited.set(max_inflight_messages=5, max_queued_messages=5)
    limited.start()
    site = make_site(broker=limited, agents=2)
    site.start_all()
    site.await_records(2)
    # It still counts as online, and takes nothing: the broker has room for ten messages and drops what is more.
    site.running["gw-1"].pause()
    before = site.clock.now_ms()
    wait_until(lambda: site.clock.now_ms() - before > 240_000, "a backlog")
    site.running["gw-1"].resume()
    site.await_records(30)
    verdict = site.finish()
    verdict.assert_exact()
    assert verdict.unknown_ms == 0


@on_grounds([ON_NATS])
def test_a_broker_without_room_lets_nobody_in_and_costs_nothing(make_site: MakeSite, limited: LimitedBroker) -> None:
    limited.set(max_file_store=60_000)
    limited.start()
    with Cable(limited.port) as cable:
        site = make_site(broker=limited, agents=2, broker_port=cable.port)
        site.start_all()
        site.await_records(2)
        # It still counts as online, and takes nothing.
        site.running["gw-1"].pause()
        log = limited.log_path
        wait_until(
            lambda: log.read_text().count("unable to connect: unable to persist session") >= 3, "a full store", 90
        )
        site.running["gw-1"].resume()
        tries, began = cable.accepted, site.clock.now_ms()
        wait_until(lambda: site.clock.now_ms() - began > 4_000 * site.speed, "four seconds")
        assert cable.accepted - tries <= 3 * len(site.agents)
        limited.set(max_file_store=1_000_000_000)
        limited.restart()
        site.await_records(30, timeout_s=120)
        verdict = site.finish()
    verdict.assert_exact()
    assert verdict.unknown_ms == 0


@on_grounds(EITHER_BROKER)
def test_a_message_too_large_for_the_broker_costs_no_usage_and_no_hot_loop(
    make_site: MakeSite, limited: LimitedBroker
) -> None:
    # A usage record has 500 bytes; a minute of samples has more than this.
    limited.take_at_most(1100)
    limited.start()
    with Cable(limited.port) as cable:
        site = make_site(broker=limited, agents=1, broker_port=cable.port)
        [agent] = site.agents
        site.start_all()
        process = site.running[agent]
        wait_until(lambda: "is taken away again and again" in process.said(), "the agent to stay away", 60)
        tries, began = cable.accepted, site.clock.now_ms()
        assert tries <= 5
        wait_until(lambda: site.clock.now_ms() - began > 3_000 * site.speed, "three seconds")
        assert cable.accepted == tries
        assert site.upto(agent) > 0, "usage goes first, so it was delivered meanwhile"
        assert telemetry_marks(site) in ([], [0])
        # The operator allows more, and the technician restarts the agent.
        site.kill(agent)
        site.running["gw-1"].ask_to_end()
        site.running["gw-1"].wait(30)
        limited.take_at_most(262_144)
        limited.restart()
        site.start_gateway()
        site.start_agent(agent)
        wait_until(lambda: "fault_connection_taken" in alerts(site), "the report that waited in the spool", 90)
        wait_until(lambda: telemetry_marks(site) > [0], "the samples", 90)
        verdict = site.finish()
    verdict.assert_exact()
    assert verdict.streams == 1


class Certificates:
    """A certificate authority of this test, which signs for 127.0.0.1."""

    def __init__(self, folder: Path) -> None:
        self._openssl = require_binary("openssl", "apt-get install openssl")
        self.folder = folder
        folder.mkdir()
        (folder / "index").touch()
        (folder / "ca.conf").write_text(
            "[ca]\ndefault_ca = a\n[a]\n"
            f"database = {folder}/index\nnew_certs_dir = {folder}\nrand_serial = yes\ndefault_md = sha256\n"
            "policy = p\nunique_subject = no\n[p]\ncommonName = supplied\n[x]\nsubjectAltName = IP:127.0.0.1\n"
        )
        self._run("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem")
        self._run("req -new -newkey rsa:2048 -nodes -subj /CN=broker -keyout broker.key -out broker.csr")

    def sign(self, until: datetime) -> None:
        """Write `broker.pem`, valid for the day before its end."""
        dates = f"{until - timedelta(days=1):%Y%m%d%H%M%SZ}", f"{until:%Y%m%d%H%M%SZ}"
        self._run(
            f"ca -batch -notext -config ca.conf -extensions x -cert ca.pem -keyfile ca.key -in broker.csr "
            f"-out broker.pem -startdate {dates[0]} -enddate {dates[1]}"
        )

    def _run(self, arguments: str) -> None:
        done = subprocess.run(
            [str(self._openssl), *arguments.split()], cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


@on_grounds(EITHER_BROKER)
def test_an_expired_certificate_is_reported_and_what_waited_comes_when_it_is_renewed(
    make_site: MakeSite, limited: LimitedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates, now = Certificates(tmp_path / "ca"), datetime.now(UTC)
    certificates.sign(now + timedelta(hours=12))
    secure = limited.show_certificate(certificates.folder)
    limited.start()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.folder / "ca.pem"))
    with Cable(secure) as cable:
        site = make_site(broker=limited, agents=1)
        [agent] = site.agents
        site.start_gateway()
        site.write_agent(agent, site.instruments[0], period_ms=1000, tick_ms=10_000,
                         broker=f"mqtts://127.0.0.1:{cable.port}")  # fmt: skip
        site.start_agent(agent)
        site.await_records(3)
        certificates.sign(now - timedelta(hours=1))
        limited.restart()
        process = site.running[agent]
        wait_until(lambda: "certificate has expired" in process.said(), "the refusal", 90)
        tries, began = cable.accepted, site.clock.now_ms()
        wait_until(lambda: site.clock.now_ms() - began > 4_000 * site.speed, "four seconds")
        assert cable.accepted - tries <= 3
        certificates.sign(now + timedelta(hours=12))
        limited.restart()
        site.await_records(30, timeout_s=120)
        assert "fault_broker_refused" in alerts(site)
        verdict = site.finish()
    verdict.assert_exact()
    assert verdict.unknown_ms == 0
    assert verdict.streams == 1
