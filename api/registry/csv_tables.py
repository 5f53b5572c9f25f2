"""The registry as CSV files, one a table: hosts, labs, instruments, test_items,
certificates, special_days. Pure: records to text and back.

The columns are the fields of the records, under their names; positions stand in degrees and values in yuan, as people
write them. UTF-8 with a byte order mark and CRLF, and cells that a spreadsheet would turn into something else are
protected as in every export. Reading reports every cell that cannot be understood, with what to do about it.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from api.exports.csv_file import BOM, protect, unprotect
from api.registry.records import (
    BadCell,
    CertificateRecord,
    FileRecord,
    HostRecord,
    InstrumentRecord,
    LabRecord,
    SpecialDayRecord,
    TestItemRecord,
)

FILES: dict[str, type[FileRecord]] = {
    "hosts": HostRecord,
    "labs": LabRecord,
    "instruments": InstrumentRecord,
    "test_items": TestItemRecord,
    "certificates": CertificateRecord,
    "special_days": SpecialDayRecord,
}
ROWS_MAX = 200_000

# Field -> its column, and how many of the column's units make one of the field's.
_SCALED = {
    "latitude_e6": ("latitude", 6),
    "longitude_e6": ("longitude", 6),
    "original_value_fen": ("original_value_yuan", 2),
}


@dataclass(frozen=True)
class Finding:
    """One thing wrong with a file: where (line 1 is the header), what stands there, and what to do."""

    file: str
    line: int
    column: str
    value: str
    code: str
    zh: str
    en: str


@dataclass(frozen=True)
class ReadRow:
    """A row that was understood; `cells` as they stood."""

    line: int
    record: FileRecord
    cells: Mapping[str, str]


def columns(kind: type[FileRecord]) -> list[str]:
    """Return the columns of a table, in order."""
    return [_SCALED[name][0] if name in _SCALED else name for name in kind.model_fields]


def column_of(field: str) -> str:
    """Return the column of a field."""
    return _SCALED[field][0] if field in _SCALED else field


def write_table(kind: type[FileRecord], records: Iterable[FileRecord]) -> str:
    """Return a table as CSV."""
    out = io.StringIO()
    out.write(BOM)
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(columns(kind))
    for record in records:
        values = record.model_dump(mode="json")
        writer.writerow([_cell(name, values[name]) for name in kind.model_fields])
    return out.getvalue()


def read_table(file: str, text: str) -> tuple[list[ReadRow], list[Finding]]:
    """Return the rows of a table, and everything in it that cannot be understood."""
    kind = FILES[file]
    reader = csv.reader(io.StringIO(text.removeprefix(BOM), newline=""), strict=True)
    rows: list[ReadRow] = []
    findings: list[Finding] = []
    try:
        header = [unprotect(each).strip() for each in next(reader, [])]
        findings += _of_header(file, kind, header)
        if findings:
            return [], findings
        line = reader.line_num + 1
        for cells in reader:
            if any(cells):
                row, wrong = _row(file, kind, header, line, cells)
                rows += [row] if row is not None else []
                findings += wrong
            if len(rows) > ROWS_MAX:
                findings.append(
                    _finding(
                        file,
                        line,
                        "",
                        "",
                        "too_many_rows",
                        f"超过 {ROWS_MAX} 行;请分批导入",
                        f"more than {ROWS_MAX} rows; import them in parts",
                    )
                )
                break
            line = reader.line_num + 1
    except csv.Error as error:
        findings.append(
            _finding(
                file,
                reader.line_num,
                "",
                "",
                "not_csv",
                f"这一行不是有效的 CSV({error});请检查引号",
                f"this line is no CSV ({error}); check its quotes",
            )
        )
    return rows, findings


def _of_header(file: str, kind: type[FileRecord], header: list[str]) -> list[Finding]:
    wanted = columns(kind)
    needed = {column_of(name) for name, field in kind.model_fields.items() if field.is_required()}
    unknown = [each for each in header if each not in wanted]
    found = [
        _finding(
            file,
            1,
            each,
            each,
            "unknown_column",
            f"没有名为“{each}”的列;可用的列:{'、'.join(wanted)}",
            f"there is no column {each!r}; the columns are {', '.join(wanted)}",
        )
        for each in unknown
    ]
    found += [
        _finding(
            file, 1, each, "", "column_missing", f"缺少必填列“{each}”;请补上", f"the column {each!r} is missing; add it"
        )
        for each in sorted(needed - set(header))
    ]
    found += [
        _finding(
            file,
            1,
            each,
            each,
            "column_twice",
            f"列“{each}”出现多次;请只保留一列",
            f"the column {each!r} stands twice; keep one",
        )
        for each in sorted({each for each in header if header.count(each) > 1})
    ]
    return found


def _row(
    file: str, kind: type[FileRecord], header: list[str], line: int, cells: list[str]
) -> tuple[ReadRow | None, list[Finding]]:
    if len(cells) > len(header):
        extra = cells[len(header)]
        return None, [
            _finding(
                file,
                line,
                "",
                extra,
                "too_many_cells",
                f"这一行有 {len(cells)} 格,表头只有 {len(header)} 格;含逗号的内容请加引号",
                f"{len(cells)} cells under {len(header)} columns; put text with a comma in quotes",
            )
        ]
    given = dict(zip(header, (unprotect(each).strip() for each in cells), strict=False))
    values: dict[str, Any] = {}
    findings: list[Finding] = []
    for name, field in kind.model_fields.items():
        cell = given.get(column_of(name), "")
        if cell == "" and not field.is_required():
            continue  # left empty: what the field is by default
        try:
            values[name] = _scaled(cell, _SCALED[name][1]) if name in _SCALED else cell
        except BadCell as error:
            findings.append(_finding(file, line, column_of(name), cell, "not_a_number", error.zh, error.en))
    if findings:
        return None, findings
    try:
        return ReadRow(line, kind.model_validate(values), given), []
    except ValidationError as error:
        return None, [_of_error(file, line, given, each) for each in error.errors(include_url=False)]


def _of_error(file: str, line: int, given: Mapping[str, str], error: Any) -> Finding:
    column = column_of(str(error["loc"][0])) if error["loc"] else ""
    zh, en = _advice(error)
    return _finding(file, line, column, given.get(column, ""), error["type"], zh, en)


def _advice(error: Any) -> tuple[str, str]:
    facts = error.get("ctx", {})
    inner = facts.get("error")
    if isinstance(inner, BadCell):
        return inner.zh, inner.en
    sentences = {
        "enum": ("只能填写:{expected}", "write one of {expected}"),
        "literal_error": ("只能填写:{expected}", "write one of {expected}"),
        "timezone_aware": ("应写明时区,如 2026-01-01T00:00:00+08:00", "say the zone, as in 2026-01-01T00:00:00+08:00"),
        "datetime_from_date_parsing": ("应写作 2026-01-01T00:00:00+08:00", "write it like 2026-01-01T00:00:00+08:00"),
        "datetime_parsing": ("应写作 2026-01-01T00:00:00+08:00", "write it like 2026-01-01T00:00:00+08:00"),
        "date_from_datetime_parsing": ("应写作 2026-01-01", "write it like 2026-01-01"),
        "int_parsing": ("应为整数,不带单位和千位分隔符", "write a whole number, without unit or separators"),
        "bool_parsing": ("应填写 true 或 false", "write true or false"),
        "greater_than_equal": ("不能小于 {ge}", "it is at least {ge}"),
        "less_than_equal": ("不能大于 {le}", "it is at most {le}"),
        "string_too_short": ("不能为空", "it cannot be empty"),
        "string_too_long": ("最多 {max_length} 个字符", "at most {max_length} characters"),
        "string_pattern_mismatch": ("格式应符合 {pattern}", "its form is {pattern}"),
    }
    zh, en = sentences.get(error["type"], ("无法识别:{msg}", "{msg}"))
    known = {**facts, "msg": error["msg"]}
    return zh.format(**known), en.format(**known)


def _scaled(cell: str, places: int) -> int | None:
    if cell == "":
        return None
    try:
        value = Decimal(cell).scaleb(places)
    except ArithmeticError:  # no number, or one that is not meant: 1e999999
        raise BadCell("应为数字,不带单位和千位分隔符", "write a number, without unit or separators") from None
    if not value.is_finite() or value != int(value):
        raise BadCell(f"最多 {places} 位小数", f"at most {places} decimals")
    return int(value)


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name in _SCALED:
        places = _SCALED[name][1]
        return format(Decimal(value).scaleb(-places), "f")
    if isinstance(value, bool):
        return "true" if value else "false"
    return protect(value) if isinstance(value, str) else str(value)


def _finding(file: str, line: int, column: str, value: str, code: str, zh: str, en: str) -> Finding:
    return Finding(file, line, column, value[:200], code, zh, en)
