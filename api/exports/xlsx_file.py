"""A reward export as a workbook: totals with a block to sign, what counts of each instrument, lines that count, lines
that do not and why. And back.

Identifiers are text cells (a spreadsheet keeps 15 digits of a number); fen are whole numbers and yuan numbers with two
decimals, so that they can be added up. A text that begins like a formula gets an apostrophe in front, as in the CSV:
here it could not run, but it must not either when a sheet is saved as one. Nothing in the file depends on the day it is
written, so equal rows give equal bytes. A sheet takes a million lines; more go on in further sheets.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import xlsxwriter

from api.exports.cells import (
    HASH_TITLE,
    HEADING,
    INSTRUMENTS,
    LINES,
    TOTALS,
    VERIFY_TITLE,
    VERIFY_WITH,
    CellReader,
    Table,
    header,
    is_money,
    parted,
    require_said,
    template_of,
    title,
)
from api.exports.reasons import sentence
from api.exports.rows import InstrumentRow, LineRow, Row, TotalRow, content_sha256, values
from api.exports.xlsx_reader import read_sheets
from api.rewards.rules import Reason
from store.money import yuan

EXCLUDED = "excluded 不计入"
SIGNATURES = "signatures 签字"
SIGN_HERE = ("prepared by 编制", "checked by 复核", "approved by 批准", "paid by 财务拨付")
WHY = ("reason_zh 说明", "reason_en")
ROWS_A_SHEET = 1_000_000
_FORMULA_STARTS = tuple("=+-@\uff1d\uff0b\uff0d\uff20\t\r\n'")
_FIXED = datetime(2000, 1, 1)  # noqa: DTZ001 - the workbook's property has no zone
_OPTIONS = {
    "constant_memory": True,
    "strings_to_formulas": False,
    "strings_to_urls": False,
    "strings_to_numbers": False,
}
_EXACT = 10**15
"""Below this a number cell holds every whole number (and every amount in yuan) as it is."""
_CELL_AT_MOST = 32_767


def write_xlsx(rows: Sequence[Row]) -> bytes:
    """Return the workbook: one RunRow first, then totals, instruments and lines, as `reward_rows` gives them.

    Raises ValueError for a text longer than a cell can hold.
    """
    run, totals, instruments, lines = parted(rows)
    data = io.BytesIO()
    book = xlsxwriter.Workbook(data, _OPTIONS)
    book.set_properties({"title": "OpenLab reward export", "author": "OpenLab", "created": _FIXED})
    sheet = _Sheet(book, "totals")
    sheet.write([HEADING, template_of(rows)], bold=True)
    for field in fields(run):
        sheet.write([title(field.name), *_typed(run, field.name)])
    sheet.write([HASH_TITLE, content_sha256(rows)])
    sheet.write([VERIFY_TITLE, VERIFY_WITH])
    sheet.write([])
    sheet.table(TOTALS, TotalRow, totals)
    sheet.write([])
    sheet.write([SIGNATURES], bold=True)
    for who in SIGN_HERE:
        sheet.write([who, "", "date 日期", ""])
    if instruments:
        _Sheet(book, "instruments").table(INSTRUMENTS, InstrumentRow, instruments)
    counted = [line for line in lines if line.reason == Reason.ELIGIBLE]
    others = [line for line in lines if line.reason != Reason.ELIGIBLE]
    for name, heading, some, more in (("lines", LINES, counted, ()), ("excluded", EXCLUDED, others, WHY)):
        for number, part in enumerate(_parts(some), start=1):
            _Sheet(book, name if number == 1 else f"{name} {number}").table(heading, LineRow, part, more)
    book.close()
    return data.getvalue()


def parse_xlsx(data: bytes) -> list[Row]:
    """Return the canonical rows of a workbook, also of one that a spreadsheet saved again. Raises BadExport where a
    cell is not what it must be, or where the rows do not have the content hash that the file names."""
    sheets = read_sheets(data)
    names = [sheet.name for sheet in sheets]
    first = CellReader(iter(sheets[0].rows()), protect, unprotect)
    run, named_hash = first.head()
    first.take(0)
    totals = list(first.section(TOTALS, TotalRow))
    first.take(0)
    first.expect([SIGNATURES])
    for who in SIGN_HERE:
        # What people wrote into the block is theirs.
        first.require(first.take(4)[0] == who, f"{first.row} should be {who!r}")
    first.end()
    instruments: list[Row] = []
    lines: list[Row] = []
    for name, sheet in zip(names[1:], sheets[1:], strict=True):
        kind = name.split(" ")[0]
        reader = CellReader(iter(sheet.rows()), protect, unprotect)
        reader.require(kind in ("instruments", "lines", "excluded"), f"the sheet {name!r} is none of an export")
        if kind == "instruments":
            instruments += reader.section(INSTRUMENTS, InstrumentRow)
            some = []
        elif kind == "lines":
            some = list(reader.section(LINES, LineRow))
        else:
            some = list(reader.section(EXCLUDED, LineRow, lambda given: sentence(given["reason"]), WHY))
        reader.end()
        lines += some
    lines.sort(key=lambda row: row.charge_id if isinstance(row, LineRow) else "")
    rows: list[Row] = [run, *totals, *instruments, *lines]
    require_said(rows, first.template, named_hash)
    return rows


def protect(text: str) -> str:
    """Return a text that is none of a formula's beginnings, wherever it is pasted."""
    return "'" + text if text.startswith(_FORMULA_STARTS) or text.lstrip().startswith(_FORMULA_STARTS) else text


def unprotect(cell: str) -> str:
    """Return the text that `protect` was given."""
    return cell.removeprefix("'")


def _parts(lines: Sequence[LineRow]) -> Iterator[Sequence[LineRow]]:
    """The lines of each sheet; one sheet at least."""
    for start in range(0, max(1, len(lines)), ROWS_A_SHEET):
        yield lines[start : start + ROWS_A_SHEET]


@dataclass(frozen=True)
class _Yuan:
    """An amount that is shown in yuan."""

    fen: int


_Cell = str | int | _Yuan


def _typed(row: Row, name: str = "") -> list[_Cell]:
    """The cells of a row (of one field of it), each as what it is."""
    cells: list[_Cell] = []
    for field, value in zip(fields(row), values(row), strict=True):
        if name in ("", field.name):
            cells.append(protect(value) if isinstance(value, str) else value)
            if is_money(field.name) and isinstance(value, int):
                cells.append(_Yuan(value))
    return cells


class _Sheet:
    """A sheet that is written row by row."""

    def __init__(self, book: Any, name: str) -> None:
        self._sheet, self._at = book.add_worksheet(name), 0
        self._text, self._bold = (
            book.add_format({"num_format": "@"}),
            book.add_format({"num_format": "@", "bold": True}),
        )
        self._whole, self._yuan = book.add_format({"num_format": "0"}), book.add_format({"num_format": "#,##0.00"})
        self._sheet.set_column(0, 2 * len(fields(TotalRow)), 20)

    def table(
        self, heading: str, kind: Table, rows: Sequence[TotalRow | InstrumentRow | LineRow], more: Sequence[str] = ()
    ) -> None:
        """Write a title with a count, the header and the rows."""
        self.write([heading, str(len(rows))], bold=True)
        self.write([*header(kind), *more], bold=True)
        for row in rows:
            self.write([*_typed(row), *(sentence(row.reason) if more and isinstance(row, LineRow) else ())])

    def write(self, cells: Sequence[_Cell], *, bold: bool = False) -> None:
        """Write a row."""
        for column, cell in enumerate(cells):
            if isinstance(cell, str):
                if len(cell) > _CELL_AT_MOST:
                    raise ValueError(f"a text of {len(cell)} characters does not fit into a cell")
                self._sheet.write_string(self._at, column, cell, self._bold if bold else self._text)
            elif isinstance(cell, _Yuan):
                self._number(column, cell.fen / 100, yuan(cell.fen), self._yuan)
            else:
                self._number(column, cell, str(cell), self._whole)
        self._at += 1

    def _number(self, column: int, number: float, text: str, style: Any) -> None:
        if abs(number) < _EXACT // 100:
            self._sheet.write_number(self._at, column, number, style)
        else:
            self._sheet.write_string(self._at, column, text, self._text)
