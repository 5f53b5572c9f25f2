"""CSV, XLSX and JSON of one run: the same rows and content hash, equal bytes on repeat, no cell changed unseen."""

import io
import json
import zipfile
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.exports.cells import BadExport
from api.exports.files import FORMATS, format_of, parse_any
from api.exports.json_file import parse_json, write_json
from api.exports.reasons import FIRST, SENTENCES
from api.exports.rows import InstrumentRow, LineRow, Row, RunRow, TotalRow, content_hashes, content_sha256
from api.exports.xlsx_file import EXCLUDED, parse_xlsx, protect, unprotect, write_xlsx
from api.exports.xlsx_reader import read_sheets
from api.rewards.rules import Reason
from store.canonical import sha256_hex
from store.tables.rewards import ExportFormat
from tests.api.exports.test_csv import LINE, ROWS, RUN, TOTAL, WITHOUT, numbers, rows_of, texts

NAMESPACE = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
UNPAID = replace(LINE, charge_id="01JD5W6ZQ4T8M0V2X3Y4Z5A6B9", eligible_fen=0, reason="unpaid")
ALL: list[Row] = [*ROWS, UNPAID]
reasons = st.sampled_from([str(reason) for reason in Reason])
lines_of_people = st.builds(replace, st.just(LINE), charge_id=texts, reason=reasons)
some_lines = st.lists(rows_of(LineRow) | lines_of_people, max_size=4, unique_by=lambda line: line.charge_id)
a_run = st.tuples(
    rows_of(RunRow),
    st.lists(rows_of(TotalRow), max_size=3),
    st.lists(rows_of(InstrumentRow), max_size=3),
    some_lines.map(lambda lines: sorted(lines, key=lambda line: line.charge_id)),
)


@settings(max_examples=30, deadline=None)
@given(a_run)
def test_all_formats_read_back_to_the_same_rows(run: tuple[RunRow, list[Row], list[Row], list[Row]]) -> None:
    rows: list[Row] = [run[0], *run[1], *run[2], *run[3]]
    for name, file_format in FORMATS.items():
        data = file_format.write(rows)
        assert format_of(data) is name
        assert parse_any(data) == rows
        assert content_sha256(parse_any(data)) == content_sha256(rows)


@pytest.mark.parametrize("name", list(ExportFormat))
def test_equal_rows_give_equal_bytes_and_every_file_says_how_to_verify_it(name: ExportFormat) -> None:
    data = FORMATS[name].write(ALL)
    assert FORMATS[name].write(list(ALL)) == data
    text = " ".join(_texts(data)) if name is ExportFormat.XLSX else data.decode()
    for said in ("openlab verify export FILE", RUN.run_id, RUN.policy_id, RUN.watermark, content_sha256(ALL)):
        assert said in text


def test_a_file_without_instruments_is_what_it_was_before_they_were_written() -> None:
    kept = {
        ExportFormat.CSV: "7ddfcf81fbc6cb08ee8b8f58ac185f9695fd84c6e108e54333ee07d89fad3cc2",
        ExportFormat.JSON: "399a1628c8ed905f910a7288e6ba3f5f10596e8f14e1c19983dc4fb47ff4ff60",
    }
    assert {name: sha256_hex(FORMATS[name].write(WITHOUT)) for name in kept} == kept
    assert parse_xlsx(write_xlsx(WITHOUT)) == WITHOUT
    draft = RUN.as_draft()
    possible = {content_sha256(rows) for rows in (ROWS, WITHOUT, [draft, *ROWS[1:]], [draft, *WITHOUT[1:]])}
    assert content_hashes(ROWS) == possible
    assert len(possible) == 4
    for name in FORMATS:
        renamed = {b"reward-export/2": b"reward-export/1", b"reward-export/1": b"reward-export/2"}
        for rows, (said, other) in zip((ROWS, WITHOUT), renamed.items(), strict=True):
            if name is not ExportFormat.XLSX:  # of a workbook every cell is changed below
                with pytest.raises(BadExport):
                    parse_any(FORMATS[name].write(rows).replace(said, other))


def test_the_workbook_has_totals_a_block_to_sign_lines_and_reasons() -> None:
    sheets = {sheet.name: [cells for _, cells in sheet.rows()] for sheet in read_sheets(write_xlsx(ALL))}
    assert list(sheets) == ["totals", "instruments", "lines", "excluded"]
    first = [row[0] for row in sheets["totals"]]
    assert [cell for cell in first if cell.endswith(("编制", "复核", "批准", "财务拨付"))] == [
        "prepared by 编制",
        "checked by 复核",
        "approved by 批准",
        "paid by 财务拨付",
    ]
    [instrument] = sheets["instruments"][2:]
    assert [cell for cell in instrument if cell] == ["h01", "xc-h01-01", "2", "1", "60000", "600", "5000.00", "5400"]
    assert [row[0] for row in sheets["lines"][2:]] == [LINE.charge_id]
    assert sheets["excluded"][0][:2] == [EXCLUDED, "1"]
    [excluded] = sheets["excluded"][2:]
    assert excluded[0] == UNPAID.charge_id
    assert list(SENTENCES[Reason.UNPAID]) == [cell for cell in excluded if cell][-2:]


def test_json_explains_a_later_reason_only_where_a_line_has_it() -> None:
    assert list(json.loads(write_json(ALL))["reasons"]) == list(FIRST)
    capped = replace(UNPAID, charge_id=UNPAID.charge_id + "A", reason=str(Reason.INSTRUMENT_CAP))
    data = write_json([*ALL, capped])
    assert list(json.loads(data)["reasons"]) == [*FIRST, "instrument_cap"]
    assert parse_json(data) == [*ALL, capped]
    with pytest.raises(BadExport, match="reasons"):
        parse_json(data.replace(b'"reason": "instrument_cap"', b'"reason": "unpaid"'))


def test_identifiers_are_texts_and_amounts_are_numbers_in_the_workbook() -> None:
    kinds = dict(_cells(write_xlsx(ALL)))
    assert kinds[TOTAL.uscc] in ("inlineStr", "s")
    assert kinds[LINE.charge_id] in ("inlineStr", "s")
    assert (kinds["60000"], kinds["600"]) == ("n", "n")
    assert "'" + TOTAL.name_en in kinds


def test_every_reason_has_a_sentence_in_both_languages() -> None:
    assert set(SENTENCES) == set(Reason) - {Reason.ELIGIBLE}
    assert all(zh and en for zh, en in SENTENCES.values())


@settings(max_examples=200, deadline=None)
@given(texts)
def test_no_text_of_a_workbook_begins_as_a_formula(text: str) -> None:
    assert unprotect(protect(text)) == text
    assert not protect(text).lstrip().startswith(tuple("=+-@\uff1d\uff0b\uff0d\uff20"))


def test_every_cell_of_a_workbook_that_is_changed_is_noticed() -> None:
    data = write_xlsx(ALL)
    seen = 0
    for part in _sheet_parts(data):
        for number in range(len(_elements(data, part))):
            text = _elements(data, part)[number].text or ""
            if text in ("date 日期",) or not text:
                continue  # what people write beside their signature is theirs
            changed = text[:-1] + ("1" if text.endswith("0") else "0")
            with pytest.raises(BadExport):
                parse_xlsx(_with_text(data, part, number, changed))
            seen += 1
    assert seen > 90


def test_a_workbook_that_people_signed_still_verifies() -> None:
    data = write_xlsx(ALL)
    [part, *_] = _sheet_parts(data)
    texts_of_part = [one.text for one in _elements(data, part)]
    signed = _with_text(data, part, texts_of_part.index("date 日期"), "date 日期 2027-01-08")
    assert parse_xlsx(signed) == ALL


def test_a_formula_in_a_workbook_is_refused() -> None:
    data = write_xlsx(ALL)
    [part, *_] = _sheet_parts(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        xml = archive.read(part).replace(b"<v>60000</v>", b"<f>30000*2</f><v>60000</v>", 1)
    with pytest.raises(BadExport, match="formula"):
        parse_xlsx(_with_part(data, part, xml))


@pytest.mark.parametrize(
    "data",
    [b"PK", b"PK\x03\x04 and no more", write_xlsx(ALL)[:-300], b"{", b"{}", b'{"schema": 1}'],
    ids=["magic", "cut", "shortened", "brace", "empty object", "no export"],
)
def test_what_is_no_export_is_refused(data: bytes) -> None:
    with pytest.raises(BadExport):
        parse_any(data)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'r="2"', b'r="2x"'), (b'r="2"', b'r="99999999999"'), (b'r="2"', b'r="1"'), (b"UTF-8", b"UTF-80")],
)
def test_a_sheet_that_is_none_is_refused_in_our_words(old: bytes, new: bytes) -> None:
    data = write_xlsx(ALL)
    part = _sheet_parts(data)[0]
    with zipfile.ZipFile(io.BytesIO(data)) as book:
        content = book.read(part)
    with pytest.raises(BadExport):
        parse_xlsx(_with_part(data, part, content.replace(old, new, 1)))


def test_a_count_is_written_in_one_way() -> None:
    data = FORMATS[ExportFormat.CSV].write(ALL).decode()
    for digit in ("²", "٣", "02"):
        with pytest.raises(BadExport):
            parse_any(data.replace("lines 明细,2", f"lines 明细,{digit}").encode())


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [leaf for name, one in value.items() for leaf in _leaves(one, (*path, name))]
    if isinstance(value, list):
        return [leaf for at, one in enumerate(value) for leaf in _leaves(one, (*path, at))]
    return [path]


def test_every_value_of_a_json_file_that_is_changed_is_noticed() -> None:
    said = json.loads(write_json(ALL))
    leaves = _leaves(said)
    for path in leaves:
        for wrong in ("x", 7, 1.5, None, True):
            changed = json.loads(write_json(ALL))
            place = changed
            for step in path[:-1]:
                place = place[step]
            place[path[-1]] = wrong
            with pytest.raises(BadExport):
                parse_json(json.dumps(changed).encode())
    assert len(leaves) > 60


def test_a_field_that_stands_twice_in_json_is_refused() -> None:
    data = write_json(ALL).replace(b'"run_no": 1', b'"run_no": 2, "run_no": 1')
    with pytest.raises(BadExport, match="twice"):
        parse_json(data)


@settings(max_examples=25, deadline=None)
@given(numbers)
def test_amounts_too_large_for_a_number_cell_lose_nothing(fen: int) -> None:
    rows: list[Row] = [replace(RUN, payable_fen=fen), TOTAL]
    assert parse_xlsx(write_xlsx(rows)) == rows


def test_a_text_that_no_cell_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        write_xlsx([RUN, replace(TOTAL, name_zh="长" * 40_000)])


def _sheet_parts(data: bytes) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return sorted(name for name in archive.namelist() if name.startswith("xl/worksheets/sheet"))


def _elements(data: bytes, part: str) -> list[ElementTree.Element]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        root = ElementTree.fromstring(archive.read(part))
    return [one for one in root.iter() if one.tag in (f"{NAMESPACE}t", f"{NAMESPACE}v")]


def _cells(data: bytes) -> list[tuple[str, str]]:
    found = []
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for part in _sheet_parts(data):
            for cell in ElementTree.fromstring(archive.read(part)).iter(f"{NAMESPACE}c"):
                found.append(("".join(cell.itertext()), cell.get("t", "n")))
    return found


def _texts(data: bytes) -> list[str]:
    return [text for text, _ in _cells(data)]


def _with_text(data: bytes, part: str, number: int, text: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        root = ElementTree.fromstring(archive.read(part))
    [one for one in root.iter() if one.tag in (f"{NAMESPACE}t", f"{NAMESPACE}v")][number].text = text
    return _with_part(data, part, ElementTree.tostring(root))


def _with_part(data: bytes, part: str, content: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(made, "w") as file:
        for name in archive.namelist():
            file.writestr(name, content if name == part else archive.read(name))
    return made.getvalue()
