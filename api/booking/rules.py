"""Who may book what, and when. Pure: facts in, a refusal out (raised) or nothing.

Called by the service under every door, so that no page, program or import goes around them. Each refusal names what
has to change before the request can succeed.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from api.booking.slots import Interval
from api.errors import Refused, conflict, forbidden, invalid
from api.schemas import rfc3339
from api.work import Actor
from store.tables.accounts import Role
from store.tables.calendar import BookingMode, UsePurpose
from store.tables.registry import Instrument, Org, OrgState, RunStatus, ShareMode

BOOKABLE_AHEAD = timedelta(days=366)
CALENDAR_SPAN = timedelta(days=92)
HOLD_REQUESTED = timedelta(hours=24)

NO_CERTIFICATE = "no_valid_certificate"


@dataclass(frozen=True)
class BookingRequest:
    """What somebody asks for. In samples mode the slot is the time expected on the instrument: it holds nothing.

    `rush` and `options` are codes of the price list.
    """

    instrument_id: str
    mode: BookingMode
    slot: Interval
    quantity: int = 0
    purpose: UsePurpose = UsePurpose.CUSTOMER
    payer_org: str | None = None
    note: str = ""
    rush: str = ""
    options: tuple[str, ...] = ()


def times(slot: Interval) -> dict[str, str]:
    """Return an interval as facts of an answer."""
    return {"from": rfc3339(slot.from_at), "to": rfc3339(slot.to_at)}


def payer_of(actor: Actor, request: BookingRequest, instrument: Instrument, host_org: str) -> str:
    """Return the organisation that pays. Raises 403 where the actor may not book this for that payer.

    A booking is always a person's: who brings history in acts as the people in it, not as the system.
    """
    if actor.manages(instrument.host_id):
        return _payer_named_by_manager(request, host_org)
    if not actor.has(Role.SME):
        raise forbidden(
            "只有企业用户或该仪器所在单位的实验室管理员可以预约。",
            "Booking is for firms, and for the lab manager of the host that owns the instrument.",
        )
    if request.purpose is not UsePurpose.CUSTOMER:
        raise forbidden(
            "内部使用和维护只能由该单位的实验室管理员登记。",
            "Internal use and maintenance are booked by the host's own lab manager.",
            purpose=request.purpose.value,
        )
    if request.payer_org not in (None, actor.org_id):
        raise forbidden(
            "企业只能以本企业名义预约。", "A firm books for itself only; leave `payer_org` out.", field="payer_org"
        )
    return actor.org_id


def _payer_named_by_manager(request: BookingRequest, host_org: str) -> str:
    if request.purpose is not UsePurpose.CUSTOMER:
        if request.payer_org not in (None, host_org):
            raise invalid(
                "payer_not_host",
                "内部使用和维护由本单位承担,不能填写其他付款单位。",
                "Internal use and maintenance are the host's own; leave `payer_org` out.",
                field="payer_org",
            )
        return host_org
    if request.payer_org is None:
        raise invalid(
            "payer_missing",
            "代客户预约须填写付款单位。",
            "Name the organisation that pays (`payer_org`) when you book on a customer's behalf.",
            field="payer_org",
        )
    return request.payer_org


def check_parties(payer: Org, host_org: Org) -> None:
    """Raise 403 where the payer, 409 where the host is not active."""
    if payer.state != OrgState.ACTIVE.value:
        raise forbidden(
            "付款单位尚未启用或已停用,暂不能预约;请联系县级管理员。",
            "The paying organisation is not active and cannot book; ask the county office.",
            org_id=payer.org_id,
            state=payer.state,
        )
    if host_org.state != OrgState.ACTIVE.value:
        raise conflict(
            "host_not_active",
            "仪器所在单位尚未启用或已停用,暂不接受预约。",
            "The host of this instrument is not active; nothing can be booked there now.",
            org_id=host_org.org_id,
        )


def check_instrument(instrument: Instrument, request: BookingRequest) -> None:
    """Raise 409 where the instrument is not shared for this purpose or does not work."""
    maintenance = request.purpose is UsePurpose.MAINTENANCE
    open_to = {
        UsePurpose.CUSTOMER: (ShareMode.EXTERNAL,),
        UsePurpose.INTERNAL: (ShareMode.EXTERNAL, ShareMode.INTERNAL),
    }
    if not maintenance and ShareMode(instrument.share_mode) not in open_to[request.purpose]:
        raise conflict(
            "not_shared",
            "该仪器未对此类用途开放共享;请选择其他仪器。",
            "This instrument is not shared for that purpose; choose another one.",
            share_mode=instrument.share_mode,
            purpose=request.purpose.value,
        )
    status = RunStatus(instrument.run_status)
    if status is RunStatus.RETIRED or (status is not RunStatus.NORMAL and not maintenance):
        raise conflict(
            "instrument_not_working",
            "该仪器目前不能正常使用,暂不接受预约。",
            "This instrument is not in working order; it cannot be booked now.",
            run_status=status.value,
        )


def check_slot_forward(slot: Interval) -> None:
    """Raise 422 for an interval that does not end after it starts."""
    if slot.to_at <= slot.from_at:
        raise _bad_slot("slot_reversed", "结束时间必须晚于开始时间。", "The slot has to end after it starts.", slot)


def check_slot(slot: Interval, instrument: Instrument, now: datetime) -> None:
    """Raise 422 for a slot that is reversed, in the past, too far ahead or longer than the instrument allows."""
    check_slot_forward(slot)
    if slot.from_at < now:
        raise _bad_slot(
            "slot_in_the_past", "不能预约已经开始的时段。", "That slot has begun already; choose a later one.", slot
        )
    if slot.from_at > now + BOOKABLE_AHEAD:
        raise _bad_slot("slot_too_far_ahead", "最多可提前一年预约。", "Slots can be booked at most a year ahead.", slot)
    longest = timedelta(minutes=instrument.max_slot_minutes)
    if slot.to_at - slot.from_at > longest:
        raise _bad_slot(
            "slot_too_long",
            f"该仪器单次最长可预约 {instrument.max_slot_minutes} 分钟。",
            f"This instrument can be booked for at most {instrument.max_slot_minutes} minutes at a time.",
            slot,
            max_slot_minutes=instrument.max_slot_minutes,
        )


def check_quantity(request: BookingRequest) -> None:
    """Raise 422 for a sample order without samples, a negative quantity, or an option ordered twice."""
    least = 1 if request.mode is BookingMode.SAMPLES else 0
    if request.quantity < least:
        raise invalid(
            "quantity_too_small",
            f"数量至少为 {least}。",
            f"The quantity has to be at least {least}.",
            field="quantity",
            least=least,
        )
    if len(set(request.options)) != len(request.options):
        raise invalid("option_twice", "每项附加服务只能选一次。", "Each option is ordered once.", field="options")


def occupied(slot: Interval, instrument: Instrument) -> Interval:
    """Return the time a slot takes on the calendar: itself and the buffer after it."""
    return Interval(slot.from_at, slot.to_at + timedelta(minutes=instrument.buffer_minutes))


def _bad_slot(code: str, zh: str, en: str, slot: Interval, **facts: object) -> Refused:
    return invalid(code, zh, en, field="slot", **times(slot), **facts)


def not_theirs() -> Refused:
    """403: somebody who may see a booking wants to change it."""
    return forbidden(
        "只有预约单位或该仪器所在单位的实验室管理员可以修改。",
        "Only the firm that booked, or the host's lab manager, may change this.",
    )
