"""Time that a host keeps for itself, and the end of what closes an instrument. Rows of the one calendar.

Called by the endpoints. A reservation takes free time only; an outage (outages.py) takes what it needs.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Select, select

from api.booking import calendar, repository
from api.booking.checks import bound_terms
from api.booking.rules import check_slot_forward, times
from api.booking.slots import Interval
from api.charging.access import require_host_role
from api.errors import conflict, invalid, not_found
from api.schemas import rfc3339
from api.work import Work
from store.errors import CalendarOverlap
from store.tables.accounts import Role
from store.tables.calendar import BookingMode, CalendarKind, CalendarRow, UsePurpose

CLOSURES = (CalendarKind.OUTAGE, CalendarKind.RESERVATION)


def reserve(work: Work, instrument_id: str, window: Interval, note: str) -> CalendarRow:
    """Keep an instrument for the host's own work during `window`. By its lab manager.

    Refused: 403, 404, 409 `slot_taken` with times and free alternatives, 422 for a reversed or past window or no note.
    """
    instrument = repository.instrument_row(work.session, instrument_id, lock=True)
    require_host_role(work, instrument.host_id, (), "保留该仪器", "reserve this instrument")
    check_slot_forward(window)
    if window.from_at < work.now:
        raise invalid(
            "slot_in_the_past",
            "不能保留已经过去的时段;请选择之后的时段。",
            "That time has begun already; choose a later one.",
            field="from_at",
        )
    if not note.strip():
        raise invalid("reason_required", "请写明保留原因。", "Say what the time is kept for.", field="note")
    try:
        row_id = calendar.insert_row(work, instrument_id, CalendarKind.RESERVATION, window, note.strip())
    except CalendarOverlap:
        terms = bound_terms(work, instrument, window, BookingMode.SELF_OPERATED, UsePurpose.INTERNAL)
        raise calendar.slot_taken(work, instrument, window, terms) from None
    work.audit(
        "reservation.made",
        f"instrument:{instrument_id}",
        host_id=instrument.host_id,
        after={**times(window), "row": row_id, "note": note.strip()},
    )
    return work.session.get_one(CalendarRow, row_id)


def end_closure(work: Work, instrument_id: str, row_id: str, reason: str) -> CalendarRow:
    """End an outage or a reservation now: what lies ahead is free again, what is over stays. By the lab manager; an
    outage, as it is declared, also by an admin.

    Refused: 403, 404, 409 `over_already`.
    """
    instrument = repository.instrument_row(work.session, instrument_id, lock=True)
    row = work.session.get(CalendarRow, row_id, populate_existing=True)
    if row is None or row.instrument_id != instrument_id or CalendarKind(row.kind) not in CLOSURES:
        raise not_found("停用或保留", "outage or reservation", row_id)
    also = (Role.ADMIN,) if row.kind == CalendarKind.OUTAGE.value else ()
    require_host_role(work, instrument.host_id, also, "结束停用或保留", "end an outage or a reservation")
    if not row.active or row.to_at <= work.now:
        raise conflict(
            "over_already",
            "该停用或保留已结束,无须处理;请刷新日历。",
            "It is over already and there is nothing to end; read the calendar again.",
            to=rfc3339(row.to_at),
        )
    before = times(Interval(row.from_at, row.to_at))
    if row.from_at < work.now:
        row.to_at = work.now
    else:
        row.active = False
    work.session.flush()
    work.audit(
        f"{row.kind}.ended",
        f"instrument:{instrument_id}",
        host_id=instrument.host_id,
        before=before,
        after={"row": row_id, "active": int(row.active), "to": rfc3339(row.to_at), "reason": reason.strip()},
    )
    return row


def closures_of(instrument_id: str, from_at: datetime, kinds: Sequence[CalendarKind] = CLOSURES) -> Select[CalendarRow]:
    """Return the selection of an instrument's outages and reservations that are in force at or after an instant."""
    return select(CalendarRow).where(
        CalendarRow.instrument_id == instrument_id,
        CalendarRow.kind.in_([kind.value for kind in kinds]),
        CalendarRow.active,
        CalendarRow.to_at > from_at,
    )
