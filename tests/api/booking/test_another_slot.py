"""Another slot keeps the rules that the first one had to keep, and goes around nobody who had to agree to it."""

from datetime import timedelta
from typing import Any

import pytest

from api.booking import approval, consents, qualification
from api.booking.approval import ApprovalRule
from api.booking.rules import OrderedItem
from api.booking.states import BookingAction
from store.tables.booking_rules import BookingProposal
from store.tables.calendar import BookingMode, BookingState, DueKind
from store.tables.registry import Approval, Certificate, Org, ReportType, TestItem
from tests.support.builders_booking import FIRM_A, HOUR, MANAGER, MINUTE, OFFICER, Office
from tests.support.consent import answer, outage, propose, refused, the_proposal

A, S = BookingAction, BookingState
DAY = timedelta(days=1)


def rule(office: Office, approved_by: Approval = Approval.MANAGER, **columns: Any) -> None:
    with office.work(MANAGER) as work:
        approval.set_rule(work, office.instrument, ApprovalRule(approved_by, **columns), 0)


def train(office: Office, until: timedelta) -> None:
    with office.work(MANAGER) as work:
        qualification.grant(work, office.instrument, "p-a", "half a day at the instrument", office.now + until)


def accredited(office: Office, valid_for: timedelta) -> dict[str, Any]:
    """What orders an accredited item of the instrument, whose certificate is valid so long."""
    with office.database.write() as session:
        session.add(
            TestItem(
                test_item_id="t-1",
                instrument_id=office.instrument,
                name_zh="拉伸强度",
                name_en="tensile strength",
                standard="GB/T 228.1",
                typical_session_minutes=30,
                row_version=1,
                report_type=ReportType.CMA.value,
            )
        )
        session.get_one(Certificate, f"c-{office.instrument}").valid_to = office.now + valid_for
    return {"items": (OrderedItem("t-1"),)}


def suspend(office: Office) -> None:
    with office.database.write() as session:
        session.get_one(Org, "org-a").state = "suspended"


# Who had to agree


@pytest.mark.parametrize("times_displaced", [1, 2])
def test_a_displaced_request_still_waits_for_the_manager(sqlite_office: Office, times_displaced: int) -> None:
    rule(sqlite_office)
    hit = sqlite_office.book(FIRM_A, sqlite_office.slot(2, 1))
    for hour in (1, 4)[:times_displaced]:
        assert outage(sqlite_office, sqlite_office.slot(hour, 3)).moved == [hit]
    sqlite_office.advance(30 * MINUTE)
    answer(sqlite_office, FIRM_A, the_proposal(sqlite_office))
    booking = sqlite_office.booking(hit)
    assert booking.state == S.REQUESTED
    assert booking.held_until == min(sqlite_office.now + DAY, booking.slot_from)
    dues = {(due.kind, due.subject_id): due.due_at for due in sqlite_office.all_of_due()}
    assert dues[DueKind.EXPIRE_BOOKING, hit] == booking.held_until
    assert sqlite_office.do(MANAGER, hit, A.CONFIRM).state == S.CONFIRMED


@pytest.mark.parametrize("times_displaced", [1, 2])
def test_what_the_manager_has_confirmed_stays_confirmed_elsewhere(sqlite_office: Office, times_displaced: int) -> None:
    rule(sqlite_office)
    hit = sqlite_office.book(FIRM_A, sqlite_office.slot(2, 1))
    sqlite_office.do(MANAGER, hit, A.CONFIRM)
    for hour in (1, 4)[:times_displaced]:
        assert outage(sqlite_office, sqlite_office.slot(hour, 3)).moved == [hit]
    answer(sqlite_office, FIRM_A, the_proposal(sqlite_office))
    assert sqlite_office.booking(hit).state == S.CONFIRMED


@pytest.mark.parametrize(("actor", "state"), [(OFFICER, S.REQUESTED), (MANAGER, S.CONFIRMED)])
def test_an_on_behalf_booking_that_is_displaced_waits_for_whoever_has_not_agreed(
    sqlite_office: Office, actor: Any, state: BookingState
) -> None:
    rule(sqlite_office)
    hit = sqlite_office.book(actor, sqlite_office.slot(2, 1), payer_org="org-a")
    assert outage(sqlite_office, sqlite_office.slot(1, 3)).moved == [hit]
    answer(sqlite_office, FIRM_A, the_proposal(sqlite_office))
    assert sqlite_office.booking(hit).state == state


def test_a_request_that_moves_to_a_slot_which_confirms_itself_is_confirmed(office: Office) -> None:
    rule(office, auto_up_to_minutes=60)
    booking_id = office.book(FIRM_A, office.slot(2, 2))
    assert office.booking(booking_id).state == S.REQUESTED
    price = refused(office, propose, FIRM_A, booking_id, office.slot(5, 1))
    assert price == "price_differs"
    with office.work(FIRM_A) as work:
        from api.booking.proposals import requote

        sha256 = requote(work, office.booking(booking_id), office.slot(5, 1)).sha256
    assert propose(office, FIRM_A, booking_id, office.slot(5, 1), sha256=sha256).state == "accepted"
    assert office.booking(booking_id).state == S.CONFIRMED
    assert (DueKind.COMPLETE_BOOKING, booking_id) in {(due.kind, due.subject_id) for due in office.all_of_due()}


# The rules of the first slot


def test_another_slot_lies_within_the_training(sqlite_office: Office) -> None:
    rule(sqlite_office, Approval.AUTOMATIC, needs_qualification=True)
    train(sqlite_office, 2 * DAY)
    booking_id = sqlite_office.book(FIRM_A, sqlite_office.slot(30, 1))
    for actor in (FIRM_A, MANAGER):
        assert refused(sqlite_office, propose, actor, booking_id, sqlite_office.slot(168, 1)) == "not_qualified"
    assert propose(sqlite_office, FIRM_A, booking_id, sqlite_office.slot(40, 1)).state == "accepted"
    attended = sqlite_office.book(MANAGER, sqlite_office.slot(60, 1), payer_org="org-a", consent="order 7")
    assert propose(sqlite_office, MANAGER, attended, sqlite_office.slot(65, 1)).state == "open"


def test_who_would_not_be_trained_at_the_next_free_slot_is_not_moved_there(sqlite_office: Office) -> None:
    rule(sqlite_office, Approval.AUTOMATIC, needs_qualification=True)
    train(sqlite_office, 4 * HOUR)
    hit = sqlite_office.book(FIRM_A, sqlite_office.slot(2, 1))
    assert outage(sqlite_office, sqlite_office.slot(1, 3)).cancelled == [hit]


def test_an_accredited_booking_is_not_moved_beyond_the_certificate(sqlite_office: Office) -> None:
    items = accredited(sqlite_office, 4 * HOUR)
    hit = sqlite_office.book(FIRM_A, sqlite_office.slot(2, 1), **items)
    assert outage(sqlite_office, sqlite_office.slot(1, 3)).cancelled == [hit]
    assert sqlite_office.all_of(BookingProposal) == []


@pytest.mark.parametrize("why", ["certificate_expired", "instrument_not_working", "not_qualified", "forbidden"])
def test_what_has_changed_since_the_outage_refuses_the_slot_it_offered(sqlite_office: Office, why: str) -> None:
    rule(sqlite_office, Approval.AUTOMATIC, needs_qualification=True)
    train(sqlite_office, 10 * HOUR)
    hit = sqlite_office.book(FIRM_A, sqlite_office.slot(2, 1), **accredited(sqlite_office, 10 * HOUR))
    assert outage(sqlite_office, sqlite_office.slot(1, 3)).moved == [hit]
    if why == "certificate_expired":
        with sqlite_office.database.write() as session:
            session.get_one(Certificate, f"c-{sqlite_office.instrument}").valid_to = sqlite_office.now + HOUR
    elif why == "instrument_not_working":
        sqlite_office.change_instrument(run_status="faulty")
    elif why == "not_qualified":
        with sqlite_office.work(MANAGER) as work:
            qualification.revoke(work, sqlite_office.instrument, "p-a", "left the tool running")
    else:
        suspend(sqlite_office)
    assert refused(sqlite_office, answer, FIRM_A, the_proposal(sqlite_office)) == why
    with sqlite_office.database.read() as session:
        assert consents.open_proposal(session, hit) is not None


def test_the_slot_that_an_outage_offered_may_be_accepted_within_the_lead_time(sqlite_office: Office) -> None:
    sqlite_office.change_instrument(lead_minutes=60)
    hit = sqlite_office.book(FIRM_A, sqlite_office.slot(2, 1))
    outage(sqlite_office, sqlite_office.slot(1, 2))
    sqlite_office.advance(150 * MINUTE)
    answer(sqlite_office, FIRM_A, the_proposal(sqlite_office))
    assert sqlite_office.booking(hit).state == S.CONFIRMED


# The lead time, which the manager does not need


def test_a_slot_that_the_manager_proposes_within_the_lead_time_can_be_accepted(sqlite_office: Office) -> None:
    sqlite_office.change_instrument(lead_minutes=180)
    booking_id = sqlite_office.book(FIRM_A, sqlite_office.slot(5, 1))
    soon = sqlite_office.slot(2, 1)
    assert refused(sqlite_office, propose, FIRM_A, booking_id, soon) == "slot_too_soon"
    answer(sqlite_office, FIRM_A, propose(sqlite_office, MANAGER, booking_id, soon))
    assert sqlite_office.booking(booking_id).slot_from == soon.from_at


def test_a_slot_that_was_proposed_in_time_can_be_accepted_by_the_manager_later(sqlite_office: Office) -> None:
    sqlite_office.change_instrument(lead_minutes=180, approval="manager")
    booking_id = sqlite_office.book(FIRM_A, sqlite_office.slot(6, 1))
    sqlite_office.do(MANAGER, booking_id, A.CONFIRM)
    to = sqlite_office.slot(4, 1)
    asked = propose(sqlite_office, FIRM_A, booking_id, to)
    sqlite_office.advance(2 * HOUR)
    answer(sqlite_office, MANAGER, asked)
    assert sqlite_office.booking(booking_id).slot_from == to.from_at


# A sample order that the lab has scheduled


@pytest.fixture
def scheduled(sqlite_office: Office) -> str:
    booking_id = sqlite_office.book(FIRM_A, mode=BookingMode.SAMPLES, quantity=2)
    sqlite_office.do(MANAGER, booking_id, A.RECEIVE, samples=("a", "b"))
    sqlite_office.do(MANAGER, booking_id, A.SCHEDULE, slot=sqlite_office.slot(3, 1))
    return booking_id


@pytest.mark.parametrize(("asks", "answers"), [(MANAGER, FIRM_A), (FIRM_A, MANAGER)])
def test_a_scheduled_sample_order_moves_by_consent_of_both_sides(
    sqlite_office: Office, scheduled: str, asks: Any, answers: Any
) -> None:
    to = sqlite_office.slot(6, 1)
    proposal = propose(sqlite_office, asks, scheduled, to)
    assert proposal.state == "open"
    assert refused(sqlite_office, answer, asks, proposal) == "forbidden"
    answer(sqlite_office, answers, proposal)
    booking = sqlite_office.booking(scheduled)
    assert (booking.state, booking.slot_from, booking.slot_to) == (S.SCHEDULED, to.from_at, to.to_at)
    assert [(row.from_at, row.to_at) for row in sqlite_office.active_rows()] == [(to.from_at, to.to_at)]
    assert DueKind.COMPLETE_BOOKING not in {due.kind for due in sqlite_office.all_of_due()}


def test_what_the_lab_took_off_its_schedule_gets_another_slot_by_consent_only(
    sqlite_office: Office, scheduled: str
) -> None:
    def schedule(office: Office, hour: float) -> None:
        office.do(MANAGER, scheduled, A.SCHEDULE, slot=office.slot(hour, 1))

    sqlite_office.do(MANAGER, scheduled, A.UNSCHEDULE, reason="a better customer")
    assert refused(sqlite_office, schedule, 6) == "consent_needed"
    sqlite_office.advance(4 * HOUR)  # the old slot has passed meanwhile
    to = sqlite_office.slot(60, 1)
    proposal = propose(sqlite_office, MANAGER, scheduled, to)
    assert proposal.expires_at == sqlite_office.now + 2 * DAY
    answer(sqlite_office, FIRM_A, proposal)
    booking = sqlite_office.booking(scheduled)
    assert (booking.state, booking.slot_from, booking.slot_to) == (S.SCHEDULED, to.from_at, to.to_at)
    assert [(row.from_at, row.to_at) for row in sqlite_office.active_rows()] == [(to.from_at, to.to_at)]
    sqlite_office.do(MANAGER, scheduled, A.UNSCHEDULE, reason="a slip")
    schedule(sqlite_office, 60)  # the very slot that both agreed to
    assert outage(sqlite_office, sqlite_office.slot(59, 3)).unscheduled == [scheduled]
    schedule(sqlite_office, 70)  # an outage is nobody's choice: the lab schedules as it comes
    assert sqlite_office.booking(scheduled).state == S.SCHEDULED


@pytest.mark.parametrize("step", [A.START, A.UNSCHEDULE])
def test_what_becomes_of_a_sample_order_ends_what_was_proposed(
    sqlite_office: Office, scheduled: str, step: BookingAction
) -> None:
    proposal = propose(sqlite_office, FIRM_A, scheduled, sqlite_office.slot(6, 1))
    sqlite_office.do(MANAGER, scheduled, step, reason="pump")
    assert refused(sqlite_office, answer, MANAGER, proposal, version=2) == "answered_already"
