"""The formats of an export: how each is written and sent, and which one a file is. Adding one is adding a line."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from api.exports.cells import BadExport
from api.exports.csv_file import parse_export as parse_csv
from api.exports.csv_file import write_csv
from api.exports.json_file import parse_json, write_json
from api.exports.rows import Row
from api.exports.xlsx_file import parse_xlsx, write_xlsx
from store.tables.rewards import ExportFormat


class FileFormat(NamedTuple):
    """One format. Both functions are pure and of the same canonical rows."""

    media_type: str
    write: Callable[[Sequence[Row]], bytes]
    parse: Callable[[bytes], list[Row]]


FORMATS = {
    ExportFormat.CSV: FileFormat("text/csv; charset=utf-8", write_csv, parse_csv),
    ExportFormat.XLSX: FileFormat(
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", write_xlsx, parse_xlsx
    ),
    ExportFormat.JSON: FileFormat("application/json", write_json, parse_json),
}


def format_of(data: bytes) -> ExportFormat:
    """Return which format a file is written in, by how it begins."""
    if data.startswith(b"PK"):
        return ExportFormat.XLSX
    return ExportFormat.JSON if data.lstrip()[:1] == b"{" else ExportFormat.CSV


def parse_any(data: bytes) -> list[Row]:
    """Return the canonical rows of an exported file of any format. Raises BadExport for what is none of them."""
    return FORMATS[format_of(data)].parse(data)


__all__ = ["FORMATS", "BadExport", "FileFormat", "format_of", "parse_any"]
