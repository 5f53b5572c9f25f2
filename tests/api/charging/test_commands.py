"""`openlab close-month` and `openlab explain` as a person runs them."""

import json

import pytest
import typer
from typer.testing import CliRunner

from api.charging.commands import close_month, explain
from api.charging.statements import finalize_statement, prepare_statement
from api.errors import Refused
from store.canonical import sha256_hex
from store.database import Database
from tests.api.charging.building import FIRM, HOST, MANAGER, County, build
from tests.support.usage import NINE

app = typer.Typer()
app.command()(close_month)
app.command()(explain)


@pytest.fixture
def bench(sqlite_database: Database, tmp_path, monkeypatch) -> County:
    monkeypatch.setenv("OPENLAB_DATABASE_URL", sqlite_database.engine.url.render_as_string(hide_password=False))
    return build(sqlite_database, tmp_path)


def ran(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def test_a_month_is_closed_once_everything_is_done(bench):
    booking_id = bench.book()
    bench.use(booking_id, 30)
    bench.charge(booking_id)
    refused = ran("close-month", "2026-03", "--host", HOST)
    assert isinstance(refused.exception, Refused)
    assert "charges on no statement" in str(refused.exception)
    as_json = ran("close-month", "2026-03", "--json")
    assert json.loads(as_json.output)["facts"]["open"][HOST][0]["what"] == "unbilled_charges"
    draft = bench.do(prepare_statement, HOST, FIRM, 202603, who=MANAGER)
    bench.do(finalize_statement, draft.statement_id, who=MANAGER)
    closed = json.loads(ran("close-month", "2026-03", "--json").output)
    assert [(each["host_id"], each["count"], each["sum_fen"], each["already"]) for each in closed] == [
        (HOST, 1, 20_000, False)
    ]
    assert "(already)" in ran("close-month", "202603").output


def test_a_month_that_is_none_is_said_so(bench):
    assert "write it like 2026-11" in str(ran("close-month", "march").exception)


def test_explain_shows_the_way_from_the_amount_to_the_record(bench):
    charge_id = bench.charged(80, NINE)
    text = ran("explain", charge_id).output
    for part in ("600.00", "price list", "1 h 30 min", "records", "samples", "coverage_below_95", "row hash"):
        assert part in text, part
    assert json.loads(ran("explain", charge_id, "--json").output)["charge"]["charge_id"] == charge_id


def test_explaining_an_unknown_charge_is_refused(bench):
    assert isinstance(ran("explain", sha256_hex(b"")[:26]).exception, Refused)
