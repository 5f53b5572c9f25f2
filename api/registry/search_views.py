"""Turn what the catalogue finds into what the public sees: a page of hits with facets, one instrument as a whole."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.charging.schemas import TariffAnswer
from api.charging.tariffs import tariff_versions
from api.pagination import PageAsked, read_cursor, write_cursor
from api.registry import catalogue_schemas as s
from api.registry import repository, search_source, views
from api.registry.opening import Span, merge_special
from api.registry.search import FACETS, Catalogue, Found, Question
from api.registry.search_index import PRICE_UNITS, Price
from api.registry.service import find_instrument
from api.registry.slot_terms import next_free, terms_of
from api.registry.traceability import certificate_verdict, standing
from api.registry.usage_figures import used_this_year
from api.work import Work
from store.tables.registry import Host, Instrument, Lab, Org, TestItem
from wire.clock import from_ms, to_ms

FACET_VALUES_MAX = 200
SLOTS_SHOWN = 3
AS_OF_MAX = timedelta(hours=1)

_NAMES = {
    ("mode", "self_operated"): ("自主上机", "self-operated"),
    ("mode", "samples"): ("送样检测", "samples sent in"),
    ("unit", "hour"): ("元/小时", "yuan an hour"),
    ("unit", "day"): ("元/天", "yuan a day"),
    ("unit", "sample"): ("元/样", "yuan a sample"),
    ("unit", "piece"): ("元/件", "yuan a piece"),
    ("unit", "item"): ("元/项", "yuan an item"),
    ("unit", "batch"): ("元/批", "yuan a batch"),
    ("live", "off"): ("关机", "off"),
    ("live", "standby"): ("待机", "standby"),
    ("live", "running"): ("运行中", "running"),
    ("live", "unknown"): ("未知", "unknown"),
}


def search(work: Work, catalogue: Catalogue, question: Question, sort: s.SortBy, page: PageAsked) -> s.FoundPage:
    """Return a page of what fits. Raises 422 `bad_cursor`."""
    after, as_of = _cursor(page, sort, work.now)
    with catalogue.lock:
        catalogue.refresh(work.session, work.now)
        found = catalogue.find(work.session, question, work.now)
        keys = list(islice(_ordered(work.session, catalogue, found, sort, after, as_of), page.limit + 1))
        more = len(keys) > page.limit
        keys = keys[: page.limit]
        ids = [key[-1] for key in keys]
        slots = catalogue.next_slots(work.session, ids, as_of)
        prices = {key: entry.price for key in ids if (entry := catalogue.index.entry(key)) is not None}
        facets = _facets(catalogue, found)
    return s.FoundPage(
        items=_hits(work, ids, prices, slots, catalogue.speed),
        next_cursor=write_cursor([sort.value, to_ms(as_of), *keys[-1]]) if more else None,
        total=found.total,
        facets=facets,
    )


def _ordered(
    session: Session, catalogue: Catalogue, found: Found, sort: s.SortBy, after: list[Any] | None, as_of: datetime
) -> Iterator[tuple[Any, ...]]:
    """Yield the sort key of each entry, its id last."""
    index = catalogue.index
    if sort is s.SortBy.EARLIEST:
        yield from catalogue.earliest(session, found.fitting, as_of, None if after is None else (after[0], after[1]))
    elif sort is s.SortBy.PRICE:
        if after is None or after[0] < len(PRICE_UNITS):
            yield from index.by_price(found.fitting, None if after is None else (after[0], after[1], after[2]))
        rest = found.fitting & ~index.priced()
        start = after[2] if after is not None and after[0] == len(PRICE_UNITS) else ""
        for key in index.in_order(rest, start):
            yield len(PRICE_UNITS), 0, key
    else:
        for rank, bits in found.ranked or [(0, found.fitting)]:
            if after is not None and rank > after[0]:
                continue
            for key in index.in_order(bits, after[1] if after is not None and rank == after[0] else ""):
                yield rank, key


_KEYS: dict[s.SortBy, tuple[type, ...]] = {
    s.SortBy.RELEVANCE: (int, str),
    s.SortBy.EARLIEST: (int, str),
    s.SortBy.PRICE: (int, int, str),
}


def _cursor(page: PageAsked, sort: s.SortBy, now: datetime) -> tuple[list[Any] | None, datetime]:
    """Return the key after which the page begins, and the instant as of which the list is ordered: that of its first
    page, or slots that move on with the clock would be given twice."""
    if page.cursor is None:
        return None, now

    def check(values: list[Any]) -> list[Any]:
        kinds = (str, int, *_KEYS[sort])
        if len(values) != len(kinds) or values[0] != sort.value:
            raise ValueError("another list's cursor")
        if any(type(value) is not kind for value, kind in zip(values, kinds, strict=True)):
            raise ValueError("another type")
        return [from_ms(values[1]), *values[2:]]

    as_of, *after = read_cursor(page.cursor, check)
    return after, as_of if now - AS_OF_MAX <= as_of <= now else now


def _facets(catalogue: Catalogue, found: Found) -> s.Facets:
    def values(facet: str) -> list[s.FacetValue]:
        ordered = sorted(found.counts[facet].items(), key=lambda each: (-each[1], each[0]))
        labelled = ((value, count, _label(catalogue, facet, value)) for value, count in ordered[:FACET_VALUES_MAX])
        return [s.FacetValue(value=value, zh=zh, en=en, count=count) for value, count, (zh, en) in labelled]

    return s.Facets(**{facet: values(facet) for facet in FACETS}, free=found.free)


def _label(catalogue: Catalogue, facet: str, value: str) -> tuple[str, str]:
    return _NAMES.get((facet, value)) or catalogue.labels.get((facet, value), (value, value))


def _hits(
    work: Work, ids: list[str], prices: dict[str, Price | None], slots: dict[str, Span | None], speed: float
) -> list[s.Hit]:
    wanted = (
        select(Instrument, Lab, Host, Org)
        .join(Lab, Lab.lab_id == Instrument.lab_id)
        .join(Host, Host.host_id == Instrument.host_id)
        .join(Org, Org.org_id == Host.org_id)
    )
    rows = {row[0].instrument_id: row for row in work.session.execute(wanted.where(Instrument.instrument_id.in_(ids)))}
    tests: dict[str, list[TestItem]] = {key: [] for key in ids}
    items = select(TestItem).where(TestItem.instrument_id.in_(ids), TestItem.retired_at.is_(None))
    for item in work.session.scalars(items.order_by(TestItem.test_item_id)):
        tests[item.instrument_id].append(item)
    live = search_source.live(work.session, ids, work.now, speed)
    hits = []
    for key in ids:
        instrument, lab, host, org = rows[key]
        price, slot = prices[key], slots[key]
        modes = [s.Mode.SELF_OPERATED] * instrument.self_operated + [s.Mode.SAMPLES] * instrument.takes_samples
        hits.append(
            s.Hit(
                **{name: getattr(instrument, name) for name in s.Hit.model_fields if hasattr(instrument, name)},
                **views.place_of(lab, host),
                lab_name_zh=lab.name_zh,
                lab_name_en=lab.name_en,
                host_name_zh=org.name_zh,
                host_name_en=org.name_en,
                modes=modes,
                tests_zh=[item.name_zh for item in tests[key]],
                tests_en=[item.name_en for item in tests[key]],
                standards=[item.standard for item in tests[key] if item.standard],
                price=None if price is None else s.UnitPriceAnswer(unit=PRICE_UNITS[price[0]], unit_fen=price[1]),
                live=live_shown(live[key], work.now),
                next_free=None if slot is None else s.Slot(from_at=slot[0], to_at=slot[1]),
            )
        )
    return hits


def live_shown(found: search_source.LiveState, now: datetime) -> s.LiveAnswer:
    """What an instrument was last heard to do, with its age."""
    age = None if found.heard_at is None else max(0, int((now - found.heard_at).total_seconds()))
    return s.LiveAnswer(state=found.state, heard_at=found.heard_at, age_s=age)


def detail(work: Work, instrument_id: str, speed: float) -> s.CatalogueDetail:
    """Return all that the public may know of an instrument. Raises 404."""
    instrument = find_instrument(work, instrument_id)
    key = instrument.instrument_id
    shown = views.instrument_detail(work, key)
    found = standing(repository.validities(work.session, key), work.now, work.now + timedelta(milliseconds=1))
    [lab] = views.labs_shown(work, [work.session.get_one(Lab, instrument.lab_id)])
    return s.CatalogueDetail(
        instrument=shown,
        lab=lab,
        live=live_shown(search_source.live(work.session, [key], work.now, speed)[key], work.now),
        certificates_now=found,
        items_now=[
            s.ItemStanding(test_item_id=item.test_item_id, verdict=certificate_verdict(found, [item.report_type]))
            for item in shown.test_items
        ],
        next_slots=[s.Slot(from_at=start, to_at=end) for start, end in _next_slots(work, instrument)],
        fees=_fees(work, key),
        used_this_year=used_this_year(work, key),
    )


def _next_slots(work: Work, instrument: Instrument) -> Iterator[Span]:
    if not search_source.is_bookable(instrument.share_mode, instrument.run_status):
        return
    days = repository.special_days(work.session, instrument.host_id, *_horizon(work.now))
    terms = terms_of(instrument, merge_special(days, instrument.host_id))
    busy = search_source.busy_of(work.session, [instrument.instrument_id], work.now)[instrument.instrument_id]
    not_before = work.now
    for _ in range(SLOTS_SHOWN):
        slot = next_free(terms, busy, terms.usual_length, work.now, not_before)
        if slot is None:
            return
        yield slot
        not_before = slot[1]


def _horizon(now: datetime) -> tuple[str, str]:
    return (now - timedelta(days=1)).date().isoformat(), (now + timedelta(days=800)).date().isoformat()


def _fees(work: Work, instrument_id: str) -> s.FeeSchedules:
    versions = tariff_versions(work.session, instrument_id)
    past = [each for each in versions if each.valid_from <= work.now]
    ahead = [each for each in versions if each.valid_from > work.now]
    in_force = max(past, key=lambda each: each.valid_from, default=None)
    following = min(ahead, key=lambda each: each.valid_from, default=None)
    return s.FeeSchedules(
        in_force=None if in_force is None else TariffAnswer.of(in_force),
        next=None if following is None else TariffAnswer.of(following),
    )
