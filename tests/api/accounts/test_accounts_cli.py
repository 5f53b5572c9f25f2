"""`openlab accounts`: what is done at the machine itself, signed by `--as`, shown once."""

import json

import pytest
from sqlalchemy import select

from api import commands
from api.accounts.uscc import make
from store.tables.accounts import Role
from store.tables.audit import AuditEvent
from tests.support.api_client import ApiClient

OFFICE = make("11990000000000011")
NEW = "another-long-one"


@pytest.fixture
def home(sqlite_client: ApiClient, monkeypatch: pytest.MonkeyPatch) -> ApiClient:
    """The commands work on the database of the API beside them."""
    monkeypatch.setenv("OPENLAB_DATABASE_URL", str(sqlite_client.parts.database.engine.url))
    return sqlite_client


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["openlab", "accounts", *arguments])
    return commands.run()


def test_a_county_gets_its_first_admin_who_signs_in(
    home: ApiClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("first-admin", "Root", "--name", "王某", "--uscc", OFFICE, "--office", "县科技局(示例)", "--json")
    assert run(monkeypatch, *asked) == 0
    made = json.loads(capsys.readouterr().out)
    assert home.request("POST", "/sessions", json=made).status_code == 201
    assert home.get("/me").json()["roles"] == ["admin"]
    assert run(monkeypatch, *asked) == 1
    assert "There is an admin" in capsys.readouterr().err


def test_a_reset_is_shown_once_signed_and_works(
    home: ApiClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    admin = home.signed_in(Role.ADMIN, login="root")
    officer = home.signed_in(Role.COUNTY_OFFICER, login="officer")
    home.signed_in(Role.FINANCE, login="finance")
    assert run(monkeypatch, "reset", "finance", "--as", "root", "--json") == 0
    token = json.loads(capsys.readouterr().out)["token"]
    said = {"token": token, "password": NEW}
    assert home.request("POST", "/password-resets/completion", json=said).status_code == 204
    assert home.request("POST", "/sessions", json={"login": "finance", "password": NEW}).status_code == 201
    assert run(monkeypatch, "reset", "finance", "--as", "officer") == 1
    assert run(monkeypatch, "reset", "nobody-here") == 1
    with home.parts.database.read() as session:
        [signed] = session.scalars(select(AuditEvent.actor).where(AuditEvent.action == "reset_issued"))
    assert signed == admin.person_id
    assert officer.person_id != signed


def test_signing_somebody_out_everywhere(
    home: ApiClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    officer = home.signed_in(Role.COUNTY_OFFICER, login="officer")
    assert run(monkeypatch, "sign-out", "officer") == 0
    assert capsys.readouterr().out.strip() == "1 ended"
    assert officer.get("/me").status_code == 401
