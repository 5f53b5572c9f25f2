"""Statements, payments and closed months against the charges they are about."""

from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.charging.documents import statement_document
from api.charging.months import Seal, compute_seal
from api.charging.statements import head_of, statement_items
from api.verify.finding import Check, Finding
from store.canonical import sha256_hex
from store.tables.charging import (
    Charge,
    PeriodState,
    PostingPeriod,
    Statement,
    StatementLine,
    StatementState,
)


def statements(number: str | None = None) -> Check:
    """Return the check of all statements, or of the one with this number: lines are its charges, the total is theirs,
    the hash is over both; payer, host and month are those of its charges."""

    def check(session: Session) -> Iterator[Finding]:
        query = select(Statement).order_by(Statement.statement_id)
        if number is not None:
            query = query.where(Statement.number == number)
        for statement in session.execute(query).scalars():
            wrong = _wrong_with(session, statement)
            if wrong is not None:
                yield wrong

    return check


def seals(session: Session) -> Iterator[Finding]:
    """The charges of a locked month are those that its seal counts, sums and hashes."""
    rows = session.execute(
        select(PostingPeriod)
        .where(PostingPeriod.state == PeriodState.LOCKED.value)
        .order_by(PostingPeriod.host_id, PostingPeriod.month)
    ).scalars()
    for row in rows:
        key = f"{row.host_id}/{row.month}"
        found = compute_seal(session, row.host_id, row.month)
        if row.seal is None or Seal.parse(row.seal) != found:
            yield Finding("posting_period", key, f"its seal is {row.seal}, its charges come to {found.text()}")


def _wrong_with(session: Session, statement: Statement) -> Finding | None:
    key = statement.number or statement.statement_id
    items = statement_items(session, statement.statement_id)
    lines = session.execute(
        select(StatementLine.line_no, StatementLine.amount_fen, Charge)
        .join(Charge, Charge.charge_id == StatementLine.charge_id)
        .where(StatementLine.statement_id == statement.statement_id)
        .order_by(StatementLine.line_no)
    )
    for line_no, amount, charge in lines:
        line_key = f"{key}/{line_no}"
        if amount != charge.total_fen:
            return Finding("statement_line", line_key, f"{amount} fen, its charge says {charge.total_fen}")
        theirs = (charge.host_id, charge.payer_org, charge.posting_month)
        if theirs != (statement.host_id, statement.payer_org, statement.month):
            return Finding("statement_line", line_key, f"its charge is of {theirs}")
    total = sum(item.amount_fen for item in items)
    if total != statement.total_fen or len(items) != statement.line_count:
        said = f"{statement.total_fen} fen on {statement.line_count} lines"
        return Finding("statement", key, f"it says {said}, its lines are {total} fen on {len(items)}")
    if sha256_hex(statement_document(head_of(statement), items)) == statement.content_sha256:
        return None
    kind = "statement" if statement.state == StatementState.FINAL.value else "draft"
    return Finding("statement", key, f"the {kind} does not have the stored hash")
