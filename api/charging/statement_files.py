"""A statement as a file for a spreadsheet: CSV and XLSX with the same cells. Pure but for `statement_table`.

Identifiers are text cells (spreadsheets keep 15 digits of a number); amounts stand in yuan as text and in fen as whole
numbers. A text that a spreadsheet would run as a formula gets an apostrophe in front. Equal content gives equal bytes:
the file carries no time of its own and the workbook's properties are fixed.
"""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import xlsxwriter
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.exports.csv_file import protect as protect_in_csv
from api.schemas import rfc3339
from store.money import yuan
from store.tables.charging import Charge, ChargeLine, Statement, StatementLine
from store.tables.registry import Host, Instrument, Org

Cell = str | int
BOM = "\ufeff"
LATE = "逾期入账 late"
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "'")
_AMOUNT = re.compile(r"-?\d+\.\d{2}")
_FIXED = datetime(2000, 1, 1)  # noqa: DTZ001 - the workbook's property has no zone
_HEADER = (
    "序号 no",
    "收费编号 charge",
    "预约编号 booking",
    "仪器 instrument",
    "服务时间 served at",
    "服务月份 service month",
    "标记 mark",
    "明细 component",
    "项目 item",
    "数量 quantity",
    "单位数量 per",
    "单价(分) unit fen",
    "金额(分) amount fen",
    "金额(元) amount yuan",
    "规则 rule",
)


@dataclass(frozen=True)
class StatementTable:
    """The cells of a statement: facts (title, value), then lines below a header. Text is as it is, not protected."""

    facts: tuple[tuple[str, Cell], ...]
    header: tuple[str, ...]
    lines: tuple[tuple[Cell, ...], ...]


def statement_table(session: Session, statement: Statement) -> StatementTable:
    """Return the cells of a statement, its charges in the order of its lines, each with its own lines."""
    host, payer = session.get_one(Org, _host_org(session, statement)), session.get_one(Org, statement.payer_org)
    facts: tuple[tuple[str, Cell], ...] = (
        ("结算单号 number", statement.number or "草稿 draft"),
        ("类型 kind", statement.kind),
        ("依托单位 host", f"{statement.host_id} {host.name_zh}"),
        ("付款单位 payer", payer.name_zh),
        ("统一社会信用代码 credit code", payer.uscc),
        ("月份 month", str(statement.month)),
        ("期次 part", statement.part),
        ("定稿时间 final since", "" if statement.finalized_at is None else rfc3339(statement.finalized_at)),
        ("异议截止 objections until", "" if statement.dispute_until is None else rfc3339(statement.dispute_until)),
        ("合计(分) total fen", statement.total_fen),
        ("合计(元) total yuan", yuan(statement.total_fen)),
        ("内容校验值 content sha256", statement.content_sha256),
        ("核验命令 verify with", f"openlab verify statement {statement.number or ''}".strip()),
    )
    rows = session.execute(
        select(StatementLine.line_no, Charge, ChargeLine, Instrument.code)
        .join(Charge, Charge.charge_id == StatementLine.charge_id)
        .join(ChargeLine, ChargeLine.charge_id == Charge.charge_id)
        .join(Instrument, Instrument.instrument_id == Charge.instrument_id)
        .where(StatementLine.statement_id == statement.statement_id)
        .order_by(StatementLine.line_no, ChargeLine.line_no)
    )
    return StatementTable(facts, _HEADER, tuple(_cells(statement, *row) for row in rows))


def statement_csv(table: StatementTable) -> bytes:
    """Return the file: UTF-8 with a byte order mark, CRLF line ends."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\r\n")
    for row in _rows(table):
        out.writerow([_csv_cell(cell) for cell in row])
    return (BOM + text.getvalue()).encode()


def statement_xlsx(table: StatementTable) -> bytes:
    """Return a workbook with one sheet. Whole numbers are number cells, everything else text."""
    data = io.BytesIO()
    options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    book = xlsxwriter.Workbook(data, options)
    book.set_properties({"title": "OpenLab statement", "author": "OpenLab", "created": _FIXED})
    sheet = book.add_worksheet("statement")
    as_text, bold = book.add_format({"num_format": "@"}), book.add_format({"bold": True})
    for number, row in enumerate(_rows(table)):
        is_header = bool(row) and row == table.header
        for column, cell in enumerate(row):
            if isinstance(cell, int):
                sheet.write_number(number, column, cell)
            else:
                sheet.write_string(number, column, protect(cell), bold if is_header else as_text)
    sheet.set_column(0, len(table.header), 20)
    book.close()
    return data.getvalue()


def protect(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula. An amount like -200.00 stays as it is."""
    return "'" + text if text.startswith(_FORMULA_STARTS) and not _AMOUNT.fullmatch(text) else text


def is_late(charge: Charge, statement: Statement) -> bool:
    """Whether a charge is of an earlier month than the statement that bills it: its month was closed already."""
    return charge.service_month < statement.month


def _rows(table: StatementTable) -> list[Sequence[Cell]]:
    return [*table.facts, (), table.header, *table.lines]


def _cells(
    statement: Statement, number: int, charge: Charge, line: ChargeLine, instrument_code: str
) -> tuple[Cell, ...]:
    mark = "冲销 reversal" if charge.revision % 2 == 0 else "更正 corrected" if charge.revision > 1 else ""
    if is_late(charge, statement):
        mark = f"{mark} {LATE}".strip()
    return (
        number,
        charge.charge_id,
        charge.booking_id,
        instrument_code,
        rfc3339(charge.service_at),
        str(charge.service_month),
        mark,
        line.component,
        line.item_code,
        line.quantity,
        line.per_quantity,
        line.unit_fen,
        line.amount_fen,
        yuan(line.amount_fen),
        line.rule,
    )


def _csv_cell(cell: Cell) -> str:
    """A CSV has no cell types: what looks like a number and is none gets the apostrophe too, or digits are lost."""
    return str(cell) if isinstance(cell, int) or _AMOUNT.fullmatch(cell) else protect_in_csv(cell)


def _host_org(session: Session, statement: Statement) -> str:
    return session.get_one(Host, statement.host_id).org_id
