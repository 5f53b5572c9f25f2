"""A reward export as CSV that a spreadsheet opens as it is, and back. Pure.

UTF-8 with a byte order mark (or Excel shows Chinese as rubbish) and CRLF line ends (RFC 4180; what spreadsheets write).
A block of facts, then the totals, then the lines, each under a title row. Money stands in fen and in yuan, for reading.
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
from decimal import Decimal

from api.exports.rows import LineRow, Row, RunRow, TotalRow, content_sha256, values
from store.money import yuan

TEMPLATE = "openlab.reward-export/1"
VERIFY_WITH = "openlab verify export FILE"
BOM = "\ufeff"
_FORMULA_STARTS = tuple("=+-@=+-@\t\r\n'")
_LOOKS_LIKE_A_NUMBER = re.compile(r"[\d.,:/+\-\seE%]*\d[\d.,:/+\-\seE%]*\Z")
_TITLES = {
    "status": "状态",
    "run_id": "核算编号",
    "policy_id": "政策",
    "policy_version": "政策版本",
    "policy_sha256": "政策校验值",
    "period": "期间",
    "run_no": "次数",
    "engine_version": "核算规则版本",
    "watermark": "数据截止",
    "charge_count": "收费笔数",
    "base_fen": "奖励基数(分)",
    "payable_fen": "本次应付(分)",
    "input_sha256": "输入校验值",
    "result_sha256": "结果校验值",
    "host_id": "依托单位",
    "uscc": "统一社会信用代码",
    "name_zh": "单位名称",
    "name_en": "name",
    "grade": "考核等级",
    "coefficient_bp": "系数(万分之一)",
    "reward_fen": "奖励(分)",
    "granted_before_fen": "已核定(分)",
    "carried_in_fen": "上次结转(分)",
    "carried_out_fen": "结转下次(分)",
    "charge_id": "收费编号",
    "payer_org": "付费单位",
    "instrument_id": "仪器",
    "service_month": "服务月份",
    "posting_month": "入账月份",
    "amount_fen": "金额(分)",
    "eligible_fen": "计入(分)",
    "reason": "原因",
}


class BadExport(ValueError):
    """A file that is no export of ours, or one that was changed. The message names the row."""


def write_csv(rows: Sequence[Row]) -> bytes:
    """Return the file: one RunRow first, then totals, then lines, as `reward_rows` gives them."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\r\n")
    run, totals, lines = _parted(rows)
    out.writerow(["OpenLab 奖励导出 reward export", TEMPLATE])
    for field in fields(run):
        out.writerow([_title(field.name), *_cells(run, [field.name])])
    out.writerow(["content_sha256 内容校验值", content_sha256(rows)])
    out.writerow(["verify 核验命令", VERIFY_WITH])
    for title, kind, some in (("totals 合计", TotalRow, totals), ("lines 明细", LineRow, lines)):
        out.writerow([])
        out.writerow([title, str(len(some))])
        out.writerow(_header(kind))
        out.writerows(_cells(row, [field.name for field in fields(row)]) for row in some)
    return (BOM + text.getvalue()).encode()


def parse_export(data: bytes) -> list[Row]:
    """Return the canonical rows of a file. Raises BadExport where a cell is not what it must be, or where the rows do
    not have the content hash that the file names."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadExport(f"the file is not UTF-8: {error}") from None
    reader = _Reader(text)
    reader.expect(["OpenLab 奖励导出 reward export", TEMPLATE])
    given: dict[str, str] = {}
    for field in fields(RunRow):
        title, given[field.name] = reader.take(_width(RunRow, field.name))[:2]
        reader.require(title == _title(field.name), f"the title {title!r} should be {_title(field.name)!r}")
        if field.name.endswith("_fen"):
            reader.same_amount(given[field.name], reader.row[2])
    rows: list[Row] = [reader.build(RunRow, given)]
    title, named_hash = reader.take(2)
    reader.require(title == "content_sha256 内容校验值", "the content hash is missing")
    reader.expect(["verify 核验命令", VERIFY_WITH])
    for title, kind in (("totals 合计", TotalRow), ("lines 明细", LineRow)):
        rows += reader.section(title, kind)
    reader.end()
    found = content_sha256(rows)
    if found != named_hash:
        raise BadExport(f"the rows have the content hash {found}, the file names {named_hash}")
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


class _Reader:
    """The rows of the file one after the other, with their numbers for messages."""

    def __init__(self, text: str) -> None:
        self._rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        self.row: list[str] = []

    def take(self, width: int) -> list[str]:
        """Return the next row; empty cells at its end (spreadsheets add them) do not count."""
        try:
            row = next(self._rows)
        except StopIteration:
            raise BadExport("the file ends too early") from None
        except csv.Error as error:
            raise BadExport(f"row {self._rows.line_num}: {error}") from None
        extra = [cell for cell in row[width:] if cell]
        self.require(len(row) >= width and not extra, f"{len(row)} cells where {width} belong")
        self.row = row[:width]
        return self.row

    def expect(self, cells: list[str]) -> None:
        """Take a row that says exactly this."""
        self.require(self.take(len(cells)) == cells, f"{self.row} should be {cells}")

    def require(self, condition: bool, what: str) -> None:
        """Raise BadExport with the row number unless the condition holds."""
        if not condition:
            raise BadExport(f"row {self._rows.line_num}: {what}")

    def section(self, title: str, kind: type[TotalRow] | type[LineRow]) -> Iterator[Row]:
        """Yield the rows under a title; as many as it says."""
        self.take(0)
        found, count = self.take(2)
        self.require(found == title and count.isdigit(), f"{self.row} should be {title!r} and a count")
        header = _header(kind)
        self.expect(header)
        names = [field.name for field in fields(kind)]
        for _ in range(int(count)):
            cells = iter(self.take(len(header)))
            given: dict[str, str] = {}
            for name in names:
                given[name] = next(cells)
                if name.endswith("_fen"):
                    self.same_amount(given[name], next(cells))
            yield self.build(kind, given)

    def build(self, kind: type[Row], given: dict[str, str]) -> Row:
        """Return the row that these cells say."""
        made = {field.name: self.value(field.type, given[field.name]) for field in fields(kind)}
        return kind(**made)  # type: ignore[arg-type]  # each value is of its field's type

    def value(self, kind: object, cell: str) -> str | int:
        """Return a cell as the type of its field."""
        if kind is int:
            return self.number(cell)
        self.require(protect(unprotect(cell)) == cell, f"{cell!r} is not how this text is written")
        return unprotect(cell)

    def same_amount(self, fen: str, in_yuan: str) -> None:
        """Require that both cells say the same amount (a spreadsheet may drop zeros behind the point)."""
        self.require(re.fullmatch(r"-?[0-9]{1,19}(\.[0-9]{1,2})?", in_yuan) is not None, f"{in_yuan!r} is no amount")
        self.require(Decimal(in_yuan) * 100 == self.number(fen), f"{in_yuan} yuan are not {fen} fen")

    def number(self, cell: str) -> int:
        """Return a cell as a whole number, written the one way it is written."""
        self.require(re.fullmatch(r"-?[0-9]{1,19}", cell) is not None, f"{cell!r} is not a whole number")
        self.require(str(int(cell)) == cell, f"{cell!r} is not how {int(cell)} is written")
        return int(cell)

    def end(self) -> None:
        """Require that nothing follows but empty rows."""
        for row in self._rows:
            self.require(not any(row), f"{row} after the last line")


def _parted(rows: Sequence[Row]) -> tuple[RunRow, list[TotalRow], list[LineRow]]:
    run = rows[0]
    if not isinstance(run, RunRow):
        raise TypeError("an export begins with its run")
    totals = [row for row in rows if isinstance(row, TotalRow)]
    lines = [row for row in rows if isinstance(row, LineRow)]
    if [run, *totals, *lines] != list(rows):
        raise TypeError("an export is one run, then totals, then lines")
    return run, totals, lines


def _title(name: str) -> str:
    return f"{name} {_TITLES[name]}"


def _header(kind: type[Row]) -> list[str]:
    header = []
    for field in fields(kind):
        header.append(_title(field.name))
        if field.name.endswith("_fen"):
            header.append(field.name.removesuffix("_fen") + "_yuan(元)")
    return header


def _width(kind: type[Row], name: str) -> int:
    return 3 if name.endswith("_fen") else 2


def _cells(row: Row, names: Sequence[str]) -> list[str]:
    by_name = dict(zip((field.name for field in fields(row)), values(row), strict=True))
    cells = []
    for name in names:
        value = by_name[name]
        cells.append(protect(value) if isinstance(value, str) else str(value))
        if name.endswith("_fen") and isinstance(value, int):
            cells.append(yuan(value))
    return cells
