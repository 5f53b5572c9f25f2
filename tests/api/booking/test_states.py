"""The state machine as a table: complete, without dead ends, and clear in what it refuses."""

import itertools

import pytest

from api.booking.states import (
    TRANSITIONS,
    BookingAction,
    Party,
    next_state,
    possible_actions,
)
from api.errors import Refused
from store.tables.calendar import BookingMode, BookingState

A, S, M = BookingAction, BookingState, BookingMode
ENDS = {S.CLOSED, S.REJECTED, S.CANCELLED, S.EXPIRED, S.NO_SHOW}


def walk(mode: BookingMode, *actions: BookingAction) -> BookingState:
    state = S.REQUESTED
    for action in actions:
        state = next_state(mode, state, action, Party, "because")
    return state


def test_a_self_operated_booking_goes_from_request_to_closed() -> None:
    way = (A.CONFIRM, A.CHECK_IN, A.USE_FOUND, A.CHECK_OUT, A.COMPLETE, A.CLOSE)
    assert walk(M.SELF_OPERATED, *way) is S.CLOSED


def test_a_sample_order_goes_from_request_to_closed() -> None:
    way = (A.CONFIRM, A.RECEIVE, A.SCHEDULE, A.USE_FOUND, A.CONFIRM_RESULTS, A.REPORT, A.CLOSE)
    assert walk(M.SAMPLES, *way) is S.CLOSED


@pytest.mark.parametrize("mode", BookingMode)
def test_every_state_is_reached_and_every_state_but_the_ends_can_be_left(mode: BookingMode) -> None:
    steps = [step for step in TRANSITIONS if step.mode is mode]
    reached = {S.REQUESTED} | {step.after for step in steps}
    left = {step.before for step in steps if step.after is not step.before}
    assert {step.before for step in steps} <= reached
    assert reached - left == ENDS - ({S.NO_SHOW} if mode is M.SELF_OPERATED else set()) & reached


def test_each_step_stands_in_the_table_once() -> None:
    keys = [(step.mode, step.before, step.action) for step in TRANSITIONS]
    assert len(keys) == len(set(keys))
    assert all(step.who and step.explains <= step.who for step in TRANSITIONS)


def test_what_is_not_in_the_table_is_refused_whoever_asks() -> None:
    table = {(step.mode, step.before, step.action) for step in TRANSITIONS}
    for mode, state, action in itertools.product(BookingMode, BookingState, BookingAction):
        if (mode, state, action) in table:
            continue
        with pytest.raises(Refused) as refused:
            next_state(mode, state, action, Party, "because")
        assert (refused.value.status, refused.value.code) == (409, "not_possible_now")


def test_a_refusal_says_what_is_possible_now() -> None:
    with pytest.raises(Refused) as refused:
        next_state(M.SELF_OPERATED, S.CONFIRMED, A.REPORT, [Party.CUSTOMER])
    assert refused.value.facts["possible"] == "cancel, check-in"
    assert "cancel, check-in" in refused.value.en


def test_somebody_elses_step_is_forbidden_and_says_so() -> None:
    with pytest.raises(Refused) as refused:
        next_state(M.SELF_OPERATED, S.REQUESTED, A.CONFIRM, [Party.CUSTOMER])
    assert (refused.value.status, refused.value.code) == (403, "forbidden")


@pytest.mark.parametrize("step", [step for step in TRANSITIONS if step.explains])
def test_who_has_to_explain_themselves_is_refused_without_a_reason(step: object) -> None:
    mode, before, action = step.mode, step.before, step.action  # type: ignore[attr-defined]
    for party in step.explains:  # type: ignore[attr-defined]
        with pytest.raises(Refused) as refused:
            next_state(mode, before, action, [party], "  ")
        assert (refused.value.status, refused.value.code) == (422, "reason_required")


def test_a_customer_need_not_explain_a_cancellation() -> None:
    assert next_state(M.SELF_OPERATED, S.CONFIRMED, A.CANCEL, [Party.CUSTOMER]) is S.CANCELLED


def test_only_rules_expire_complete_and_miss() -> None:
    for mode, state in itertools.product(BookingMode, BookingState):
        people = set(possible_actions(mode, state, [Party.CUSTOMER, Party.MANAGER]))
        assert not people & {A.EXPIRE, A.COMPLETE, A.MISS, A.USE_FOUND, A.SHORTEN, A.CLOSE}
