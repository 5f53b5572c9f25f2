"""What the public catalogue gives: entries found, facets with counts, the whole of one entry, figures of use."""

from enum import StrEnum

from pydantic import Field

from api.charging.schemas import TariffAnswer
from api.registry.schemas import InstrumentDetail, LabAnswer
from api.registry.traceability import Standing, Verdict
from api.schemas import Answer, Instant
from store.tables.registry import RunStatus, ShareMode

FIRMS_SHOWN_FROM = 3
"""Fewer firms than this could be guessed by name, so they are not counted in public."""


class SortBy(StrEnum):
    """The order of what was found."""

    RELEVANCE = "relevance"
    EARLIEST = "earliest"
    PRICE = "price"


class Mode(StrEnum):
    """How an instrument can be ordered."""

    SELF_OPERATED = "self_operated"
    SAMPLES = "samples"


class PriceUnit(StrEnum):
    """What a price is for."""

    HOUR = "hour"
    DAY = "day"
    SAMPLE = "sample"
    PIECE = "piece"
    ITEM = "item"
    BATCH = "batch"


class LiveNow(StrEnum):
    """What an instrument was last heard to do."""

    OFF = "off"
    STANDBY = "standby"
    RUNNING = "running"
    UNKNOWN = "unknown"


class Slot(Answer):
    """Free time, [from, to)."""

    from_at: Instant
    to_at: Instant


class LiveAnswer(Answer):
    """What the instrument was last heard to do, and how long ago (`age_s`); unknown while its agent is silent."""

    state: LiveNow
    heard_at: Instant | None
    age_s: int | None


class UnitPriceAnswer(Answer):
    """What a firm pays for one unit, VAT included; the fee schedule has the whole of it."""

    unit: PriceUnit
    unit_fen: int


class Hit(Answer):
    """One instrument that was found."""

    instrument_id: str
    code: str
    name_zh: str
    name_en: str
    model: str
    category_code: str
    category_zh: str
    category_en: str
    lab_id: str
    lab_name_zh: str
    lab_name_en: str
    host_id: str
    host_name_zh: str
    host_name_en: str
    town_zh: str
    town_en: str
    latitude_e6: int
    longitude_e6: int
    modes: list[Mode]
    share_mode: ShareMode
    run_status: RunStatus
    tests_zh: list[str]
    tests_en: list[str]
    standards: list[str]
    price: UnitPriceAnswer | None
    live: LiveAnswer
    next_free: Slot | None = Field(description="The earliest slot of its shortest length; null: none within 62 days")


class FacetValue(Answer):
    """A value that the found instruments have, and how many there are under all *other* conditions."""

    value: str
    zh: str
    en: str
    count: int


class Facets(Answer):
    """The values of every facet, the most frequent first."""

    cluster: list[FacetValue]
    town: list[FacetValue]
    category: list[FacetValue]
    mode: list[FacetValue]
    unit: list[FacetValue]
    live: list[FacetValue]
    free: int | None = Field(description="How many of those found are free at the time asked for")


class FoundPage(Answer):
    """A page of what was found."""

    items: list[Hit]
    next_cursor: str | None
    total: int
    facets: Facets


class FeeSchedules(Answer):
    """The price list in force and, where one is published, the next. Bookings keep the one they were made under."""

    in_force: TariffAnswer | None
    next: TariffAnswer | None


class UseFigures(Answer):
    """Metered use in a period. `outside`: by firms other than the host; firms below 3 are not counted in public."""

    running_ms: int
    sessions: int
    outside_ms: int
    outside_orders: int
    outside_firms: int | None


class ItemStanding(Answer):
    """Whether a test can be ordered as to the instrument's certificates: ok, flag (data for R&D only) or refuse."""

    test_item_id: str
    verdict: Verdict


class CatalogueDetail(Answer):
    """All that the public may know of one instrument."""

    instrument: InstrumentDetail
    lab: LabAnswer
    live: LiveAnswer
    certificates_now: Standing
    items_now: list[ItemStanding]
    next_slots: list[Slot]
    fees: FeeSchedules
    used_this_year: UseFigures


class UseOf(UseFigures):
    """Use of a part of the county: a cluster, a town, a category or a month."""

    value: str
    zh: str
    en: str


class CountyUse(Answer):
    """What was used in the county in a year, as aggregates; [from_at, to_at)."""

    year: int
    from_at: Instant
    to_at: Instant
    whole: UseFigures
    by_cluster: list[UseOf]
    by_town: list[UseOf]
    by_category: list[UseOf]
    by_month: list[UseOf]
