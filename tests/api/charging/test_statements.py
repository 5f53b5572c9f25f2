"""Statements, invoices, payments: numbered without gaps, never changed, never paid above what is open."""

import threading
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from api.charging.documents import statement_document
from api.charging.invoices import record_invoice
from api.charging.payments import OpenCharge, allocate, open_fen, record_payment
from api.charging.reversal import reverse_charge
from api.charging.service import recharge_booking
from api.charging.statements import finalize_statement, head_of, prepare_statement, statement_items
from api.errors import Refused
from store.canonical import sha256_hex
from store.errors import AppendOnly
from store.tables.calendar import Booking
from store.tables.charging import Charge, InvoiceKind, Payment, Settlement, Statement, StatementLine, Tender
from tests.api.charging.building import (
    CUSTOMER,
    FIRM,
    HOST,
    MANAGER,
    MINUTE,
    OTHER_FIRM,
    RIVAL,
    STRANGER,
    County,
)
from tests.support.usage import NINE

MONTH = 202603
HOURS_4 = 4 * 60 * MINUTE
BLUE, SECOND_BLUE, RED = "26330000000000000001", "26330000000000000002", "26330000000000000003"


def prepare(county: County, payer: str = FIRM) -> Statement:
    statement: Statement = county.do(prepare_statement, HOST, payer, MONTH, who=MANAGER)
    return statement


def final(county: County, payer: str = FIRM) -> Statement:
    statement: Statement = county.do(finalize_statement, prepare(county, payer).statement_id, who=MANAGER)
    return statement


def pay(county: County, statement: Statement, fen: int, ref: str = "bank-1", tender: Tender = Tender.CASH) -> Payment:
    payment: Payment = county.do(record_payment, statement.statement_id, tender, fen, ref, county.now, who=MANAGER)
    return payment


def still_open(county: County, statement: Statement) -> int:
    with county.database.read() as session:
        return open_fen(session, session.get_one(Statement, statement.statement_id))


def code_of(caught) -> str:
    return str(caught.value.code)


def state_of(county: County, charge_id: str) -> str:
    with county.database.read() as session:
        return session.get_one(Booking, session.get_one(Charge, charge_id).booking_id).state


def test_a_draft_takes_every_unbilled_charge_and_grows_when_prepared_again(county):
    first = county.charged(80)
    draft = prepare(county)
    assert (draft.state, draft.number, draft.total_fen, draft.line_count) == ("draft", None, 60_000, 1)
    second = county.charged(20, NINE + HOURS_4)
    again = prepare(county)
    assert (again.statement_id, again.total_fen, again.line_count) == (draft.statement_id, 80_000, 2)
    with county.database.read() as session:
        assert [item.charge_id for item in statement_items(session, draft.statement_id)] == [first, second]


def test_a_final_statement_has_a_number_and_the_hash_of_what_it_says(county):
    county.charged()
    statement = final(county)
    assert statement.number == "H01-2026-0001"
    with county.database.read() as session:
        stored = session.get_one(Statement, statement.statement_id)
        document = statement_document(head_of(stored), statement_items(session, statement.statement_id))
        assert stored.content_sha256 == sha256_hex(document)


def test_what_comes_later_in_the_month_is_the_next_part(county):
    county.charged()
    final(county)
    county.charged(20, NINE + HOURS_4)
    second = final(county)
    assert (second.part, second.number, second.total_fen) == (2, "H01-2026-0002", 20_000)


def test_a_payer_without_charges_gets_no_statement(county):
    county.charged()
    with pytest.raises(Refused) as caught:
        prepare(county, OTHER_FIRM)
    assert code_of(caught) == "nothing_to_bill"


def test_numbers_have_no_gaps_when_one_is_lost_before_its_commit_and_two_come_at_once(county):
    for number, payer in enumerate((FIRM, OTHER_FIRM)):
        county.charged(20, NINE + number * HOURS_4, payer)
    drafts = [prepare(county, payer).statement_id for payer in (FIRM, OTHER_FIRM)]

    def dies_before_the_commit(work, statement_id):
        finalize_statement(work, statement_id)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        county.do(dies_before_the_commit, drafts[0], who=MANAGER)
    start = threading.Barrier(2)
    numbers: list[str] = []

    def make_final(statement_id: str) -> None:
        start.wait()
        numbers.append(county.do(finalize_statement, statement_id, who=MANAGER).number)

    threads = [threading.Thread(target=make_final, args=(draft,)) for draft in drafts]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(numbers) == ["H01-2026-0001", "H01-2026-0002"]


def test_a_final_statement_cannot_be_changed(county):
    county.charged()
    statement = final(county)
    with pytest.raises(Refused) as caught:
        county.do(finalize_statement, statement.statement_id, who=MANAGER)
    assert code_of(caught) == "not_a_draft"
    for change in ("UPDATE statement SET total_fen = 1", "DELETE FROM statement_line", "DELETE FROM statement"):
        with pytest.raises(AppendOnly), county.database.write() as session:
            session.connection().exec_driver_sql(change)


def test_a_charge_that_is_taken_back_after_billing_comes_as_a_credit_note(county):
    charge_id = county.charged()
    billed = final(county)
    county.do(reverse_charge, charge_id, "wrong party", who=MANAGER)
    note = final(county)
    assert (note.kind, note.total_fen, note.part) == ("credit_note", -60_000, 2)
    assert still_open(county, billed) == 0
    for statement in (billed, note):
        with pytest.raises(Refused) as caught:
            pay(county, statement, 1)
        assert code_of(caught) == "more_than_open"


def test_a_corrected_charge_on_one_statement_is_paid_by_its_new_version(county):
    charge_id = county.charged()
    county.do(reverse_charge, charge_id, "wrong", who=MANAGER)
    with county.database.read() as session:
        booking_id = session.get_one(Charge, charge_id).booking_id
    late = county.now + timedelta(days=2)
    new = county.do(recharge_booking, booking_id, county.series, "right", who=MANAGER, now=late).charge_id
    statement = final(county)
    assert (statement.line_count, statement.total_fen, still_open(county, statement)) == (3, 60_000, 60_000)
    pay(county, statement, 60_000)
    with county.database.read() as session:
        [settlement] = session.scalars(select(Settlement))
        assert (settlement.charge_id, settlement.amount_fen) == (new, 60_000)


def test_payments_settle_in_line_order_and_a_settled_charge_closes_its_booking(county):
    first, second = county.charged(80), county.charged(20, NINE + HOURS_4)
    statement = final(county)
    pay(county, statement, 50_000, "bank-1")
    assert (state_of(county, first), still_open(county, statement)) == ("completed", 30_000)
    pay(county, statement, 15_000, "bank-2")
    assert (state_of(county, first), state_of(county, second)) == ("closed", "completed")
    pay(county, statement, 15_000, "voucher-1", Tender.VOUCHER)
    assert (state_of(county, second), still_open(county, statement)) == ("closed", 0)
    with county.database.read() as session:
        parts = sorted((row.charge_id == first, row.amount_fen) for row in session.scalars(select(Settlement)))
    assert parts == [(False, 5_000), (False, 15_000), (True, 10_000), (True, 50_000)]


def test_nobody_can_pay_more_than_is_open_not_even_two_at_once(county):
    county.charged()
    statement = final(county)
    with pytest.raises(Refused) as caught:
        pay(county, statement, 60_001)
    assert code_of(caught) == "more_than_open"
    start = threading.Barrier(2)
    results: list[str] = []

    def once(ref: str) -> None:
        start.wait()
        try:
            pay(county, statement, 40_000, ref)
            results.append("paid")
        except Refused as refused:
            results.append(refused.code)

    threads = [threading.Thread(target=once, args=(ref,)) for ref in ("a", "b")]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(results) == ["more_than_open", "paid"]


def test_one_reference_pays_once_per_tender(county):
    county.charged()
    statement = final(county)
    pay(county, statement, 100, " ref-1 ")
    with pytest.raises(Refused) as caught:
        pay(county, statement, 100, "ref-1")
    assert code_of(caught) == "payment_already_recorded"
    pay(county, statement, 100, "ref-1", Tender.VOUCHER)
    assert still_open(county, statement) == 59_800


@pytest.mark.parametrize(
    ("fen", "ref", "hours", "code"),
    [
        (0, "r", 0, "bad_amount"),
        (-5, "r", 0, "bad_amount"),
        (5, "  ", 0, "reference_missing"),
        (5, "r", 1, "received_later"),
    ],
)
def test_a_payment_that_makes_no_sense_is_refused(county, fen, ref, hours, code):
    county.charged()
    statement = final(county)
    received = county.now + timedelta(hours=hours)
    with pytest.raises(Refused) as caught:
        county.do(record_payment, statement.statement_id, Tender.CASH, fen, ref, received, who=MANAGER)
    assert code_of(caught) == code


def test_drafts_take_neither_money_nor_invoices(county):
    county.charged()
    draft = prepare(county)
    with pytest.raises(Refused) as caught:
        pay(county, draft, 1)
    assert code_of(caught) == "statement_not_final"
    with pytest.raises(Refused) as caught:
        county.do(record_invoice, draft.statement_id, BLUE, InvoiceKind.BLUE, county.now, who=MANAGER)
    assert code_of(caught) == "statement_not_final"


@pytest.mark.parametrize("who", [STRANGER, CUSTOMER, RIVAL])
def test_only_the_host_and_finance_bill_and_record(county, who):
    county.charged()
    draft = prepare(county)
    for step in ((prepare_statement, HOST, FIRM, MONTH), (finalize_statement, draft.statement_id)):
        with pytest.raises(Refused) as caught:
            county.do(*step, who=who)
        assert caught.value.status == 403


def test_an_invoice_is_reversed_in_red_and_issued_again(county):
    county.charged()
    statement = final(county)

    def invoice(number, kind, reverses=None, fen=None):
        return county.do(record_invoice, statement.statement_id, number, kind, county.now, reverses, fen, who=MANAGER)

    assert invoice(BLUE, InvoiceKind.BLUE).amount_fen == 60_000
    refusals = [
        ((BLUE, InvoiceKind.RED, BLUE), "invoice_already_recorded"),
        ((SECOND_BLUE, InvoiceKind.BLUE), "more_than_invoiceable"),
        ((RED, InvoiceKind.RED), "bad_reversal"),
        ((RED, InvoiceKind.RED, BLUE, -5), "bad_amount"),
        (("123", InvoiceKind.BLUE), "bad_invoice_no"),
        (("２６３３００００００００００００００００", InvoiceKind.BLUE), "bad_invoice_no"),
    ]
    for given_, code in refusals:
        with pytest.raises(Refused) as caught:
            invoice(*given_)
        assert code_of(caught) == code, given_
    assert invoice(RED, InvoiceKind.RED, BLUE).amount_fen == -60_000
    with pytest.raises(Refused) as caught:
        invoice("26330000000000000009", InvoiceKind.RED, BLUE)
    assert code_of(caught) == "invoice_already_reversed"
    assert invoice(SECOND_BLUE, InvoiceKind.BLUE, fen=20_000).amount_fen == 20_000


def test_a_corrected_charge_is_invoiced_once_the_first_invoice_was_taken_back(county):
    charge_id = county.charged()
    billed = final(county)

    def invoice(statement, number, kind, reverses=None, fen=None):
        return county.do(record_invoice, statement.statement_id, number, kind, county.now, reverses, fen, who=MANAGER)

    invoice(billed, BLUE, InvoiceKind.BLUE)
    with county.database.read() as session:
        booking_id = session.get_one(Charge, charge_id).booking_id
    county.do(reverse_charge, charge_id, "wrong", who=MANAGER)
    county.do(recharge_booking, booking_id, county.series, "right", who=MANAGER, now=county.now + timedelta(days=2))
    second = final(county)
    assert (second.part, second.line_count, second.total_fen) == (2, 2, 0)
    for fen in (None, 60_000, 1):
        with pytest.raises(Refused) as caught:
            invoice(second, SECOND_BLUE, InvoiceKind.BLUE, fen=fen)
        assert code_of(caught) == "red_invoice_missing"
    invoice(billed, RED, InvoiceKind.RED, BLUE)
    with pytest.raises(Refused) as caught:
        invoice(second, SECOND_BLUE, InvoiceKind.BLUE, fen=60_001)
    assert code_of(caught) == "more_than_invoiceable"
    assert invoice(second, SECOND_BLUE, InvoiceKind.BLUE).amount_fen == 60_000
    with pytest.raises(Refused) as caught:
        invoice(billed, "26330000000000000004", InvoiceKind.BLUE)
    assert code_of(caught) == "more_than_invoiceable"


def test_lines_and_charges_agree_on_every_statement(county):
    for number in range(3):
        county.charged(20 + number, NINE + number * HOURS_4)
    final(county)
    with county.database.read() as session:
        for line, charge in session.execute(
            select(StatementLine, Charge).join(Charge, Charge.charge_id == StatementLine.charge_id)
        ):
            statement = session.get_one(Statement, line.statement_id)
            assert line.amount_fen == charge.total_fen
            assert (statement.payer_org, statement.host_id, statement.month) == (
                charge.payer_org,
                charge.host_id,
                charge.posting_month,
            )


@given(st.lists(st.integers(0, 10**6), max_size=6), st.integers(1, 10**7))
def test_an_allocation_gives_all_of_the_money_in_order_and_never_too_much(opens, amount):
    charges = [OpenCharge(str(number), str(number), fen) for number, fen in enumerate(opens)]
    if amount > sum(opens):
        with pytest.raises(ValueError, match="settle nothing"):
            allocate(amount, charges)
        return
    parts = allocate(amount, charges)
    assert sum(part for _, part in parts) == amount
    assert all(0 < part <= charge.open_fen for charge, part in parts)
    assert all(part == charge.open_fen for charge, part in parts[:-1])
