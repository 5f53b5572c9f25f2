"""A draft that two people work on at once, and what settling with credit asks of a long history."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from sqlalchemy import event, text

from api.charging.payments import record_payment, settle_by_credit
from api.charging.reversal import reverse_charge
from api.charging.statements import finalize_statement, prepare_statement
from api.charging.statements_window import issue_statement
from store.tables.charging import Statement, Tender
from tests.api.charging.building import FIRM, HOST, MANAGER, MINUTE, County
from tests.support.usage import NINE
from tests.support.waiting import wait_until

MONTH = 202603
DAY = 24 * 60 * MINUTE


class _Undone(Exception):
    """Ends a transaction that is not to be kept."""


def prepare(county: County) -> Statement:
    statement: Statement = county.do(prepare_statement, HOST, FIRM, MONTH, who=MANAGER)
    return statement


def final(county: County) -> Statement:
    statement: Statement = county.do(finalize_statement, prepare(county).statement_id, who=MANAGER)
    return statement


def pay(county: County, statement: Statement, fen: int, ref: str) -> None:
    county.do(record_payment, statement.statement_id, Tender.CASH, fen, ref, county.now, who=MANAGER)


def test_a_draft_that_is_issued_while_it_grows_has_not_been_shown_to_its_payer(county: County) -> None:
    county.charged()
    draft = prepare(county)
    county.charged(start_ms=NINE + DAY)
    with ThreadPoolExecutor(1) as pool:
        with county.database.write() as session:
            issue_statement(county.work(session, MANAGER), draft.statement_id)
            growing = pool.submit(prepare, county)
            if county.database.engine.dialect.name == "postgresql":  # where one writes at a time the other comes later
                wait_until(lambda: _somebody_waits(county), "the other waits for the draft")
        assert growing.result(60).line_count == 2
    with county.database.read() as session:
        assert session.get_one(Statement, draft.statement_id).issued_at is None


def _somebody_waits(county: County) -> bool:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with county.database.read() as session:
        return bool(session.execute(text(waiting)).scalar_one())


@pytest.mark.slow_on_postgresql
def test_settling_with_credit_asks_no_more_of_a_payer_who_has_paid_often(county: County) -> None:
    charge_id = county.charged()
    paid = final(county)
    pay(county, paid, paid.total_fen, "b-0")
    county.do(reverse_charge, charge_id, "wrong meter", who=MANAGER)
    county.charged(start_ms=NINE + DAY)
    owed = final(county)
    first = _asked_by_settling(county, owed)
    for number in range(1, 4):
        pay(county, owed, 1000, f"b-{number}")
    assert _asked_by_settling(county, owed) == first > 0


def _asked_by_settling(county: County, statement: Statement) -> int:
    statements: list[object] = []

    def count(*args: object) -> None:
        statements.append(args)

    event.listen(county.database.engine, "before_cursor_execute", count)
    with suppress(_Undone), county.database.write() as session:
        assert settle_by_credit(county.work(session, MANAGER), statement.statement_id) > 0
        raise _Undone
    event.remove(county.database.engine, "before_cursor_execute", count)
    return len(statements)
