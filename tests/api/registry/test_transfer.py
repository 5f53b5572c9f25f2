"""The registry as CSV: out and in again changes nothing; a dry run names every bad cell; all rows or none."""

import csv
import io
import json
from pathlib import Path

import pytest
from sqlalchemy import func, select

from api.registry.csv_tables import FILES, read_table
from store.tables.accounts import Role
from store.tables.audit import AuditEvent
from store.tables.registry import Instrument, Lab
from tests.support.api_client import ApiClient


def _export(client: ApiClient) -> dict[str, str]:
    texts = {}
    for name in FILES:
        answer = client.get(f"/registry/export/{name}")
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/csv")
        texts[name] = answer.content.decode()
    return texts


def _changed(text: str, line: int, **cells: str) -> str:
    """The file with some cells of one line changed (line 1 is the header)."""
    rows = list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline="")))
    for column, value in cells.items():
        rows[line - 1][rows[0].index(column)] = value
    return _text(rows)


def _text(rows: list[list[str]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue()


def _events(client: ApiClient) -> int:
    with client.parts.database.read() as session:
        return session.scalar(select(func.count()).select_from(AuditEvent)) or 0


def test_what_was_exported_is_imported_without_a_change(county: ApiClient) -> None:
    officer = county.signed_in(Role.COUNTY_OFFICER)
    texts, before = _export(officer), _events(county)
    for dry_run in (True, False):
        answer = officer.post("/registry/import", texts | {"dry_run": dry_run})
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert (body["imported"], body["findings"]) == (not dry_run, [])
        assert body["counts"]["instruments"] == {"new": 0, "changed": 0, "same": 82}
        assert {name: counts["same"] for name, counts in body["counts"].items()} == {
            "hosts": 20,
            "labs": 82,
            "instruments": 82,
            "test_items": 82,
        }
    assert _events(county) == before
    assert _export(officer) == texts


def test_an_import_changes_adds_and_audits_each_row_once(sqlite_county: ApiClient) -> None:
    officer = sqlite_county.signed_in(Role.COUNTY_OFFICER)
    texts = _export(officer)
    texts["labs"] = _changed(texts["labs"], 2, address='示例路 1 号, "甲" 楼', latitude="29.5", longitude="120.90001")
    rows = list(csv.reader(io.StringIO(texts["instruments"].removeprefix("\ufeff"), newline="")))
    new = [*rows[1]]
    for column, value in (
        ("instrument_id", "xc-h01-77"),
        ("code", "XC-H01-77"),
        ("name_zh", "=1+1"),
        ("function", "两\n行"),
    ):
        new[rows[0].index(column)] = value
    texts["instruments"] = _text([*rows, new])
    before = _events(sqlite_county)
    first = officer.post("/registry/import", texts)
    assert first.status_code == 200, first.text
    assert first.json()["counts"]["labs"] == {"new": 0, "changed": 1, "same": 81}
    assert first.json()["counts"]["instruments"] == {"new": 1, "changed": 0, "same": 82}
    assert _events(sqlite_county) == before + 3, "the lab, the instrument, the import"
    again = officer.post("/registry/import", texts)
    assert again.json()["counts"]["instruments"] == {"new": 0, "changed": 0, "same": 83}
    assert _events(sqlite_county) == before + 3
    with sqlite_county.parts.database.read() as session:
        assert session.get_one(Lab, "l01").longitude_e6 == 120_900_010
        assert session.get_one(Instrument, "xc-h01-77").name_zh == "=1+1"
    assert "'=1+1" in _export(officer)["instruments"], "no spreadsheet may run it"
    assert officer.post("/registry/import", _export(officer)).json()["counts"]["instruments"]["same"] == 83


def test_a_dry_run_names_every_bad_cell_and_a_real_one_imports_nothing(sqlite_county: ApiClient) -> None:
    officer = sqlite_county.signed_in(Role.COUNTY_OFFICER)
    texts = _export(officer)
    texts["hosts"] = _changed(texts["hosts"], 3, uscc="123", latitude="129.5")
    texts["labs"] = _changed(texts["labs"], 4, host_id="h99")
    texts["labs"] = _changed(texts["labs"], 5, longitude="120.1234567")
    texts["labs"] = _changed(texts["labs"], 6, name_zh="改名")
    instruments = _changed(texts["instruments"], 2, power_rated_w="many", open_hours="1-5 8:30-17", share_mode="maybe")
    instruments = _changed(instruments, 7, instrument_id="xc-h01-01")
    texts["instruments"] = _changed(instruments, 9, min_slot_minutes="5000")
    texts["test_items"] = _changed(texts["test_items"], 10, instrument_id="xc-h77-01", report_type="cma")
    answer = officer.post("/registry/import", texts | {"dry_run": True})
    assert answer.status_code == 200, answer.text
    found = {(each["file"], each["line"], each["column"]): each for each in answer.json()["findings"]}
    assert set(found) == {
        ("hosts", 3, "latitude"),
        ("labs", 4, "host_id"),
        ("labs", 5, "longitude"),
        ("instruments", 2, "power_rated_w"),
        ("instruments", 2, "open_hours"),
        ("instruments", 2, "share_mode"),
        ("instruments", 7, "code"),
        ("instruments", 9, ""),
        ("test_items", 10, "instrument_id"),
    }
    hours = found["instruments", 2, "open_hours"]
    assert hours["value"] == "1-5 8:30-17"
    assert "08:30-17:30" in hours["zh"]
    assert "08:30-17:30" in hours["en"]
    before = _events(sqlite_county)
    refused = officer.post("/registry/import", texts)
    assert (refused.status_code, refused.json()["code"]) == (422, "import_refused")
    assert refused.json()["facts"]["findings"] == answer.json()["findings"]
    assert _events(sqlite_county) == before
    with sqlite_county.parts.database.read() as session:
        assert session.scalar(select(func.count()).where(Lab.name_zh == "改名")) == 0


@pytest.mark.parametrize(
    ("text", "line", "column", "code"),
    [
        ("", 1, "host_id", "column_missing"),
        ("lab_id,host_id,name_zh,colour\nl1,h01,x,red\n", 1, "colour", "unknown_column"),
        ("lab_id,host_id,name_zh,name_zh\n", 1, "name_zh", "column_twice"),
        ("lab_id,host_id,name_zh\nl1,h01,a,b\n", 2, "", "too_many_cells"),
        ('lab_id,host_id,name_zh\nl1,h01,"a\n', 2, "", "not_csv"),
        ("lab_id,host_id,name_zh\n\nl1,h01,\n", 3, "name_zh", "string_too_short"),
        ('lab_id,host_id,name_zh\nl1,h01,"two\nlines"\nL 2,h01,x\n', 4, "lab_id", "string_pattern_mismatch"),
    ],
)
def test_a_file_that_is_not_such_a_table_says_where(text: str, line: int, column: str, code: str) -> None:
    _, findings = read_table("labs", text)
    assert (line, column, code) in {(each.line, each.column, each.code) for each in findings}


def test_a_lab_manager_imports_the_own_hosts_rows_only(sqlite_county: ApiClient) -> None:
    manager = sqlite_county.signed_in(Role.LAB_MANAGER, host_id="h01")
    labs = _export(manager)["labs"]
    mine = manager.post("/registry/import", {"labs": _changed(labs, 2, address="示例路 2 号")})
    assert mine.status_code == 200, mine.text
    others = manager.post("/registry/import", {"labs": _changed(labs, 60, address="示例路 2 号")})
    assert [each["code"] for each in others.json()["facts"]["findings"]] == ["forbidden"]
    assert sqlite_county.signed_in(Role.SME).post("/registry/import", {"labs": labs}).status_code == 403


def test_the_commands_write_and_read_the_same_files(
    sqlite_county: ApiClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    from api.commands import run

    monkeypatch.setenv("OPENLAB_DATABASE_URL", sqlite_county.parts.database.engine.url.render_as_string(False))
    sqlite_county.signed_in(Role.COUNTY_OFFICER, login="officer-x")

    def openlab(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["openlab", "registry", *words])
        return run(), capsys.readouterr().out

    folder = str(tmp_path / "registry")
    assert openlab("export", folder)[0] == 0
    code, out = openlab("import", folder, "--as", "officer-x", "--json")
    assert (code, json.loads(out)["counts"]["instruments"]["same"]) == (0, 82)
    labs = Path(folder) / "labs.csv"
    labs.write_bytes(_changed(labs.read_bytes().decode(), 3, host_id="h99").encode())
    code, out = openlab("import", folder, "--as", "officer-x", "--dry-run")
    assert code == 1
    assert "labs.csv:3 host_id" in out
    assert "h99" in out
