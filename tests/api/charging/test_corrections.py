"""An approved correction takes the whole charge back and posts it anew; use, money and proof follow it to the fen."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from api.charging.corrections import Proposal, decide_correction, propose_correction
from api.charging.disputes import raise_dispute
from api.charging.explain import explain_charge
from api.charging.payments import open_fen, record_payment, settle_by_credit
from api.charging.payments_credit import credit_fen, refund_credit
from api.charging.reversal import reverse_charge
from api.charging.settled import settled_fen
from api.charging.statements import finalize_statement, prepare_statement
from api.errors import Refused
from api.verify.checks import all_checks, verify
from store.ledger import check_usage_chain
from store.tables.calendar import Booking, BookingUse
from store.tables.charging import Charge, ChargeLine, Payment, Statement, Tender
from store.tables.disputes import CorrectionKind
from store.tables.registry import Instrument, UseDetection
from store.tables.usage import UsageEntry, UsageSession
from tests.api.charging.building import CUSTOMER, FIRM, HOST, INSTRUMENT, MANAGER, MINUTE, OFFICER, SECOND, County
from tests.support.usage import NINE
from wire.clock import from_ms

pytestmark = pytest.mark.slow_on_postgresql

MONTH = 202603
LATER = timedelta(days=3)
HOURS_4 = 4 * 60 * MINUTE


def metered(county: County, charge_id: str, minutes: float) -> Proposal:
    with county.database.read() as session:
        booking_id = session.get_one(Charge, charge_id).booking_id
        part = session.scalars(select(BookingUse).where(BookingUse.booking_id == booking_id)).one()
    ms = round(minutes * MINUTE)
    return Proposal(CorrectionKind.METERED, "it idled", "log book", session_id=part.session_id, metered_ms=ms)


def correct(county: County, charge_id: str, proposal: Proposal) -> list[Charge]:
    """Propose and approve; return every version of the charge."""
    now = county.now + LATER
    correction = county.do(propose_correction, charge_id, proposal, who=MANAGER, now=now)
    step = (decide_correction, correction.correction_id, True, "checked", correction.body_sha256, county.series)
    county.do(*step, who=SECOND, now=now)
    return versions(county, charge_id)


def versions(county: County, charge_id: str) -> list[Charge]:
    with county.database.read() as session:
        booking_id = session.get_one(Charge, charge_id).booking_id
        return list(session.scalars(select(Charge).where(Charge.booking_id == booking_id).order_by(Charge.revision)))


def bill(county: County) -> Statement:
    draft = county.do(prepare_statement, HOST, FIRM, MONTH, who=MANAGER)
    final: Statement = county.do(finalize_statement, draft.statement_id, who=MANAGER)
    return final


def pay(county: County, statement: Statement, fen: int, ref: str) -> Payment:
    step = (record_payment, statement.statement_id, Tender.CASH, fen, ref, county.now)
    payment: Payment = county.do(*step, who=MANAGER)
    return payment


def still_open(county: County, statement: Statement) -> int:
    with county.database.read() as session:
        return open_fen(session, session.get_one(Statement, statement.statement_id))


def credit(county: County, payment: Payment) -> int:
    with county.database.read() as session:
        return credit_fen(session, payment.payment_id)


def findings(county: County) -> list[object]:
    """What verification says, but for the anomalies and bookings that these tests leave as they are."""
    with county.database.read() as session:
        return [one for one in verify(session, all_checks()) if one.finding is not None]


def test_what_was_charged_by_presence_stays_so_when_its_instrument_is_measured_afterwards(county):
    """A new instrument is told by check-ins until the county has looked."""

    def detects(how: UseDetection) -> None:
        with county.database.write() as session:
            session.get_one(Instrument, INSTRUMENT).use_detection = how.value

    detects(UseDetection.CHECKIN)
    booking_id = county.book()
    with county.database.write() as session:
        booking = session.get_one(Booking, booking_id)
        booking.checked_in_at, booking.checked_out_at = from_ms(NINE), from_ms(NINE + 50 * MINUTE)
    charge_id = county.charge(booking_id, now=county.now + LATER).charge_id
    detects(UseDetection.POWER)
    assert findings(county) == []
    shorter = Proposal(CorrectionKind.METERED, "they came late", "log book", metered_ms=20 * MINUTE)
    first, _, corrected = correct(county, charge_id, shorter)
    assert (first.total_fen, corrected.total_fen) == (40_000, 20_000)
    gift = Proposal(CorrectionKind.WAIVER, "a gift", "letter", lines=[("time", "hour")])
    assert [each.total_fen for each in correct(county, corrected.charge_id, gift)][-1] == 0
    assert findings(county) == []


def test_a_wrong_meter_is_corrected_in_the_ledger_and_on_the_bill_with_both_versions_kept(county):
    charge_id = county.charged(80)
    first, back, new = correct(county, charge_id, metered(county, charge_id, 50))
    assert [first.total_fen, back.total_fen, new.total_fen] == [60_000, -60_000, 40_000]
    assert (first.metered_ms, new.metered_ms, new.revision) == (80 * MINUTE, 50 * MINUTE, 3)
    with county.database.read() as session:
        entries = session.scalars(
            select(UsageEntry).where(UsageEntry.metric == "running_ms").order_by(UsageEntry.revision)
        ).all()
        stated = [(entry.revision, entry.kind, entry.quantity_ms) for entry in entries]
        assert stated == [
            (1, "session", 80 * MINUTE),
            (2, "correction", -80 * MINUTE),
            (3, "correction", 50 * MINUTE),
        ]
        metered_row = session.scalars(select(UsageSession)).one()
        assert metered_row.odo_running_last_ms - metered_row.odo_running_first_ms == 80 * MINUTE
        assert check_usage_chain(session, entries[0].agent_id, entries[0].stream) is None
    assert findings(county) == []


def test_a_second_correction_goes_on_from_the_first(county):
    charge_id = county.charged(80)
    third = correct(county, charge_id, metered(county, charge_id, 50))[-1]
    fifth = correct(county, third.charge_id, metered(county, charge_id, 20))[-1]
    assert (fifth.revision, fifth.metered_ms, fifth.total_fen) == (5, 20 * MINUTE, 20_000)
    assert findings(county) == []


def test_records_that_come_after_a_correction_continue_the_chain(county):
    charge_id = county.charged(80)
    correct(county, charge_id, metered(county, charge_id, 50))
    county.charged(30, NINE + HOURS_4)
    assert findings(county) == []


def test_a_waived_line_stays_visible_and_is_not_forgotten_by_the_next_correction(county):
    charge_id = county.charged(80)
    with county.database.read() as session:
        line = session.scalars(select(ChargeLine).where(ChargeLine.charge_id == charge_id)).one()
    waiver = Proposal(CorrectionKind.WAIVER, "goodwill", "agreed", lines=[(line.component, line.item_code)])
    new = correct(county, charge_id, waiver)[-1]
    with county.database.read() as session:
        lines = session.scalars(
            select(ChargeLine).where(ChargeLine.charge_id == new.charge_id).order_by(ChargeLine.line_no)
        ).all()
    assert [(each.rule, each.amount_fen) for each in lines] == [(line.rule, 60_000), ("waiver.line", -60_000)]
    assert (new.total_fen, new.net_fen) == (0, 0)
    with county.database.read() as session:
        said = explain_charge(county.work(session, CUSTOMER), new.charge_id)
    assert [sentence.en for _, sentence in said.lines][-1] == "not charged, as two people decided: -600.00"
    again = correct(county, new.charge_id, metered(county, charge_id, 50))[-1]
    assert again.total_fen == 0
    assert findings(county) == []


@pytest.mark.parametrize(
    ("kind", "more", "field"),
    [
        (CorrectionKind.METERED, {}, "metered_ms"),
        (CorrectionKind.METERED, {"metered_ms": 5}, "session_id"),
        (CorrectionKind.METERED, {"metered_ms": 5, "session_id": "no.such.1"}, "session_id"),
        (CorrectionKind.WAIVER, {}, "lines"),
        (CorrectionKind.WAIVER, {"lines": [("setup", "none")]}, "lines"),
    ],
)
def test_a_correction_that_could_not_be_carried_out_is_refused(county, kind, more, field):
    charge_id = county.charged(80)
    with pytest.raises(Refused) as caught:
        county.do(propose_correction, charge_id, Proposal(kind, "why", "what", **more), who=MANAGER)
    assert (caught.value.code, caught.value.facts["field"]) == ("bad_correction", field)


def test_a_charge_that_is_withdrawn_is_taken_back_and_its_booking_closed(county):
    charge_id = county.charged(80)
    both = correct(county, charge_id, Proposal(CorrectionKind.WITHDRAWAL, "spoilt", "report"))
    assert [charge.total_fen for charge in both] == [60_000, -60_000]
    with county.database.read() as session:
        assert session.get_one(Booking, both[0].booking_id).state == "closed"
    assert findings(county) == []


def test_an_explanation_shows_every_version_and_who_said_what(county):
    charge_id = county.charged(80)
    county.do(raise_dispute, charge_id, "we left early", who=CUSTOMER)
    new = correct(county, charge_id, metered(county, charge_id, 50))[-1]
    with county.database.read() as session:
        told = explain_charge(county.work(session, CUSTOMER), new.charge_id)
    assert [one.revision for one in told.revisions] == [1, 2, 3]
    [(dispute, end)] = told.disputes
    [(correction, decision)] = told.corrections
    assert (dispute.reason, end.outcome) == ("we left early", "corrected")
    assert (correction.metered_after_ms, decision.decided_by) == (50 * MINUTE, "second")
    assert correction.correction_id in new.reason


def test_money_follows_a_smaller_charge_and_the_rest_is_credit_that_settles_or_is_paid_back(county):
    charge_id = county.charged(80)
    statement = bill(county)
    payment = pay(county, statement, 60_000, "bank-1")
    new = correct(county, charge_id, metered(county, charge_id, 50))[-1]
    with county.database.read() as session:
        assert (settled_fen(session, charge_id), settled_fen(session, new.charge_id)) == (0, 40_000)
    assert (credit(county, payment), still_open(county, statement)) == (20_000, 0)
    note = bill(county)
    assert (note.kind, note.total_fen, still_open(county, note)) == ("credit_note", -20_000, 0)
    county.charged(30, NINE + HOURS_4)
    third = bill(county)
    assert still_open(county, third) == 20_000
    with pytest.raises(Refused) as caught:
        county.do(refund_credit, payment.payment_id, 20_001, "back-1", "", who=MANAGER)
    assert caught.value.code == "more_than_credit"
    county.do(refund_credit, payment.payment_id, 5_000, "back-1", "asked for it", who=MANAGER)
    assert county.do(settle_by_credit, third.statement_id, who=MANAGER) == 15_000
    assert (credit(county, payment), still_open(county, third)) == (0, 5_000)
    with pytest.raises(Refused) as caught:
        county.do(settle_by_credit, third.statement_id, who=MANAGER)
    assert caught.value.code == "no_credit"
    assert findings(county) == []


def test_a_larger_charge_takes_all_the_money_and_is_paid_where_it_was_first_billed(county):
    charge_id = county.charged(80)
    statement = bill(county)
    pay(county, statement, 60_000, "bank-1")
    new = correct(county, charge_id, metered(county, charge_id, 110))[-1]
    second = bill(county)
    assert (new.total_fen, second.total_fen) == (80_000, 20_000)
    assert (still_open(county, statement), still_open(county, second)) == (20_000, 0)
    pay(county, statement, 20_000, "bank-2")
    with county.database.read() as session:
        assert settled_fen(session, new.charge_id) == 80_000
        assert session.get_one(Booking, new.booking_id).state == "closed"
    assert findings(county) == []


def test_what_was_not_paid_yet_is_paid_after_a_correction_by_what_stands_now(county):
    charge_id = county.charged(80)
    statement = bill(county)
    correct(county, charge_id, metered(county, charge_id, 50))
    bill(county)
    assert still_open(county, statement) == 40_000
    pay(county, statement, 40_000, "bank-1")
    assert still_open(county, statement) == 0
    assert findings(county) == []


def test_a_plain_reversal_sets_money_free_too(county):
    charge_id = county.charged(80)
    payment = pay(county, bill(county), 25_000, "bank-1")
    county.do(reverse_charge, charge_id, "wrong party", who=OFFICER)
    assert credit(county, payment) == 25_000
    assert findings(county) == []


def test_a_planted_wrong_release_is_found(county):
    charge_id = county.charged(80)
    payment = pay(county, bill(county), 25_000, "bank-1")
    with county.database.write() as session:
        session.connection().exec_driver_sql(
            "INSERT INTO credit_entry"
            " (entry_id, payment_id, kind, charge_id, amount_fen, reason, recorded_by, recorded_at)"
            f" VALUES ('x', '{payment.payment_id}', 'apply', '{charge_id}', 1, '', 'x', 1)"
        )
    assert [one.name for one in findings(county)] == ["settlements (14)", "payments as recorded"]
