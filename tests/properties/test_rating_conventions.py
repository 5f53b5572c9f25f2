"""What holds for every price of the second schema: bands, packages, slots, first hour, shares, options, discounts.

Edges are planted: instants a second and a millisecond around the edges of bands, midnights and months, times around
steps, amounts that make exact half fens.
"""

from dataclasses import replace
from datetime import datetime
from fractions import Fraction
from itertools import pairwise

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from api.charging.bands import cut, edges
from api.charging.documents import input_document, read_input
from api.charging.rating import Asked, Discount, Ending, ManualItem, Piece, RatingInput, Times, rate
from api.charging.sentences import explain_line
from api.charging.tariff_body import (
    Band,
    CancellationTerms,
    CategoryPrices,
    CountUnit,
    Day,
    FirstPrice,
    NoShowTerms,
    Option,
    OptionKind,
    OptionPer,
    Prices,
    Rush,
    SlotPrice,
    TariffBody,
    TimeBasis,
    TimePrice,
    TimeUnit,
    UnitPrice,
    Uplifts,
    UserCategory,
    canonical_body,
    read_body,
)
from store.money import round_half_up, yuan
from store.periods import SHANGHAI
from store.tables.calendar import BookingMode
from store.tables.charging import ChargePurpose, Component
from wire.clock import from_ms, to_ms

SOME = settings(max_examples=60, deadline=None)
STEPS = (1, 60, 90, 360, 1800, 3600)
OFFSETS = (-1_000, -1, 0, 1, 999, 1_000)
PLANTED = [
    datetime(2026, month, day, hour, minute, tzinfo=SHANGHAI)
    for month, day in ((1, 1), (2, 28), (3, 1), (3, 31), (4, 1), (12, 31))
    for hour, minute in ((0, 0), (6, 0), (17, 30), (20, 30), (22, 0))
]
BAND_SETS = (
    (Band(code="night", starts="22:00", ends="06:00", unit_fen=60_000),),
    (
        Band(code="evening", starts="17:30", ends="20:30", package_fen=120_000),
        Band(code="late", starts="20:30", ends="24:00", package_fen=80_000),
        Band(code="night", starts="00:00", ends="07:00", unit_fen=33_333),
    ),
    (
        Band(code="week", starts="22:00", ends="06:00", days=(Day.MON, Day.TUE, Day.WED, Day.THU), unit_fen=1),
        Band(code="weekend", starts="00:00", ends="24:00", days=(Day.SAT, Day.SUN), unit_fen=99_999),
    ),
)
RUSH = (Rush(code="fast", surcharge_bp=5_000, name_zh="加急", name_en="fast"),)
OPTIONS = (
    Option(code="seal", kind=OptionKind.REPORT, unit_fen=30_001, name_zh="报告", name_en="report"),
    Option(code="cut", kind=OptionKind.PREPARATION, per=OptionPer.SAMPLE, unit_fen=77, name_zh="切", name_en="cut"),
)


def fens() -> st.SearchStrategy[int]:
    return st.integers(0, 200_000) | st.sampled_from([0, 1, 50, 99, 101, 40_000])


def instants() -> st.SearchStrategy[int]:
    planted = st.builds(lambda at, off: to_ms(at) + off, st.sampled_from(PLANTED), st.sampled_from(OFFSETS))
    return planted | st.integers(to_ms(PLANTED[0]), to_ms(PLANTED[-1]))


def lengths() -> st.SearchStrategy[int]:
    edge = st.builds(lambda n, off: max(0, n * 1_800_000 + off), st.integers(0, 30), st.sampled_from(OFFSETS))
    return edge | st.integers(0, 3 * 86_400_000)


@st.composite
def time_prices(draw, *, banded: bool = False) -> TimePrice:
    step = draw(st.sampled_from(STEPS))
    kind = "bands" if banded else draw(st.sampled_from(["plain", "first", "bands"]))
    return TimePrice(
        per=draw(st.sampled_from(list(TimeUnit))),
        unit_fen=draw(fens()),
        step_s=step,
        minimum_s=step * draw(st.integers(0, 4)),
        first=FirstPrice(length_s=draw(st.sampled_from([1, 3600])), unit_fen=draw(fens())) if kind == "first" else None,
        bands=draw(st.sampled_from(BAND_SETS)) if kind == "bands" else None,
    )


@st.composite
def prices(draw) -> Prices:
    unit = st.builds(UnitPrice, per=st.sampled_from(list(CountUnit)), unit_fen=fens(), minimum_units=st.integers(0, 9))
    slots = st.builds(SlotPrice, length_s=st.sampled_from([3600, 10_800]), unit_fen=fens())
    timed = draw(st.sampled_from(["time", "slots", "none"]))
    return Prices(
        time=draw(time_prices()) if timed == "time" else None,
        slots=draw(slots) if timed == "slots" else None,
        unit=draw(unit if timed == "none" else st.none() | unit),
        setup_fen=draw(fens()),
        minimum_fen=draw(fens()),
    )


def tariffs() -> st.SearchStrategy[TariffBody]:
    return st.builds(
        TariffBody,
        schema_name=st.just("openlab.tariff/2"),
        vat_rate_bp=st.sampled_from([0, 100, 300, 600]),
        time_basis=st.sampled_from(list(TimeBasis)),
        default=prices(),
        overrides=st.builds(CategoryPrices, sme=st.none() | prices()),
        uplifts=st.none() | st.builds(Uplifts, other=st.integers(0, 20_000), own=st.integers(-10_000, 0)),
        list_prices=st.none() | prices(),
        rush=st.just(RUSH),
        options=st.just(OPTIONS),
        cancellation=st.builds(CancellationTerms, free_until_s=st.integers(0, 9), fee_bp=st.integers(0, 10_000)),
        no_show=st.builds(NoShowTerms, fee_bp=st.integers(0, 10_000)),
    )


def discounts() -> st.SearchStrategy[Discount]:
    share = st.integers(1, 10_000).map(lambda bp: Discount("why", bp=bp))
    return share | st.integers(1, 10**7).map(lambda fen: Discount("why", fen=fen))


def orders() -> st.SearchStrategy[Asked]:
    return st.builds(
        Asked,
        st.sampled_from(["", "fast"]),
        st.sampled_from([(), ("seal",), ("cut", "seal")]),
        st.lists(discounts(), max_size=2).map(tuple),
    )


@st.composite
def inputs(draw, tariff=None) -> RatingInput:
    start, ms = draw(instants()), draw(lengths())
    return RatingInput(
        draw(tariffs() if tariff is None else tariff),
        draw(st.sampled_from(list(UserCategory))),
        BookingMode.SELF_OPERATED,
        draw(lengths()),
        ms,
        draw(st.integers(0, 12)),
        Times(start, (Piece(start, start + ms, ms),)),
        draw(orders()),
    )


def banded() -> st.SearchStrategy[TariffBody]:
    default = st.builds(Prices, time=time_prices(banded=True))
    return st.builds(TariffBody, schema_name=st.just("openlab.tariff/2"), default=default)


@SOME
@given(inputs())
def test_lines_add_up_each_is_rounded_once_and_none_goes_below_nothing(case):
    rated = rate(case)
    assert rated.total_fen == sum(line.amount_fen for line in rated.lines) >= 0
    assert rated.net_fen + rated.vat_fen == rated.total_fen
    keys = [(line.component, line.item_code) for line in rated.lines]
    assert len(keys) == len(set(keys))
    for line in rated.lines:
        assert line.amount_fen == round_half_up(line.quantity * line.unit_fen, line.per_quantity)
        exact = abs(Fraction(line.quantity * line.unit_fen, line.per_quantity))
        assert abs(line.amount_fen) - Fraction(1, 2) <= exact < abs(line.amount_fen) + Fraction(1, 2)
        if line.component is not Component.DISCOUNT and line.item_code != "category":
            assert line.amount_fen >= 0


@SOME
@given(inputs())
def test_every_line_says_why_and_the_input_comes_back_from_its_document(case):
    for line in rate(case).lines:
        said = explain_line(line, case)
        assert yuan(line.amount_fen) in said.zh
        assert yuan(line.amount_fen) in said.en
    document = input_document(case)
    assert read_input(document, case.tariff) == case
    assert input_document(read_input(document, case.tariff)) == document
    assert read_body(canonical_body(case.tariff).decode()) == case.tariff


@SOME
@given(inputs())
def test_before_discounts_the_price_reaches_the_minimum_and_discounts_only_take_off(case):
    full = rate(replace(case, asked=replace(case.asked, discounts=())))
    assert full.total_fen >= case.tariff.prices_for(case.category).minimum_fen
    assert 0 <= rate(case).total_fen <= full.total_fen
    assert rate(case).list_fen == full.list_fen
    if case.tariff.list_prices is None:
        assert full.total_fen <= full.list_fen


@SOME
@given(inputs(), st.lists(st.integers(0, 10**9), max_size=6))
def test_cutting_the_use_anywhere_changes_nothing(case, cuts):
    assert case.times is not None
    [whole] = case.times.pieces
    at = sorted({whole.from_ms, whole.to_ms, *(whole.from_ms + cut % (case.running_ms + 1) for cut in cuts)})
    pieces = tuple(Piece(a, b, b - a) for a, b in pairwise(at)) or (whole,)
    shuffled = Times(case.times.slot_from_ms, pieces[::-1])
    assert rate(replace(case, times=shuffled)) == rate(case)


def _truly(band_set, instant_ms: int) -> str:
    """The band of an instant by the calendar and the clock on the wall, minute by minute, without any arithmetic."""
    local = from_ms(instant_ms).astimezone(SHANGHAI)
    minute = f"{local.hour:02d}:{local.minute:02d}"
    today, before = list(Day)[local.weekday()], list(Day)[(local.weekday() - 1) % 7]
    for band in band_set:
        if band.starts < band.ends and today in band.days and band.starts <= minute < band.ends:
            return band.code
        over_midnight = band.starts > band.ends
        if over_midnight and (
            (today in band.days and minute >= band.starts) or (before in band.days and minute < band.ends)
        ):
            return band.code
    return ""


@SOME
@given(st.sampled_from(BAND_SETS), instants(), st.integers(1, 9 * 86_400_000))
def test_a_band_is_what_the_clock_on_the_wall_says(band_set, start, length):
    stretches = list(cut(band_set, start, start + length))
    assert stretches[0].from_ms == start
    assert stretches[-1].to_ms == start + length
    assert all(a.to_ms == b.from_ms for a, b in pairwise(stretches))
    assert edges(band_set, start, start + length) == [each.from_ms for each in stretches[1:]]
    for each in stretches:
        assert each.from_ms < each.to_ms
        code = "" if each.band is None else each.band.code
        for instant in (each.from_ms, (each.from_ms + each.to_ms) // 2, each.to_ms - 1):
            assert _truly(band_set, instant) == code


FESTIVE = (
    Band(code="night", starts="22:00", ends="06:00", unit_fen=3),
    Band(code="saturday", starts="06:00", ends="22:00", days=(Day.SAT,), unit_fen=2),
    Band(code="festive", starts="00:00", ends="24:00", days=(Day.HOLIDAY,), unit_fen=1),
)
MARCH = to_ms(datetime(2026, 3, 1, tzinfo=SHANGHAI)) // 86_400_000


@SOME
@given(
    st.sampled_from([*BAND_SETS, FESTIVE]),
    st.dictionaries(st.integers(MARCH, MARCH + 10), st.sampled_from(list(Day)), max_size=6),
    st.integers((MARCH - 1) * 86_400_000, (MARCH + 10) * 86_400_000),
    st.integers(1, 4 * 86_400_000),
)
def test_on_special_days_the_window_that_starts_last_is_the_one_that_holds(band_set, days, start, length):
    stretches = list(cut(band_set, start, start + length, days))
    assert [stretches[0].from_ms, stretches[-1].to_ms] == [start, start + length]
    assert all(a.to_ms == b.from_ms for a, b in pairwise(stretches))
    named = any(Day.HOLIDAY in band.days for band in band_set)
    for each in stretches:
        for instant in (each.from_ms, (each.from_ms + each.to_ms) // 2, each.to_ms - 1):
            holding: list[tuple[int, Band]] = []
            today = (instant + 28_800_000) // 86_400_000
            for number in (today - 1, today):
                kind = days.get(number, list(Day)[(number - 4) % 7])
                if kind is Day.HOLIDAY and not named:
                    kind = list(Day)[(number - 4) % 7]
                began = [(number * 86_400_000 - 28_800_000 + band.start_s * 1000, band) for band in band_set
                         if kind in band.days]  # fmt: skip
                holding += [(at, band) for at, band in began if at <= instant < at + band.length_s * 1000]
            assert each.band is (max(holding, key=lambda found: found[0])[1] if holding else None)


@SOME
@given(inputs())
def test_the_third_calculation_prices_the_second_schema_as_the_second_one_did(case):
    assert rate(case, "3") == rate(case, "2")


@SOME
@given(inputs(banded()))
def test_seconds_of_bands_add_up_to_the_billed_time_and_only_the_last_one_grows(case):
    price = case.tariff.default.time
    assert price is not None
    assert price.bands is not None
    assert case.times is not None
    rated = rate(replace(case, asked=Asked()))
    lines = {
        line.item_code.partition("@")[2]: line.quantity for line in rated.lines if line.component is Component.TIME
    }
    assert sum(lines.values()) == rated.billed_seconds
    start = case.times.pieces[0].from_ms
    truth: dict[str, int] = {}
    last = None
    for each in cut(price.bands, start, start + case.running_ms):
        if each.band is None or each.band.package_fen is None:
            code = "" if each.band is None else each.band.code
            truth[code] = truth.get(code, 0) + each.to_ms - each.from_ms
            last = code
    assume(last is not None)
    for code, ms in truth.items():
        if code != last:
            assert lines.get(code, 0) == ms // 1000
    assert lines.get(last, 0) >= truth[last] // 1000
    packages = any(line.component is Component.PACKAGE for line in rated.lines)
    seconds = sum(truth.values()) // 1000
    if seconds or not packages:
        assert rated.billed_seconds == max(-(-seconds // price.step_s) * price.step_s, price.minimum_s)


@SOME
@given(inputs(), st.sampled_from([1, 1_000, 1_800_000]))
def test_more_use_never_costs_less(case, more):
    assert case.times is not None
    start = case.times.slot_from_ms
    longer = case.running_ms + more
    after = replace(case, running_ms=longer, times=Times(start, (Piece(start, start + longer, longer),)))
    price = case.tariff.prices_for(case.category).time
    # A package may be cheaper than the hour it replaces, and a step moves to the band of the last use.
    assume(price is None or price.bands is None)
    fixed = replace(case.asked, discounts=())
    assert rate(replace(after, asked=fixed)).total_fen >= rate(replace(case, asked=fixed)).total_fen


@SOME
@given(tariffs(), st.integers(0, 10**7), st.integers(0, 20_000), st.sampled_from(list(UserCategory)))
def test_a_fee_is_a_share_of_the_quote_or_nothing(tariff, quoted, notice_ms, who):
    plain = RatingInput(tariff, who, BookingMode.SELF_OPERATED, 1, 0, 0)
    assert tariff.cancellation is not None
    assert tariff.no_show is not None
    late = notice_ms < tariff.cancellation.free_until_s * 1000
    cancelled = rate(replace(plain, instead=Ending(ChargePurpose.CANCELLATION, quoted, notice_ms)))
    assert cancelled.total_fen == (round_half_up(quoted * tariff.cancellation.fee_bp, 10_000) if late else 0)
    missed = rate(replace(plain, instead=Ending(ChargePurpose.NO_SHOW, quoted)))
    assert missed.total_fen == round_half_up(quoted * tariff.no_show.fee_bp, 10_000) <= quoted
    for each in (replace(plain, instead=Ending(ChargePurpose.NO_SHOW, quoted)),):
        assert read_input(input_document(each), tariff) == each


@SOME
@given(tariffs(), st.lists(st.tuples(st.integers(1, 99), st.integers(1, 10**6)), min_size=1, max_size=5))
def test_manual_items_cost_what_they_say(tariff, numbers):
    items = tuple(ManualItem(f"i{n}", "thing", quantity, fen) for n, (quantity, fen) in enumerate(numbers))
    case = RatingInput(tariff, UserCategory.SME, BookingMode.SAMPLES, 0, 0, 0, instead=items)
    assert rate(case).total_fen == sum(quantity * fen for quantity, fen in numbers)
    assert read_input(input_document(case), tariff) == case
