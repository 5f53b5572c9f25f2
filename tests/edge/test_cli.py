"""Settings and the command: a person who gets something wrong is told what, and a process ends as it should."""

import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_agents.compose import address_of, build_agent, clock_of
from edge_agents.settings import AgentSettings, BadConfig, load_folder, load_settings
from tests.edge.counterpart import Counterpart
from tests.support.brokers import AGENT, GATEWAY, OTHER_AGENT, NatsBroker
from tests.support.waiting import wait_until
from wire.client import BrokerAddress
from wire.clock import ManualClock

LEVELS = {"standby_w": 60, "idle_w": 250, "running_w": 4200, "run_threshold_w": 1025}


def settings_for(name: str = AGENT, **changes: Any) -> dict[str, Any]:
    instrument = {
        "id": name,
        "driver": "simulated",
        "period_ms": 200,
        "tick_ms": 1000,
        "params": {"rated_w": 7500, **LEVELS},
        "catalogue": LEVELS,
    }
    return {
        "agent": name,
        "broker": "mqtt://127.0.0.1:1883",
        "data_dir": f"spool-{name}",
        "instruments": [instrument],
        **changes,
    }


def write(folder: Path, fields: dict[str, Any], name: str = "agent.json") -> Path:
    file = folder / name
    file.write_text(json.dumps(fields))
    return file


def test_a_toml_file_makes_an_agent(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("pass word\n")
    file = tmp_path / "agent.toml"
    file.write_text(
        """
        agent = "xc-h01-01"
        broker = "mqtt://broker.example:1884"
        credential_file = "secret"
        data_dir = "spool"
        [[instruments]]
        id = "xc-h01-01"
        driver = "callable"
        params = { function = "time:time" }
        profile = { on_w = 100, off_w = 80, standby_w = 10 }
        """
    )
    settings = load_settings(file)
    assert settings.data_dir == tmp_path / "spool"
    assert address_of(settings) == BrokerAddress("broker.example", 1884, False, "xc-h01-01", "pass word")
    assert build_agent(settings, clock_of(settings)).name == "xc-h01-01"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"agent": "XC H01"}, r"agent: .*3 to 32 characters"),
        ({"broker": "http://x"}, r"broker: .*mqtt://host:port"),
        ({"instruments": [{"id": "abc", "driver": "trace", "profile": {"on_w": math.inf}}]}, "on_w: .*finite"),
        ({"instruments": []}, r"instruments: .*at least 1"),
        ({"instruments": settings_for()["instruments"] * 2}, "listed twice"),
        ({"colour": "green"}, "colour: Extra inputs"),
        ({"instruments": [{"id": "abc", "driver": "trace"}]}, "either a profile or catalogue levels"),
        (
            {"instruments": [{"id": "abc", "driver": "trace", "profile": {"on_w": 1, "off_w": 2, "standby_w": 0}}]},
            "0 <= standby_w <= off_w <= on_w",
        ),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadConfig, match=message) as refused:
        load_settings(write(tmp_path, settings_for(**change)))
    assert "agent.json" in str(refused.value)


def test_what_is_no_file_or_no_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="cannot be read"):
        load_settings(tmp_path / "none.toml")
    (tmp_path / "a.toml").write_text("agent = ")
    with pytest.raises(BadConfig, match="not valid TOML"):
        load_settings(tmp_path / "a.toml")


def test_a_folder_with_one_agent_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="holds no"):
        load_folder(tmp_path)
    write(tmp_path, settings_for(), "a.json")
    write(tmp_path, settings_for(), "b.json")
    with pytest.raises(BadConfig, match=r"already used by .*a\.json"):
        load_folder(tmp_path)


def test_meters_of_one_line_with_different_settings_of_it_are_refused(tmp_path: Path) -> None:
    def meters(*lines: dict[str, object]) -> list[dict[str, Any]]:
        common = {"driver": "modbus", "catalogue": LEVELS}
        params = [{"map": "sdm630", "unit": unit, **line} for unit, line in enumerate(lines, 1)]
        return [{**common, "id": f"xc-h01-0{n}", "params": each} for n, each in enumerate(params, 1)]

    slow, quick = {"rtu": "/dev/ttyUSB0", "timeout_s": 1.0}, {"rtu": "/dev/ttyUSB0"}
    load_settings(write(tmp_path, settings_for(instruments=meters(quick, quick, {"rtu": "/dev/ttyUSB1"}))))
    with pytest.raises(BadConfig, match=r"xc-h01-02: /dev/ttyUSB0 .* xc-h01-01 .* timeout_s"):
        load_settings(write(tmp_path, settings_for(instruments=meters(quick, slow))))
    write(tmp_path, settings_for(instruments=meters(quick)))
    write(tmp_path, settings_for(OTHER_AGENT, instruments=meters(slow)), "other.json")
    with pytest.raises(BadConfig, match=r"other\.json: .* timeout_s"):
        load_folder(tmp_path)


def test_two_instruments_on_one_meter_are_refused_and_on_two_of_its_channels_are_not(tmp_path: Path) -> None:
    registers = 'name = "a meter of channels"\nfunction = 4\ntype = "float32"\npower_w = { address = %d }\n'
    for channel in (1, 2):
        (tmp_path / f"channel-{channel}.toml").write_text(registers % channel)

    def loaded(*meters: dict[str, Any]) -> AgentSettings:
        common = {"driver": "modbus", "catalogue": LEVELS}
        items = [{**common, "id": f"xc-h01-0{n}", "params": {"unit": 3, **each}} for n, each in enumerate(meters, 1)]
        return load_settings(write(tmp_path, settings_for(instruments=items)))

    here, elsewhere = {"map": "sdm630", "tcp": "meter.lan"}, {"map": "sdm630", "tcp": "other.lan:502"}
    assert loaded(here, elsewhere, {**here, "unit": 4})
    for again in (here, {**here, "tcp": "Meter.lan:502"}, {**here, "map": "sdm120"}):
        with pytest.raises(
            BadConfig, match=r"xc-h01-02: unit 3 at .* is the meter of xc-h01-01 already, .* count twice"
        ):
            loaded(here, again)
    one, two = ({"path": f"channel-{channel}.toml", "tcp": "meter.lan"} for channel in (1, 2))
    assert loaded(one, two)
    for wrong in ((one, one), (one, here), (here, two)):
        with pytest.raises(BadConfig, match="count twice"):
            loaded(*wrong)
    for agent in (AGENT, OTHER_AGENT):
        instrument = {"id": agent, "driver": "modbus", "params": here, "catalogue": LEVELS}
        write(tmp_path, settings_for(agent, instruments=[instrument]), f"{agent}.json")
    (tmp_path / "agent.json").unlink()
    for channel in (1, 2):
        (tmp_path / f"channel-{channel}.toml").unlink()
    with pytest.raises(BadConfig, match="count twice"):
        load_folder(tmp_path)


def test_a_credential_or_driver_that_is_not_there_is_named(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, settings_for(credential_file="nowhere")))
    with pytest.raises(BadConfig, match="nowhere: No such file"):
        address_of(settings)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadConfig, match="binary: is not text in UTF-8"):
        address_of(load_settings(write(tmp_path, settings_for(credential_file="binary"))))
    (tmp_path / "from-a-pc").write_bytes(b"\xef\xbb\xbfpass word\r\n")
    assert address_of(load_settings(write(tmp_path, settings_for(credential_file="from-a-pc")))).password == "pass word"
    fields = settings_for()
    fields["instruments"][0]["driver"] = "modem"
    with pytest.raises(BadConfig, match="instrument xc-h01-01: no driver is called 'modem'"):
        build_agent(load_settings(write(tmp_path, fields)), ManualClock(0))


class Process:
    """`openlab-agent` as a real process."""

    def __init__(self, *arguments: str | Path) -> None:
        command = [sys.executable, "-c", "from edge_agents.cli import main; main()", *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def end(self, number: int) -> tuple[int, str]:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out + err


@pytest.fixture
def fleet(nats_broker: NatsBroker, tmp_path: Path) -> Path:
    """A folder with the settings of two agents."""
    folder = tmp_path / "agents"
    folder.mkdir()
    for name in (AGENT, OTHER_AGENT):
        write(folder, settings_for(name, broker=nats_broker.url_for(name)), f"{name}.json")
    return folder


def test_a_wrong_configuration_is_a_sentence_and_exit_code_2(tmp_path: Path) -> None:
    done = Process("run", "--config", tmp_path / "none.toml")
    out, err = done.process.communicate(timeout=30)
    assert done.process.returncode == 2
    assert err.startswith("openlab-agent: ")
    assert "none.toml: cannot be read" in err
    assert "Traceback" not in out + err


def test_a_terminated_fleet_drains_and_its_truth_is_what_arrived(
    nats_broker: NatsBroker, fleet: Path, tmp_path: Path
) -> None:
    truth_file = tmp_path / "truth.json"
    with Counterpart(nats_broker.url_for(GATEWAY)) as gateway:
        running = Process("run", "--config", fleet, "--truth", truth_file)
        wait_until(lambda: {r.inst for r in gateway.usage()} == {AGENT, OTHER_AGENT}, "records of both")
        second = Process("run", "--config", fleet)
        _, err = second.process.communicate(timeout=30)
        assert second.process.returncode == 2
        assert "is this agent already running?" in err
        code, said = running.end(signal.SIGTERM)
        assert code == 0, said
        assert "not acknowledged" not in said
        truth = json.loads(truth_file.read_text())["agents"]
        assert {agent["agent"] for agent in truth} == {AGENT, OTHER_AGENT}
        for agent in truth:
            records = gateway.usage(agent["usage"]["stream"])
            [instrument] = agent["instruments"]
            assert len(records) == agent["usage"]["last_seq"]
            assert records[-1].odo.model_dump() == {
                state: instrument[f"{state}_ms"] for state in ("off", "standby", "running", "unknown")
            }
            assert agent["usage"]["unacknowledged"] == agent["telemetry"]["unacknowledged"] == 0


def test_a_killed_agent_is_reported_lost_and_loses_no_number(nats_broker: NatsBroker, fleet: Path) -> None:
    (fleet / f"{OTHER_AGENT}.json").unlink()
    with Counterpart(nats_broker.url_for(GATEWAY)) as gateway:
        running = Process("run", "--config", fleet)
        wait_until(lambda: len(gateway.usage()) >= 2, "records")
        running.end(signal.SIGKILL)
        wait_until(lambda: any(s.cause == "lost" and not s.online for s in gateway.states), "the last will")
        again = Process("run", "--config", fleet / f"{AGENT}.json")
        before = len(gateway.usage())
        wait_until(lambda: len(gateway.usage()) >= before + 2, "records of the second life")
        code, said = again.end(signal.SIGINT)
        assert code == 0, said
        records = gateway.usage()
        assert len({r.stream for r in records}) == 1
        assert [r.seq for r in records] == list(range(1, len(records) + 1))
        assert any("inferred" in r.flags for r in records)
        assert gateway.conflicts == []
