"""`openlab-agent check`: what is right is said to be right, what is wrong is named with what to do about it."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from edge_agents.check import examine
from edge_agents.cli import app
from edge_agents.desired import CONFIG_FILE
from edge_agents.findings import Finding, Grade
from edge_agents.settings import load_settings
from tests.edge.modbus_peer import Peer, dtsd1352, sdm630, words
from tests.support.brokers import AGENT, AnyBroker
from tests.support.ports import free_port
from wire.clock import Clock, ManualClock, SystemClock
from wire.commands import desired_config
from wire.messages import encode

CLOCK = SystemClock()
TOKEN = "token-of-agent-one"
PROFILE = {"on_w": 100, "off_w": 80, "standby_w": 10}


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """The command sends its log to a stderr that is closed when the command is over."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    sound = sdm630(1380.0)
    backwards = {**sdm630(460.0), 0x1E: words("f", 1.0), 0x20: words("f", 1.0), 0x22: words("f", -1.0)}
    units = {
        1: sound,
        2: dtsd1352(600.0, ct=40),
        3: {**sound, 0x0A: [0, 0]},
        4: {address: [0] * len(values) for address, values in sound.items()},
        5: sdm630(0.0),
        6: backwards,
        7: {address: values for address, values in sound.items() if address != 0x156},
    }
    one = Peer(units)
    yield one
    one.kill()


def config(folder: Path, broker: str, token: str = TOKEN, **changes: Any) -> Path:
    credential = folder / "password"
    credential.write_text(token + "\n")
    credential.chmod(0o600)
    fields = {
        "agent": AGENT,
        "broker": broker,
        "credential_file": "password",
        "data_dir": "spool",
        "max_spool_bytes": 1_000_000,
        "usage_reserve_bytes": 100_000,
        "instruments": [{"id": AGENT, "driver": "callable", "params": {"function": "math:nan"}, "profile": PROFILE}],
        **changes,
    }
    if "params" in changes:
        fields["instruments"] = [
            {"id": AGENT, "driver": "modbus", "params": fields.pop("params"), "period_ms": 200, "profile": PROFILE}
        ]
    file = folder / "agent.json"
    file.write_text(json.dumps(fields))
    return file


def found(file: Path, about: str, clock: Clock = CLOCK) -> list[Finding]:
    return [one for one in examine(load_settings(file), clock) if one.about.startswith(about)]


def no_broker() -> str:
    return f"mqtt://127.0.0.1:{free_port()}"


def of(broker: AnyBroker) -> str:
    return f"mqtt://127.0.0.1:{broker.port}"


def test_a_sound_agent_is_told_so(broker: AnyBroker, peer: Peer, tmp_path: Path) -> None:
    file = config(tmp_path, of(broker), params={"map": "sdm630", "tcp": f"127.0.0.1:{peer.port}"})
    done = CliRunner().invoke(app, ["check", "--config", str(file)])
    assert done.exit_code == 0, done.output
    assert f"accepts the credential of {AGENT}" in done.output
    assert "shows 1380.0 W, register 123.45 kWh; that reads as running" in done.output
    assert "power 1380.0 W, sum of V x I x PF 1380.0 W" in done.output
    assert "MB free" in done.output
    assert done.output.endswith("all is well\n")
    assert not (tmp_path / "spool").exists()


def test_a_refused_credential_is_wrong(broker: AnyBroker, tmp_path: Path) -> None:
    [one] = found(config(tmp_path, of(broker), token="of-somebody-else"), "broker")
    assert one.grade is Grade.WRONG
    assert "refused the connection" in one.sentence
    assert f"is this the credential of {AGENT}?" in one.sentence


def test_nobody_at_the_brokers_address_is_wrong(tmp_path: Path) -> None:
    [one] = found(config(tmp_path, no_broker()), "broker")
    assert one.grade is Grade.WRONG
    assert "check cable, address, firewall" in one.sentence


def test_something_that_is_no_broker_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agents.check.BROKER_WAIT_S", 0.5)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        [one] = found(config(tmp_path, f"mqtt://127.0.0.1:{listening.getsockname()[1]}"), "broker")
    assert one.grade is Grade.WRONG
    assert "does not answer" in one.sentence


def test_a_credential_that_others_can_read_is_a_warning(tmp_path: Path) -> None:
    file = config(tmp_path, no_broker())
    assert [one.grade for one in found(file, "credential")] == [Grade.OK]
    (tmp_path / "password").chmod(0o644)
    [one] = found(file, "credential")
    assert one.grade is Grade.WARNING
    assert "chmod 600" in one.sentence
    (tmp_path / "password").unlink()
    [one] = found(file, "credential")
    assert one.grade is Grade.WRONG


@pytest.mark.parametrize(
    ("params", "grade", "sentence"),
    [
        ({"map": "sdm630", "unit": 3}, Grade.WRONG, "differ by more than 5 %"),
        ({"map": "sdm630", "unit": 9}, Grade.WRONG, "check unit number, baud rate, parity"),
        ({"map": "dtsd1352", "unit": 2}, Grade.WRONG, "say ct_ratio"),
        ({"map": "dtsd1352", "unit": 2, "ct_ratio": 40}, Grade.OK, "power 24000.0 W, sum of V x I x PF 24"),
        ({"map": "dtsd1352", "unit": 2, "ct_ratio": 20}, Grade.WARNING, "set to a current ratio of 40, the settings"),
        (
            {"map": "dtsd1352", "unit": 2, "ct_ratio": 40, "pt_ratio": 10},
            Grade.WARNING,
            "set to a voltage ratio of 1, the settings say 10",
        ),
        (
            {"map": "dtsd1352", "unit": 1, "ct_ratio": 1},
            Grade.WRONG,
            "the meter answers, so the line is good, .* wrong register map",
        ),
        ({"map": "sdm630", "unit": 4}, Grade.WARNING, "no phase shows 50 V"),
        ({"map": "sdm630", "unit": 5}, Grade.WARNING, "proves nothing without load"),
        ({"map": "sdm630", "unit": 6}, Grade.WRONG, r"phase 3 \(power factor -1\) counts backwards"),
        ({"map": "sdm630", "unit": 7}, Grade.WARNING, "refuses register 0x0156: exception 2: power is read without"),
        ({"map": "sdm630", "unit": 7}, Grade.OK, "power 1380.0 W, .* agree"),
    ],
)
def test_a_meter_is_checked_in_plain_words(
    peer: Peer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    params: dict[str, Any],
    grade: Grade,
    sentence: str,
) -> None:
    file = config(tmp_path, no_broker(), params={**params, "tcp": f"127.0.0.1:{peer.port}"})
    if "answer" in sentence or "unit number" in sentence:
        monkeypatch.setattr("edge_agents.check_meter.METER_WAIT_S", 0.5)
    told = found(file, "meter")
    assert any(one.grade is grade and re.search(sentence, one.sentence) for one in told), told


def test_what_the_county_configured_is_in_force_and_judged_by(tmp_path: Path) -> None:
    instrument = {"id": AGENT, "driver": "callable", "params": {"function": "os:getpid"}, "profile": PROFILE}
    file = config(
        tmp_path, no_broker(), instruments=[{**instrument, "profile": {**PROFILE, "on_w": 1e7, "off_w": 1e7}}]
    )
    [shown, by] = found(file, "meter")
    assert "reads as standby" in shown.sentence
    assert by.sentence.startswith("its profile is that of the settings file: running above 1e+07 W")
    fields: dict[str, Any] = {"on_w": 0.9, "off_w": 0.8, "standby_w": 0.1}
    (tmp_path / "spool").mkdir()
    kept = tmp_path / "spool" / CONFIG_FILE
    kept.write_bytes(encode(desired_config(AGENT, 3, {AGENT: fields}, "wang")))
    [shown, by] = found(file, "meter")
    assert "reads as running" in shown.sentence
    assert "the county's configuration, version 3: running above 0.9 W, over below 0.8 W; that of the" in by.sentence
    kept.unlink()
    kept.mkdir()
    assert [one.grade for one in found(file, "profiles")] == [Grade.WARNING]


def test_a_line_that_is_not_there_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agents.check_meter.METER_WAIT_S", 0.5)
    [one] = found(config(tmp_path, no_broker(), params={"map": "sdm120", "rtu": "/dev/no-such-port"}), "meter")
    assert one.grade is Grade.WRONG
    assert "is it plugged in?" in one.sentence


def test_a_driver_without_a_reading_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agents.check_meter.METER_WAIT_S", 0.1)
    file = config(
        tmp_path,
        no_broker(),
        instruments=[
            {"id": AGENT, "driver": "callable", "params": {"function": "os:getenv"}, "profile": PROFILE},
        ],
    )
    [one] = found(file, "meter")
    assert (one.grade, one.sentence) == (Grade.WRONG, "no reading came from the driver 'callable'")


def test_a_slow_meter_is_not_billable(tmp_path: Path) -> None:
    instrument = {"id": AGENT, "driver": "callable", "params": {"function": "time:time"}, "profile": PROFILE}
    file = config(tmp_path, no_broker(), instruments=[{**instrument, "period_ms": 15_000}])
    assert any("not billable" in one.sentence for one in found(file, "meter") if one.grade is Grade.WRONG)


@pytest.mark.parametrize(
    ("asked", "grade", "says"),
    [
        ("is_synchronised", Grade.OK, "is synchronised"),
        ("chrony_is_synchronised", Grade.WARNING, "rtcsync"),
        ("timesyncd_was_synchronised", Grade.WARNING, "holdover"),
        (None, Grade.WARNING, "set-ntp"),
    ],
)
def test_what_keeps_the_clock_is_told_with_what_to_do_about_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str | None, grade: Grade, says: str
) -> None:
    for name in ("is_synchronised", "chrony_is_synchronised", "timesyncd_was_synchronised"):
        for module in ("wall", "check"):
            monkeypatch.setattr(f"edge_agents.{module}.{name}", lambda name=name: name == asked, raising=False)
    [one] = found(config(tmp_path, no_broker()), "clock")
    assert one.grade is grade
    assert says in one.sentence


def test_a_clock_that_was_never_set_is_wrong(tmp_path: Path) -> None:
    instrument = {"id": AGENT, "driver": "callable", "params": {"function": "time:time"}, "profile": PROFILE}
    file = config(tmp_path, no_broker(), instruments=[instrument])
    [one] = found(file, "clock", ManualClock(0))
    assert one.grade is Grade.WRONG
    assert "timedatectl" in one.sentence


def test_a_full_disk_is_wrong(tmp_path: Path) -> None:
    instrument = {"id": AGENT, "driver": "callable", "params": {"function": "time:time"}, "profile": PROFILE}
    many: dict[str, Any] = {"instruments": [instrument], "max_spool_bytes": 10**18}
    [one] = found(config(tmp_path, no_broker(), **many), "disk")
    assert one.grade is Grade.WARNING
    [one] = found(config(tmp_path, no_broker(), **many, usage_reserve_bytes=10**17), "disk")
    assert one.grade is Grade.WRONG
    assert "less than the" in one.sentence


def test_a_program_reads_one_object_a_line_and_the_exit_code(tmp_path: Path) -> None:
    file = config(tmp_path, no_broker())
    done = CliRunner().invoke(app, ["check", "--config", str(file), "--json"])
    assert done.exit_code == 1
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["about"] for line in lines} >= {"credential", "broker", "clock", "disk"}
    assert all(set(line) == {"agent", "about", "grade", "sentence"} for line in lines)


def test_settings_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["check", "--config", str(tmp_path / "none.toml")])
    assert done.exit_code == 2
    assert "cannot be read" in done.stderr
