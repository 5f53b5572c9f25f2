"""What docker-compose.yml promises: no default secret, nothing open to the world, nothing without limits or a check."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

from api.settings import Settings, load_settings
from gateway.settings import GatewaySettings
from tests.support.requirements import require

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
RUN_ONCE = {"migrate", "grants"}
OURS = {"migrate", "gateway", "api", "worker"}
SECRET = re.compile(r"PASSWORD|TOKEN|SECRET|KEY")
# ${NAME}, ${NAME:-default} or ${NAME:?message}
VARIABLE = re.compile(r"\$\{(?P<name>[A-Z_]+)(?::(?P<how>[-?])(?P<rest>[^}]*))?\}")


def example_lines() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def published(service: dict[str, Any]) -> list[str]:
    """The published ports as they are where .env leaves every optional variable empty."""
    return [VARIABLE.sub(lambda found: found["rest"], port) for port in service.get("ports", [])]


def test_the_services_are_those_of_the_design() -> None:
    assert set(SERVICES) == {
        "mosquitto",
        "influxdb",
        "postgres",
        "migrate",
        "grants",
        "gateway",
        "api",
        "worker",
        "grafana",
    }


def test_every_secret_is_required_and_none_has_a_default() -> None:
    found = {match["name"]: match["how"] for match in VARIABLE.finditer(TEXT)}
    secrets = {name for name in found if SECRET.search(name)}
    assert len(secrets) == 9
    assert {found[name] for name in secrets} == {"?"}


@pytest.mark.parametrize("name", SERVICES)
def test_no_environment_holds_a_secret_of_its_own(name: str) -> None:
    environment = SERVICES[name].get("environment", {})
    for variable, value in environment.items():
        if SECRET.search(variable):
            assert VARIABLE.fullmatch(str(value)), f"{variable} of {name} is written into the file"
        without_variables = VARIABLE.sub("", str(value))
        assert not re.search(r"://[^/@]*:[^/@]+@", without_variables), f"a password is written into {variable}"


def test_the_example_names_every_variable_and_gives_none_a_value() -> None:
    lines = example_lines()
    assert set(lines) == {match["name"] for match in VARIABLE.finditer(TEXT)}
    assert set(lines.values()) == {""}


@pytest.mark.parametrize("name", sorted(set(SERVICES) - RUN_ONCE))
def test_a_lasting_service_is_checked_and_comes_back(name: str) -> None:
    service = SERVICES[name]
    check = service["healthcheck"]
    assert check["test"][0] == "CMD"
    assert {"interval", "timeout", "retries"} <= check.keys()
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", sorted(RUN_ONCE))
def test_what_runs_once_is_not_started_again(name: str) -> None:
    assert SERVICES[name]["restart"] == "no"


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_limits_and_bounded_logs_and_gains_no_rights(name: str) -> None:
    service = SERVICES[name]
    assert {"mem_limit", "cpus", "pids_limit"} <= service.keys()
    assert "max-size" in service["logging"]["options"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert "container_name" not in service, "a fixed name forbids --scale"


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned_to_a_version(name: str) -> None:
    image = VARIABLE.sub(lambda found: found["rest"], SERVICES[name]["image"])
    tag = image.rpartition(":")[2]
    assert re.search(r"\d+\.\d+", tag), f"{image} is not pinned"


def test_the_dockerfile_starts_from_a_pinned_image_and_ends_as_nobody_special() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM ")]
    assert all(re.search(r":\d+\.\d+\.\d+-", base) for base in bases)
    assert [line for line in lines if line.startswith("USER ")] == ["USER 10001:10001"]


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_own_containers_cannot_write_and_hold_no_capability(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["tmpfs"] == ["/tmp"]


def test_only_api_grafana_and_broker_are_published_and_only_to_this_machine() -> None:
    ports = {name: published(service) for name, service in SERVICES.items() if service.get("ports")}
    assert set(ports) == {"api", "grafana", "mosquitto"}
    for name, listed in ports.items():
        assert all(port.startswith("127.0.0.1:") for port in listed), f"{name} is open to the world: {listed}"


def test_databases_and_gateways_are_on_a_network_without_a_way_out() -> None:
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    for name in ("postgres", "influxdb", "gateway", "worker", "migrate", "grants"):
        assert SERVICES[name]["networks"] == ["inside"]


def test_what_must_last_lies_in_named_volumes() -> None:
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    named = {volume for volume in used if not volume.startswith("./")}
    assert named == set(COMPOSE["volumes"])
    assert {path for path in used if path.startswith("./") and not (ROOT / path).exists()} == set()


def test_what_is_mounted_from_the_checkout_is_read_only() -> None:
    for service in SERVICES.values():
        assert all(volume.endswith(":ro") for volume in service.get("volumes", []) if volume.startswith("./"))


def test_the_order_of_starting_is_databases_migration_then_the_rest() -> None:
    for name in ("gateway", "api", "worker", "grants"):
        assert SERVICES[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, str]]:
    """Put what compose tells a service into the environment, with every secret filled in
    and what has a default left at it."""

    def put(name: str) -> dict[str, str]:
        for old in [variable for variable in os.environ if variable.startswith("OPENLAB_")]:
            monkeypatch.delenv(old)
        listed = SERVICES[name]["environment"].items()
        environment = {
            variable: VARIABLE.sub(
                lambda found: found["rest"] if found["how"] == "-" and found["rest"] else "0123abcd" * 6, str(value)
            )
            for variable, value in listed
        }
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        return environment

    return put


def test_the_gateway_understands_what_compose_tells_it(told: Callable[[str], dict[str, str]]) -> None:
    environment = told("gateway")
    settings = GatewaySettings()  # type: ignore[call-arg]
    assert unknown(environment, GatewaySettings) == set()
    assert settings.password() == "0123abcd" * 6
    assert settings.share_group == "openlab"
    assert "OPENLAB_GATEWAY_NAME" not in environment, "one name for all replicas would be one name too few"


@pytest.mark.parametrize("name", ["api", "worker", "migrate"])
def test_the_servers_understand_what_compose_tells_them(told: Callable[[str], dict[str, str]], name: str) -> None:
    environment = told(name)
    settings = load_settings()
    assert unknown(environment, Settings) == set()
    assert settings.production
    assert settings.database_url.startswith("postgresql+psycopg://openlab:0123abcd")


def unknown(environment: dict[str, str], settings: type[BaseSettings]) -> set[str]:
    """Variables meant for us that no setting of that name takes."""
    known = {f"OPENLAB_{field.upper()}" for field in settings.model_fields}
    return {name for name in environment if name.startswith("OPENLAB_")} - known


def test_the_token_of_the_time_series_goes_into_a_file_in_memory(tmp_path: Path) -> None:
    """The place is the container's /tmp; the script is run with another one in its text."""
    script = (ROOT / "deploy" / "openlab" / "entrypoint.sh").read_text().replace("/tmp/", f"{tmp_path}/")
    told = {"PATH": os.environ["PATH"], "SERIES_TOKEN": "of-influx"}
    shown = subprocess.run(
        ["sh", "-c", script, "x", "env"], capture_output=True, text=True, check=True, env=told
    ).stdout
    assert "of-influx" not in shown
    assert (tmp_path / "series-token").read_text() == "of-influx"
    assert (tmp_path / "series-token").stat().st_mode & 0o777 == 0o600
    asked = SERVICES["api"]["environment"]["OPENLAB_SERIES_URL"]
    assert asked.endswith("?token_file=/tmp/series-token")


def test_each_replica_of_the_gateway_is_named_after_its_container() -> None:
    entrypoint = ROOT / "deploy" / "openlab" / "entrypoint.sh"
    shown = ["sh", "-c", "echo $OPENLAB_GATEWAY_NAME"]
    path = {"PATH": os.environ["PATH"]}
    named = subprocess.run([entrypoint, *shown], capture_output=True, text=True, check=True, env=path).stdout.strip()
    assert named == f"gw-{Path('/etc/hostname').read_text().strip()}"
    chosen = {**path, "OPENLAB_GATEWAY_NAME": "gw-east"}
    assert (
        subprocess.run([entrypoint, *shown], capture_output=True, text=True, check=True, env=chosen).stdout
        == "gw-east\n"
    )


def compose_config(folder: Path, environment: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("docker-compose")
    require(program, "docker-compose is not installed; get it with: apt-get install docker-compose")
    shutil.copy(ROOT / "docker-compose.yml", folder)
    (folder / ".env").write_text(environment)
    command = [str(program), "--file", str(folder / "docker-compose.yml"), "config"]
    path = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    return subprocess.run(command, cwd=folder, env=path, capture_output=True, text=True, timeout=60)


def test_docker_compose_finds_nothing_wrong(tmp_path: Path) -> None:
    filled = "".join(f"{name}={'x' * 48 if SECRET.search(name) else ''}\n" for name in example_lines())
    result = compose_config(tmp_path, filled)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    resolved = yaml.safe_load(result.stdout)
    assert set(resolved["services"]) == set(SERVICES)
    assert resolved["services"]["api"]["ports"] == ["127.0.0.1:8000:8000/tcp"]
    assert resolved["services"]["gateway"]["environment"]["SERIES_TOKEN"] == "x" * 48


def test_docker_compose_refuses_to_start_without_a_secret_and_says_which(tmp_path: Path) -> None:
    filled = "".join(f"{name}=x\n" for name in example_lines() if SECRET.search(name) and name != "INFLUX_TOKEN")
    result = compose_config(tmp_path, filled)
    assert result.returncode != 0
    assert "set INFLUX_TOKEN in .env" in result.stderr
