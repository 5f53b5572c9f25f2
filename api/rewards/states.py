"""The one state machine of reward runs: every step, who may take it, when it needs a reason and a second person. Pure.

Services ask `next_step` before they record anything; docs/rewards.md shows TRANSITIONS as they are written here. A step
that is not in the table does not exist, whoever asks. People sign: the system takes none of them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from api.errors import Refused, conflict, forbidden, invalid
from store.periods import SHANGHAI
from store.tables.accounts import Role
from store.tables.reward_steps import RunAction, RunStage


@dataclass(frozen=True)
class Transition:
    """One step. `second_person`: not by the preparer. `explains`: with a reason. `event`: its name when audited."""

    before: RunStage
    action: RunAction
    after: RunStage
    who: frozenset[Role]
    event: str
    second_person: bool = False
    explains: bool = False


_A, _S = RunAction, RunStage
_OFFICER, _FINANCE = frozenset({Role.COUNTY_OFFICER}), frozenset({Role.FINANCE})
_EITHER = _OFFICER | _FINANCE

TRANSITIONS: tuple[Transition, ...] = (
    Transition(_S.PREPARED, _A.CHECK, _S.CHECKED, _EITHER, "reward_run.checked", second_person=True),
    Transition(_S.CHECKED, _A.PUBLISH, _S.NOTICED, _OFFICER, "reward_run.noticed"),
    Transition(_S.NOTICED, _A.APPROVE, _S.APPROVED, _EITHER, "reward_run.approved", second_person=True),
    Transition(_S.APPROVED, _A.LOCK, _S.LOCKED, _EITHER, "reward_run.locked", second_person=True),
    Transition(_S.LOCKED, _A.PAY_PART, _S.LOCKED, _FINANCE, "reward_run.paid_in_part"),
    Transition(_S.LOCKED, _A.PAY, _S.PAID, _FINANCE, "reward_run.paid"),
    # A transfer that came back, or was recorded in error.
    Transition(_S.LOCKED, _A.RETURN, _S.LOCKED, _FINANCE, "reward_run.payment_returned", explains=True),
    Transition(_S.PAID, _A.RETURN, _S.LOCKED, _FINANCE, "reward_run.payment_returned", explains=True),
    *(
        Transition(before, _A.WITHDRAW, _S.WITHDRAWN, _OFFICER, "reward_run.withdrawn", explains=True)
        for before in (_S.PREPARED, _S.CHECKED, _S.NOTICED, _S.APPROVED)
    ),
)
_TABLE = {(step.before, step.action): step for step in TRANSITIONS}
_WHO = {action: frozenset().union(*(step.who for step in TRANSITIONS if step.action is action)) for action in RunAction}


def who_may(action: RunAction) -> tuple[Role, ...]:
    """Return the roles that may take a step at all, wherever the run stands; for the door of each endpoint."""
    return tuple(sorted(_WHO[action]))


def possible_actions(stage: RunStage, roles: Iterable[Role], is_preparer: bool) -> tuple[RunAction, ...]:
    """Return what somebody with these roles can do to a run that stands there, in the order of RunAction."""
    held = frozenset(roles)
    found = {
        step.action
        for step in TRANSITIONS
        if step.before is stage and step.who & held and not (step.second_person and is_preparer)
    }
    return tuple(action for action in RunAction if action in found)


def next_step(
    stage: RunStage, action: RunAction, roles: Iterable[Role], *, is_preparer: bool, reason: str = ""
) -> Transition:
    """Return the step that `action` takes from a stage.

    Refused: 403 where it takes another role, 409 `not_possible_now` where the stage does not allow it (saying what it
    allows), 409 `same_person` for the preparer's own signature, 422 `reason_missing`.
    """
    held = frozenset(roles)
    if not _WHO[action] & held:
        raise forbidden(
            f"您没有权限执行“{action}”;请联系有此角色的人员:{', '.join(who_may(action))}。",
            f"You may not {action} a reward run; ask somebody with the role {' or '.join(who_may(action))}.",
            action=action.value,
        )
    step = _TABLE.get((stage, action))
    if step is None:
        raise _not_possible(stage, action, ", ".join(possible_actions(stage, held, is_preparer)))
    if step.second_person and is_preparer:
        raise conflict(
            "same_person",
            "须由一人编制、另一人办理此步骤;请由另一位有权限的人员办理。",
            f"Somebody else than who prepared the run has to {action} it; ask a colleague with the role.",
            action=action.value,
        )
    if step.explains and not reason.strip():
        raise invalid("reason_missing", "请写明理由。", "Give a reason.", field="reason")
    return step


def notice_end(published: datetime, days: int) -> datetime:
    """Return the end (exclusive) of a public notice: `days` whole days of Asia/Shanghai after the day of publication,
    which is not counted; 0 days end at once. Raises ValueError for less, or for a naive instant."""
    if days < 0 or published.tzinfo is None:
        raise ValueError(f"a notice of {days} days from {published} has no end")
    if days == 0:
        return published
    return shanghai_day(published) + timedelta(days=days + 1)


def shanghai_day(moment: datetime) -> datetime:
    """Return the first instant of the day of Asia/Shanghai that an instant is in (that zone has no summer time)."""
    return datetime.combine(moment.astimezone(SHANGHAI).date(), time(), SHANGHAI).astimezone(UTC)


def _not_possible(stage: RunStage, action: RunAction, possible: str) -> Refused:
    return conflict(
        "not_possible_now",
        f"核算处于“{stage}”阶段,不能执行“{action}”;请从现在可以执行的操作中选择:{possible or '无'}。",
        f"The run is {stage}; {action} is not possible now; choose what is: {possible or 'nothing'}.",
        stage=stage.value,
        action=action.value,
        possible=possible,
    )
