"""Each numbered invariant of the ledger that `openlab verify` asks about: nothing is found in sound books, and one
planted fault is found by the check of that number. docs/billing.md lists them."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.charging.corrections import Proposal, decide_correction, propose_correction
from api.charging.payments import record_payment
from api.charging.reversal import reverse_charge
from api.charging.statements import finalize_statement, prepare_statement
from api.verify.checks import all_checks, verify
from api.verify.finding import Finding
from store.tables.calendar import BookingUse
from store.tables.charging import Charge, Tender
from store.tables.disputes import CorrectionKind
from tests.api.charging.building import FINANCE, FIRM, HOST, MANAGER, MINUTE, OFFICER, SECOND, County, build
from tests.api.rewards.building import drop_guards
from tests.support.databases import DatabaseServers, opened
from tests.support.usage import NINE

DAY = 24 * 60 * MINUTE
SOON = "(SELECT min(started_at) + 1 FROM usage_session)"
FAULTS = {
    "sessions folded again": "UPDATE usage_session SET odo_unknown_last_ms = odo_unknown_last_ms + 1",
    "reversed usage (3)": "UPDATE usage_entry SET quantity_ms = quantity_ms - 1 WHERE revision = 2",
    "odometers (4)": "UPDATE usage_session SET odo_running_last_ms = odo_running_last_ms + 1",
    "one session at a time (5)": f"UPDATE usage_session SET started_at = {SOON} WHERE started_at > {SOON}",
    "usage chains": "UPDATE usage_entry SET prev_hash = row_hash WHERE chain_seq = 1",
    "audit chains": "UPDATE audit_event SET prev_hash = row_hash WHERE seq = 1",
    "charge totals (8)": "UPDATE charge_line SET amount_fen = amount_fen + 1 WHERE amount_fen > 0",
    "charges priced again": "UPDATE charge_line SET unit_fen = unit_fen + 1 WHERE amount_fen > 0",
    "charge reversals (10)": "UPDATE charge SET payer_org = 'org-other' WHERE revision = 2",
    "use is priced (11)": "UPDATE booking_use SET matched_at = matched_at + 9000000000",
    "charges as recorded": "UPDATE charge SET row_hash = charge_id WHERE revision = 1",
    "statements as recorded": "UPDATE statement SET number = 'XC-9' WHERE state = 'final'",
    "payments as recorded": "INSERT INTO payment SELECT 'P', statement_id, 'voucher', 5, 'X', received_at, recorded_by,"
    " recorded_at FROM payment",
    "statements (13)": "UPDATE statement_line SET amount_fen = amount_fen + 1",
    "settlements (14)": "UPDATE settlement SET amount_fen = amount_fen + 1",
    "closed months (22)": "UPDATE posting_period SET state = 'locked', locked_by = 'finance', locked_at = 1,"
    """ seal = '{"count":9,"sha256":"","sum_fen":0}'""",
}


GONE = {
    "charge.posted": ("charges as recorded", "charge:gone"),
    "charge.reversed": ("charges as recorded", "charge:gone"),
    "statement.finalized": ("statements as recorded", "statement:gone"),
}


@pytest.fixture(scope="module")
def books(database_servers: DatabaseServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[County]:
    """One charge corrected, one taken back, one paid."""
    with database_servers.fresh_url("sqlite") as url, opened(url) as database:
        county = build(database, tmp_path_factory.mktemp("books"))
        _keep_books(county)
        yield county
        county.series.close()


def _keep_books(county: County) -> None:
    county.now += timedelta(days=5)
    corrected, taken_back, _ = (county.charged(30, NINE + day * DAY) for day in range(3))
    with county.database.read() as session:
        booking_id = session.get_one(Charge, corrected).booking_id
        session_id = session.scalars(select(BookingUse.session_id).where(BookingUse.booking_id == booking_id)).one()
    shorter = Proposal(CorrectionKind.METERED, "idled", "log book", session_id=session_id, metered_ms=MINUTE)
    proposed = county.do(propose_correction, corrected, shorter, who=MANAGER)
    county.do(decide_correction, proposed.correction_id, True, "seen", proposed.body_sha256, county.series, who=SECOND)
    county.do(reverse_charge, taken_back, "wrong meter", who=OFFICER)
    draft = county.do(prepare_statement, HOST, FIRM, 202603, who=MANAGER)
    final = county.do(finalize_statement, draft.statement_id, who=MANAGER)
    county.do(record_payment, final.statement_id, Tender.CASH, final.total_fen, "B1", county.now, who=FINANCE)


def test_sound_books_have_no_finding(books: County) -> None:
    with books.database.read() as session:
        assert [outcome for outcome in verify(session, all_checks()) if outcome.finding is not None] == []


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_by_the_check_of_its_number(books: County, name: str) -> None:
    assert _found(books, name, FAULTS[name]) is not None


@pytest.mark.parametrize("action", GONE)
def test_what_the_audit_chain_names_and_is_not_there_is_found(books: County, action: str) -> None:
    name, subject = GONE[action]
    found = _found(
        books,
        name,
        f"INSERT INTO audit_event SELECT chain_id, seq + 100000, at, actor, action, '{subject}', body, prev_hash, 'x'"
        f" FROM audit_event WHERE action = '{action}' LIMIT 1",
    )
    assert (found is not None, found and found.key) == (True, "gone")


def _found(books: County, name: str, fault: str) -> Finding | None:
    """What a check says of books with a fault in them; nothing of it is kept."""
    [check] = [each for each in all_checks() if each.name == name]
    with books.database.engine.connect() as connection:
        drop_guards(connection)
        assert connection.exec_driver_sql(fault).rowcount
        with Session(connection) as session:
            found = next(check.run(session), None)
        connection.rollback()
    return found
