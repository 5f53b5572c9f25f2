"""The layout that CSV and XLSX share: titles and headers over canonical rows, and reading them back cell by cell. Pure.

Money stands in fen and in yuan, for reading. Every cell is checked when it is read, also those that are not hashed
themselves, so no cell of a file can be changed unnoticed.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from decimal import Decimal

from api.exports.rows import InstrumentRow, LineRow, Row, RunRow, TotalRow, values
from api.exports.rows import content_sha256 as hash_of
from store.money import yuan

WITHOUT_INSTRUMENTS, WITH_INSTRUMENTS = "openlab.reward-export/1", "openlab.reward-export/2"
VERIFY_WITH = "openlab verify export FILE"
HEADING = "OpenLab 奖励导出 reward export"
HASH_TITLE = "content_sha256 内容校验值"
VERIFY_TITLE = "verify 核验命令"
TOTALS, INSTRUMENTS, LINES = "totals 合计", "instruments 仪器", "lines 明细"
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
    "counted_count": "计入笔数",
    "cap_yuan": "单台计入上限(元;空为不设)",
    "metered_s": "计入部分计量时长(秒)",
    "service_month": "服务月份",
    "posting_month": "入账月份",
    "amount_fen": "金额(分)",
    "eligible_fen": "计入(分)",
    "reason": "原因",
}
Table = type[TotalRow] | type[InstrumentRow] | type[LineRow]


class BadExport(ValueError):
    """A file that is no export of ours, or one that was changed. The message names the row."""


def template_of(rows: Sequence[Row]) -> str:
    """Return the name of the layout that rows are written in. Without instruments it is what it was before they were
    written: such rows still give the same bytes, and such files still read."""
    return WITH_INSTRUMENTS if any(isinstance(row, InstrumentRow) for row in rows) else WITHOUT_INSTRUMENTS


def parted(rows: Sequence[Row]) -> tuple[RunRow, list[TotalRow], list[InstrumentRow], list[LineRow]]:
    """Return the run, the totals, the instruments and the lines of an export. Raises TypeError for rows in another
    order."""
    run = rows[0]
    if not isinstance(run, RunRow):
        raise TypeError("an export begins with its run")
    totals = [row for row in rows if isinstance(row, TotalRow)]
    lines = [row for row in rows if isinstance(row, LineRow)]
    instruments = [row for row in rows if isinstance(row, InstrumentRow)]
    if [run, *totals, *instruments, *lines] != list(rows):
        raise TypeError("an export is one run, then totals, then instruments, then lines")
    return run, totals, instruments, lines


def title(name: str) -> str:
    """Return what stands over (or beside) a field."""
    return f"{name} {_TITLES[name]}"


def header(kind: type[Row]) -> list[str]:
    """Return the header of a table; after each amount in fen comes the same in yuan."""
    cells = []
    for field in fields(kind):
        cells.append(title(field.name))
        if is_money(field.name):
            cells.append(field.name.removesuffix("_fen") + "_yuan(元)")
    return cells


def is_money(name: str) -> bool:
    """Whether a field is an amount."""
    return name.endswith("_fen")


def cells_of(row: Row, protect: Callable[[str], str], names: Sequence[str] | None = None) -> list[str]:
    """Return the cells of a row (of some of its fields) in the order of its header."""
    by_name = dict(zip((field.name for field in fields(row)), values(row), strict=True))
    cells = []
    for name in by_name if names is None else names:
        value = by_name[name]
        cells.append(protect(value) if isinstance(value, str) else str(value))
        if is_money(name) and isinstance(value, int):
            cells.append(yuan(value))
    return cells


class CellReader:
    """The rows of a file one after the other, with their places for messages.

    `rows` yields (place, cells), and raises BadExport for what is no table at all. `protect` and `unprotect` are how
    texts are written in this format.
    """

    def __init__(
        self,
        rows: Iterator[tuple[str, list[str]]],
        protect: Callable[[str], str],
        unprotect: Callable[[str], str],
    ) -> None:
        self._rows = rows
        self._place = "row 0"
        self._protect, self._unprotect = protect, unprotect
        self.template = ""
        self.row: list[str] = []

    def take(self, width: int) -> list[str]:
        """Return the next row; empty cells at its end (spreadsheets add them) do not count."""
        try:
            self._place, row = next(self._rows)
        except StopIteration:
            raise BadExport("the file ends too early") from None
        extra = [cell for cell in row[width:] if cell]
        self.require(len(row) >= width and not extra, f"{len(row)} cells where {width} belong")
        self.row = row[:width]
        return self.row

    def expect(self, cells: list[str]) -> None:
        """Take a row that says exactly this."""
        self.require(self.take(len(cells)) == cells, f"{self.row} should be {cells}")

    def require(self, condition: bool, what: str) -> None:
        """Raise BadExport with the place unless the condition holds."""
        if not condition:
            raise BadExport(f"{self._place}: {what}")

    def head(self) -> tuple[RunRow, str]:
        """Take the facts at the beginning; return the run and the content hash that the file names."""
        heading, self.template = self.take(2)
        known = (WITHOUT_INSTRUMENTS, WITH_INSTRUMENTS)
        self.require(heading == HEADING and self.template in known, f"{self.row} should be {[HEADING, known[1]]}")
        given: dict[str, str] = {}
        for field in fields(RunRow):
            found, given[field.name] = self.take(3 if is_money(field.name) else 2)[:2]
            self.require(found == title(field.name), f"the title {found!r} should be {title(field.name)!r}")
            if is_money(field.name):
                self.same_amount(given[field.name], self.row[2])
        run = self.build(RunRow, given)
        assert isinstance(run, RunRow)
        found, named_hash = self.take(2)
        self.require(found == HASH_TITLE, "the content hash is missing")
        self.expect([VERIFY_TITLE, VERIFY_WITH])
        return run, named_hash

    def section(
        self,
        heading: str,
        kind: Table,
        also: Callable[[dict[str, str]], list[str]] | None = None,
        more: Sequence[str] = (),
    ) -> Iterator[Row]:
        """Yield the rows under a title; as many as it says. `also` gives what the further columns `more` must say."""
        found, count = self.take(2)
        self.require(found == heading and self.number(count) >= 0, f"{self.row} should be {heading!r} and a count")
        columns = header(kind)
        self.expect([*columns, *more])
        names = [field.name for field in fields(kind)]
        for _ in range(int(count)):
            row = self.take(len(columns) + len(more))
            cells = iter(row)
            given: dict[str, str] = {}
            for name in names:
                given[name] = next(cells)
                if is_money(name):
                    self.same_amount(given[name], next(cells))
            if also is not None:
                self.require(list(cells) == also(given), f"{row[len(columns) :]} is not what is said of such a row")
            yield self.build(kind, given)

    def build(self, kind: type[Row], given: dict[str, str]) -> Row:
        """Return the row that these cells say."""
        made = {field.name: self.value(field.type, given[field.name]) for field in fields(kind)}
        return kind(**made)  # type: ignore[arg-type]  # each value is of its field's type

    def value(self, kind: object, cell: str) -> str | int:
        """Return a cell as the type of its field."""
        if kind is int:
            return self.number(cell)
        self.require(self._protect(self._unprotect(cell)) == cell, f"{cell!r} is not how this text is written")
        return self._unprotect(cell)

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
        for _, row in self._rows:
            self.require(not any(row), f"{row} after the last line")


def require_said(rows: Sequence[Row], template: str, content_sha256: str) -> None:
    """Raise BadExport where the rows of a file are not of the layout or do not have the content hash that it names."""
    if template_of(rows) != template:
        raise BadExport(f"the rows are of {template_of(rows)}, the file says {template}")
    if hash_of(rows) != content_sha256:
        raise BadExport(f"the rows have the content hash {hash_of(rows)}, the file names {content_sha256}")
