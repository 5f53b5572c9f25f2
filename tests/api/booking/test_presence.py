"""At the instrument: check-in by a code that is only there, and time that the host keeps for itself."""

from datetime import timedelta
from typing import Any

import pytest

from api.booking import approval, presence, reservations
from api.booking.approval import ApprovalRule
from api.booking.states import BookingAction
from api.errors import Refused
from store.tables.booking_rules import CheckInCode, WrongCode
from store.tables.calendar import BookingState, CalendarKind
from store.tables.registry import Approval
from tests.support.builders_booking import FIRM_A, FIRM_B, HOUR, MANAGER, MINUTE, OTHER_MANAGER, Office

A, S = BookingAction, BookingState


def issue(office: Office, one_time: bool = True, actor: Any = MANAGER) -> str:
    with office.work(actor) as work:
        return presence.issue_code(work, office.instrument, one_time).code


def check_in(office: Office, booking_id: str, code: str, actor: Any = FIRM_A) -> Any:
    version = office.booking(booking_id).row_version
    with office.work(actor) as work:
        return presence.check_in(work, booking_id, code, version)


def refusal(call: Any, *given: Any, **named: Any) -> Refused:
    with pytest.raises(Refused) as told:
        call(*given, **named)
    return told.value


@pytest.fixture
def booked(sqlite_office: Office) -> str:
    """A booking whose slot begins now, at an instrument that takes check-ins by code only."""
    with sqlite_office.work(MANAGER) as work:
        rule = ApprovalRule(Approval.AUTOMATIC, needs_code=True)
        approval.set_rule(work, sqlite_office.instrument, rule, 0)
    return sqlite_office.book(FIRM_A, sqlite_office.slot(0, 1))


def test_a_one_time_code_checks_in_once(sqlite_office: Office, booked: str) -> None:
    assert refusal(sqlite_office.do, FIRM_A, booked, A.CHECK_IN).code == "code_required"
    code = issue(sqlite_office)
    assert len(code) == 6
    booking = check_in(sqlite_office, booked, code)
    assert (booking.state, booking.checked_in_at) == (S.CHECKED_IN, sqlite_office.now)
    (kept,) = sqlite_office.all_of(CheckInCode)
    assert (kept.used_for, kept.ended_at) == (booked, sqlite_office.now)
    assert code not in kept.code_sha256
    sqlite_office.do(FIRM_A, booked, A.CHECK_OUT)
    sqlite_office.advance(HOUR)
    other = sqlite_office.book(FIRM_B, sqlite_office.slot(0, 1))
    assert check_in(sqlite_office, other, code, FIRM_B).code == "wrong_code"


def test_a_one_time_code_is_over_after_ten_minutes(sqlite_office: Office, booked: str) -> None:
    code = issue(sqlite_office)
    sqlite_office.advance(10 * MINUTE)
    assert check_in(sqlite_office, booked, code).code == "wrong_code"


def test_the_posted_code_serves_again_until_another_is_posted(sqlite_office: Office, booked: str) -> None:
    old = issue(sqlite_office, one_time=False)
    new = issue(sqlite_office, one_time=False)
    assert check_in(sqlite_office, booked, old).code == "wrong_code"
    assert check_in(sqlite_office, booked, f" {new.lower()} ").state == S.CHECKED_IN
    sqlite_office.advance(HOUR)
    other = sqlite_office.book(FIRM_B, sqlite_office.slot(0, 1))
    assert check_in(sqlite_office, other, new, FIRM_B).state == S.CHECKED_IN


def test_wrong_codes_are_counted_and_limited_and_the_manager_still_can(sqlite_office: Office, booked: str) -> None:
    code = issue(sqlite_office, one_time=False)
    left = [check_in(sqlite_office, booked, "000000").facts["tries_left"] for _ in range(presence.WRONG_AT_MOST)]
    assert left == [4, 3, 2, 1, 0]
    assert len(sqlite_office.all_of(WrongCode)) == 5
    told = refusal(check_in, sqlite_office, booked, code)
    assert (told.status, told.code) == (429, "too_many_wrong_codes")
    assert 0 < told.facts["retry_after_s"] <= 15 * 60
    sqlite_office.advance(timedelta(minutes=15))
    assert check_in(sqlite_office, booked, code).state == S.CHECKED_IN


def test_the_manager_checks_in_without_a_code(sqlite_office: Office, booked: str) -> None:
    assert sqlite_office.do(MANAGER, booked, A.CHECK_IN).state == S.CHECKED_IN


def test_a_code_does_not_open_the_door_too_early(sqlite_office: Office) -> None:
    code = issue(sqlite_office)
    later = sqlite_office.book(FIRM_A, sqlite_office.slot(5, 1))
    assert refusal(check_in, sqlite_office, later, code).code == "not_check_in_time"
    assert sqlite_office.all_of(CheckInCode)[0].ended_at is None
    assert refusal(issue, sqlite_office, actor=OTHER_MANAGER).status == 403
    assert refusal(check_in, sqlite_office, later, code, FIRM_B).status == 404


# Reservations


def reserve(office: Office, start_h: float, hours: float, actor: Any = MANAGER, note: str = "own work") -> str:
    with office.work(actor) as work:
        return reservations.reserve(work, office.instrument, office.slot(start_h, hours), note).row_id


def end(office: Office, row_id: str, actor: Any = MANAGER) -> Any:
    with office.work(actor) as work:
        return reservations.end_closure(work, office.instrument, row_id, "done")


def test_a_reservation_takes_free_time_only(office: Office) -> None:
    office.book(FIRM_A, office.slot(3, 1))
    told = refusal(reserve, office, 2, 2)
    assert (told.code, len(told.facts["alternatives"])) == ("slot_taken", 3)
    reserve(office, 1, 2)
    with pytest.raises(Refused) as refused:
        office.book(FIRM_B, office.slot(1.5, 1))
    assert refused.value.code == "slot_taken"
    assert [row.kind for row in office.active_rows()] == [CalendarKind.RESERVATION, CalendarKind.BOOKING]


def test_a_reservation_is_the_hosts_managers_with_a_note_and_ahead(sqlite_office: Office) -> None:
    assert refusal(reserve, sqlite_office, 1, 1, actor=OTHER_MANAGER).status == 403
    assert refusal(reserve, sqlite_office, 1, 1, note=" ").code == "reason_required"
    assert refusal(reserve, sqlite_office, -1, 1).code == "slot_in_the_past"
    assert refusal(reserve, sqlite_office, 1, -1).code == "slot_reversed"


def test_ending_a_closure_frees_what_lies_ahead(office: Office) -> None:
    ahead, running = reserve(office, 5, 1), reserve(office, 1, 3)
    assert refusal(end, office, ahead, OTHER_MANAGER).status == 403
    assert not end(office, ahead).active
    assert refusal(end, office, ahead).code == "over_already"
    office.advance(2 * HOUR)
    assert end(office, running).to_at == office.now
    assert office.book(FIRM_A, office.slot(0, 1))
    (booking_row,) = [row for row in office.active_rows() if row.kind == CalendarKind.BOOKING]
    assert refusal(end, office, booking_row.row_id).status == 404
