"""Late cancellation and no-show: charged once, in the transition, by the frozen terms; waived where need be."""

from datetime import timedelta

import pytest
from sqlalchemy import select, text, update

from api.booking.completion import complete_booking
from api.booking.matching_service import match_session
from api.booking.outages import declare_outage
from api.booking.slots import Interval
from api.booking.states import BookingAction
from api.booking.steps import StepInput, perform
from api.charging.disputes import raise_dispute, withdraw_dispute
from api.charging.documents import read_input
from api.charging.rating import rate
from api.charging.tariff_body import (
    CancellationTerms,
    NoShowTerms,
    Prices,
    TariffBody,
    TimePrice,
    TimeUnit,
    canonical_body,
    read_body,
)
from api.verify.checks import charge_checks, verify
from store.canonical import sha256_hex
from store.database import Database
from store.tables.booking_rules import Strike
from store.tables.calendar import BookingEvent, BookingState, Due, UsePurpose
from store.tables.charging import Charge, ChargeLine, ChargePurpose, TariffVersion
from tests.support.builders_booking import FIRM_A, HOUR, MANAGER, MINUTE, WORKER, Office, open_office
from tests.support.county import MONDAY_NINE_MS
from tests.support.usage import StreamWriter
from wire.clock import ManualClock, to_ms
from wire.messages import PowerState

pytestmark = pytest.mark.slow_on_postgresql

DAY = timedelta(days=1)
TICK = timedelta(milliseconds=1)
TERMS = TariffBody(
    schema_name="openlab.tariff/2",
    default=Prices(time=TimePrice(per=TimeUnit.HOUR, unit_fen=40_000, step_s=1800), setup_fen=5_000),
    cancellation=CancellationTerms(free_until_s=86_400, fee_bp=3_000),
    no_show=NoShowTerms(fee_bp=5_000),
)
QUOTED = 45_000


@pytest.fixture
def clock() -> ManualClock:
    """The clock of these tests; stands still until a test moves it."""
    return ManualClock(MONDAY_NINE_MS)


@pytest.fixture
def office(database: Database, clock: ManualClock) -> Office:
    """The small county with prices that have no terms."""
    return open_office(database, clock)


@pytest.fixture
def terms(database: Database, clock: ManualClock) -> Office:
    """The small county whose prices have terms."""
    return open_office(database, clock, TERMS)


def charges(office: Office) -> list[Charge]:
    return sorted(office.all_of(Charge), key=lambda charge: (charge.purpose, charge.revision))


def confirmed(office: Office, in_h: float = 48.0, **changes) -> str:
    booking_id = office.book(FIRM_A, office.slot(in_h), **changes)
    if office.booking(booking_id).state == BookingState.REQUESTED.value:
        office.do(MANAGER, booking_id, BookingAction.CONFIRM)
    return booking_id


def miss(office: Office, booking_id: str) -> None:
    """Let the slot go by; the meter accounts for all of it and saw nothing."""
    booking = office.booking(booking_id)
    idle = StreamWriter(office.instrument, start_ms=to_ms(booking.slot_from - HOUR))
    idle.tick(PowerState.OFF, 3 * 3600)
    office.clock.advance((booking.slot_to + HOUR - office.now) // TICK)
    office.record(idle)
    with office.work(WORKER) as work:
        assert complete_booking(work, booking_id) is None


def last_facts(office: Office, booking_id: str) -> str:
    events = [event for event in office.all_of(BookingEvent) if event.booking_id == booking_id]
    return max(events, key=lambda event: event.event_no).facts


@pytest.mark.parametrize(
    ("before_slot", "fen"), [(DAY, []), (DAY + HOUR, []), (DAY - TICK, [13_500]), (TICK, [13_500])]
)
def test_cancelling_is_free_until_the_notice_and_costs_a_share_of_the_quote_after_it(terms, before_slot, fen):
    booking_id = confirmed(terms)
    terms.advance(terms.booking(booking_id).slot_from - before_slot - terms.now)
    terms.do(FIRM_A, booking_id, BookingAction.CANCEL)
    assert [charge.total_fen for charge in charges(terms)] == fen
    for charge in charges(terms):
        assert (charge.purpose, charge.has_session, charge.metered_ms) == ("cancellation", False, 0)
        assert charge.service_at == terms.now
        assert charge.charge_id in last_facts(terms, booking_id)


def test_a_fee_is_recomputed_from_its_input_and_has_one_line(terms):
    booking_id = confirmed(terms, 2.0)
    terms.do(FIRM_A, booking_id, BookingAction.CANCEL)
    [charge] = charges(terms)
    with terms.database.read() as session:
        version = session.get_one(TariffVersion, (charge.tariff_id, charge.tariff_version))
        [line] = session.scalars(select(ChargeLine).where(ChargeLine.charge_id == charge.charge_id))
    rated = rate(read_input(charge.input, read_body(version.body)), charge.calc_version)
    assert (rated.total_fen, rated.net_fen) == (charge.total_fen, charge.net_fen)
    assert (line.component, line.quantity, line.unit_fen) == ("cancellation", QUOTED, 3_000)
    assert charge.input_sha256 == sha256_hex(charge.input.encode())


def test_verify_prices_a_fee_again_and_names_a_changed_line(terms):
    terms.do(FIRM_A, confirmed(terms, 2.0), BookingAction.CANCEL)
    [charge] = charges(terms)

    def found() -> list[str]:
        with terms.database.read() as session:
            outcomes = list(verify(session, charge_checks()))
        return [outcome.finding.table for outcome in outcomes if outcome.finding is not None]

    assert found() == []
    stop_guard = {
        "sqlite": "DROP TRIGGER openlab_charge_line_no_update",
        "postgresql": "ALTER TABLE charge_line DISABLE TRIGGER ALL",
    }
    with terms.database.write() as session:
        session.execute(text(stop_guard[terms.database.engine.dialect.name]))
        session.execute(update(ChargeLine).where(ChargeLine.charge_id == charge.charge_id).values(unit_fen=2_999))
    assert "charge_line" in found()


@pytest.mark.parametrize("who", [MANAGER, WORKER])
def test_who_cancels_for_the_host_charges_nothing(terms, who):
    booking_id = confirmed(terms, 2.0)
    with terms.work(who) as work:
        perform(work, booking_id, BookingAction.CANCEL, StepInput(reason="the operator is ill"), None)
    assert charges(terms) == []


def test_a_request_that_nobody_confirmed_is_cancelled_free(terms):
    terms.change_instrument(approval="manager")
    booking_id = terms.book(FIRM_A, terms.slot(2))
    assert terms.booking(booking_id).state == BookingState.REQUESTED.value
    terms.do(FIRM_A, booking_id, BookingAction.CANCEL)
    assert charges(terms) == []


@pytest.mark.parametrize("status", ["faulty", "in_repair"])
def test_an_instrument_that_does_not_work_waives_both(terms, status):
    cancelled, missed = confirmed(terms, 2.0), confirmed(terms, 4.0)
    terms.change_instrument(run_status=status)
    terms.do(FIRM_A, cancelled, BookingAction.CANCEL)
    miss(terms, missed)
    assert charges(terms) == []
    for booking_id in (cancelled, missed):
        assert f"instrument {status}" in last_facts(terms, booking_id)


@pytest.mark.parametrize("agreed", [True, False])
@pytest.mark.parametrize(("begins", "ends"), [(30 * MINUTE, 2 * HOUR), (-5 * MINUTE, 30 * MINUTE)])
def test_an_outage_in_the_slot_waives_a_no_show_and_is_no_strike(sqlite_database, clock, agreed, begins, ends):
    terms = open_office(sqlite_database, clock, *([TERMS] if agreed else []))
    booking_id = confirmed(terms, 2.0)
    slot = terms.booking(booking_id)
    terms.advance(slot.slot_from - 10 * MINUTE - terms.now)
    with terms.work(MANAGER) as work:
        outcome = declare_outage(
            work, terms.instrument, Interval(slot.slot_from + begins, slot.slot_from + ends), "power cut"
        )
    assert outcome.shortened == [booking_id]
    miss(terms, booking_id)
    assert terms.booking(booking_id).state == BookingState.NO_SHOW.value
    assert charges(terms) == []
    assert terms.all_of(Strike) == []
    assert "outage" in last_facts(terms, booking_id)


def test_an_outage_that_cancels_a_booking_charges_nothing(terms):
    booking_id = confirmed(terms, 2.0)
    slot = terms.booking(booking_id)
    with terms.work(MANAGER) as work:
        declare_outage(work, terms.instrument, Interval(slot.slot_from, slot.slot_to), "power cut")
    assert terms.booking(booking_id).state == BookingState.CANCELLED.value
    assert charges(terms) == []


def test_a_no_show_costs_half_the_quote_once(terms):
    booking_id = confirmed(terms, 2.0)
    miss(terms, booking_id)
    with terms.work(WORKER) as work:
        assert complete_booking(work, booking_id) is None
    [charge] = charges(terms)
    booking = terms.booking(booking_id)
    assert (charge.purpose, charge.total_fen, charge.revision) == (ChargePurpose.NO_SHOW.value, 22_500, 1)
    assert charge.service_at == booking.slot_to - TICK
    assert booking.state == BookingState.NO_SHOW.value


def test_what_no_meter_witnessed_is_a_no_show_without_a_fee(terms):
    booking_id = confirmed(terms, 2.0)
    booking = terms.booking(booking_id)
    terms.advance(booking.slot_to + 26 * HOUR - terms.now)
    with terms.work(WORKER) as work:
        complete_booking(work, booking_id)
    assert terms.booking(booking_id).state == BookingState.NO_SHOW.value
    assert charges(terms) == []
    assert "not witnessed" in last_facts(terms, booking_id)


def test_a_session_found_later_voids_the_no_show_and_the_use_is_due_to_be_charged(terms):
    booking_id = confirmed(terms, 2.0)
    miss(terms, booking_id)
    booking = terms.booking(booking_id)
    late = StreamWriter(terms.instrument, start_ms=to_ms(booking.slot_from))
    late.open(0)
    found = late.session
    late.close(30 * 60)
    terms.record(late)
    with terms.work(WORKER) as work:
        assert match_session(work, str(found)) is None
    fee, reversal = charges(terms)
    assert (reversal.revision, reversal.total_fen, reversal.purpose) == (2, -fee.total_fen, "no_show")
    assert terms.booking(booking_id).state == BookingState.COMPLETED.value
    assert ("charge_booking", booking_id) in [(due.kind, due.subject_id) for due in terms.all_of(Due)]
    assert reversal.charge_id in last_facts(terms, booking_id)


def test_a_session_that_would_void_a_disputed_no_show_waits_for_the_answer(sqlite_database, clock):
    office = open_office(sqlite_database, clock, TERMS)
    booking_id = confirmed(office, 2.0)
    miss(office, booking_id)
    [fee] = charges(office)
    with office.work(FIRM_A) as work:
        dispute = raise_dispute(work, fee.charge_id, "we were there")
    late = StreamWriter(office.instrument, start_ms=to_ms(office.booking(booking_id).slot_from))
    late.open(0)
    found = str(late.session)
    late.close(30 * 60)
    office.record(late)
    with office.work(WORKER) as work:
        again = match_session(work, found)
        assert again is not None
        assert again > office.now
    with office.work(FIRM_A) as work:
        withdraw_dispute(work, dispute.dispute_id, "it was found")
    with office.work(WORKER) as work:
        assert match_session(work, found) is None
    assert [charge.revision for charge in charges(office)] == [1, 2]


@pytest.mark.parametrize("purpose", [UsePurpose.INTERNAL, UsePurpose.MAINTENANCE])
def test_a_hosts_own_bookings_owe_nothing(terms, purpose):
    booking_id = terms.book(MANAGER, terms.slot(2), purpose=purpose)
    miss(terms, booking_id)
    assert charges(terms) == []


def test_a_price_list_without_terms_charges_neither(office):
    cancelled, missed = confirmed(office, 2.0), confirmed(office, 4.0)
    office.do(FIRM_A, cancelled, BookingAction.CANCEL)
    miss(office, missed)
    assert charges(office) == []
    assert office.booking(missed).state == BookingState.NO_SHOW.value


def test_the_terms_are_those_frozen_with_the_booking_not_later_ones(terms):
    booking_id = confirmed(terms, 2.0)
    with terms.database.write() as session:
        first = session.scalars(select(TariffVersion).where(TariffVersion.tariff_id == f"t-{terms.instrument}")).one()
        values = {column.key: getattr(first, column.key) for column in TariffVersion.__mapper__.column_attrs}
        body = TERMS.model_copy(update={"cancellation": CancellationTerms(free_until_s=86_400, fee_bp=10_000)})
        text = canonical_body(body)
        values |= {"version": 2, "valid_from": terms.now, "body": text.decode(), "body_sha256": sha256_hex(text)}
        session.add(TariffVersion(**values))
    terms.do(FIRM_A, booking_id, BookingAction.CANCEL)
    assert [charge.total_fen for charge in charges(terms)] == [13_500]


def test_a_death_in_the_transition_leaves_neither_the_state_nor_the_fee(terms, monkeypatch):
    booking_id = confirmed(terms, 2.0)

    class Killed(BaseException):
        pass

    def dies(*args, **kwargs):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("api.booking.steps.record_event", dies)
        with pytest.raises(Killed):
            terms.do(FIRM_A, booking_id, BookingAction.CANCEL)
    assert charges(terms) == []
    assert terms.booking(booking_id).state == BookingState.CONFIRMED.value
    terms.do(FIRM_A, booking_id, BookingAction.CANCEL)
    assert len(charges(terms)) == 1
