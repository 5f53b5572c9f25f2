"""The CSV file: what goes in comes out, spreadsheets run nothing in it, and no cell can be changed unnoticed."""

import csv
import io
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.exports.csv_file import BadExport, parse_export, protect, unprotect, write_csv
from api.exports.rows import DRAFT, FINAL, InstrumentRow, LineRow, Row, RunRow, TotalRow, content_sha256

RUN = RunRow(
    status=FINAL,
    run_id="01JD5W6ZQ4T8M0V2X3Y4Z5A6B7",
    policy_id="FLAT10",
    policy_version=1,
    policy_sha256="a" * 64,
    period="2026-03",
    run_no=1,
    engine_version="1",
    watermark="2026-04-10T12:00:00.000+08:00",
    charge_count=1,
    base_fen=60_000,
    payable_fen=6_000,
    input_sha256="1" * 64,
    result_sha256="c" * 64,
)
TOTAL = TotalRow(
    host_id="h01",
    uscc="913306240000000123",
    name_zh="示例,单位",
    name_en='=HYPERLINK("http://x")',
    base_fen=60_000,
    grade="",
    coefficient_bp=10_000,
    reward_fen=6_000,
    granted_before_fen=0,
    carried_in_fen=-5,
    payable_fen=5_995,
    carried_out_fen=0,
)
LINE = LineRow(
    charge_id="01JD5W6ZQ4T8M0V2X3Y4Z5A6B8",
    host_id="h01",
    payer_org="o-sme001",
    instrument_id="xc-h01-01",
    service_month=202603,
    posting_month=202604,
    amount_fen=60_000,
    eligible_fen=60_000,
    reason="eligible",
)
INSTRUMENT = InstrumentRow(
    host_id="h01",
    instrument_id="xc-h01-01",
    charge_count=2,
    counted_count=1,
    eligible_fen=60_000,
    cap_yuan="5000.00",
    metered_s=5_400,
)
ROWS: list[Row] = [RUN, TOTAL, INSTRUMENT, LINE]
WITHOUT: list[Row] = [RUN, TOTAL, LINE]
"""What an export was before it had instruments."""

texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.sampled_from("=+-@\t\r\n'\",;0123456789 ")
)
# Beyond what a database holds, so that no number is special.
numbers = st.integers(-(10**18), 10**18) | st.sampled_from([0, -1, 99, 100, -100])


def rows_of(kind: type) -> st.SearchStrategy:
    return st.builds(kind, **{name: numbers if cls is int else texts for name, cls in kind.__annotations__.items()})


@settings(max_examples=200, deadline=None)
@given(rows_of(RunRow), *(st.lists(rows_of(kind), max_size=4) for kind in (TotalRow, InstrumentRow, LineRow)))
def test_every_export_reads_back_to_the_rows_it_was_made_of(
    run: RunRow, totals: list[Row], instruments: list[Row], lines: list[Row]
) -> None:
    rows = [run, *totals, *instruments, *lines]
    assert parse_export(write_csv(rows)) == rows


@settings(max_examples=300, deadline=None)
@given(texts)
def test_no_text_begins_as_a_formula_or_is_taken_for_a_number(text: str) -> None:
    cell = protect(text)
    assert unprotect(cell) == text
    assert not cell.lstrip().startswith(tuple("=+-@\uff1d\uff0b\uff0d\uff20"))
    assert not cell.startswith(("\t", "\r", "\n"))
    if cell.strip() and "_" not in cell and not cell.strip().isalpha():  # 1_000 and nan are numbers to Python only
        for taken_for_a_number in (float, int):
            with pytest.raises(ValueError):
                taken_for_a_number(cell)


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+86", "'+86"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("'quoted", "''quoted"),
        ("913306240000000123", "'913306240000000123"),
        ("2026-03", "'2026-03"),
        ("1E5", "'1E5"),
        ("新和成", "新和成"),
        ("01JD5W6ZQ4T8M0V2X3Y4Z5A6B7", "01JD5W6ZQ4T8M0V2X3Y4Z5A6B7"),
        ("", ""),
    ],
)
def test_what_a_spreadsheet_would_change_gets_an_apostrophe(text: str, cell: str) -> None:
    assert protect(text) == cell


def test_the_file_has_a_byte_order_mark_crlf_and_says_how_to_verify_it() -> None:
    data = write_csv(ROWS)
    assert data.startswith(b"\xef\xbb\xbf")
    assert data.count(b"\n") == data.count(b"\r\n")
    cells = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    named = {row[0].split(" ")[0]: row[1] for row in cells[:17] if len(row) > 1}
    assert named["run_id"] == RUN.run_id
    assert (named["policy_id"], named["policy_version"], named["period"]) == ("FLAT10", "1", "'2026-03")
    assert named["watermark"] == RUN.watermark
    assert named["content_sha256"] == content_sha256(ROWS)
    assert named["verify"] == "openlab verify export FILE"
    assert [cell for row in cells for cell in row if "HYPERLINK" in cell] == ['\'=HYPERLINK("http://x")']
    assert any("600.00" in row and "-0.05" in row for row in cells)


def test_a_draft_has_another_content_hash_than_the_final_run() -> None:
    assert content_sha256([RUN.as_draft(), *ROWS[1:]]) != content_sha256(ROWS)
    assert RUN.as_draft() == replace(RUN, status=DRAFT)


def test_every_cell_that_is_changed_is_noticed() -> None:
    cells = list(csv.reader(io.StringIO(write_csv(ROWS).decode("utf-8-sig"), newline="")))
    seen = 0
    for r, row in enumerate(cells):
        for c, cell in enumerate(row):
            changed = [list(one) for one in cells]
            changed[r][c] = cell[:-1] + ("1" if cell.endswith("0") else "0") if cell else "x"
            with pytest.raises(BadExport):
                parse_export(as_file(changed))
            seen += 1
    assert seen > 70


def test_every_byte_that_is_changed_is_noticed_or_changes_nothing_that_is_said() -> None:
    data = write_csv(ROWS)
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1
        try:
            assert parse_export(bytes(changed)) == ROWS
        except BadExport:
            continue


def test_a_file_that_a_spreadsheet_saved_again_still_verifies() -> None:
    """Other quoting and line ends, no byte order mark, rows filled up with empty cells, zeros dropped from amounts."""
    cells = list(csv.reader(io.StringIO(write_csv(ROWS).decode("utf-8-sig"), newline="")))
    width = max(len(row) for row in cells)
    saved = io.StringIO()
    out = csv.writer(saved, quoting=csv.QUOTE_ALL, lineterminator="\n")
    dropped = [[cell if cell.startswith("'") else cell.removesuffix(".00") for cell in row] for row in cells]
    out.writerows(row + [""] * (width - len(row)) for row in dropped)
    out.writerow([""] * width)
    assert parse_export(saved.getvalue().encode()) == ROWS


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xfe", b"hello", b'"', write_csv(ROWS)[:-40], write_csv(ROWS) + b"more,cells\r\n"],
    ids=["empty", "binary", "words", "quote", "cut", "longer"],
)
def test_what_is_no_export_is_refused_with_the_row(data: bytes) -> None:
    with pytest.raises(BadExport):
        parse_export(data)


def test_rows_in_another_order_are_not_written() -> None:
    with pytest.raises(TypeError):
        write_csv([TOTAL, RUN])
    with pytest.raises(TypeError):
        write_csv([RUN, LINE, TOTAL])
    with pytest.raises(TypeError):
        write_csv([RUN, INSTRUMENT, TOTAL, LINE])


def as_file(cells: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(cells)
    return text.getvalue().encode()
