"""`openlab` as a person meets it: help, one clear sentence when it cannot run, and a server that serves."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from api.cli import main
from tests.support.console import Ended, call
from tests.support.ports import free_port
from tests.support.waiting import wait_until


def _environment(**given: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("OPENLAB_")} | given


def _openlab(*arguments: str, **given: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "api.cli", *arguments],
        env=_environment(**given),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def _here(monkeypatch: pytest.MonkeyPatch, *arguments: str, **given: str) -> Ended:
    """The same for a command that ends by itself, without a process of its own."""
    for name in [name for name in os.environ if name.startswith("OPENLAB_")]:
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return call(main, *arguments)


def test_every_command_has_help_with_an_example() -> None:
    import typer.main

    from api.commands import app

    root = typer.main.get_group(app)
    assert {"migrate", "serve", "worker", "seed"} <= set(root.commands)
    leaves, groups = [], [root]
    while groups:
        for command in groups.pop().commands.values():
            (groups if hasattr(command, "commands") else leaves).append(command)
    for command in leaves:
        assert "Example: " in (command.help or "") or "openlab" in (command.help or ""), command.name


def test_migrate_seed_and_serve_from_nothing_to_an_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = {"OPENLAB_DATA_DIR": str(tmp_path / "data")}
    assert "ledger: empty -> " in _openlab("migrate", **home).stdout
    seeded = json.loads(_openlab("seed", "--json", **home).stdout)
    assert seeded["added"] == {"hosts": 20, "labs": 82, "instruments": 82, "orgs": 62}
    assert json.loads(_here(monkeypatch, "seed", "--json", **home).stdout)["logins"] == []
    port = free_port()
    serving = subprocess.Popen(
        [sys.executable, "-m", "api.cli", "serve", "--port", str(port)],
        env=_environment(**home),
        stdout=subprocess.PIPE,
    )
    try:
        base = f"http://127.0.0.1:{port}"
        assert serving.stdout is not None
        assert serving.stdout.readline().decode().strip() == f"{base}/docs"

        def ready() -> bool:
            try:
                return httpx.get(f"{base}/readyz").json() == {"status": "ok", "database": "ok", "series": "ok"}
            except httpx.TransportError:
                return False

        wait_until(ready, "the API to be ready")
        login = {name: seeded["logins"][0][name] for name in ("login", "password")}
        with httpx.Client(base_url=f"{base}/api/v1") as http:
            assert http.post("/sessions", json=login).status_code == 201
            assert http.get("/me").json()["roles"] == [seeded["logins"][0]["role"]]
        taken = _here(monkeypatch, "serve", "--port", str(port), **home)
        assert (taken.returncode, taken.stdout) == (2, "")
        assert f"cannot listen on 127.0.0.1:{port}" in taken.stderr
        serving.send_signal(signal.SIGTERM)
        serving.wait(300)
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    finally:
        serving.kill()
        serving.wait()
        assert serving.stdout is not None
        serving.stdout.close()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"OPENLAB_DATABASE_URL": "mysql://x/y"}, "no database backend is called 'mysql'"),
        ({"OPENLAB_DATABASE_URL": "nonsense"}, "OPENLAB_DATABASE_URL is no address"),
        ({"OPENLAB_SERIES_URL": "redis://x"}, "no time-series backend is called 'redis'"),
        ({"OPENLAB_PORT": "99999"}, "OPENLAB_PORT"),
        ({"OPENLAB_DATA_DIR": "/proc/nowhere"}, "/proc/nowhere"),
        ({"OPENLAB_PRODUCTION": "true"}, "OPENLAB_DATABASE_URL must be set in production"),
    ],
)
def test_a_configuration_that_cannot_work_is_one_sentence_and_exit_2(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    ended = _here(monkeypatch, "migrate", **({"OPENLAB_DATA_DIR": str(tmp_path)} | given))
    assert ended.returncode == 2, ended.stderr
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_a_database_that_was_not_migrated_is_refused_with_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = {"OPENLAB_DATA_DIR": str(tmp_path)}
    # A worker takes the signals of its process before it looks.
    for ended in (
        _here(monkeypatch, "serve", **home), _here(monkeypatch, "seed", **home), _openlab("worker", **home)
    ):  # fmt: skip
        assert (ended.returncode, "run `openlab migrate`" in ended.stderr) == (2, True), ended.stderr


def test_without_the_extra_the_command_says_which_one_to_install() -> None:
    script = "import sys; sys.modules['fastapi'] = None; from api.cli import main; main()"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "pip install 'openlab[api]'" in ended.stderr
    assert "fastapi is missing" in ended.stderr


def test_the_entry_itself_imports_nothing_heavy() -> None:
    script = "import sys, api.cli; print([m for m in ('sqlalchemy', 'fastapi', 'pydantic') if m in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.strip() == "[]"
