"""A reward export as CSV that a spreadsheet opens as it is, and back. Pure.

UTF-8 with a byte order mark (or Excel shows Chinese as rubbish) and CRLF line ends (RFC 4180; what spreadsheets write).
A block of facts, then the totals, instruments and lines, each under a title row (api.exports.cells).
A text cell that a spreadsheet would run as a formula (it begins with = + - @, a tab or a line break) or turn into a
number or date (18-digit codes lose their end) gets an apostrophe in front; one that begins with an apostrophe gets a
second one. Reading takes it off again. The content hash is over the rows (api.exports.rows), so re-saving in a
spreadsheet does not break it; every cell is checked when it is read, also those that are not hashed themselves.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields

from api.exports.cells import (
    HASH_TITLE,
    HEADING,
    INSTRUMENTS,
    LINES,
    TOTALS,
    VERIFY_TITLE,
    VERIFY_WITH,
    WITH_INSTRUMENTS,
    BadExport,
    CellReader,
    cells_of,
    header,
    parted,
    require_said,
    template_of,
    title,
)
from api.exports.rows import InstrumentRow, LineRow, Row, TotalRow, content_sha256

__all__ = ["VERIFY_WITH", "BadExport", "parse_export", "protect", "unprotect", "write_csv"]

BOM = "\ufeff"
_FORMULA_STARTS = tuple("=+-@\uff1d\uff0b\uff0d\uff20\t\r\n'")
_LOOKS_LIKE_A_NUMBER = re.compile(r"[\d.,:/+\-\seE%]*\d[\d.,:/+\-\seE%]*\Z")


def write_csv(rows: Sequence[Row]) -> bytes:
    """Return the file: one RunRow first, then totals, then lines, as `reward_rows` gives them."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\r\n")
    run, totals, instruments, lines = parted(rows)
    out.writerow([HEADING, template_of(rows)])
    for field in fields(run):
        out.writerow([title(field.name), *cells_of(run, protect, [field.name])])
    out.writerow([HASH_TITLE, content_sha256(rows)])
    out.writerow([VERIFY_TITLE, VERIFY_WITH])
    tables = ((TOTALS, TotalRow, totals), (INSTRUMENTS, InstrumentRow, instruments), (LINES, LineRow, lines))
    for heading, kind, some in tables:
        if kind is InstrumentRow and not some:
            continue
        out.writerow([])
        out.writerow([heading, str(len(some))])
        out.writerow(header(kind))
        out.writerows(cells_of(row, protect) for row in some)
    return (BOM + text.getvalue()).encode()


def parse_export(data: bytes) -> list[Row]:
    """Return the canonical rows of a file. Raises BadExport where a cell is not what it must be, or where the rows do
    not have the content hash that the file names."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadExport(f"the file is not UTF-8: {error}") from None
    reader = CellReader(_numbered(text), protect, unprotect)
    run, named_hash = reader.head()
    rows: list[Row] = [run]
    reader.take(0)
    rows += reader.section(TOTALS, TotalRow)
    if reader.template == WITH_INSTRUMENTS:
        reader.take(0)
        rows += reader.section(INSTRUMENTS, InstrumentRow)
    reader.take(0)
    rows += reader.section(LINES, LineRow)
    reader.end()
    require_said(rows, reader.template, named_hash)
    return rows


def protect(text: str) -> str:
    """Return a text cell that every spreadsheet shows as the text it is."""
    # Some spreadsheets cut blanks off before they look at a cell.
    if text.startswith(_FORMULA_STARTS) or text.lstrip().startswith(_FORMULA_STARTS):
        return "'" + text
    if _LOOKS_LIKE_A_NUMBER.match(text):
        return "'" + text
    return text


def unprotect(cell: str) -> str:
    """Return the text that `protect` was given."""
    return cell.removeprefix("'")


def _numbered(text: str) -> Iterator[tuple[str, list[str]]]:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise BadExport(f"row {rows.line_num}: {error}") from None
        yield f"row {rows.line_num}", row
