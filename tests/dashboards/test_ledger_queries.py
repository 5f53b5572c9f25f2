"""Every SQL panel runs on a real PostgreSQL with Grafana's own rights, and shows what is in the ledger."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from psycopg.errors import InsufficientPrivilege, ReadOnlySqlTransaction

from dashboards.build import all_dashboards
from dashboards.sources import POSTGRES
from store.database import Database, open_database
from store.ledger import commit_usage
from store.quarantine import set_aside
from store.tables.calendar import Due
from store.tables.usage import Alert, QuarantineReason
from tests.dashboards.conftest import Production
from tests.dashboards.queries import TO_MS, sql_as_sent
from tests.support.usage import StreamWriter, add_registry, at

PANELS = {
    f"{one['uid']}-{panel['id']}": panel
    for one in all_dashboards().values()
    for panel in one["panels"]
    if panel["datasource"] == POSTGRES
}


@pytest.fixture(scope="module")
def filled(production: Production) -> Iterator[Production]:
    """A ledger with one closed and one open session, an alert, a quarantined message and work that failed."""
    database = open_database(production.owner_url)
    _fill(database)
    yield production
    database.dispose()


def _fill(database: Database) -> None:
    with database.write() as session:
        first, second = add_registry(session)
        closed, running = StreamWriter(first), StreamWriter(second)
        closed.run(minutes=90)
        running.open(60)
        for writer in (closed, running):
            commit_usage(session, writer.arrivals(), TO_MS, "gateway:test")
        set_aside(session, "lab/v1/up/a-x/rec/_", b"{", QuarantineReason.NOT_JSON, "not JSON", TO_MS)
        session.add(
            Alert(
                alert_id="alert-1",
                rule="agent_silent",
                subject="a-xc-h01-01",
                open_slot=1,
                owner="h01",
                detail="not heard of",
                times=2,
                first_at=at(TO_MS),
                last_at=at(TO_MS),
                done_by=None,
            )
        )
        session.add(Due(kind="match_session", subject_id="s", due_at=at(TO_MS), attempts=1, last_error="no booking"))


def rows(production: Production, panel: dict[str, Any], hosts: tuple[str, ...] = ("h01",)) -> list[tuple[Any, ...]]:
    with production.as_grafana() as connection:
        return connection.execute(sql_as_sent(panel["targets"][0]["rawSql"], hosts).encode()).fetchall()


def panel(title: str) -> dict[str, Any]:
    [found] = [one for one in PANELS.values() if one["title"].endswith(title)]
    return found


@pytest.mark.parametrize("name", PANELS)
def test_a_panel_runs_with_the_rights_of_grafana(filled: Production, name: str) -> None:
    answer = rows(filled, PANELS[name])
    if PANELS[name]["type"] == "stat":
        assert len(answer) == len(answer[0]) == 1


@pytest.mark.parametrize("name", PANELS)
def test_a_host_that_is_not_chosen_is_not_shown(filled: Production, name: str) -> None:
    if "$host" in PANELS[name]["targets"][0]["rawSql"]:
        answer = rows(filled, PANELS[name], ("h99",))
        assert answer in ([], [(0,)], [(Decimal(0),)])


def test_the_choice_of_hosts_offers_those_there_are(filled: Production) -> None:
    [variable] = all_dashboards()["openlab-use-and-money.json"]["templating"]["list"]
    with filled.as_grafana() as connection:
        assert connection.execute(variable["query"].encode()).fetchall() == [("h01",)]


def test_use_is_shown_in_hours_by_host_and_month_of_shanghai(filled: Production) -> None:
    assert rows(filled, panel("Sessions open now")) == [(1,)]
    assert rows(filled, panel("· Running hours")) == [(Decimal("1.5"),)]
    assert rows(filled, panel("Running hours by host and month")) == [("2026-03 h01", Decimal("1.5"))]


def test_what_needs_a_person_is_counted_and_listed(filled: Production) -> None:
    health = {one["title"]: rows(filled, one) for name, one in PANELS.items() if name.startswith("openlab-health")}
    by_english = {title.split(" · ")[1]: answer for title, answer in health.items()}
    assert by_english["Alerts open"] == [(2,)]
    assert {row[0] for row in by_english["Which alerts"]} == {"agent_silent", "quarantine_not_json"}
    assert by_english["Messages in quarantine"] == [(1,)]
    assert by_english["Quarantine by reason"][0][:2] == ("not_json", 1)
    assert by_english["Due work that failed"] == [(1,)]
    assert by_english["What failed and why"][0][-1] == "no booking"
    assert {row[0] for row in by_english["Who is offline"]} == {"a-xc-h01-01", "a-xc-h01-02"}
    assert len(by_english["Streams"]) == 2


@pytest.mark.parametrize("table", ["person", "access_token", "audit_event", "usage_record", "charge_evidence"])
def test_grafana_cannot_read_people_secrets_or_evidence(production: Production, table: str) -> None:
    with production.as_grafana() as connection, pytest.raises(InsufficientPrivilege):
        connection.execute(f"SELECT * FROM {table}".encode())


def test_grafana_cannot_read_the_tax_number_of_a_firm(production: Production) -> None:
    with production.as_grafana() as connection, pytest.raises(InsufficientPrivilege):
        connection.execute("SELECT uscc FROM org")


def test_grafana_cannot_write(production: Production) -> None:
    with production.as_grafana() as connection, pytest.raises(ReadOnlySqlTransaction):
        connection.execute("DELETE FROM charge")
