"""How much was used, as sums: of one instrument, and of the county by cluster, town, category and month. Reads only.

Firms are counted, never named, and not even counted below three.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.orm import Session

from api.booking.sources import all_held_back
from api.registry.catalogue_schemas import FIRMS_SHOWN_FROM, CountyUse, UseFigures, UseOf
from api.work import Work
from store.periods import SHANGHAI
from store.tables.calendar import Booking, BookingUse, UsePurpose
from store.tables.registry import Host, Instrument, Lab
from store.tables.usage import UsageSession


@dataclass
class _Sum:
    running_ms: int = 0
    sessions: int = 0
    outside_ms: int = 0
    outside_orders: int = 0
    firms: set[str] = field(default_factory=set)

    def shown(self) -> dict[str, int | None]:
        return {
            "running_ms": self.running_ms,
            "sessions": self.sessions,
            "outside_ms": self.outside_ms,
            "outside_orders": self.outside_orders,
            "outside_firms": len(self.firms) if len(self.firms) >= FIRMS_SHOWN_FROM else None,
        }


def year_of(year: int) -> tuple[datetime, datetime]:
    """Return the bounds of a year in Asia/Shanghai."""
    return datetime(year, 1, 1, tzinfo=SHANGHAI), datetime(year + 1, 1, 1, tzinfo=SHANGHAI)


def used_this_year(work: Work, instrument_id: str) -> UseFigures:
    """Return what one instrument was used this year so far."""
    year = work.now.astimezone(SHANGHAI).year
    total = _Sum()
    for _, _, running_ms, sessions in _running(work.session, year, UsageSession.instrument_id == instrument_id):
        total.running_ms += running_ms
        total.sessions += sessions
    for _, _, payer, outside_ms, orders in _outside(work.session, year, Booking.instrument_id == instrument_id):
        _add_outside(total, payer, outside_ms, orders)
    return UseFigures(**total.shown())


def county_use(work: Work, year: int) -> CountyUse:
    """Return what was used in the county in a year: the whole, and by part."""
    parts: dict[str, dict[tuple[str, str, str], _Sum]] = {"cluster": {}, "town": {}, "category": {}, "month": {}}
    whole = _Sum()
    places = {row.instrument_id: row for row in work.session.execute(_places())}

    def sums(instrument_id: str, month: int) -> list[_Sum]:
        row = places[instrument_id]
        town = (row.town_zh, row.town_zh, row.town_en) if row.town_zh else (row.host_zh, row.host_zh, row.host_en)
        keys = {
            "cluster": (row.cluster_zh, row.cluster_zh, row.cluster_en),
            "town": town,
            "category": (row.category_code, row.category_zh, row.category_en),
            "month": (f"{year}-{month:02d}", f"{month} 月", f"{year}-{month:02d}"),
        }
        return [whole, *(parts[part].setdefault(key, _Sum()) for part, key in keys.items())]

    for key, month, running_ms, sessions in _running(work.session, year):
        for each in sums(key, month):
            each.running_ms += running_ms
            each.sessions += sessions
    for key, month, payer, outside_ms, orders in _outside(work.session, year):
        for each in sums(key, month):
            _add_outside(each, payer, outside_ms, orders)
    from_at, to_at = year_of(year)
    return CountyUse(
        year=year,
        from_at=from_at,
        to_at=to_at,
        whole=UseFigures(**whole.shown()),
        by_cluster=_listed(parts["cluster"], lambda use: (-use.running_ms, use.value)),
        by_town=_listed(parts["town"], lambda use: (-use.running_ms, use.value)),
        by_category=_listed(parts["category"], lambda use: (-use.running_ms, use.value)),
        by_month=_listed(parts["month"], lambda use: (use.value,)),
    )


def _add_outside(total: _Sum, payer: str, outside_ms: int, orders: int) -> None:
    total.outside_ms += outside_ms
    total.outside_orders += orders
    total.firms.add(payer)


def _listed(parts: dict[tuple[str, str, str], _Sum], order: Callable[[UseOf], Any]) -> list[UseOf]:
    return sorted((UseOf(value=key[0], zh=key[1], en=key[2], **sums.shown()) for key, sums in parts.items()), key=order)


def _month(column: Any, year: int) -> ColumnElement[int]:
    """Which month of the year an instant is in, in words that every engine has."""
    ends = [datetime(year, month + 1, 1, tzinfo=SHANGHAI) for month in range(1, 12)]
    return case(*((column < end, month) for month, end in enumerate(ends, 1)), else_=12)


def _running(session: Session, year: int, *where: ColumnElement[bool]) -> Sequence[Any]:
    from_at, to_at = year_of(year)
    month = _month(UsageSession.started_at, year)
    wanted = select(
        UsageSession.instrument_id,
        month,
        func.sum(UsageSession.odo_running_last_ms - UsageSession.odo_running_first_ms),
        func.count(),
    ).where(
        UsageSession.started_at >= from_at,
        UsageSession.started_at < to_at,
        UsageSession.session_id.not_in(all_held_back()),
        *where,
    )
    rows = session.execute(wanted.group_by(UsageSession.instrument_id, month))
    return [(key, month, int(running), count) for key, month, running, count in rows]


def _outside(session: Session, year: int, *where: ColumnElement[bool]) -> Sequence[Any]:
    from_at, to_at = year_of(year)
    month = _month(Booking.slot_from, year)
    wanted = (
        select(
            Booking.instrument_id,
            month,
            Booking.payer_org,
            func.sum(BookingUse.running_ms),
            func.count(Booking.booking_id.distinct()),
        )
        .join(BookingUse, BookingUse.booking_id == Booking.booking_id)
        .join(Host, Host.host_id == Booking.host_id)
        .where(
            Booking.purpose == UsePurpose.CUSTOMER.value,
            Booking.payer_org != Host.org_id,
            Booking.slot_from >= from_at,
            Booking.slot_from < to_at,
            *where,
        )
    )
    rows = session.execute(wanted.group_by(Booking.instrument_id, month, Booking.payer_org))
    return [(key, month, payer, int(outside), orders) for key, month, payer, outside, orders in rows]


def _places() -> Any:
    return (
        select(
            *(Instrument.instrument_id, Instrument.category_code, Instrument.category_zh, Instrument.category_en),
            *(Lab.town_zh, Lab.town_en, Host.cluster_zh, Host.cluster_en),
            *(Host.town_zh.label("host_zh"), Host.town_en.label("host_en")),
        )
        .join(Lab, Lab.lab_id == Instrument.lab_id)
        .join(Host, Host.host_id == Instrument.host_id)
    )
