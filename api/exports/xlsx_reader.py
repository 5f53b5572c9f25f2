"""The cells of a workbook as texts: just so much of the format as our own workbooks use, also when a spreadsheet has
saved them again. Pure, standard library. A formula is not read: a cell that has one is refused."""

import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from xml.etree import ElementTree

from api.exports.cells import BadExport

BYTES_AT_MOST = 2 * 1024**3
"""Of one part of a workbook, unpacked; a million lines are a tenth of it."""

ROWS_AT_MOST = 1_048_576
"""What a sheet can hold."""

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_LINK = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, LookupError, ValueError, ElementTree.ParseError, NotImplementedError),
    *(EOFError, OSError, RuntimeError),
)
"""What reading an archive of others raises: damaged, cut off, encrypted, of an unknown way to pack."""
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
_ROW = re.compile(r"[0-9]{1,7}")
_REFERENCE = re.compile(r"([A-Z]{1,3})([0-9]+)")
_WIDTH = 64
"""Rows are filled up with empty cells: a spreadsheet leaves those at the end out."""


@dataclass(frozen=True)
class Sheet:
    """One sheet, read row by row."""

    name: str
    _part: bytes
    _strings: list[str]

    def rows(self) -> Iterator[tuple[str, list[str]]]:
        """Yield (place, cells) of every row, also of those that are empty. Raises BadExport."""
        last = 0
        for _, element in _parsed(self._part, self.name):
            if element.tag != f"{_MAIN}row":
                continue
            said = element.get("r", str(last + 1))
            if not _ROW.fullmatch(said) or not last < int(said) <= ROWS_AT_MOST:
                raise BadExport(f"sheet {self.name}: no row after row {last} has the number {said!r}")
            number = int(said)
            for empty in range(last + 1, number):
                yield f"sheet {self.name}, row {empty}", [""] * _WIDTH
            last = number
            yield f"sheet {self.name}, row {number}", self._cells(element, number)
            element.clear()

    def _cells(self, row: ElementTree.Element, number: int) -> list[str]:
        cells = [""] * _WIDTH
        for position, cell in enumerate(row.iter(f"{_MAIN}c")):
            found = _REFERENCE.fullmatch(cell.get("r", ""))
            column = _column(found[1]) if found else position
            if cell.find(f"{_MAIN}f") is not None:
                raise BadExport(f"sheet {self.name}, row {number}: there is a formula in it")
            if column >= _WIDTH:
                raise BadExport(f"sheet {self.name}, row {number}: {column + 1} cells are too many")
            cells[column] = self._text(cell, number)
        return cells

    def _text(self, cell: ElementTree.Element, number: int) -> str:
        kind, value = cell.get("t", "n"), cell.findtext(f"{_MAIN}v") or ""
        if kind == "inlineStr":
            return _joined(cell)
        if kind == "n" and value:
            return _number(value)
        if kind != "s":
            return _unescaped(value)
        if not _ROW.fullmatch(value) or int(value) >= len(self._strings):
            raise BadExport(f"sheet {self.name}, row {number}: no text has the number {value!r}")
        return self._strings[int(value)]


def read_sheets(data: bytes) -> list[Sheet]:
    """Return the sheets of a workbook in their order. Raises BadExport for what is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            book = ElementTree.fromstring(_part(archive, "xl/workbook.xml"))
            links = ElementTree.fromstring(_part(archive, "xl/_rels/workbook.xml.rels"))
            targets = {link.get("Id"): link.get("Target", "") for link in links}
            strings = _strings(archive)
            found = [
                Sheet(sheet.get("name", ""), _part(archive, _path(targets.get(sheet.get(_LINK), ""))), strings)
                for sheet in book.iter(f"{_MAIN}sheet")
            ]
    except _UNREADABLE as error:
        raise BadExport(f"this is no workbook that can be read: {error}") from None
    if not found:
        raise BadExport("the workbook has no sheet")
    return found


def _parsed(part: bytes, name: str) -> Iterator[tuple[str, ElementTree.Element]]:
    try:
        yield from ElementTree.iterparse(io.BytesIO(part), events=("end",))
    except (ElementTree.ParseError, LookupError) as error:  # an encoding that nobody knows
        raise BadExport(f"sheet {name}: {error}") from None


def _part(archive: zipfile.ZipFile, path: str) -> bytes:
    if archive.getinfo(path).file_size > BYTES_AT_MOST:
        raise BadExport(f"{path} is larger than any export")
    data = archive.read(path)
    if b"<!DOCTYPE" in data[:1024]:
        raise BadExport(f"{path} declares entities; no export does")
    return data


def _path(target: str) -> str:
    return target.removeprefix("/") if target.startswith("/") else f"xl/{target}"


def _strings(archive: zipfile.ZipFile) -> list[str]:
    if "xl/sharedStrings.xml" not in archive.namelist():
        return []
    return [_joined(item) for item in ElementTree.fromstring(_part(archive, "xl/sharedStrings.xml"))]


def _joined(element: ElementTree.Element) -> str:
    """The text of a cell; a spreadsheet may have cut it into runs of one format each. Phonetic hints are no text."""
    parts = [part for child in element for part in _runs(child)]
    return _unescaped("".join(parts))


def _runs(element: ElementTree.Element) -> Iterator[str]:
    if element.tag == f"{_MAIN}t":
        yield element.text or ""
    elif element.tag in (f"{_MAIN}is", f"{_MAIN}r"):
        for child in element:
            yield from _runs(child)


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)


def _number(value: str) -> str:
    """A number as it is shown: binary fractions are rounded to the 15 digits that a spreadsheet keeps."""
    try:
        return format(Decimal(f"{float(value):.15g}"), "f")
    except (ValueError, ArithmeticError):
        return value


def _column(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1
