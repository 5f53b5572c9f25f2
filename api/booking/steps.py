"""Take a booking from state to state. Every door goes through `perform` (people) or `take_step` (rules).

Called by the endpoints, the pages, the worker and the outages. Changes the booking, its calendar row and what is due,
writes the event and the audit event, and never commits. `take_step` expects the instrument and booking locked.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from api.booking import approval, calendar, consents, repository, rules, strikes
from api.booking.checks import check_papers, check_time
from api.booking.due import due_later, move_due
from api.booking.history import record_event
from api.booking.slots import Interval
from api.booking.states import BookingAction, Party, next_state, possible_actions
from api.charging.access import is_system
from api.charging.closing import close_if_settled
from api.charging.fees import charge_cancellation, charge_no_show, void_no_show
from api.charging.tariffs import pinned_tariff
from api.errors import Refused, conflict, invalid, stale
from api.schemas import rfc3339
from api.work import Actor, Work
from store.tables.accounts import Role
from store.tables.calendar import Booking, BookingMode, BookingState, DueKind, UsePurpose
from store.tables.registry import Instrument
from store.types import AnyRow


@dataclass(frozen=True)
class StepInput:
    """What somebody says with a step; each action asks for its own fields. `present`: the code or card there was given.
    `at`: when it was, where a witness told it and it is known only now."""

    reason: str = ""
    slot: Interval | None = None
    quantity: int | None = None
    samples: tuple[str, ...] = ()
    report_number: str = ""
    report_date: str = ""
    report_sha256: str = ""
    present: bool = False
    at: datetime | None = None


@dataclass(frozen=True)
class Graces:
    """How long before and after the slot use counts as the booking's, by its frozen tariff."""

    early: timedelta
    late: timedelta


_NOTHING = StepInput()
_Effect = Callable[[Work, Booking, StepInput], dict[str, Any]]


def parties_of(actor: Actor, booking: Booking | AnyRow) -> frozenset[Party]:
    """Return what an actor is to a booking."""
    found = set()
    if is_system(actor):
        found.add(Party.SYSTEM)
    if actor.manages(booking.host_id):
        found.add(Party.MANAGER)
    if actor.has(Role.SME) and actor.org_id == booking.payer_org:
        found.add(Party.CUSTOMER)
    return frozenset(found)


def possible_for(actor: Actor, booking: Booking | AnyRow) -> tuple[BookingAction, ...]:
    """Return what an actor can do to a booking as it stands."""
    return possible_actions(BookingMode(booking.mode), BookingState(booking.state), parties_of(actor, booking))


def graces_of(work: Work, booking: Booking) -> Graces:
    """Return the graces that were agreed with the booking's price."""
    body = pinned_tariff(work.session, booking.tariff_id, booking.tariff_version).body
    return Graces(timedelta(seconds=body.early_grace_s), timedelta(seconds=body.late_grace_s))


def perform(work: Work, booking_id: str, action: BookingAction, said: StepInput, version: int | None) -> Booking:
    """Carry out what a person asks for; `version` is the row version they saw (None: whatever it is now).

    Refused: 404 for a booking they may not see, 412 stale, 409 `not_possible_now` with what is possible, 403, 422.
    """
    if action in (BookingAction.CHECK_OUT, BookingAction.CONFIRM_RESULTS):
        # The due row comes first in the order of locks: the worker holds it while it waits for the booking.
        repository.booking_row(work.session, work.actor, booking_id)
        move_due(work.session, DueKind.COMPLETE_BOOKING, booking_id, work.now)
    booking = repository.booking_row(work.session, work.actor, booking_id, lock=True)
    if version is not None and booking.row_version != version:
        raise stale(booking.row_version, version)
    take_step(work, booking, action, said)
    return booking


def take_step(
    work: Work,
    booking: Booking,
    action: BookingAction,
    said: StepInput = _NOTHING,
    facts: dict[str, Any] | None = None,
    event_no: int | None = None,
) -> None:
    """Take one step of the state machine with its effects. Refused as `perform`.

    `event_no`: the number of its event, where the caller has just made the booking and knows it; then nothing is
    written yet, so that the booking is written once, as it stands in the end.
    """
    before = BookingState(booking.state)
    after = next_state(BookingMode(booking.mode), before, action, parties_of(work.actor, booking), said.reason)
    effect = _EFFECTS.get(action)
    told = effect(work, booking, said) if effect is not None else {}
    booking.state = after.value
    booking.row_version += 1
    if action in _SETTLES:
        consents.close_with_booking(work, booking.booking_id)
    record_event(work, booking, action.value, before.value, said.reason.strip(), told | (facts or {}), event_no)
    if event_no is None:
        work.session.flush()
    if action is BookingAction.REPORT:
        close_if_settled(work, booking)


def change_note(work: Work, booking_id: str, note: str, version: int) -> Booking:
    """Change what stands beside a booking. Refused: 404, 412 stale, 403 unless it is theirs."""
    booking = repository.booking_row(work.session, work.actor, booking_id, lock=True)
    if booking.row_version != version:
        raise stale(booking.row_version, version)
    if not parties_of(work.actor, booking):
        raise rules.not_theirs()
    before, booking.note = booking.note, note
    booking.row_version += 1
    work.session.flush()
    work.audit(
        "booking.note",
        f"booking:{booking.booking_id}",
        host_id=booking.host_id,
        before={"note": before},
        after={"note": note, "row_version": booking.row_version},
    )
    return booking


def _confirm(work: Work, booking: Booking, said: StepInput) -> dict[str, Any]:
    if not is_system(work.actor):
        consents.require_agreed(work.session, booking.booking_id)
    if booking.held_until is not None and work.now > booking.held_until:
        raise conflict(
            "hold_expired",
            "该申请的保留时间已过,不能再确认;请客户重新预约。",
            "The time this request was held for has passed; ask the customer to book again.",
            held_until=rfc3339(booking.held_until),
        )
    if booking.mode == BookingMode.SELF_OPERATED.value:
        at = booking.slot_to + graces_of(work, booking).late
        due_later(work.session, DueKind.COMPLETE_BOOKING, booking.booking_id, at)
    return {}


def _release(work: Work, booking: Booking, said: StepInput) -> dict[str, Any]:
    calendar.release(work, booking.calendar_row_id)
    return {}


def _cancel(work: Work, booking: Booking, said: StepInput) -> dict[str, Any]:
    only_customer = parties_of(work.actor, booking) == {Party.CUSTOMER}
    if only_customer and booking.calendar_row_id is not None and work.now >= booking.slot_from:
        raise conflict(
            "too_late_to_cancel",
            "预约时段已开始,不能自行取消;请联系实验室管理员。",
            "The slot has begun; ask the lab manager to cancel it.",
            slot_from=rfc3339(booking.slot_from),
        )
    told = _release(work, booking, said)
    # Who cancels for the host, or because of an outage, charges nothing; nor was an unconfirmed request a promise.
    if only_customer and booking.calendar_row_id is not None and booking.state == BookingState.CONFIRMED.value:
        told |= charge_cancellation(work, booking)
    return told


def _miss(work: Work, booking: Booking, said: StepInput) -> dict[str, Any]:
    told = charge_no_show(work, booking, said.reason.strip())
    if "fee_waived" not in told:
        strikes.strike(work, booking)
    return told


def _use_found(work: Work, booking: Booking, said: StepInput) -> dict[str, Any]:
    if booking.state != BookingState.NO_SHOW.value:
        return {}
    strikes.unstrike(work, booking, "use was found: it was no no-show")
    return void_no_show(work, booking)


def _check_in(work: Work, booking: Booking, said: StepInput) -> dict[str, Any]:
    opens = booking.slot_from - graces_of(work, booking).early
    if booking.checked_in_at is not None:
        raise _said_before("checked_in", booking.checked_in_at)
    at = said.at or work.now
    if not opens <= at < booking.slot_to:
        raise conflict(
            "not_check_in_time",
            f"请在签到时间内签到:{rfc3339(opens)} 至 {rfc3339(booking.slot_to)}。",
            f"Check-in is possible from {rfc3339(opens)} until {rfc3339(booking.slot_to)}.",
            **rules.times(Interval(opens, booking.slot_to)),
        )
    if parties_of(work.actor, booking) == {Party.CUSTOMER} and not said.present:
        _require_no_code(work, booking)
    booking.checked_in_at = at
    return {"checked_in_at": rfc3339(at)}


def _require_no_code(work: Work, booking: Booking) -> None:
    instrument = work.session.get_one(Instrument, booking.instrument_id)
    if approval.rule_of(work.session, booking.instrument_id, instrument.approval).needs_code:
        raise conflict(
            "code_required",
            "该仪器须凭现场签到码签到;请在仪器旁输入签到码,或请实验室管理员代为签到。",
            "Check in with the code at the instrument (`check-in-by-code`), or ask the lab manager to check you in.",
            instrument_id=booking.instrument_id,
        )


def _check_out(work: Work, booking: Booking, said: StepInput) -> dict[str, Any]:
    if booking.checked_out_at is not None:
        raise _said_before("checked_out", booking.checked_out_at)
    booking.checked_out_at = said.at or work.now
    return {"checked_out_at": rfc3339(booking.checked_out_at)}


def _receive(work: Work, booking: Booking, said: StepInput) -> dict[str, Any]:
    if not said.samples:
        raise _missing("samples", "收到的样品清单", "the list of samples received")
    return {"samples": list(said.samples)}


def _schedule(work: Work, booking: Booking, said: StepInput) -> dict[str, Any]:
    if said.slot is None:
        raise _missing("slot_from", "上机时段", "the slot on the instrument (`slot_from`, `slot_to`)")
    if said.slot != Interval(booking.slot_from, booking.slot_to) and repository.taken_back_by_lab(
        work.session, booking
    ):
        raise conflict(
            "consent_needed",
            "该委托曾由实验室撤销排期;另定时段须经客户同意,请提议新时段(POST /bookings/{id}/proposals),或恢复原时段。",
            "The lab took this order off its schedule, so another slot takes the customer's consent: propose it"
            " (POST /bookings/{id}/proposals), or give back the slot that it had.",
            **rules.times(Interval(booking.slot_from, booking.slot_to)),
        )
    instrument = repository.instrument_row(work.session, booking.instrument_id, lock=True)
    purpose = UsePurpose(booking.purpose)
    rules.check_instrument_works(instrument, purpose)
    terms = check_time(work, instrument, said.slot, BookingMode(booking.mode), purpose)
    check_papers(work, instrument, said.slot, repository.report_types(work.session, booking.booking_id))
    booking.calendar_row_id = calendar.occupy(work, instrument, said.slot, terms)
    booking.slot_from, booking.slot_to = said.slot.from_at, said.slot.to_at
    return {"slot_from": rfc3339(said.slot.from_at), "slot_to": rfc3339(said.slot.to_at)}


def _unschedule(work: Work, booking: Booking, said: StepInput) -> dict[str, Any]:
    calendar.release(work, booking.calendar_row_id)
    booking.calendar_row_id = None
    return {}


def _confirm_results(work: Work, booking: Booking, said: StepInput) -> dict[str, Any]:
    if said.quantity is None or said.quantity < 0:
        raise _missing("quantity", "实际检测数量", "how many were tested (`quantity`, 0 or more)")
    booking.confirmed_quantity = said.quantity
    return {"quantity": said.quantity}


def _report(work: Work, booking: Booking, said: StepInput) -> dict[str, Any]:
    for field, zh, en in (
        ("report_number", "报告编号", "the number of the report"),
        ("report_date", "报告日期", "the date of the report"),
        ("report_sha256", "报告文件的 SHA-256", "the SHA-256 of the report's file"),
    ):
        if not getattr(said, field):
            raise _missing(field, zh, en)
    return {"number": said.report_number, "date": said.report_date, "sha256": said.report_sha256}


def _missing(field: str, zh: str, en: str) -> Refused:
    return invalid("field_missing", f"请填写{zh}。", f"Give {en}.", field=field)


def _said_before(what: str, at: Any) -> Refused:
    return conflict(
        "already_recorded",
        "该操作已经记录过,不会重复记录;请刷新查看预约状态。",
        "This has been recorded already; it is not recorded twice; read the booking again.",
        what=what,
        at=rfc3339(at),
    )


_SETTLES = frozenset(
    {
        BookingAction.REJECT,
        BookingAction.EXPIRE,
        BookingAction.CANCEL,
        BookingAction.CHECK_IN,
        BookingAction.START,
        BookingAction.UNSCHEDULE,
        BookingAction.USE_FOUND,
        BookingAction.MISS,
    }
)
"""After these nobody can agree to another slot any more."""

_EFFECTS: dict[BookingAction, _Effect] = {
    BookingAction.CONFIRM: _confirm,
    BookingAction.REJECT: _release,
    BookingAction.EXPIRE: _release,
    BookingAction.CANCEL: _cancel,
    BookingAction.MISS: _miss,
    BookingAction.USE_FOUND: _use_found,
    BookingAction.CHECK_IN: _check_in,
    BookingAction.CHECK_OUT: _check_out,
    BookingAction.RECEIVE: _receive,
    BookingAction.SCHEDULE: _schedule,
    BookingAction.UNSCHEDULE: _unschedule,
    BookingAction.CONFIRM_RESULTS: _confirm_results,
    BookingAction.REPORT: _report,
}
