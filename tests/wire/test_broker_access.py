import base64
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.embedded.broker import find_nats_server
from tests.support.requirements import require_binary
from wire.broker_access import (
    Login,
    Role,
    mosquitto_acl,
    mosquitto_password_line,
    nats_config,
    nats_subjects,
    rights,
)
from wire.client import BrokerAddress

AGENT = Login("xc-h01-01", "token-of-agent-one")
GATEWAY = Login("gw-1", "token-of-the-gateway", Role.GATEWAY)


def test_the_acl_of_mosquitto_is_three_patterns_and_a_block_for_each_gateway() -> None:
    assert mosquitto_acl([AGENT, GATEWAY]).splitlines() == [
        "pattern write lab/v1/up/%u/#",
        "pattern read lab/v1/down/%u/#",
        "pattern read lab/v1/srv/#",
        "",
        "user gw-1",
        "topic write lab/v1/down/#",
        "topic write lab/v1/srv/gw-1/state",
        "topic read lab/v1/up/#",
        "topic read lab/v1/srv/#",
    ]


def test_an_agent_writes_only_below_its_own_name() -> None:
    own = rights(Role.AGENT, "xc-h01-01")
    assert own.publish == ("lab/v1/up/xc-h01-01/#",)
    assert own.subscribe == ("lab/v1/down/xc-h01-01/#", "lab/v1/srv/#")


@pytest.mark.parametrize(
    ("topic_filter", "subjects"),
    [
        ("lab/v1/srv/gw-1/state", ("lab.v1.srv.gw-1.state",)),
        ("lab/v1/up/#", ("lab.v1.up", "lab.v1.up.>")),
        ("lab/v1/up/+/rec/+", ("lab.v1.up.*.rec.*",)),
        ("lab/+/up/#", ("lab.*.up", "lab.*.up.>")),
    ],
)
def test_an_mqtt_filter_becomes_the_subjects_it_matches(topic_filter: str, subjects: tuple[str, ...]) -> None:
    assert nats_subjects(topic_filter) == subjects


def test_the_password_line_is_what_mosquittos_own_tool_computes(tmp_path: Path) -> None:
    tool = require_binary("mosquitto_passwd", "apt-get install mosquitto")
    made = tmp_path / "made"
    subprocess.run([str(tool), "-b", "-c", str(made), AGENT.username, AGENT.password], check=True, capture_output=True)
    line = made.read_text().strip()
    name, _, algorithm, rounds, salt, _ = line.replace(":", "$", 1).split("$")
    assert (name, algorithm, rounds) == ("xc-h01-01", "7", "101")
    assert mosquitto_password_line(AGENT, base64.b64decode(salt)) == line


def test_a_salt_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="12 bytes"):
        mosquitto_password_line(AGENT, os.urandom(8))


@pytest.mark.parametrize("name", ["", "ab", "XC-H01", "%u", "a/b/c", "+++", "gw 1", "gw:1"])
def test_a_name_that_a_file_or_a_topic_could_misread_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot log in"):
        Login(name, "a-good-password")


@pytest.mark.parametrize(
    "password", ["", "short", "x" * 129, 'quo"te-quote', "new\nline-line", "dollar$sign", "at@sign-sign"]
)
def test_a_password_that_a_file_could_misread_is_refused_and_not_repeated(password: str) -> None:
    with pytest.raises(ValueError) as caught:
        Login("xc-h01-01", password)
    assert not password or password not in str(caught.value)


def test_a_password_is_not_shown_when_a_login_is_printed() -> None:
    assert AGENT.password not in repr(AGENT)


@given(st.from_regex(r"[a-z0-9-]{3,32}", fullmatch=True), st.from_regex(r"[A-Za-z0-9_.~-]{8,128}", fullmatch=True))
def test_an_address_carries_name_and_password_unchanged(name: str, password: str) -> None:
    address = BrokerAddress.parse(Login(name, password).url("127.0.0.1", 18830))
    assert (address.username, address.password, address.host, address.port) == (name, password, "127.0.0.1", 18830)


@pytest.mark.parametrize("host", ["broker..example.org", ".example.org", "a" * 64 + ".example.org"])
def test_a_host_that_cannot_be_one_is_refused_by_its_name(host: str) -> None:
    with pytest.raises(ValueError, match=f"'{host}' cannot be a host; between its dots") as refused:
        BrokerAddress.parse(f"mqtt://gw-1:secret-word@{host}:1883")
    assert type(refused.value) is ValueError
    assert "secret-word" not in str(refused.value)


@pytest.mark.parametrize("host", ["broker.example.org", "broker.example.org.", "经纪.example.org", "::1", "10.0.0.1"])
def test_every_host_that_can_be_one_is_taken(host: str) -> None:
    assert BrokerAddress.parse(f"mqtt://[{host}]" if ":" in host else f"mqtt://{host}").host == host


def test_the_nats_server_accepts_the_configuration_and_listens_only_here(tmp_path: Path) -> None:
    text = nats_config(
        port=18830, store_dir=str(tmp_path / 'a "store"'), log_file=str(tmp_path / "log"), logins=[AGENT, GATEWAY]
    )
    assert text.count("127.0.0.1") == 2
    assert "sync_interval: always" in text
    assert 'ack_wait: "30000ms"' in text
    assert 'js_api_timeout: "60s"' in text
    assert text.count('allowed_connection_types: ["MQTT"]') == 2
    assert "http" not in text
    config = tmp_path / "nats.conf"
    config.write_text(text)
    checked = subprocess.run([str(find_nats_server()), "-t", "-c", str(config)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
