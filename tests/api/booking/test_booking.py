"""Booking through the services: who may book what, what is frozen, what is refused and how a booking goes on."""

import json
from datetime import timedelta
from typing import Any

import pytest

from api.booking.rules import NO_CERTIFICATE, BookingRequest
from api.booking.service import create_booking, quote
from api.booking.slots import Interval
from api.booking.states import BookingAction
from api.errors import Refused
from store.audit import check_audit_chain
from store.canonical import sha256_hex
from store.errors import CalendarOverlap
from store.tables.calendar import BookingEvent, BookingMode, BookingState, CalendarRow, Due, DueKind, UsePurpose
from store.tables.registry import Certificate, Org
from tests.support.builders_booking import (
    FIRM_A,
    FIRM_B,
    HOUR,
    MANAGER,
    MINUTE,
    OFFICER,
    OTHER_MANAGER,
    WORKER,
    Office,
)
from tests.support.usage import LONG_AGO

A, S = BookingAction, BookingState
REPORT = {"report_number": "R-1", "report_date": "2026-03-04", "report_sha256": "a" * 64}


def refusal(office: Office, actor: Any, **changes: Any) -> Refused:
    with pytest.raises(Refused) as refused:
        office.book(actor, **changes)
    return refused.value


def step_refusal(office: Office, actor: Any, booking_id: str, action: BookingAction, **said: Any) -> Refused:
    with pytest.raises(Refused) as refused:
        office.do(actor, booking_id, action, **said)
    return refused.value


def test_a_booking_freezes_its_price_and_takes_its_slot_with_the_buffer(office: Office) -> None:
    office.change_instrument(buffer_minutes=15)
    booking = office.booking(office.book(FIRM_A, office.slot(1, 1.5)))
    assert booking.state == S.CONFIRMED
    assert (booking.payer_org, booking.category, booking.tariff_version) == ("org-a", "sme", 1)
    assert sha256_hex(booking.quote.encode()) == booking.quote_sha256
    assert json.loads(booking.quote)["total_fen"] == 5_000 + 60_000
    (row,) = office.active_rows()
    assert (row.from_at, row.to_at) == (booking.slot_from, booking.slot_to + 15 * MINUTE)
    events = office.all_of(BookingEvent)
    assert [(event.from_state, event.to_state, event.actor) for event in events] == [
        ("", "requested", "p-a"),
        ("requested", "confirmed", "system:booking"),
    ]
    (due,) = office.all_of(Due)
    assert (due.kind, due.due_at) == (DueKind.COMPLETE_BOOKING, booking.slot_to + 15 * MINUTE)
    with office.database.read() as session:
        assert check_audit_chain(session, "host:h01") is None


def test_a_quote_is_what_the_booking_freezes(sqlite_office: Office) -> None:
    request = BookingRequest(sqlite_office.instrument, BookingMode.SELF_OPERATED, sqlite_office.slot())
    with sqlite_office.work(FIRM_A) as work:
        offer = quote(work, request)
        booking, booked = create_booking(work, request)
    assert offer == booked
    assert offer.price.document == booking.quote
    assert offer.price.rated.total_fen == 45_000
    assert offer.warnings == ()


def test_a_taken_slot_names_the_clash_as_times_only_and_three_free_ones(office: Office) -> None:
    taken = office.slot(1, 2)
    office.book(FIRM_A, taken)
    refused = refusal(office, FIRM_B, slot=office.slot(2, 2))
    assert (refused.status, refused.code) == (409, "slot_taken")
    assert refused.facts["clash"] == [{"from": "2026-03-02T10:00:00+08:00", "to": "2026-03-02T12:00:00+08:00"}]
    assert [free["from"] for free in refused.facts["alternatives"]] == [
        "2026-03-02T12:00:00+08:00",
        "2026-03-02T14:00:00+08:00",
        "2026-03-02T16:00:00+08:00",
    ]
    assert "org-a" not in str(refused.facts)
    assert len(office.active_rows()) == 1


def test_the_database_itself_refuses_an_overlap_whoever_writes_it(office: Office) -> None:
    office.book(FIRM_A)
    (row,) = office.active_rows()
    with pytest.raises(CalendarOverlap), office.database.write() as session:
        session.add(
            CalendarRow(
                row_id="other",
                instrument_id=row.instrument_id,
                kind="reservation",
                from_at=row.to_at - MINUTE,
                to_at=row.to_at + MINUTE,
                active=True,
                note="",
                created_by="somebody",
                created_at=office.now,
            )
        )
    assert len(office.active_rows()) == 1


def test_touching_slots_do_not_overlap(office: Office) -> None:
    office.book(FIRM_A, office.slot(1, 1))
    office.book(FIRM_B, office.slot(2, 1))
    assert len(office.active_rows()) == 2


@pytest.mark.parametrize(
    ("slot", "code"),
    [
        ((-0.5, 1), "slot_in_the_past"),
        ((1, 0), "slot_reversed"),
        ((1, -1), "slot_reversed"),
        ((1, 24.5), "slot_too_long"),
        ((24 * 367, 1), "slot_too_far_ahead"),
    ],
)
def test_a_slot_that_makes_no_sense_is_refused(sqlite_office: Office, slot: tuple[float, float], code: str) -> None:
    refused = refusal(sqlite_office, FIRM_A, slot=sqlite_office.slot(*slot))
    assert (refused.status, refused.code) == (422, code)


def test_a_slot_may_start_now(sqlite_office: Office) -> None:
    assert sqlite_office.book(FIRM_A, sqlite_office.slot(0, 1))


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"share_mode": "internal"}, "not_shared"),
        ({"share_mode": "none"}, "not_shared"),
        ({"run_status": "faulty"}, "instrument_not_working"),
        ({"run_status": "retired"}, "instrument_not_working"),
    ],
)
def test_an_instrument_that_cannot_be_used_is_refused(sqlite_office: Office, columns: Any, code: str) -> None:
    sqlite_office.change_instrument(**columns)
    refused = refusal(sqlite_office, FIRM_A)
    assert (refused.status, refused.code) == (409, code)


def test_a_firm_that_is_not_active_cannot_book(sqlite_office: Office) -> None:
    with sqlite_office.database.write() as session:
        session.get_one(Org, "org-a").state = "suspended"
    assert refusal(sqlite_office, FIRM_A).status == 403


def test_a_firm_books_for_itself_only(sqlite_office: Office) -> None:
    assert refusal(sqlite_office, FIRM_A, payer_org="org-b").status == 403
    assert refusal(sqlite_office, FIRM_A, purpose=UsePurpose.INTERNAL).status == 403


def test_only_firms_and_the_hosts_own_manager_book(sqlite_office: Office) -> None:
    assert refusal(sqlite_office, OTHER_MANAGER).status == 403
    assert refusal(sqlite_office, OTHER_MANAGER, payer_org="org-a").status == 403


def test_a_manager_books_for_internal_use_at_the_hosts_own_category(sqlite_office: Office) -> None:
    booking = sqlite_office.booking(sqlite_office.book(MANAGER, purpose=UsePurpose.INTERNAL))
    assert (booking.payer_org, booking.category, booking.state) == ("org-h01", "own", S.CONFIRMED)


def test_a_manager_books_for_a_customer_and_has_to_name_it(sqlite_office: Office) -> None:
    assert refusal(sqlite_office, MANAGER).code == "payer_missing"
    booking = sqlite_office.booking(sqlite_office.book(MANAGER, payer_org="org-a"))
    assert (booking.payer_org, booking.person_id) == ("org-a", "p-m")


def test_a_slot_beyond_the_certificate_is_warned_of(sqlite_office: Office) -> None:
    with sqlite_office.database.write() as session:
        session.get_one(Certificate, f"c-{sqlite_office.instrument}").valid_to = sqlite_office.now + 90 * MINUTE
        request = BookingRequest(sqlite_office.instrument, BookingMode.SELF_OPERATED, sqlite_office.slot(1, 1))
    with sqlite_office.work(FIRM_A) as work:
        assert create_booking(work, request)[1].warnings == (NO_CERTIFICATE,)


def test_where_the_manager_approves_a_request_holds_its_slot_for_a_day(office: Office) -> None:
    office.change_instrument(approval="manager")
    booking_id = office.book(FIRM_A, office.slot(30, 1))
    booking = office.booking(booking_id)
    assert (booking.state, booking.held_until) == (S.REQUESTED, office.now + timedelta(hours=24))
    assert [(due.kind, due.due_at) for due in office.all_of(Due)] == [(DueKind.EXPIRE_BOOKING, booking.held_until)]
    assert refusal(office, FIRM_B, slot=office.slot(30, 1)).code == "slot_taken"
    assert office.do(MANAGER, booking_id, A.CONFIRM).state == S.CONFIRMED


def test_a_request_for_soon_is_held_until_its_slot_begins(sqlite_office: Office) -> None:
    sqlite_office.change_instrument(approval="manager")
    booking = sqlite_office.booking(sqlite_office.book(FIRM_A, sqlite_office.slot(2, 1)))
    assert booking.held_until == booking.slot_from
    sqlite_office.advance(3 * HOUR)
    assert step_refusal(sqlite_office, MANAGER, booking.booking_id, A.CONFIRM).code == "hold_expired"


def test_rejecting_and_cancelling_free_the_slot(office: Office) -> None:
    office.change_instrument(approval="manager")
    first = office.book(FIRM_A)
    assert step_refusal(office, MANAGER, first, A.REJECT).code == "reason_required"
    office.do(MANAGER, first, A.REJECT, reason="not this material")
    second = office.book(FIRM_A)
    office.do(FIRM_A, second, A.CANCEL)
    assert office.book(FIRM_B)
    assert [office.booking(key).state for key in (first, second)] == [S.REJECTED, S.CANCELLED]


def test_a_customer_cannot_cancel_a_slot_that_has_begun(sqlite_office: Office) -> None:
    booking_id = sqlite_office.book(FIRM_A)
    sqlite_office.advance(HOUR)
    assert step_refusal(sqlite_office, FIRM_A, booking_id, A.CANCEL).code == "too_late_to_cancel"
    assert sqlite_office.do(MANAGER, booking_id, A.CANCEL, reason="fault").state == S.CANCELLED


def test_check_in_opens_a_quarter_of_an_hour_before_the_slot(sqlite_office: Office) -> None:
    booking_id = sqlite_office.book(FIRM_A)
    assert step_refusal(sqlite_office, FIRM_A, booking_id, A.CHECK_IN).code == "not_check_in_time"
    sqlite_office.advance(45 * MINUTE)
    booking = sqlite_office.do(FIRM_A, booking_id, A.CHECK_IN)
    assert (booking.state, booking.checked_in_at) == (S.CHECKED_IN, sqlite_office.now)


def test_a_check_out_makes_completion_due_at_once_and_is_recorded_once(office: Office) -> None:
    booking_id = office.book(FIRM_A)
    office.advance(HOUR)
    office.do(FIRM_A, booking_id, A.CHECK_IN)
    office.advance(20 * MINUTE)
    office.do(FIRM_A, booking_id, A.CHECK_OUT)
    assert [due.due_at for due in office.all_of(Due)] == [office.now]
    assert step_refusal(office, FIRM_A, booking_id, A.CHECK_OUT).code == "already_recorded"


def test_a_sample_order_takes_no_slot_until_it_is_scheduled(office: Office) -> None:
    sample: dict[str, Any] = {"mode": BookingMode.SAMPLES, "quantity": 3}
    booking_id = office.book(FIRM_A, **sample)
    assert office.active_rows() == []
    office.book(FIRM_B)
    office.do(MANAGER, booking_id, A.RECEIVE, samples=("ring 1", "ring 2", "ring 3"))
    assert step_refusal(office, MANAGER, booking_id, A.SCHEDULE, slot=office.slot()).code == "slot_taken"
    office.do(MANAGER, booking_id, A.SCHEDULE, slot=office.slot(3, 1))
    assert step_refusal(office, MANAGER, booking_id, A.SCHEDULE, slot=office.slot(5, 1)).code == "not_possible_now"
    assert len(office.active_rows()) == 2
    office.do(MANAGER, booking_id, A.START)
    assert step_refusal(office, MANAGER, booking_id, A.CONFIRM_RESULTS).code == "field_missing"
    office.do(MANAGER, booking_id, A.CONFIRM_RESULTS, quantity=2)
    assert step_refusal(office, MANAGER, booking_id, A.REPORT, report_number="R-1").code == "field_missing"
    booking = office.do(MANAGER, booking_id, A.REPORT, **REPORT)
    assert (booking.state, booking.confirmed_quantity) == (S.REPORTED, 2)
    facts = [json.loads(event.facts) for event in office.all_of(BookingEvent) if event.booking_id == booking_id]
    assert {"number": "R-1", "date": "2026-03-04", "sha256": "a" * 64} in facts
    assert {"samples": ["ring 1", "ring 2", "ring 3"]} in facts
    assert (DueKind.COMPLETE_BOOKING, booking_id) in {(due.kind, due.subject_id) for due in office.all_of(Due)}


def test_a_sample_order_without_samples_is_refused(sqlite_office: Office) -> None:
    assert refusal(sqlite_office, FIRM_A, mode=BookingMode.SAMPLES).code == "quantity_too_small"


def test_another_firm_cannot_even_see_a_booking(sqlite_office: Office) -> None:
    booking_id = sqlite_office.book(FIRM_A)
    for stranger in (FIRM_B, OTHER_MANAGER):
        assert step_refusal(sqlite_office, stranger, booking_id, A.CANCEL).status == 404
    assert step_refusal(sqlite_office, OFFICER, booking_id, A.CANCEL).status == 403


def test_a_booking_is_always_a_persons(sqlite_office: Office) -> None:
    assert refusal(sqlite_office, WORKER, payer_org="org-b").status == 403


def test_an_interval_is_half_open() -> None:
    first, second = Interval(LONG_AGO, LONG_AGO + HOUR), Interval(LONG_AGO + HOUR, LONG_AGO + 2 * HOUR)
    assert not first.overlaps(second)
    assert first.overlaps(Interval(LONG_AGO + 59 * MINUTE, LONG_AGO + 2 * HOUR))
