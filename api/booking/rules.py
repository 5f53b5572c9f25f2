"""Who may book what, and when. Pure: facts in, a refusal out (raised) or nothing.

Called by the service under every door, so that no page, program or import goes around them. Each refusal names what
has to change before the request can succeed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from api.booking.slots import Interval
from api.errors import Refused, conflict, forbidden, invalid
from api.schemas import rfc3339
from api.work import Actor
from store.tables.accounts import Role
from store.tables.calendar import BookingMode, UsePurpose
from store.tables.registry import Instrument, Org, OrgState, RunStatus, ShareMode, TestItem

LONGEST_SLOT = timedelta(days=92)
"""No instrument takes longer slots, whatever its own limit: what overlaps an instant is looked for so far back."""
CALENDAR_SPAN = timedelta(days=92)
HOLD_REQUESTED = timedelta(hours=24)

NO_CERTIFICATE = "no_valid_certificate"


@dataclass(frozen=True)
class BookingRequest:
    """What somebody asks for. In samples mode the slot is the time expected on the instrument: it holds nothing.

    `rush` and `options` are codes of the price list. Of a booking on a customer's behalf `for_person` is the member of
    that firm it is for, and `consent` says how the firm agreed to it; without that word it is asked. `agreed_sha256`:
    the hash of the quote that was shown; "" where none was.
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
    items: tuple["OrderedItem", ...] = ()
    needed_by: datetime | None = None
    for_person: str | None = None
    consent: str = ""
    agreed_sha256: str = ""


@dataclass(frozen=True)
class OrderedItem:
    """A test item of the instrument, and on how many samples it is wanted."""

    test_item_id: str
    samples: int = 0


def times(slot: Interval) -> dict[str, str]:
    """Return an interval as facts of an answer."""
    return {"from": rfc3339(slot.from_at), "to": rfc3339(slot.to_at)}


def payer_of(actor: Actor, request: BookingRequest, instrument: Instrument, host_org: str) -> str:
    """Return the organisation that pays. Raises 403 where the actor may not book this for that payer.

    A booking is always a person's: who brings history in acts as the people in it, not as the system.
    """
    if actor.manages(instrument.host_id):
        return _payer_named_by_manager(request, host_org)
    if actor.has(Role.COUNTY_OFFICER) and request.purpose is UsePurpose.CUSTOMER:
        return _payer_named_by_manager(request, host_org)
    if not actor.has(Role.SME):
        raise forbidden(
            "只有企业用户、该仪器所在单位的实验室管理员或代客户预约的县级管理员可以预约;请联系其中一方。",
            "Booking is for firms, for the host's lab manager, and for a county officer on a firm's behalf;"
            " ask one of them.",
        )
    if request.purpose is not UsePurpose.CUSTOMER:
        raise forbidden(
            "内部使用和维护只能由该单位的实验室管理员登记;请联系该管理员。",
            "Internal use and maintenance are booked by the host's own lab manager; ask the lab manager.",
            purpose=request.purpose.value,
        )
    if request.payer_org not in (None, actor.org_id):
        raise forbidden(
            "企业只能以本企业名义预约;请勿填写 payer_org。",
            "A firm books for itself only; leave `payer_org` out.",
            field="payer_org",
        )
    return actor.org_id


def _payer_named_by_manager(request: BookingRequest, host_org: str) -> str:
    if request.purpose is not UsePurpose.CUSTOMER:
        if request.payer_org not in (None, host_org):
            raise invalid(
                "payer_not_host",
                "内部使用和维护由本单位承担;请勿填写其他付款单位。",
                "Internal use and maintenance are the host's own; leave `payer_org` out.",
                field="payer_org",
            )
        return host_org
    if request.payer_org is None:
        raise invalid(
            "payer_missing",
            "代客户预约请填写付款单位(payer_org)。",
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
            "仪器所在单位尚未启用或已停用,暂不接受预约;请选择其他单位的仪器。",
            "The host of this instrument is not active; choose an instrument of another host.",
            org_id=host_org.org_id,
        )


def is_on_behalf(actor: Actor, payer_org: str, request: BookingRequest) -> bool:
    """Whether somebody books for a firm that is not theirs, so that the firm has to agree."""
    return request.purpose is UsePurpose.CUSTOMER and not (actor.has(Role.SME) and actor.org_id == payer_org)


def check_instrument(instrument: Instrument, request: BookingRequest) -> None:
    """Raise 409 where the instrument is not shared for this purpose or in this way, or does not work."""
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
    open_for = instrument.takes_samples if request.mode is BookingMode.SAMPLES else instrument.self_operated
    if request.purpose is UsePurpose.CUSTOMER and not open_for:
        other = BookingMode.SELF_OPERATED if request.mode is BookingMode.SAMPLES else BookingMode.SAMPLES
        raise conflict(
            "mode_not_offered",
            f"该仪器不提供此预约方式;请改用“{other}”或选择其他仪器。",
            f"This instrument is not offered in that mode; ask for {other}, or choose another instrument.",
            mode=request.mode.value,
        )
    check_instrument_works(instrument, request.purpose)


def check_instrument_works(instrument: Instrument, purpose: UsePurpose) -> None:
    """Raise 409 where the instrument does not work; maintenance is what a broken one is booked for."""
    status = RunStatus(instrument.run_status)
    if status is RunStatus.RETIRED or (status is not RunStatus.NORMAL and purpose is not UsePurpose.MAINTENANCE):
        raise conflict(
            "instrument_not_working",
            "该仪器目前不能正常使用,暂不接受预约;请选择其他仪器,或稍后再试。",
            "This instrument is not in working order and cannot be booked now; choose another one, or come back later.",
            run_status=status.value,
        )


def check_slot_forward(slot: Interval) -> None:
    """Raise 422 for an interval that does not end after it starts."""
    if slot.to_at <= slot.from_at:
        raise _bad_slot(
            "slot_reversed", "结束时间必须晚于开始时间;请更正。", "The slot ends after it starts; correct it.", slot
        )


def check_quantity(request: BookingRequest) -> None:
    """Raise 422 for a sample order without samples, a negative quantity, or an option ordered twice."""
    least = 1 if request.mode is BookingMode.SAMPLES else 0
    if request.quantity < least:
        raise invalid(
            "quantity_too_small",
            f"数量至少为 {least};请更正。",
            f"The quantity is at least {least}; correct it.",
            field="quantity",
            least=least,
        )
    if len(set(request.options)) != len(request.options):
        raise invalid(
            "option_twice",
            "每项附加服务只能选一次;请删去重复项。",
            "Each option is ordered once; leave out the second.",
            field="options",
        )


def check_items(request: BookingRequest, found: Sequence[TestItem]) -> None:
    """Raise 422 for an item ordered twice, one that the instrument does not (any more) test, or samples that do not
    add up to the quantity where items say their number."""
    asked = [item.test_item_id for item in request.items]
    if len(set(asked)) != len(asked):
        raise invalid(
            "item_twice",
            "同一检测项目只能填写一次;请删去重复项。",
            "Each test item is ordered once; leave out the second.",
            field="items",
        )
    known = {item.test_item_id for item in found if item.retired_at is None}
    unknown = [item for item in asked if item not in known]
    if unknown:
        raise invalid(
            "unknown_item",
            f"该仪器没有检测项目:{', '.join(unknown)};请在仪器详情中选择。",
            f"This instrument does not test: {', '.join(unknown)}; choose from the items it lists.",
            field="items",
            unknown=unknown,
        )
    most = max((item.samples for item in request.items), default=0)
    if request.mode is BookingMode.SAMPLES and most > request.quantity:
        raise invalid(
            "more_than_sent",
            f"单个项目的样品数({most})不能超过样品总数,请更正({request.quantity})。",
            f"An item is wanted on {most} samples, but {request.quantity} are sent; correct one of the two.",
            field="items",
            quantity=request.quantity,
        )


def occupied(slot: Interval, instrument: Instrument) -> Interval:
    """Return the time a slot takes on the calendar: itself and the buffer after it."""
    return Interval(slot.from_at, slot.to_at + timedelta(minutes=instrument.buffer_minutes))


def _bad_slot(code: str, zh: str, en: str, slot: Interval, **facts: object) -> Refused:
    return invalid(code, zh, en, field="slot", **times(slot), **facts)


def not_theirs() -> Refused:
    """403: somebody who may see a booking wants to change it."""
    return forbidden(
        "只有预约单位或该仪器所在单位的实验室管理员可以修改;请联系其中一方。",
        "Only the firm that booked, or the host's lab manager, may change this; ask one of them.",
    )
