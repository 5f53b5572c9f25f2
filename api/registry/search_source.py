"""The SQL behind the catalogue: entries to load, what changed since, who is busy, what instruments are doing.

Reads only, in the caller's transaction, the same on every engine.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, select, type_coerce
from sqlalchemy.orm import Session

from api.charging.tariff_body import read_body
from api.charging.tariff_parts import Prices, UserCategory
from api.registry.opening import Span
from api.registry.search_index import LIVE_UNKNOWN, PRICE_UNITS, Entry, Price, Schedule
from api.registry.search_terms import Field
from api.registry.search_text import fold
from store.liveness import counts_as_online
from store.tables.calendar import CalendarRow
from store.tables.charging import Tariff, TariffVersion
from store.tables.registry import (
    CatalogueChange,
    CatalogueHead,
    Host,
    Instrument,
    Lab,
    Metering,
    Org,
    OrgState,
    RunStatus,
    ShareMode,
    SpecialDay,
    TestItem,
)
from store.tables.usage import AgentStatus, MeterPosition
from wire.clock import to_ms

AT_ONCE = 500
"""Ids a statement; engines have a limit."""

Label = tuple[str, str]


@dataclass(frozen=True)
class Loaded:
    """Entries, the names of their facets' values (zh, en), and when a price of which one changes by itself."""

    entries: list[Entry]
    labels: dict[tuple[str, str], Label]
    price_changes: list[tuple[int, str]]


@dataclass(frozen=True)
class LiveState:
    """What an instrument was last heard to do. `heard_at` None: nobody speaks for it, or never did."""

    state: str
    heard_at: datetime | None


def head(session: Session) -> int:
    """Return the number of the last change of the registry."""
    return session.scalar(select(CatalogueHead.seq)) or 0


def changed_since(session: Session, seq: int) -> list[str]:
    """Return the instruments that changed after a number."""
    return list(session.scalars(select(CatalogueChange.instrument_id).where(CatalogueChange.seq > seq)))


def load(session: Session, now: datetime, instrument_ids: Sequence[str] | None = None) -> Loaded:
    """Return the entries of all instruments (or of some) that are open to anybody, with the prices of `now`."""
    loaded = Loaded([], {}, [])
    for chosen in [None] if instrument_ids is None else _parts(instrument_ids):
        items = _items(session, chosen)
        prices, changes = _prices(session, now, chosen)
        loaded.price_changes.extend(changes)
        for row in session.execute(_shown(chosen)):
            loaded.entries.append(_entry(row, items.get(row.instrument_id, ()), prices.get(row.instrument_id)))
            loaded.labels.update(_labels(row))
    return loaded


def special_days(session: Session, from_day: str) -> list[SpecialDay]:
    """Return all special days from a day on."""
    return list(session.scalars(select(SpecialDay).where(SpecialDay.day >= from_day)))


def busy(session: Session, from_at: datetime, to_at: datetime) -> Iterator[tuple[str, int]]:
    """Yield whose time is taken within [from_at, to_at), over all instruments, and from which millisecond on."""
    wanted = select(CalendarRow.instrument_id, type_coerce(CalendarRow.from_at, BigInteger)).where(
        CalendarRow.active, CalendarRow.to_at > from_at, CalendarRow.from_at < to_at
    )
    # Milliseconds as they are kept: there may be tens of thousands.
    yield from ((row[0], row[1]) for row in session.execute(wanted))


def busy_of(session: Session, instrument_ids: Sequence[str], after: datetime) -> dict[str, list[Span]]:
    """Return by instrument what is taken from an instant on, in order."""
    found: dict[str, list[Span]] = {key: [] for key in instrument_ids}
    for part in _parts(instrument_ids):
        wanted = select(CalendarRow.instrument_id, CalendarRow.from_at, CalendarRow.to_at).where(
            CalendarRow.instrument_id.in_(part), CalendarRow.active, CalendarRow.to_at > after
        )
        for key, from_at, to_at in session.execute(wanted):
            found[key].append((from_at, to_at))
    for spans in found.values():
        spans.sort()
    return found


def is_bookable(share_mode: str, run_status: str) -> bool:
    """Whether an instrument works and is open to others."""
    return share_mode == ShareMode.EXTERNAL.value and run_status == RunStatus.NORMAL.value


def live(session: Session, instrument_ids: Sequence[str], now: datetime, speed: float) -> dict[str, LiveState]:
    """Return what instruments are doing, as far as their agents are online; otherwise unknown. `speed`: of the clock
    that `now` is of."""
    found = dict.fromkeys(instrument_ids, LiveState(LIVE_UNKNOWN, None))
    for part in _parts(instrument_ids):
        found |= _live(session, part, now, speed)
    return found


def _live(session: Session, part: Collection[str], now: datetime, speed: float) -> dict[str, LiveState]:
    meterings = select(Metering.instrument_id, Metering.agent_id).where(
        Metering.instrument_id.in_(part), Metering.effective_at <= now
    )
    agent_of = {row[0]: row[1] for row in session.execute(meterings.order_by(Metering.effective_at))}
    heard = select(AgentStatus.agent_id, AgentStatus.online, AgentStatus.changed_at, AgentStatus.heard_at).where(
        AgentStatus.agent_id.in_(set(agent_of.values()))
    )
    status = {row[0]: row for row in session.execute(heard)}
    said = select(MeterPosition.instrument_id, MeterPosition.state).where(MeterPosition.instrument_id.in_(part))
    state = {row[0]: row[1] for row in session.execute(said.order_by(MeterPosition.accounted_to))}
    found: dict[str, LiveState] = {}
    for key, agent_id in agent_of.items():
        if agent_id in status:
            _, online, changed_at, heard_at = status[agent_id]
            there = counts_as_online(online, changed_at, heard_at, now, speed)
            found[key] = LiveState(state.get(key, LIVE_UNKNOWN) if there else LIVE_UNKNOWN, heard_at)
    return found


def _shown(chosen: Collection[str] | None) -> Any:
    statement = (
        select(
            *(Instrument.instrument_id, Instrument.host_id, Instrument.code, Instrument.name_zh, Instrument.name_en),
            *(Instrument.model, Instrument.manufacturer, Instrument.function, Instrument.inner_code),
            *(Instrument.category_code, Instrument.category_zh, Instrument.category_en),
            *(Instrument.share_mode, Instrument.run_status, Instrument.self_operated, Instrument.takes_samples),
            *(Instrument.open_hours, Instrument.lead_minutes, Instrument.horizon_days, Instrument.min_slot_minutes),
            *(Instrument.max_slot_minutes, Instrument.step_minutes, Instrument.buffer_minutes),
            *(Lab.name_zh.label("lab_zh"), Lab.name_en.label("lab_en")),
            *(Lab.town_zh.label("lab_town_zh"), Lab.town_en.label("lab_town_en")),
            *(Host.town_zh, Host.town_en, Host.cluster_zh, Host.cluster_en),
            *(Org.name_zh.label("host_zh"), Org.name_en.label("host_en")),
        )
        .join(Lab, Lab.lab_id == Instrument.lab_id)
        .join(Host, Host.host_id == Instrument.host_id)
        .join(Org, Org.org_id == Host.org_id)
        .where(
            Instrument.share_mode != ShareMode.NONE.value,
            Instrument.run_status != RunStatus.RETIRED.value,
            Lab.retired_at.is_(None),
            Host.retired_at.is_(None),
            Org.state == OrgState.ACTIVE.value,
        )
    )
    return statement if chosen is None else statement.where(Instrument.instrument_id.in_(chosen))


def _items(session: Session, chosen: Collection[str] | None) -> dict[str, list[Any]]:
    wanted = select(
        *(TestItem.instrument_id, TestItem.name_zh, TestItem.name_en, TestItem.parameter_zh, TestItem.parameter_en),
        TestItem.standard,
    ).where(TestItem.retired_at.is_(None))
    if chosen is not None:
        wanted = wanted.where(TestItem.instrument_id.in_(chosen))
    found: dict[str, list[Any]] = {}
    for row in session.execute(wanted):
        found.setdefault(row[0], []).append(row)
    return found


def _prices(
    session: Session, now: datetime, chosen: Collection[str] | None
) -> tuple[dict[str, Price], list[tuple[int, str]]]:
    wanted = select(Tariff.instrument_id, TariffVersion.valid_from, TariffVersion.body).join(
        TariffVersion, TariffVersion.tariff_id == Tariff.tariff_id
    )
    if chosen is not None:
        wanted = wanted.where(Tariff.instrument_id.in_(chosen))
    bodies: dict[str, str] = {}
    changes: list[tuple[int, str]] = []
    for key, valid_from, body in session.execute(wanted.order_by(TariffVersion.valid_from)):
        if valid_from <= now:
            bodies[key] = body
        else:
            changes.append((to_ms(valid_from), key))
    prices = {key: _price(body) for key, body in bodies.items()}
    return {key: price for key, price in prices.items() if price is not None}, changes


@lru_cache(maxsize=1024)
def _price(body: str) -> Price | None:
    """What a firm pays for a unit of time or, where time costs nothing, of a count."""
    prices: Prices = read_body(body).prices_for(UserCategory.SME)
    if prices.time is not None:
        return PRICE_UNITS.index(prices.time.per.value), prices.time.unit_fen
    if prices.unit is not None:
        return PRICE_UNITS.index(prices.unit.per.value), prices.unit.unit_fen
    return None


def _entry(row: Any, items: Sequence[Any], price: Price | None) -> Entry:
    texts = [
        *((Field.CODE, row.code), (Field.CODE, row.inner_code), (Field.NAME, row.name_zh), (Field.NAME, row.name_en)),
        *((Field.MODEL, row.model), (Field.MODEL, row.manufacturer), (Field.LAB, row.lab_zh), (Field.LAB, row.lab_en)),
        *((Field.CATEGORY, row.category_zh), (Field.CATEGORY, row.category_en), (Field.CATEGORY, row.function)),
        *((Field.PLACE, place) for place in _places(row)),
    ]
    for item in items:
        texts += [(Field.ITEM, text) for text in item[1:5]]
        texts.append((Field.STANDARD, item.standard))
    facets = [("cluster", row.cluster_zh), ("town", _town(row)[0]), ("category", row.category_code)]
    facets += [("mode", "self_operated")] if row.self_operated else []
    facets += [("mode", "samples")] if row.takes_samples else []
    facets += [("unit", PRICE_UNITS[price[0]])] if price is not None else []
    return Entry(
        row.instrument_id,
        row.host_id,
        Schedule(*(getattr(row, name) for name in _SCHEDULE)),
        tuple(dict.fromkeys((field, _folded(text)) for field, text in texts if text)),
        tuple(facets),
        is_bookable(row.share_mode, row.run_status),
        price,
    )


_SCHEDULE = (
    *("open_hours", "lead_minutes", "horizon_days", "min_slot_minutes", "max_slot_minutes"),
    *("step_minutes", "buffer_minutes"),
)
_folded = lru_cache(maxsize=65536)(fold)


def _town(row: Any) -> Label:
    return (row.lab_town_zh, row.lab_town_en) if row.lab_town_zh else (row.town_zh, row.town_en)


def _places(row: Any) -> tuple[str, ...]:
    return *_town(row), row.host_zh, row.host_en, row.cluster_zh, row.cluster_en


def _labels(row: Any) -> Mapping[tuple[str, str], Label]:
    return {
        ("cluster", row.cluster_zh): (row.cluster_zh, row.cluster_en),
        ("town", _town(row)[0]): _town(row),
        ("category", row.category_code): (row.category_zh, row.category_en),
    }


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), AT_ONCE):
        yield ids[start : start + AT_ONCE]
