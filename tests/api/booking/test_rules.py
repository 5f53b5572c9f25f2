"""The rules at the door: terms, certificates, training, approval, strikes, and bookings on a firm's behalf."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.booking import approval, qualification, reservations, strikes
from api.booking.approval import ApprovalRule, decide
from api.booking.rules import BookingRequest, OrderedItem
from api.booking.service import create_booking, quote
from api.booking.states import BookingAction
from api.booking.strikes import StrikeRule, effect_at
from api.errors import Refused
from store.tables.booking_rules import BookingItem, BookingProposal, Strike, StrikeEffect
from store.tables.calendar import Booking, BookingEvent, BookingMode, BookingState, Due, DueKind
from store.tables.notices import Notice
from store.tables.registry import Approval, Certificate, ReportType, SpecialDay, TestItem
from tests.support.builders_booking import FIRM_A, FIRM_B, HOUR, MANAGER, MINUTE, OFFICER, OTHER_MANAGER, WORKER, Office
from tests.support.usage import LONG_AGO, StreamWriter
from wire.clock import to_ms
from wire.messages import PowerState

A, S = BookingAction, BookingState
DAY = timedelta(days=1)


def refusal(office: Office, actor: Any, **changes: Any) -> Refused:
    with pytest.raises(Refused) as refused:
        office.book(actor, **changes)
    return refused.value


def set_rule(office: Office, actor: Any = MANAGER, version: int = 0, **rule: Any) -> ApprovalRule:
    with office.work(actor) as work:
        return approval.set_rule(
            work, office.instrument, ApprovalRule(**({"approval": Approval.MANAGER} | rule)), version
        )


def train(office: Office, person: str = "p-a", until: datetime | None = None) -> None:
    with office.work(MANAGER) as work:
        qualification.grant(work, office.instrument, person, "half a day at the instrument", until)


def add_item(office: Office, key: str, report: ReportType) -> str:
    with office.database.write() as session:
        session.add(
            TestItem(
                test_item_id=key,
                instrument_id=office.instrument,
                name_zh="拉伸强度",
                name_en="tensile strength",
                standard="GB/T 228.1",
                typical_session_minutes=30,
                row_version=1,
                report_type=report.value,
            )
        )
    return key


def test_terms_hold_at_the_service_and_the_refusal_proposes_slots_that_keep_them(office: Office) -> None:
    office.change_instrument(open_hours="1-5 09:00-12:00", step_minutes=30, lead_minutes=90, buffer_minutes=15)
    refused = refusal(office, FIRM_A, slot=office.slot(4, 1))
    assert (refused.status, refused.code) == (422, "instrument_closed")
    assert [free["from"] for free in refused.facts["alternatives"]] == [
        "2026-03-03T09:00:00+08:00",
        "2026-03-03T10:30:00+08:00",
        "2026-03-04T09:00:00+08:00",
    ]
    assert refusal(office, FIRM_A, slot=office.slot(1, 1)).code == "slot_too_soon"
    assert office.booking(office.book(FIRM_A, office.slot(1.5, 1))).state == S.CONFIRMED
    with office.work(FIRM_A) as work, pytest.raises(Refused) as quoted:
        quote(work, BookingRequest(office.instrument, BookingMode.SELF_OPERATED, office.slot(4, 1)))
    assert quoted.value.code == "instrument_closed"


def test_a_holiday_of_the_county_closes_and_the_hosts_own_word_opens(sqlite_office: Office) -> None:
    sqlite_office.change_instrument(open_hours="1-5 09:00-18:00")
    day = (sqlite_office.now + DAY).date().isoformat()

    def declare(host_id: str | None, like: int | None) -> None:
        with sqlite_office.database.write() as session:
            session.add(
                SpecialDay(
                    special_day_id=f"s-{host_id}",
                    host_id=host_id,
                    day=day,
                    like_weekday=like,
                    name_zh="节日",
                    name_en="Holiday",
                    recorded_by="test",
                    recorded_at=LONG_AGO,
                    row_version=1,
                )
            )

    declare(None, None)
    refused = refusal(sqlite_office, FIRM_A, slot=sqlite_office.slot(25, 1))
    assert (refused.code, refused.facts["special_days"]) == ("instrument_closed", {day: None})
    sqlite_office.change_instrument(horizon_days=60)
    for start_h, code in ((24 * 70, "slot_too_far_ahead"), (-24 * 60, "slot_in_the_past")):
        refused = refusal(sqlite_office, FIRM_A, slot=sqlite_office.slot(start_h, 8))
        assert refused.code == code
        assert [free["from"][:10] for free in refused.facts["alternatives"]] == [
            "2026-03-02",
            "2026-03-04",
            "2026-03-05",
        ]
    declare("h01", 1)
    assert sqlite_office.book(FIRM_A, sqlite_office.slot(25, 1))


def test_what_is_proposed_after_the_lead_time_is_free(sqlite_office: Office) -> None:
    sqlite_office.change_instrument(lead_minutes=10 * 24 * 60)
    for first, days in ((9, 7), (16, 2)):
        with sqlite_office.work(MANAGER) as work:
            reservations.reserve(work, sqlite_office.instrument, sqlite_office.slot(24 * first, 24 * days), "own work")
    refused = refusal(sqlite_office, FIRM_A)
    assert refused.code == "slot_too_soon"
    assert refused.facts["alternatives"][0]["from"] == "2026-03-20T09:00:00+08:00"


def test_an_instrument_says_which_mode_it_is_open_for(sqlite_office: Office) -> None:
    sqlite_office.change_instrument(self_operated=False)
    assert refusal(sqlite_office, FIRM_A).code == "mode_not_offered"
    assert sqlite_office.book(FIRM_A, mode=BookingMode.SAMPLES, quantity=1)
    sqlite_office.change_instrument(self_operated=True, takes_samples=False)
    assert refusal(sqlite_office, FIRM_A, mode=BookingMode.SAMPLES, quantity=1).code == "mode_not_offered"


@pytest.mark.parametrize(("report", "refused"), [(ReportType.CMA, True), (ReportType.CNAS, True), ("internal", False)])
def test_an_expired_certificate_blocks_accredited_items_and_flags_the_rest(
    sqlite_office: Office, report: Any, refused: bool
) -> None:
    item = add_item(sqlite_office, "t-1", ReportType(report))
    with sqlite_office.database.write() as session:
        session.get_one(Certificate, f"c-{sqlite_office.instrument}").valid_to = sqlite_office.now + 90 * MINUTE
    asked = {"items": (OrderedItem(item),)}
    if refused:
        told = refusal(sqlite_office, FIRM_A, **asked)
        assert (told.status, told.code) == (409, "certificate_expired")
        return
    with sqlite_office.work(FIRM_A) as work:
        request = BookingRequest(
            sqlite_office.instrument, BookingMode.SELF_OPERATED, sqlite_office.slot(), items=(OrderedItem(item),)
        )
        assert create_booking(work, request)[1].warnings == ("no_valid_certificate",)


def test_scheduling_an_accredited_sample_order_beyond_the_certificate_is_refused(sqlite_office: Office) -> None:
    item = add_item(sqlite_office, "t-1", ReportType.CMA)
    with sqlite_office.database.write() as session:
        session.get_one(Certificate, f"c-{sqlite_office.instrument}").valid_to = sqlite_office.now + 3 * HOUR
    order: dict[str, Any] = {"mode": BookingMode.SAMPLES, "quantity": 2, "items": (OrderedItem(item, 2),)}
    booking_id = sqlite_office.book(FIRM_A, needed_by=sqlite_office.now + 5 * DAY, **order)
    assert [(row.test_item_id, row.samples) for row in sqlite_office.all_of(BookingItem)] == [("t-1", 2)]
    assert sqlite_office.booking(booking_id).needed_by == sqlite_office.now + 5 * DAY
    sqlite_office.do(MANAGER, booking_id, A.RECEIVE, samples=("a", "b"))
    with pytest.raises(Refused) as refused:
        sqlite_office.do(MANAGER, booking_id, A.SCHEDULE, slot=sqlite_office.slot(3, 1))
    assert refused.value.code == "certificate_expired"
    assert sqlite_office.do(MANAGER, booking_id, A.SCHEDULE, slot=sqlite_office.slot(1, 1)).state == S.SCHEDULED


def test_items_are_the_instruments_own_ordered_once_and_within_what_is_sent(sqlite_office: Office) -> None:
    item = add_item(sqlite_office, "t-1", ReportType.INTERNAL)
    samples: dict[str, Any] = {"mode": BookingMode.SAMPLES, "quantity": 1}
    assert refusal(sqlite_office, FIRM_A, items=(OrderedItem("other"),)).code == "unknown_item"
    assert refusal(sqlite_office, FIRM_A, items=(OrderedItem(item), OrderedItem(item))).code == "item_twice"
    assert refusal(sqlite_office, FIRM_A, items=(OrderedItem(item, 2),), **samples).code == "more_than_sent"


@pytest.mark.parametrize(
    ("rule", "qualified", "minutes", "automatic"),
    [
        ({"approval": Approval.AUTOMATIC}, False, 600, True),
        ({}, True, 10, False),
        ({"auto_qualified": True}, True, 600, True),
        ({"auto_qualified": True}, False, 10, False),
        ({"auto_up_to_minutes": 60}, False, 60, True),
        ({"auto_up_to_minutes": 60}, False, 61, False),
        ({"auto_up_to_minutes": 60}, True, None, False),
        ({"auto_qualified": True, "auto_up_to_minutes": 60}, True, 61, True),
        ({"auto_needs_both": True, "auto_up_to_minutes": 60}, True, 60, True),
        ({"auto_needs_both": True, "auto_up_to_minutes": 60}, False, 60, False),
        ({"auto_needs_both": True, "auto_up_to_minutes": 60}, True, 61, False),
    ],
)
def test_approval_follows_the_instruments_rule(
    rule: dict[str, Any], qualified: bool, minutes: int | None, automatic: bool
) -> None:
    chosen = ApprovalRule(**({"approval": Approval.MANAGER} | rule))
    length = None if minutes is None else minutes * MINUTE
    assert decide(chosen, qualified, length, on_probation=False).automatic == automatic
    assert not decide(chosen, qualified, length, on_probation=True).automatic


def test_qualified_people_confirm_themselves_until_their_training_lapses(office: Office) -> None:
    set_rule(office, auto_qualified=True)
    train(office, until=office.now + 5 * HOUR)
    assert office.booking(office.book(FIRM_A, office.slot(1, 1))).state == S.CONFIRMED
    assert office.booking(office.book(FIRM_A, office.slot(3.5, 1.5))).state == S.REQUESTED
    assert office.booking(office.book(FIRM_B, office.slot(2, 1))).state == S.REQUESTED


def test_where_training_is_needed_nobody_else_books_for_themselves(sqlite_office: Office) -> None:
    set_rule(sqlite_office, needs_qualification=True, approval=Approval.AUTOMATIC)
    refused = refusal(sqlite_office, FIRM_A)
    assert (refused.status, refused.code) == (403, "not_qualified")
    assert "manager" in refused.en
    assert sqlite_office.book(FIRM_A, mode=BookingMode.SAMPLES, quantity=1)
    assert (
        refusal(sqlite_office, MANAGER, payer_org="org-a", for_person="p-a", consent="order 7").code == "not_qualified"
    )
    train(sqlite_office)
    assert sqlite_office.book(FIRM_A)
    with sqlite_office.work(MANAGER) as work:
        qualification.revoke(work, sqlite_office.instrument, "p-a", "left the tool running")
    assert refusal(sqlite_office, FIRM_A, slot=sqlite_office.slot(3, 1)).code == "not_qualified"


def test_training_is_the_managers_to_record_and_is_never_edited(sqlite_office: Office) -> None:
    with pytest.raises(Refused) as refused, sqlite_office.work(OTHER_MANAGER) as work:
        qualification.grant(work, sqlite_office.instrument, "p-a", "x", None)
    assert refused.value.status == 403
    for said, until, code in (("", None, "training_missing"), ("x", sqlite_office.now, "expired_already")):
        with pytest.raises(Refused) as refused, sqlite_office.work(MANAGER) as work:
            qualification.grant(work, sqlite_office.instrument, "p-a", said, until)
        assert refused.value.code == code
    with pytest.raises(Refused) as refused, sqlite_office.work(MANAGER) as work:
        qualification.revoke(work, sqlite_office.instrument, "p-a", "why")
    assert refused.value.code == "not_qualified_now"
    train(sqlite_office)
    train(sqlite_office, until=sqlite_office.now + DAY)
    with sqlite_office.database.read() as session:
        (newest,) = session.scalars(qualification.current(sqlite_office.instrument, None, ["h01"])).all()
    assert newest.expires_at == sqlite_office.now + DAY


def test_a_rule_is_set_on_the_version_that_was_read(sqlite_office: Office) -> None:
    assert set_rule(sqlite_office, auto_up_to_minutes=30).row_version == 1
    with pytest.raises(Refused) as refused:
        set_rule(sqlite_office, auto_up_to_minutes=60)
    assert refused.value.status == 412
    with pytest.raises(Refused) as refused:
        set_rule(sqlite_office, OTHER_MANAGER, 1)
    assert refused.value.status == 403
    assert set_rule(sqlite_office, version=1, approval=Approval.AUTOMATIC).approval is Approval.AUTOMATIC


# Strikes


@given(st.lists(st.integers(0, 900), max_size=8), st.integers(1, 4), st.integers(1, 400), st.integers(0, 1200))
def test_an_effect_runs_from_the_strike_that_completes_the_number(
    days: list[int], number: int, window: int, today: int
) -> None:
    rule = StrikeRule(number, window, StrikeEffect.BLOCKED, 30)
    at = [LONG_AGO + day * DAY for day in days]
    ends = [last + 30 for last in days if sum(last - window < day <= last for day in days) >= number]
    found = effect_at(at, rule, LONG_AGO + today * DAY)
    expected = max(ends, default=-1)
    assert (found is not None) == (expected > today)
    if found is not None:
        assert found.until == LONG_AGO + expected * DAY


def miss(office: Office, start_h: float = 1) -> str:
    """Book and do not come; the meter has seen it."""
    booking_id = office.book(FIRM_A, office.slot(start_h, 1))
    writer = StreamWriter(office.instrument, start_ms=to_ms(office.now))
    writer.tick(PowerState.STANDBY, (start_h + 2) * 3600)
    office.record(writer)
    office.advance((start_h + 2) * HOUR)
    from api.booking.completion import complete_booking

    with office.work(WORKER) as work:
        assert complete_booking(work, booking_id) is None
    assert office.booking(booking_id).state == S.NO_SHOW
    return booking_id


def strike_rule(office: Office, effect: StrikeEffect, number: int = 1) -> None:
    with office.work(MANAGER) as work:
        strikes.set_rule(work, "h01", StrikeRule(number, 30, effect, 10), 0)


def test_strikes_block_until_a_date_and_a_manager_lifts_one_with_a_reason(office: Office) -> None:
    strike_rule(office, StrikeEffect.BLOCKED, 2)
    miss(office)
    second = miss(office)
    refused = refusal(office, FIRM_A)
    assert (refused.status, refused.code) == (403, "blocked_by_strikes")
    assert refused.facts["until"].startswith("2026-03-12")
    assert office.book(FIRM_B)
    for actor, reason, code in ((OTHER_MANAGER, "x", "forbidden"), (MANAGER, " ", "reason_required")):
        with pytest.raises(Refused) as told, office.work(actor) as work:
            strikes.lift(work, second, reason)
        assert told.value.code == code
    with office.work(MANAGER) as work:
        strikes.lift(work, second, "the road was closed")
    assert [row.person_id for row in office.all_of(Notice) if row.kind == "strike-lifted"] == ["p-a"]
    with pytest.raises(Refused) as told, office.work(MANAGER) as work:
        strikes.lift(work, second, "again")
    assert told.value.code == "lifted_already"
    assert office.book(FIRM_A, office.slot(3, 1))


def test_strikes_can_mean_approval_and_end_with_their_time(sqlite_office: Office) -> None:
    strike_rule(sqlite_office, StrikeEffect.APPROVAL)
    miss(sqlite_office)
    assert sqlite_office.booking(sqlite_office.book(FIRM_A)).state == S.REQUESTED
    assert sqlite_office.booking(sqlite_office.book(FIRM_B, sqlite_office.slot(3, 1))).state == S.CONFIRMED
    sqlite_office.advance(10 * DAY)
    assert sqlite_office.booking(sqlite_office.book(FIRM_A)).state == S.CONFIRMED


def test_use_that_is_found_late_takes_the_strike_back(sqlite_office: Office) -> None:
    strike_rule(sqlite_office, StrikeEffect.BLOCKED)
    booking_id = miss(sqlite_office)
    assert refusal(sqlite_office, FIRM_A).code == "blocked_by_strikes"
    from api.booking.steps import take_step

    with sqlite_office.work(WORKER) as work:
        booking = work.session.get_one(Booking, booking_id, with_for_update=True)
        take_step(work, booking, A.USE_FOUND)
    assert sqlite_office.book(FIRM_A)


def test_a_no_show_that_nobody_witnessed_is_no_strike(sqlite_office: Office) -> None:
    from api.booking.completion import complete_booking

    booking_id = sqlite_office.book(FIRM_A)
    sqlite_office.advance(27 * HOUR)
    with sqlite_office.work(WORKER) as work:
        complete_booking(work, booking_id)
    assert sqlite_office.booking(booking_id).state == S.NO_SHOW
    assert sqlite_office.all_of(Strike) == []


# On a firm's behalf


def test_a_manager_with_the_firms_word_books_at_once_and_the_word_is_kept(sqlite_office: Office) -> None:
    booking_id = sqlite_office.book(MANAGER, payer_org="org-a", for_person="p-a", consent="order 2026-17, by phone")
    booking = sqlite_office.booking(booking_id)
    assert (booking.state, booking.person_id) == (S.CONFIRMED, "p-a")
    first = sqlite_office.all_of(BookingEvent)[0]
    facts = json.loads(first.facts)
    assert (facts["on_behalf_by"], facts["consent"]) == ("p-m", "order 2026-17, by phone")


def test_without_the_firms_word_the_firm_is_asked_while_the_slot_is_held(office: Office) -> None:
    booking_id = office.book(MANAGER, payer_org="org-a")
    assert office.booking(booking_id).state == S.REQUESTED
    assert refusal(office, FIRM_B).code == "slot_taken"
    with pytest.raises(Refused) as refused:
        office.do(MANAGER, booking_id, A.CONFIRM)
    assert refused.value.code == "waits_for_customer"
    (proposal,) = office.all_of(BookingProposal)
    assert (proposal.kind, proposal.by_party, proposal.difference_fen) == ("on_behalf", "manager", 0)
    assert {(due.kind, due.subject_id) for due in office.all_of(Due)} == {(DueKind.EXPIRE_BOOKING, booking_id)}


def test_somebody_of_another_firm_cannot_be_booked_for(sqlite_office: Office) -> None:
    assert refusal(sqlite_office, MANAGER, payer_org="org-a", for_person="p-b").status == 404


def test_an_officer_books_for_a_firm_and_the_manager_still_approves(sqlite_office: Office) -> None:
    assert refusal(sqlite_office, OFFICER).code == "payer_missing"
    set_rule(sqlite_office)
    booking_id = sqlite_office.book(OFFICER, payer_org="org-a", consent="letter of 1 March")
    assert sqlite_office.booking(booking_id).state == S.REQUESTED
    assert sqlite_office.do(MANAGER, booking_id, A.CONFIRM).state == S.CONFIRMED
