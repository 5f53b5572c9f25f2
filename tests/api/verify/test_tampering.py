"""A signed reward, then one thing changed: in the ledger, in a file that left the house, in a bundle. Each is named.

On a little county in the normal suite, and on a whole simulated year as a slow test.
"""

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from api.simulation.commands import open_fresh
from api.simulation.year import simulate_year
from api.verify import recorded
from api.verify.checks import all_checks, bundle_checks, export_checks, verify
from api.verify.finding import Finding, NamedCheck
from store.periods import month_bounds
from store.tables.rewards import ExportFormat
from tests.api.charging.building import NINE
from tests.api.rewards.building import DAY, build_rewards
from tests.api.verify.tampering import IN_THE_LEDGER, Change, Signed, damaged, sign, tamper, with_member
from tests.support.databases import DatabaseServers, opened

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module", params=["little county", pytest.param("simulated year", marks=pytest.mark.slow)])
def signed(
    request: pytest.FixtureRequest, database_servers: DatabaseServers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Signed]:
    """A ledger with a locked run, its exports and its bundle; tests change copies of it."""
    folder = tmp_path_factory.mktemp("signed")
    if request.param == "simulated year":
        with open_fresh(folder) as (database, series):
            assert simulate_year(database, series, seed=5, orders=40, firms=40, year=2025).findings == []
            parts = sign(database, month_bounds(202602)[0], 2025)
        [ledger] = folder.glob("openlab*.db")
        yield Signed(ledger, *parts)
        return
    with database_servers.fresh_url("sqlite") as url:
        with opened(url) as database:
            county = build_rewards(database, folder)
            county.paid()
            county.paid(NINE + DAY, 30)
            county.tested(NINE + 2 * DAY, 30)
            parts = sign(database, county.now + timedelta(days=1), 2026)
            county.series.close()
        yield Signed(Path(url.removeprefix("sqlite:///")), *parts)


def findings(ledger: Path, checks: list[NamedCheck] | None = None) -> list[Finding]:
    with opened(f"sqlite:///{ledger}") as database, database.read() as session:
        outcomes = list(verify(session, all_checks() if checks is None else checks))
    return [one.finding for one in outcomes if one.finding is not None]


def checker(bundle: bytes, folder: Path) -> tuple[int, str]:
    """What the bundle's own program says, run with Python alone in an empty folder."""
    path = folder / "run.zip"
    path.write_bytes(bundle)
    with zipfile.ZipFile(path) as packed:
        (folder / "check.py").write_bytes(packed.read("check.py"))
    command = [sys.executable, "-I", "-S", "check.py", "run.zip"]
    done = subprocess.run(command, cwd=folder, env={}, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_nothing_is_named_where_nothing_was_changed(signed: Signed, tmp_path: Path) -> None:
    assert findings(signed.ledger) == []
    for data in signed.exports.values():
        assert findings(signed.ledger, export_checks(data)) == []
    assert findings(signed.ledger, bundle_checks(signed.bundle)) == []
    status, said = checker(signed.bundle, tmp_path)
    assert (status, said.startswith(f"ok      run {signed.run_id}")) == (0, True)


@pytest.mark.parametrize("what", IN_THE_LEDGER)
def test_what_was_changed_in_the_ledger_is_named(signed: Signed, what: str, tmp_path: Path) -> None:
    copy = tmp_path / "openlab.db"
    table, key = tamper(signed, copy, IN_THE_LEDGER[what])
    found = findings(copy)
    assert any(one.table == table and key in one.key for one in found), found


@pytest.mark.parametrize(
    "what", ["an affiliation", "an assessment", "a line of the snapshot", "a result", "the policy"]
)
def test_a_bundle_that_went_out_before_shows_what_was_changed_afterwards(
    signed: Signed, what: str, tmp_path: Path
) -> None:
    copy = tmp_path / "openlab.db"
    tamper(signed, copy, IN_THE_LEDGER[what])
    found = findings(copy, bundle_checks(signed.bundle))
    assert any(one.table == "bundle" for one in found), found


def test_a_run_that_was_written_anew_is_not_the_one_that_the_county_recorded(signed: Signed, tmp_path: Path) -> None:
    copy = tmp_path / "openlab.db"
    rewritten = "UPDATE reward_run SET result_sha256 = input_sha256 WHERE run_id = '{run}'"
    tamper(signed, copy, Change("SELECT 1 AS one", rewritten, "reward_run", "{run}"))
    [found] = findings(copy, [NamedCheck("as recorded", recorded.runs(signed.run_id))])
    assert (found.table, found.key) == ("reward_run", signed.run_id)


def test_a_workbook_that_was_changed_is_named(signed: Signed) -> None:
    lies = {
        ExportFormat.CSV: signed.exports[ExportFormat.CSV].replace(b"eligible", b"unpaid  ", 1),
        ExportFormat.JSON: signed.exports[ExportFormat.JSON].replace(b'"eligible"', b'"unpaid"', 1),
        ExportFormat.XLSX: with_member(
            signed.exports[ExportFormat.XLSX],
            "xl/worksheets/sheet3.xml",
            lambda xml: xml.replace(b"eligible<", b"internal<", 1),
        ),
    }
    for data in lies.values():
        [found, *_] = findings(signed.ledger, export_checks(data))
        assert found.table == "file"


BUNDLE = {
    "a line": ("inputs.tsv", lambda data: data.replace(b"\teligible", b"\tinternal", 1), "charge "),
    "a fact": ("facts.tsv", lambda data: data.replace(b"\tuse\t1\t0\t0\t", b"\tuse\t1\t0\t1\t", 1), "charge "),
    "a grade": ("assessments.json", lambda data: data.replace(b'"good"', b'"fail"'), "host "),
    "the policy": ("policy.json", lambda data: data.replace(b"2000", b"2100", 1), "policy.json"),
    "a result": ("result.json", lambda data: data.replace(b'"reward_fen":', b'"reward_fen":1', 1), "host "),
    "the program": ("check.py", lambda data: data + b"\n", "member check.py"),
}


@pytest.mark.parametrize("what", BUNDLE)
def test_what_was_changed_in_a_bundle_is_named_without_the_ledger(signed: Signed, what: str, tmp_path: Path) -> None:
    name, change, named = BUNDLE[what]
    forged = with_member(signed.bundle, name, change)
    status, said = checker(forged, tmp_path)
    assert (status, said.startswith(f"DIFFERS {named}")) == (1, True), said
    if name != "check.py":
        assert any(name in one.key for one in findings(signed.ledger, bundle_checks(forged)))


def test_what_cannot_be_unpacked_is_named_and_no_crash(signed: Signed, tmp_path: Path) -> None:
    bundle = damaged(signed.bundle, "facts.tsv")
    status, said = checker(bundle, tmp_path)
    assert (status, said.startswith("DIFFERS the bundle cannot be read")) == (1, True), said
    assert any("facts.tsv" in one.key for one in findings(signed.ledger, bundle_checks(bundle)))
    workbook = damaged(signed.exports[ExportFormat.XLSX], "xl/worksheets/sheet3.xml")
    [found, *_] = findings(signed.ledger, export_checks(workbook))
    assert found.table == "file"
