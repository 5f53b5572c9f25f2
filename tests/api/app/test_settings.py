"""Settings: read when asked, complete each other, and refuse what production must not run on."""

from pathlib import Path

import pytest

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
