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
            "certificates": 82,
            "special_days": body["counts"]["special_days"]["same"],
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


CERTIFICATE = "instrument_id,kind,number,body,valid_from,valid_to\r\n"
DAY = "host_id,day,like_weekday,name_zh,name_en\r\n"


def _import(client: ApiClient, dry_run: bool = False, **files: str):
    return client.post("/registry/import", files | {"dry_run": dry_run})


def _codes(answer) -> list[tuple[int, str, str]]:
    found = answer.json().get("findings") or answer.json()["facts"]["findings"]
    return [(each["line"], each["column"], each["code"]) for each in found]


def test_certificates_are_imported_once_and_never_edited(county: ApiClient) -> None:
    manager = county.signed_in(Role.LAB_MANAGER, host_id="h01")
    row = "xc-h01-03,calibration,C-77,示例机构,2026-01-01T00:00:00+08:00,2027-01-01T00:00:00+08:00\r\n"
    assert _import(manager, True, certificates=CERTIFICATE + row).json()["counts"]["certificates"]["new"] == 1
    assert _import(manager, certificates=CERTIFICATE + row).json()["imported"]
    before = _events(county)
    again = _import(manager, certificates=CERTIFICATE + row.replace("+08:00", "+08:00")).json()
    assert again["counts"]["certificates"] == {"new": 0, "changed": 0, "same": 1}
    assert _events(county) == before
    edited = _import(manager, certificates=CERTIFICATE + row.replace("示例机构", "别的机构"))
    assert (edited.status_code, _codes(edited)) == (422, [(2, "number", "certificate_differs")])
    listed = manager.get("/instruments/xc-h01-03/certificates").json()["items"]
    [mine] = [each for each in listed if each["number"] == "C-77"]
    assert manager.post(f"/certificates/{mine['certificate_id']}/withdrawal", {"reason": "误录"}).status_code == 201
    assert "C-77" not in manager.get("/registry/export/certificates").text
    assert _codes(_import(manager, certificates=CERTIFICATE + row)) == [(2, "number", "certificate_withdrawn")]


def test_a_dry_run_names_every_bad_cell_of_certificates_and_special_days(sqlite_county: ApiClient) -> None:
    manager = sqlite_county.signed_in(Role.LAB_MANAGER, host_id="h01")
    when = "2026-01-01T00:00:00+08:00,2027-01-01T00:00:00+08:00"
    papers = [
        f"xc-h02-01,calibration,C-1,x,{when}",
        f"xc-h99-01,calibration,C-1,x,{when}",
        f"xc-h01-03,guessed,C-1,x,{when}",
        "xc-h01-03,calibration,C-2,x,2026-01-01,2027-01-01T00:00:00",
        "xc-h01-03,calibration,C-3,x,2026-01-01T00:00:00+08:00,2025-01-01T00:00:00+08:00",
        "xc-h01-03,calibration,C-4,x,2026-01-01T00:00:00+08:00,9999-12-31T00:00:00+08:00",
        f"xc-h01-03,calibration,C-5,x,{when}",
        f"xc-h01-03,calibration,C-5,x,{when}",
    ]
    days = [",2026-05-01,,劳动节,", "h02,2026-05-01,,劳动节,", "h01,2026-05-32,,劳动节,", "h01,2026-05-02,9,劳动节,"]
    files = {"certificates": CERTIFICATE + "\r\n".join(papers), "special_days": DAY + "\r\n".join(days)}
    answer = _import(manager, True, **files)
    assert answer.status_code == 200, answer.text
    assert _codes(answer) == [
        (2, "instrument_id", "forbidden"),
        (3, "instrument_id", "not_found"),
        (4, "kind", "enum"),
        (5, "valid_from", "timezone_aware"),
        (5, "valid_to", "timezone_aware"),
        (6, "valid_to", "validity_reversed"),
        (7, "valid_to", "value_error"),
        (9, "number", "row_twice"),
        (2, "host_id", "forbidden"),
        (3, "host_id", "forbidden"),
        (4, "day", "date_from_datetime_parsing"),
        (5, "like_weekday", "less_than_equal"),
    ]
    assert all(each["zh"] and each["en"] for each in answer.json()["findings"])


def test_special_days_are_imported_exported_and_replaced(sqlite_county: ApiClient) -> None:
    officer = sqlite_county.signed_in(Role.COUNTY_OFFICER)
    rows = ",2026-05-01,,劳动节,Labour Day\r\nh01,2026-05-09,5,调休,\r\n"
    counts = _import(officer, special_days=DAY + rows).json()["counts"]["special_days"]
    assert counts == {"new": 2, "changed": 0, "same": 0}
    exported = officer.get("/registry/export/special_days").text
    assert _import(officer, special_days=exported).json()["counts"]["special_days"]["changed"] == 0
    counts = _import(officer, special_days=exported.replace("2026-05-09,5", "2026-05-09,1")).json()["counts"]
    assert counts["special_days"]["changed"] == 1
    listed = officer.get("/special-days", params={"host": "h01", "limit": 200}).json()["items"]
    assert [each["like_weekday"] for each in listed if each["day"] == "2026-05-09"] == [1]
