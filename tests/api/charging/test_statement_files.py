"""A statement as a file: the same cells in both forms, equal bytes for equal content, and no formula gets through."""

import csv
import io
import zipfile
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from api.charging.months import close_month
from api.charging.statement_files import (
    StatementTable,
    protect,
    statement_csv,
    statement_table,
    statement_xlsx,
)
from api.charging.statements import finalize_statement, prepare_statement
from store.tables.charging import Statement
from store.tables.registry import Org
from tests.api.charging.building import FINANCE, FIRM, HOST, INSTRUMENT, MANAGER, MINUTE, County
from tests.support.usage import NINE

MONTH = 202603


def table_of(county: County, month: int = MONTH) -> StatementTable:
    draft = county.do(prepare_statement, HOST, FIRM, month, who=MANAGER)
    final = county.do(finalize_statement, draft.statement_id, who=MANAGER)
    with county.database.read() as session:
        return statement_table(session, session.get_one(Statement, final.statement_id))


def read_csv(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))


def test_the_file_says_whose_statement_it_is_and_every_line_of_every_charge(county):
    county.charged(80)
    rows = read_csv(statement_csv(table_of(county)))
    facts = {row[0].split(" ")[-1]: row[1] for row in rows if len(row) == 2}
    assert (facts["number"], facts["yuan"]) == ("H01-2026-0001", "600.00")
    assert facts["with"] == "openlab verify statement H01-2026-0001"
    [line] = rows[rows.index([]) + 2 :]
    assert line[3] == INSTRUMENT.upper()
    assert (line[7], line[12], line[13]) == ("time", "60000", "600.00")


def test_equal_content_gives_equal_bytes_in_both_forms(county):
    county.charged(80)
    table = table_of(county)
    assert statement_csv(table) == statement_csv(table)
    first = statement_xlsx(table)
    assert first == statement_xlsx(table)
    with zipfile.ZipFile(io.BytesIO(first)) as book:
        assert {info.date_time for info in book.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert b"2000-01-01T00:00:00Z" in book.read("docProps/core.xml")


def test_identifiers_are_text_and_amounts_are_numbers_in_a_workbook(county):
    county.charged(80)
    with zipfile.ZipFile(io.BytesIO(statement_xlsx(table_of(county)))) as book:
        sheet = book.read("xl/worksheets/sheet1.xml").decode()
        strings = book.read("xl/sharedStrings.xml").decode()
    assert "91990000SME0000000" in strings
    assert "<v>60000</v>" in sheet
    assert "<f>" not in sheet


def test_a_name_that_looks_like_a_formula_is_only_a_name(county):
    county.charged(80)
    with county.database.write() as session:
        session.get_one(Org, FIRM).name_zh = "=cmd|' /C calc'!A0"
    table = table_of(county)
    assert "'=cmd" in statement_csv(table).decode()
    with zipfile.ZipFile(io.BytesIO(statement_xlsx(table))) as book:
        assert "'=cmd" in book.read("xl/sharedStrings.xml").decode().replace("&apos;", "'")


@given(st.text())
def test_no_protected_text_begins_like_a_formula_unless_it_is_an_amount(text):
    shown = protect(text)
    assert shown.removeprefix("'") == text.removeprefix("'") or shown == "'" + text
    if shown[:1] in {"=", "+", "@", "\t", "\r", "\n"}:
        raise AssertionError(shown)
    assert not shown.startswith("-") or shown[1:].replace(".", "", 1).isdigit()


def test_what_came_after_the_close_is_marked_late(county):
    booking_id = county.book(NINE)
    county.use(booking_id, 30)
    county.charge(booking_id)
    table_of(county)
    county.do(close_month, HOST, MONTH, who=FINANCE, now=county.now + timedelta(days=31))
    late = county.book(NINE + 300 * MINUTE)
    county.use(late, 30, NINE + 300 * MINUTE)
    county.charge(late)
    [line] = table_of(county, 202604).lines
    assert (line[5], line[6]) == ("202603", "逾期入账 late")
