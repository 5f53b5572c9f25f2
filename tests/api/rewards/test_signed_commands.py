"""Marks and grades from the command line: recorded by one person, decided about by another, listed."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import Result
from sqlalchemy import select
from typer.testing import CliRunner

from api.rewards.commands import app
from store.database import Database
from store.tables.charging import Charge
from tests.api.charging.building import HOST
from tests.api.rewards.building import RewardCounty, build_rewards

Openlab = Callable[..., Result]


@pytest.fixture
def county(sqlite_database: Database, tmp_path: Path):
    """The county of the reward tests; the services behind the commands are shown on both engines elsewhere."""
    built = build_rewards(sqlite_database, tmp_path)
    yield built
    built.series.close()


@pytest.fixture
def openlab(county: RewardCounty, tmp_path: Path) -> Openlab:
    """`openlab rewards …` on that county."""
    url = county.database.engine.url.render_as_string(hide_password=False)
    env = {"OPENLAB_DATABASE_URL": url, "OPENLAB_DATA_DIR": str(tmp_path)}
    return lambda *given: CliRunner().invoke(app, given, env=env)


def refusal(result: Result) -> str:
    assert result.exit_code == 1, result.output
    return str(getattr(result.exception, "code", ""))


def listed(result: Result) -> list[dict[str, object]]:
    assert result.exit_code == 0, result.output
    return list(json.loads(result.stdout))


def test_a_mark_is_proposed_decided_about_by_a_second_person_and_withdrawn(
    county: RewardCounty, openlab: Openlab, tmp_path: Path
) -> None:
    charge = county.paid()
    order = tmp_path / "order.pdf"
    order.write_bytes(b"an order")
    why = ("--evidence", "an order", "--file", str(order))
    assert openlab("marks", "propose", "bulk", "--charge", charge, "--as", "officer", *why).exit_code == 0
    [mark] = listed(openlab("marks", "list", "--open", "--json"))
    assert (mark["code"], mark["evidence_sha256"]) == ("bulk", sha256(b"an order").hexdigest())
    name = str(mark["mark_id"])
    assert refusal(openlab("marks", "decide", name, "--as", "officer", "--approve")) == "same_person"
    assert refusal(openlab("marks", "decide", name, "--as", "finance", "--refuse")) == "note_missing"
    assert openlab("marks", "decide", name, "--as", "finance").exit_code == 2, "nothing is decided by default"
    assert "approved by finance, stands" in openlab("marks", "decide", name, "--as", "finance", "--approve").stdout
    assert openlab("marks", "withdraw", name, "--as", "officer-2", "--evidence", "lifted").exit_code == 0
    [taken_back] = listed(openlab("marks", "list", "--open", "--json"))
    assert taken_back["withdraws"] == name
    assert openlab("marks", "decide", str(taken_back["mark_id"]), "--as", "officer", "--approve").exit_code == 0
    with county.database.read() as session:
        booking = session.scalars(select(Charge.booking_id).where(Charge.charge_id == charge)).one()
    assert [row["stands"] for row in listed(openlab("marks", "list", "--booking", booking, "--json"))] == [False, False]
    assert listed(openlab("marks", "list", "--code", "filming", "--json")) == []


def test_a_grade_is_proposed_decided_about_by_a_second_person_and_listed(openlab: Openlab) -> None:
    proposed = ("assessments", "propose", HOST, "2026", "good", "--as", "officer", "--evidence", "minutes")
    for _ in range(2):
        assert openlab(*proposed).exit_code == 0
    names = [str(row["proposal_id"]) for row in listed(openlab("assessments", "proposals", "--open", "--json"))]
    assert refusal(openlab("assessments", "decide", names[0], "--as", "officer", "--approve")) == "same_person"
    assert openlab("assessments", "decide", names[0], "--as", "finance", "--approve").exit_code == 0
    said = openlab("assessments", "decide", names[1], "--as", "officer-2", "--refuse", "--note", "twice").stdout
    assert "refused by officer-2" in said
    assert openlab("assessments", "proposals", "--open").stdout == ""
    assert [row["version"] for row in listed(openlab("assessments", "proposals", "--json"))] == [1, None]
    [grade] = listed(openlab("assessments", "list", "--year", "2026", "--host", HOST, "--json"))
    assert (grade["grade"], grade["prepared_by"], grade["approved_by"]) == ("good", "officer", "finance")
    assert "good" in openlab("assessments", "list").stdout
    assert openlab("assessments", "list", "--year", "2025").stdout == ""
