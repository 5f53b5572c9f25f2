"""The public catalogue over HTTP: search with facets, one instrument as a whole, figures of use. No sign-in."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.booking.rules import check_slot_forward
from api.booking.slots import Interval
from api.deps import AppParts, public_reads, tagged
from api.errors import invalid
from api.pagination import WantedPage
from api.problems import problems
from api.registry import catalogue_schemas as s
from api.registry import search_views, usage_figures
from api.registry.search import Question
from api.schemas import Instant
from api.work import Work
from store.periods import SHANGHAI

router = APIRouter(prefix="/catalogue", tags=["catalogue"])

Everybody = Annotated[Work, public_reads()]
Text = Annotated[str, Query(max_length=100, description="Chinese, English, pinyin or its initials; GB/T 228 or gbt228")]
Values = Annotated[list[str] | None, Query(max_length=50)]
YEARS = range(2000, 2200)


@router.get("", summary="Search the instruments: words, facets, free at a time", response_model=s.FoundPage)
def search(
    work: Everybody,
    parts: AppParts,
    page: WantedPage,
    q: Text = "",
    cluster: Values = None,
    town: Values = None,
    category: Values = None,
    mode: Annotated[list[s.Mode] | None, Query()] = None,
    unit: Annotated[list[s.PriceUnit] | None, Query()] = None,
    live: Annotated[list[s.LiveNow] | None, Query()] = None,
    free_from: Annotated[Instant | None, Query(description="Free at this instant, or from it to `free_to`")] = None,
    free_to: Annotated[Instant | None, Query(description="Exactly this slot can be booked")] = None,
    sort: Annotated[s.SortBy, Query(description="By price: unit by unit, the lowest first")] = s.SortBy.RELEVANCE,
) -> Response:
    """Several values of one facet are alternatives; everything else has to hold at once. Each facet's counts are made
    under the other conditions, so they say what choosing a value would give. Values are as the facets give them."""
    if free_to is not None:
        if free_from is None:
            raise invalid(
                "free_from_missing",
                "请同时给出开始时间 free_from。",
                "Give `free_from`, from when on it should be free.",
                field="free_from",
            )
        check_slot_forward(Interval(free_from, free_to))
    chosen = {
        "cluster": tuple(cluster or ()),
        "town": tuple(town or ()),
        "category": tuple(category or ()),
        "mode": tuple(each.value for each in mode or ()),
        "unit": tuple(each.value for each in unit or ()),
        "live": tuple(each.value for each in live or ()),
    }
    # Written out here: it was built from checked parts, and checking it again would take as long as finding it.
    return tagged(search_views.search(work, parts.catalogue, Question(q, chosen, free_from, free_to), sort, page))


@router.get("/usage", summary="How much was used in the county in a year")
def county_usage(
    work: Everybody,
    year: Annotated[int | None, Query(ge=YEARS[0], le=YEARS[-1], description="By default the current one")] = None,
) -> s.CountyUse:
    """Sums by cluster, town, category and month; firms are counted from three on, and never named."""
    return usage_figures.county_use(work, year or work.now.astimezone(SHANGHAI).year)


@router.get("/{instrument_id}", summary="Everything public about one instrument", responses=problems(404))
def detail(instrument_id: str, work: Everybody, parts: AppParts) -> s.CatalogueDetail:
    """With its live state and how old that is, the next free slots, the dated fee schedules, this year's use."""
    return search_views.detail(work, instrument_id, parts.catalogue.speed)
