"""Discounts: a lab manager asks less for one booking, with a reason, before it is charged.

Kept as an event of the booking (and in the host's audit chain); the latest one stands. Charging reads it into the
input of the charge. Called by the endpoints of prices and by charging.
"""

import json
from typing import Any

from sqlalchemy.orm import Session

from api.booking import repository
from api.booking.history import record_event
from api.charging.rating_types import Discount
from api.charging.repository import last_charge
from api.errors import conflict, forbidden, invalid, stale
from api.work import Work
from store.tables.calendar import Booking, BookingState, UsePurpose

_OVER = (
    BookingState.CLOSED,
    BookingState.REJECTED,
    BookingState.CANCELLED,
    BookingState.EXPIRED,
    BookingState.NO_SHOW,
)


def grant_discount(work: Work, booking_id: str, bp: int, fen: int, reason: str, version: int) -> Booking:
    """Grant a share (1/100 %) or an amount on a booking; neither takes an earlier one back. The latest one stands.

    Refused: 404, 403 unless the actor manages the host, 412 stale, 409 `charged_already`, 409 `not_possible_now`,
    422 `reason_missing`, 422 `bad_discount`.
    """
    booking = repository.booking_row(work.session, work.actor, booking_id, lock=True)
    if booking.row_version != version:
        raise stale(booking.row_version, version)
    if not work.actor.manages(booking.host_id):
        raise forbidden(
            "只有该仪器所在单位的实验室管理员可以减免费用;请联系该管理员。",
            "Only the host's lab manager may grant a discount; ask the lab manager.",
        )
    if not reason.strip():
        raise invalid("reason_missing", "请写明减免理由。", "Say why less is asked.", field="reason")
    if not (0 <= bp <= 10_000 and fen >= 0) or (bp > 0 and fen > 0):
        raise invalid(
            "bad_discount",
            "减免须为不超过 100 % 的比例或一个金额;请二者择一。",
            "A discount is a share of at most 100 % or an amount; give one of the two.",
            field="bp",
        )
    state = BookingState(booking.state)
    if state in _OVER or booking.purpose != UsePurpose.CUSTOMER.value:
        raise conflict(
            "not_possible_now",
            "该预约不再计费,不能减免;请核对预约编号。",
            "This booking will not be charged (any more); there is nothing to discount; check the booking.",
            state=state.value,
        )
    last = last_charge(work.session, booking_id)
    if last is not None and last.revision % 2:
        raise conflict(
            "charged_already",
            "该预约已计费;请先冲销收费。",
            "This booking has been charged; reverse its charge first.",
            charge_id=last.charge_id,
        )
    booking.row_version += 1
    work.session.flush()
    facts: dict[str, Any] = {"discount_bp": bp, "discount_fen": fen}
    record_event(work, booking, "discount", state.value, reason.strip(), facts)
    return booking


def discounts_of(session: Session, booking_id: str) -> tuple[Discount, ...]:
    """Return the discount that stands for a booking; empty where none was granted or it was taken back."""
    for event in reversed(repository.events_of(session, booking_id)):
        facts = json.loads(event.facts)
        if "discount_bp" in facts:
            bp, fen = int(facts["discount_bp"]), int(facts["discount_fen"])
            return (Discount(event.reason, bp, fen),) if bp or fen else ()
    return ()
