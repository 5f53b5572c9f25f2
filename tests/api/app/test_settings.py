"""Settings: read when asked, complete each other, and refuse what production must not run on."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from api.serving import server_config
from api.settings import BadSettings, load_settings

PRODUCTION = {
    "OPENLAB_PRODUCTION": "true",
    "OPENLAB_DATABASE_URL": "postgresql+psycopg://openlab:p7Qm0dZk2vXw@db/openlab",
    "OPENLAB_SERIES_URL": "influxdb://influx:8086/county/series",
    "OPENLAB_COOKIE_SECURE": "true",
}


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("OPENLAB_")]:
        monkeypatch.delenv(name)


def _set(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("proxies", "client"),
    [
        ("127.0.0.1", "172.18.0.1"),
        ("", "172.18.0.1"),
        ("172.18.0.0/16", "203.0.113.7"),
        ("10.0.0.7, 172.18.0.1", "203.0.113.7"),
    ],
)
def test_only_a_trusted_proxy_says_for_whom_it_asks(proxies: str, client: str) -> None:
    async def echo(scope: dict, receive: object, send: Callable) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["client"][0].encode()})

    config = server_config(echo, load_settings(trusted_proxies=proxies).trusted_proxies)
    config.load()

    async def ask() -> str:
        transport = httpx.ASGITransport(config.loaded_app, client=("172.18.0.1", 5))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
            return (await http.get("/", headers={"X-Forwarded-For": "203.0.113.7"})).text

    assert asyncio.run(ask()) == client


def test_a_proxy_that_is_no_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("*", "proxy.example", "10.0.0.0/99"):
        _set(monkeypatch, {"OPENLAB_TRUSTED_PROXIES": wrong})
        with pytest.raises(BadSettings, match="OPENLAB_TRUSTED_PROXIES"):
            load_settings()


def test_the_default_is_two_files_in_one_folder_on_this_machine_only(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, port=None)
    assert settings.database_url == f"sqlite:///{tmp_path}/openlab.db"
    assert settings.series_url == f"sqlite:///{tmp_path}/series.db"
    assert (settings.host, settings.port, settings.production) == ("127.0.0.1", 8000, False)


def test_production_starts_with_a_proper_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, PRODUCTION)
    assert load_settings().database_url == PRODUCTION["OPENLAB_DATABASE_URL"]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"OPENLAB_DATABASE_URL": ""}, "OPENLAB_DATABASE_URL must be set"),
        ({"OPENLAB_SERIES_URL": ""}, "OPENLAB_SERIES_URL must be set"),
        ({"OPENLAB_DATABASE_URL": "postgresql+psycopg://openlab:changeme@db/openlab"}, "missing or a default"),
        ({"OPENLAB_DATABASE_URL": "postgresql+psycopg://openlab@db/openlab"}, "missing or a default"),
        ({"OPENLAB_COOKIE_SECURE": "false"}, "OPENLAB_COOKIE_SECURE"),
    ],
)
def test_production_refuses_defaults_and_missing_secrets(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, str], sentence: str
) -> None:
    _set(monkeypatch, PRODUCTION | changed)
    with pytest.raises(BadSettings, match=sentence):
        load_settings()


def test_a_password_may_come_from_a_file_and_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("p@ss:w/rd\n")
    _set(
        monkeypatch,
        PRODUCTION
        | {
            "OPENLAB_DATABASE_URL": "postgresql+psycopg://openlab@db/openlab",
            "OPENLAB_DATABASE_PASSWORD_FILE": str(tmp_path / "secret"),
        },
    )
    assert load_settings().database_url == "postgresql+psycopg://openlab:p%40ss%3Aw%2Frd@db/openlab"
    (tmp_path / "secret").write_text("changeme")
    with pytest.raises(BadSettings, match="missing or a default"):
        load_settings()
    (tmp_path / "secret").unlink()
    with pytest.raises(BadSettings, match="secret"):
        load_settings()


def test_the_environment_is_read_when_asked_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLAB_PORT", "8123")
    assert load_settings().port == 8123
    monkeypatch.setenv("OPENLAB_PORT", "8124")
    assert load_settings().port == 8124


def test_a_secret_is_not_shown_with_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, PRODUCTION)
    assert "p7Qm0dZk2vXw" not in repr(load_settings())
