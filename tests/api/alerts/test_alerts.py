"""Alerts have an owner who sees them, and a person who is done with them says so with a note, once."""

import json

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from api.commands import app
from store.alerts import raise_alert
from store.database import Database
from store.tables.accounts import Role
from store.tables.audit import AuditEvent
from store.tables.usage import Alert
from tests.support.api_client import ApiClient
from tests.support.usage import NINE, add_registry


def fill(database: Database) -> None:
    """Alerts of two hosts and of the county, the newest last."""
    with database.write() as session:
        for host in ("h01", "h02"):
            add_registry(session, host=host)
        raise_alert(session, "usage_conflict", "a-xc-h01-01", "two contents", NINE)
        raise_alert(session, "odometer_fell", "xc-h02-01", "from 9 to 3", NINE + 1000)
        raise_alert(session, "worker_failing", "charge_booking:b1", "ValueError: x", NINE + 2000, "")


def rules(client: ApiClient, query: str = "") -> list[str]:
    answer = client.get(f"/alerts{query}")
    assert answer.status_code == 200, answer.text
    return [each["rule"] for each in answer.json()["items"]]


def test_a_person_who_is_done_with_an_alert_says_why_and_it_is_open_no_more(client: ApiClient) -> None:
    database = client.parts.database
    fill(database)
    officer = client.signed_in(Role.COUNTY_OFFICER)
    assert rules(officer) == ["worker_failing", "odometer_fell", "usage_conflict"]
    [alert] = officer.get("/alerts?rule=usage_conflict").json()["items"]
    assert (alert["owner"], alert["state"], alert["subject"]) == ("h01", "open", "a-xc-h01-01")
    assert alert["means_zh"]
    done = officer.post(f"/alerts/{alert['alert_id']}/done", {"note": "one credential on two boxes; taken back"})
    assert (done.status_code, done.json()["state"], done.json()["done_by"]) == (201, "done", officer.person_id)
    assert rules(officer) == ["worker_failing", "odometer_fell"]
    assert rules(officer, "?state=done") == ["usage_conflict"]
    assert len(rules(officer, "?state=all")) == 3
    again = officer.post(f"/alerts/{alert['alert_id']}/done", {"note": "twice"})
    assert (again.status_code, again.json()["code"]) == (409, "already_done")
    with database.read() as session:
        [event] = session.scalars(select(AuditEvent).where(AuditEvent.action == "alert.done"))
        assert (event.chain_id, event.actor) == ("host:h01", officer.person_id)
        assert b"two boxes" in event.body
    with database.write() as session:
        raise_alert(session, "usage_conflict", "a-xc-h01-01", "again", NINE + 9000)
    assert rules(officer)[0] == "usage_conflict"


def test_a_lab_manager_sees_and_ends_what_is_the_own_hosts(sqlite_client: ApiClient) -> None:
    fill(sqlite_client.parts.database)
    manager = sqlite_client.signed_in(Role.LAB_MANAGER, host_id="h01")
    auditor, admin = sqlite_client.signed_in(Role.AUDITOR), sqlite_client.signed_in(Role.ADMIN)
    assert rules(manager) == ["usage_conflict"]
    assert len(rules(auditor)) == len(rules(admin)) == 3
    assert rules(admin, "?owner=h02") == ["odometer_fell"]
    theirs, _, mine = [each["alert_id"] for each in admin.get("/alerts").json()["items"]]
    assert manager.get(f"/alerts/{theirs}").status_code == 404
    assert manager.post(f"/alerts/{theirs}/done", {"note": "not mine"}).status_code == 404
    assert auditor.post(f"/alerts/{mine}/done", {"note": "only reads"}).status_code == 403
    assert manager.post(f"/alerts/{mine}/done", {"note": " "}).status_code == 422
    assert manager.post(f"/alerts/{mine}/done", {"note": "looked at both"}).status_code == 201


def test_alerts_come_in_pages(sqlite_client: ApiClient) -> None:
    fill(sqlite_client.parts.database)
    officer = sqlite_client.signed_in(Role.COUNTY_OFFICER)
    first = officer.get("/alerts?limit=2").json()
    rest = officer.get(f"/alerts?limit=2&cursor={first['next_cursor']}").json()
    assert [each["rule"] for each in rest["items"]] == ["usage_conflict"]
    assert rest["next_cursor"] is None


def test_on_the_server_alerts_are_listed_and_ended(sqlite_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(sqlite_database)
    url = sqlite_database.engine.url.render_as_string(hide_password=False)
    monkeypatch.setenv("OPENLAB_DATABASE_URL", url)
    run = CliRunner().invoke
    listed = json.loads(run(app, ["alerts", "list", "--owner", "h01", "--json"]).stdout)
    [one] = listed["alerts"]
    assert run(app, ["alerts", "list"]).stdout.count("\n") == 6
    ended = run(app, ["alerts", "done", one["alert_id"], "--note", "both looked at"])
    assert ended.exit_code == 0, ended.output
    with sqlite_database.read() as session:
        alert = session.scalars(select(Alert).where(Alert.rule == "usage_conflict")).one()
        assert (alert.open_slot, alert.done_by) == (None, "system:command")
