"""The one state machine of bookings: every step of both modes, who may take it and when it needs a reason. Pure.

The service asks `next_state` before it changes anything; the API documents TRANSITIONS as they are written here.
A step that is not in the table does not exist, whoever asks.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from api.errors import Refused, conflict, forbidden, invalid
from store.tables.calendar import BookingMode, BookingState


class Party(StrEnum):
    """What somebody is to one booking. An officer books for firms and takes no step afterwards."""

    CUSTOMER = "customer"
    MANAGER = "manager"
    OFFICER = "officer"
    SYSTEM = "system"


class BookingAction(StrEnum):
    """What can be done to a booking once it exists. The last group is done by rule, never on request."""

    CONFIRM = "confirm"
    REJECT = "reject"
    CANCEL = "cancel"
    CHECK_IN = "check-in"
    CHECK_OUT = "check-out"
    RECEIVE = "receive"
    SCHEDULE = "schedule"
    UNSCHEDULE = "unschedule"
    START = "start"
    CONFIRM_RESULTS = "confirm-results"
    REPORT = "report"
    SHORTEN = "shorten"
    MOVE = "move"
    DISPLACE = "displace"
    USE_FOUND = "use-found"
    COMPLETE = "complete"
    MISS = "miss"
    EXPIRE = "expire"
    CLOSE = "close"


@dataclass(frozen=True)
class Transition:
    """One step: in `mode`, from `before` to `after`. A party in `explains` has to give a reason."""

    mode: BookingMode
    before: BookingState
    action: BookingAction
    after: BookingState
    who: frozenset[Party]
    explains: frozenset[Party] = frozenset()


_C, _M, _S = Party.CUSTOMER, Party.MANAGER, Party.SYSTEM
_A, _B = BookingAction, BookingState


def _steps(
    mode: BookingMode,
    *rows: tuple[BookingState, BookingAction, BookingState, tuple[Party, ...], tuple[Party, ...]],
) -> tuple[Transition, ...]:
    return tuple(
        Transition(mode, before, action, after, frozenset(who), frozenset(explains))
        for before, action, after, who, explains in rows
    )


def _common(mode: BookingMode) -> tuple[Transition, ...]:
    return _steps(
        mode,
        (_B.REQUESTED, _A.CONFIRM, _B.CONFIRMED, (_M, _S), ()),
        (_B.REQUESTED, _A.REJECT, _B.REJECTED, (_M,), (_M,)),
        (_B.REQUESTED, _A.EXPIRE, _B.EXPIRED, (_S,), ()),
        (_B.REQUESTED, _A.CANCEL, _B.CANCELLED, (_C, _M, _S), (_M, _S)),
        (_B.CONFIRMED, _A.CANCEL, _B.CANCELLED, (_C, _M, _S), (_M, _S)),
    )


TRANSITIONS: tuple[Transition, ...] = (
    *_common(BookingMode.SELF_OPERATED),
    *_steps(
        BookingMode.SELF_OPERATED,
        # Another slot, once both sides agree; a slot lost to an outage waits for the customer's word on another one.
        (_B.REQUESTED, _A.MOVE, _B.REQUESTED, (_S,), (_S,)),
        (_B.CONFIRMED, _A.MOVE, _B.CONFIRMED, (_S,), (_S,)),
        (_B.REQUESTED, _A.DISPLACE, _B.REQUESTED, (_S,), (_S,)),
        (_B.CONFIRMED, _A.DISPLACE, _B.REQUESTED, (_S,), (_S,)),
        (_B.CONFIRMED, _A.CHECK_IN, _B.CHECKED_IN, (_C, _M, _S), ()),
        # Nobody has to check in where the power tells: the session itself moves the booking on.
        (_B.CONFIRMED, _A.USE_FOUND, _B.IN_USE, (_S,), ()),
        (_B.CHECKED_IN, _A.USE_FOUND, _B.IN_USE, (_S,), ()),
        (_B.IN_USE, _A.CHECK_IN, _B.IN_USE, (_C, _M, _S), ()),
        (_B.CHECKED_IN, _A.CHECK_OUT, _B.CHECKED_IN, (_C, _M, _S), ()),
        (_B.IN_USE, _A.CHECK_OUT, _B.IN_USE, (_C, _M, _S), ()),
        (_B.CONFIRMED, _A.SHORTEN, _B.CONFIRMED, (_S,), (_S,)),
        (_B.CHECKED_IN, _A.SHORTEN, _B.CHECKED_IN, (_S,), (_S,)),
        (_B.IN_USE, _A.SHORTEN, _B.IN_USE, (_S,), (_S,)),
        # Begun before its slot, all of which an outage then took: free of charge.
        (_B.CHECKED_IN, _A.CANCEL, _B.CANCELLED, (_S,), (_S,)),
        (_B.IN_USE, _A.CANCEL, _B.CANCELLED, (_S,), (_S,)),
        (_B.CHECKED_IN, _A.COMPLETE, _B.COMPLETED, (_S,), ()),
        (_B.IN_USE, _A.COMPLETE, _B.COMPLETED, (_S,), ()),
        (_B.CONFIRMED, _A.MISS, _B.NO_SHOW, (_S,), ()),
        # Telemetry may come late: a session inside the slot voids the no-show.
        (_B.NO_SHOW, _A.USE_FOUND, _B.COMPLETED, (_S,), ()),
        (_B.COMPLETED, _A.CLOSE, _B.CLOSED, (_S,), ()),
    ),
    *_common(BookingMode.SAMPLES),
    *_steps(
        BookingMode.SAMPLES,
        (_B.CONFIRMED, _A.RECEIVE, _B.SAMPLES_RECEIVED, (_M,), ()),
        (_B.SAMPLES_RECEIVED, _A.CANCEL, _B.CANCELLED, (_M,), (_M,)),
        (_B.SAMPLES_RECEIVED, _A.SCHEDULE, _B.SCHEDULED, (_M,), ()),
        # Another slot, once both sides agree; also for what the lab took off its schedule (not what an outage did).
        (_B.SCHEDULED, _A.MOVE, _B.SCHEDULED, (_S,), (_S,)),
        (_B.SAMPLES_RECEIVED, _A.MOVE, _B.SCHEDULED, (_S,), (_S,)),
        (_B.SCHEDULED, _A.UNSCHEDULE, _B.SAMPLES_RECEIVED, (_M, _S), (_M, _S)),
        (_B.SCHEDULED, _A.SHORTEN, _B.SCHEDULED, (_S,), (_S,)),
        (_B.IN_USE, _A.SHORTEN, _B.IN_USE, (_S,), (_S,)),
        (_B.SCHEDULED, _A.START, _B.IN_USE, (_M,), ()),
        (_B.SCHEDULED, _A.USE_FOUND, _B.IN_USE, (_S,), ()),
        (_B.IN_USE, _A.CONFIRM_RESULTS, _B.RESULTS_CONFIRMED, (_M,), ()),
        (_B.RESULTS_CONFIRMED, _A.REPORT, _B.REPORTED, (_M,), ()),
        (_B.REPORTED, _A.CLOSE, _B.CLOSED, (_S,), ()),
    ),
)

_ORDER = {action: number for number, action in enumerate(BookingAction)}
_STEPS_FROM: dict[tuple[BookingMode, BookingState], list[Transition]] = {}
for _step in sorted(TRANSITIONS, key=lambda step: _ORDER[step.action]):
    _STEPS_FROM.setdefault((_step.mode, _step.before), []).append(_step)
_TABLE = {(step.mode, step.before, step.action): step for step in TRANSITIONS}

CHARGEABLE = frozenset({_B.COMPLETED, _B.RESULTS_CONFIRMED, _B.REPORTED, _B.CLOSED})
"""States in which the use of a booking is charged, or has been."""

CLAIMING = frozenset(
    {
        _B.CONFIRMED,
        _B.CHECKED_IN,
        _B.SCHEDULED,
        _B.IN_USE,
        _B.COMPLETED,
        _B.RESULTS_CONFIRMED,
        _B.REPORTED,
        _B.CLOSED,
        _B.NO_SHOW,
    }
)
"""States in which a booking claims the use of its instrument. No-shows too: use that is found late voids them."""


def possible_actions(mode: BookingMode, state: BookingState, parties: Iterable[Party]) -> tuple[BookingAction, ...]:
    """Return what these parties can do to a booking that stands there, in the order of BookingAction."""
    wanted = frozenset(parties)
    return tuple(step.action for step in _STEPS_FROM.get((mode, state), ()) if step.who & wanted)


def next_state(
    mode: BookingMode, state: BookingState, action: BookingAction, parties: Iterable[Party], reason: str = ""
) -> BookingState:
    """Return where `action` takes a booking.

    Refused: 409 `not_possible_now` where the state does not allow it (saying what it allows), 403 where somebody
    else may do it, 422 `reason_required` where this party has to explain itself.
    """
    wanted = frozenset(parties)
    possible = ", ".join(possible_actions(mode, state, wanted))
    step = _TABLE.get((mode, state, action))
    if step is None:
        raise _not_possible(mode, state, action, possible)
    acting = step.who & wanted
    if not acting:
        raise forbidden(
            f"预约处于“{state}”状态时,您不能执行“{action}”;请从您现在可以执行的操作中选择:{possible or '无'}。",
            f"While the booking is {state}, {action} is not yours to do; choose what is: {possible or 'nothing'}.",
            state=state.value,
            action=action.value,
            possible=possible,
        )
    if acting <= step.explains and not reason.strip():
        raise invalid(
            "reason_required",
            f"执行“{action}”请填写原因。",
            f"Give a reason to {action} this booking.",
            field="reason",
        )
    return step.after


def _not_possible(mode: BookingMode, state: BookingState, action: BookingAction, possible: str) -> Refused:
    return conflict(
        "not_possible_now",
        f"预约处于“{state}”状态,不能执行“{action}”;请从现在可以执行的操作中选择:{possible or '无'}。",
        f"The booking is {state}; {action} is not possible now; choose what is: {possible or 'nothing'}.",
        mode=mode.value,
        state=state.value,
        action=action.value,
        possible=possible,
    )
