"""The state machine of reward runs, pair by pair, and the end of a public notice. Pure."""

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import Refused
from api.rewards.states import TRANSITIONS, next_step, notice_end, possible_actions, who_may
from store.periods import SHANGHAI
from store.tables.accounts import Role
from store.tables.reward_steps import STEPS, RunAction, RunStage
from wire.clock import from_ms, to_ms

OFFICER, FINANCE = {Role.COUNTY_OFFICER}, {Role.FINANCE}
BOTH = OFFICER | FINANCE
# (stage, action) -> stage after it, who may, whether the preparer may not, whether it needs a reason
EXPECTED = {
    ("prepared", "check"): ("checked", BOTH, True, False),
    ("checked", "publish"): ("noticed", OFFICER, False, False),
    ("noticed", "approve"): ("approved", BOTH, True, False),
    ("approved", "lock"): ("locked", BOTH, True, False),
    ("locked", "pay-part"): ("locked", FINANCE, False, False),
    ("locked", "pay"): ("paid", FINANCE, False, False),
    ("locked", "return"): ("locked", FINANCE, False, True),
    ("paid", "return"): ("locked", FINANCE, False, True),
    ("prepared", "withdraw"): ("withdrawn", OFFICER, False, True),
    ("checked", "withdraw"): ("withdrawn", OFFICER, False, True),
    ("noticed", "withdraw"): ("withdrawn", OFFICER, False, True),
    ("approved", "withdraw"): ("withdrawn", OFFICER, False, True),
}


def outcome(stage: RunStage, action: RunAction, role: Role, is_preparer: bool, reason: str) -> str:
    """The stage that a step leads to, or the code of its refusal."""
    try:
        return next_step(stage, action, {role}, is_preparer=is_preparer, reason=reason).after.value
    except Refused as refused:
        return refused.code


def expected(stage: RunStage, action: RunAction, role: Role, is_preparer: bool, reason: str) -> str:
    """What the table above says."""
    of_action = [who for (_, act), (_, who, _, _) in EXPECTED.items() if act == action.value]
    if role not in set().union(*of_action):
        return "forbidden"
    if (stage.value, action.value) not in EXPECTED:
        return "not_possible_now"
    after, _, second_person, explains = EXPECTED[stage.value, action.value]
    if second_person and is_preparer:
        return "same_person"
    return "reason_missing" if explains and not reason.strip() else after


@pytest.mark.parametrize("stage", list(RunStage))
def test_every_step_from_every_stage_does_what_the_table_says(stage: RunStage) -> None:
    for action, role, is_preparer, reason in product(RunAction, Role, (False, True), ("", " ", "because")):
        asked = (stage, action, role, is_preparer, reason)
        assert outcome(*asked) == expected(*asked), asked


def test_the_database_knows_the_same_steps() -> None:
    assert {(step.before.value, step.action.value, step.after.value) for step in TRANSITIONS} == set(STEPS)
    assert len(TRANSITIONS) == len(STEPS) == len(EXPECTED)


def test_every_step_has_an_event_and_every_refusal_says_what_is_possible() -> None:
    assert all(step.event.startswith("reward_run.") for step in TRANSITIONS)
    with pytest.raises(Refused, match="choose what is: check, withdraw"):
        next_step(RunStage.PREPARED, RunAction.LOCK, {Role.COUNTY_OFFICER}, is_preparer=False)


@pytest.mark.parametrize(
    ("stage", "roles", "is_preparer", "possible"),
    [
        ("prepared", OFFICER, True, ["withdraw"]),
        ("prepared", FINANCE, False, ["check"]),
        ("noticed", OFFICER, False, ["approve", "withdraw"]),
        ("locked", FINANCE, False, ["pay-part", "pay", "return"]),
        ("locked", OFFICER, False, []),
        ("withdrawn", BOTH, False, []),
    ],
)
def test_what_is_possible_depends_on_who_asks(
    stage: str, roles: set[Role], is_preparer: bool, possible: list[str]
) -> None:
    assert [action.value for action in possible_actions(RunStage(stage), roles, is_preparer)] == possible


def test_only_the_county_signs_and_only_finance_pays() -> None:
    assert who_may(RunAction.LOCK) == (Role.COUNTY_OFFICER, Role.FINANCE)
    assert who_may(RunAction.PAY) == (Role.FINANCE,)


@pytest.mark.parametrize(
    ("published", "days", "until"),
    [
        ("2026-03-10T10:00", 7, "2026-03-18"),
        ("2026-01-31T00:00", 7, "2026-02-08"),
        ("2026-01-31T23:59:59.999", 7, "2026-02-08"),
        ("2026-02-24T09:00", 7, "2026-03-04"),
        ("2028-02-24T09:00", 7, "2028-03-03"),  # a leap year
        ("2026-12-28T09:00", 7, "2027-01-05"),
        ("2026-04-30T23:00", 1, "2026-05-02"),
    ],
)
def test_a_notice_goes_on_for_whole_days_after_the_day_of_publication(published: str, days: int, until: str) -> None:
    end = notice_end(datetime.fromisoformat(published).replace(tzinfo=SHANGHAI), days)
    assert end == datetime.fromisoformat(until).replace(tzinfo=SHANGHAI)


@given(
    st.integers(to_ms(datetime(2020, 1, 1, tzinfo=UTC)), to_ms(datetime(2040, 1, 1, tzinfo=UTC))), st.integers(1, 60)
)
def test_a_notice_is_never_shorter_than_its_days_nor_longer_by_more_than_one(moment_ms: int, days: int) -> None:
    published = from_ms(moment_ms)
    end = notice_end(published, days)
    assert timedelta(days=days) < end - published <= timedelta(days=days + 1)
    local = end.astimezone(SHANGHAI)
    assert (local.hour, local.minute, local.second, local.microsecond) == (0, 0, 0, 0)


def test_a_notice_of_no_days_ends_at_once_and_one_of_fewer_is_refused() -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    assert notice_end(now, 0) == now
    for published, days in ((now, -1), (now.replace(tzinfo=None), 7)):
        with pytest.raises(ValueError, match="no end"):
            notice_end(published, days)
