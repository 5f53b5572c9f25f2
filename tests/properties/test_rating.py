"""What holds for every price of the first schema, by both calculations: step edges and exact half fens are planted.

The laws of bands, packages, shares and discounts are in test_rating_conventions."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from api.charging.documents import input_document, read_input
from api.charging.rating import RatingInput, billed_time, rate
from api.charging.rating_types import Bridged
from api.charging.sentences import explain_line
from api.charging.tariff_body import (
    CategoryPrices,
    CountUnit,
    Prices,
    TariffBody,
    TimeBasis,
    TimePrice,
    TimeUnit,
    UnitPrice,
    UserCategory,
    canonical_body,
    read_body,
)
from store.money import yuan
from store.tables.calendar import BookingMode
from store.tables.charging import Component

STEPS = (1, 7, 60, 90, 360, 900, 1800, 3600, 86_400)
NOT_TOO_MANY = settings(max_examples=80, deadline=None)


def fens() -> st.SearchStrategy[int]:
    return st.one_of(st.integers(0, 2_000_000), st.sampled_from([0, 1, 50, 99, 100, 101, 40_000, 10**11]))


@st.composite
def time_prices(draw) -> TimePrice:
    step = draw(st.sampled_from(STEPS))
    return TimePrice(
        per=draw(st.sampled_from(list(TimeUnit))),
        unit_fen=draw(fens()),
        step_s=step,
        minimum_s=step * draw(st.integers(0, 12)),
    )


@st.composite
def prices(draw) -> Prices:
    time = draw(st.none() | time_prices())
    units = st.builds(
        UnitPrice, per=st.sampled_from(list(CountUnit)), unit_fen=fens(), minimum_units=st.integers(0, 60)
    )
    unit = draw(units if time is None else st.none() | units)
    return Prices(time=time, unit=unit, setup_fen=draw(fens()), minimum_fen=draw(fens()))


def tariffs() -> st.SearchStrategy[TariffBody]:
    return st.builds(
        TariffBody,
        vat_rate_bp=st.sampled_from([0, 100, 300, 600, 1300]) | st.integers(0, 10_000),
        time_basis=st.sampled_from(list(TimeBasis)),
        default=prices(),
        overrides=st.builds(CategoryPrices, sme=st.none() | prices(), own=st.none() | prices()),
    )


def times_ms(tariff: TariffBody, category: UserCategory) -> st.SearchStrategy[int]:
    """Times around the edges of the tariff's own steps, and any other."""
    price = tariff.prices_for(category).time
    step_ms = 1000 * (price.step_s if price else 60)
    least_ms = 1000 * (price.minimum_s if price else 0)
    edges = st.builds(
        lambda base, count, off: max(0, base + count * step_ms + off),
        st.sampled_from([0, least_ms]),
        st.integers(0, 20),
        st.sampled_from([-1000, -1, 0, 1, 999, 1000]),
    )
    return edges | st.integers(0, 40 * 86_400_000)


@st.composite
def inputs(draw) -> RatingInput:
    tariff = draw(tariffs())
    category = draw(st.sampled_from(list(UserCategory)))
    return RatingInput(
        tariff,
        category,
        draw(st.sampled_from(list(BookingMode))),
        draw(times_ms(tariff, category)),
        draw(times_ms(tariff, category)),
        draw(st.integers(0, 70)),
    )


@NOT_TOO_MANY
@given(inputs())
def test_lines_add_up_and_everything_is_a_whole_number(case):
    rated = rate(case)
    numbers = [rated.total_fen, rated.net_fen, rated.vat_fen, rated.billed_seconds]
    for line in rated.lines:
        numbers += [line.quantity, line.per_quantity, line.unit_fen, line.amount_fen]
        assert line.amount_fen >= 0
    assert all(type(number) is int for number in numbers)
    assert rated.total_fen == sum(line.amount_fen for line in rated.lines)
    assert rated.net_fen + rated.vat_fen == rated.total_fen
    keys = [(line.component, line.item_code) for line in rated.lines]
    assert len(keys) == len(set(keys))


@NOT_TOO_MANY
@given(inputs())
def test_the_second_calculation_prices_the_first_schema_as_the_first_one_did(case):
    first, second = rate(case, "1"), rate(case, "2")
    assert (first.lines, first.total_fen, first.net_fen, first.billed_seconds) == (
        second.lines,
        second.total_fen,
        second.net_fen,
        second.billed_seconds,
    )


@NOT_TOO_MANY
@given(inputs())
def test_each_line_is_its_exact_value_rounded_once_half_up(case):
    for line in rate(case).lines:
        exact = Fraction(line.quantity * line.unit_fen, line.per_quantity)
        assert Fraction(line.amount_fen) - Fraction(1, 2) <= exact < Fraction(line.amount_fen) + Fraction(1, 2)


@NOT_TOO_MANY
@given(inputs())
def test_net_is_gross_without_vat_rounded_once_half_up(case):
    rated = rate(case)
    exact = Fraction(rated.total_fen * 10_000, 10_000 + case.tariff.vat_rate_bp)
    assert Fraction(rated.net_fen) - Fraction(1, 2) <= exact < Fraction(rated.net_fen) + Fraction(1, 2)


@NOT_TOO_MANY
@given(inputs(), st.sampled_from([1, 999, 1000, 1001, 60_000, 1_800_000]) | st.integers(0, 10**9))
def test_more_time_or_more_samples_never_cost_less(case, more):
    here = rate(case)
    for longer in (
        replace(case, running_ms=case.running_ms + more),
        replace(case, slot_ms=case.slot_ms + more),
        replace(case, quantity=case.quantity + more),
    ):
        there = rate(longer)
        assert there.total_fen >= here.total_fen
        assert there.billed_seconds >= here.billed_seconds


@NOT_TOO_MANY
@given(inputs())
def test_set_up_and_minimum_come_once_and_the_total_reaches_the_minimum(case):
    rated = rate(case)
    own = case.tariff.prices_for(case.category)
    by_component = {line.component: line for line in rated.lines}
    assert rated.total_fen >= own.minimum_fen
    assert (Component.SETUP in by_component) == (own.setup_fen > 0)
    without = sum(line.amount_fen for line in rated.lines if line.component is not Component.MINIMUM)
    assert (Component.MINIMUM in by_component) == (without < own.minimum_fen)
    assert rated.total_fen == max(without, own.minimum_fen)
    if own.setup_fen:
        assert by_component[Component.SETUP].amount_fen == own.setup_fen


@NOT_TOO_MANY
@given(inputs())
def test_time_is_the_fewest_full_steps_that_hold_it_and_the_minimum(case):
    price = case.tariff.prices_for(case.category).time
    assume(price is not None)
    assert price is not None
    basis = case.tariff.time_basis
    ms = {"metered": case.running_ms, "booked": case.slot_ms}.get(basis.value, max(case.running_ms, case.slot_ms))
    billed = rate(case).billed_seconds
    assert billed % price.step_s == 0
    assert billed >= ms // 1000
    assert billed >= price.minimum_s
    one_less = billed - price.step_s
    assert one_less < ms // 1000 or one_less < price.minimum_s or billed == 0


@NOT_TOO_MANY
@given(inputs(), st.lists(st.integers(0, 10**9), max_size=8))
def test_cutting_the_metered_time_into_pieces_changes_nothing(case, cuts):
    inside = sorted({0, case.running_ms, *(cut % (case.running_ms + 1) for cut in cuts)})
    pieces = [b - a for a, b in pairwise(inside)]
    assert rate(replace(case, running_ms=sum(pieces))) == rate(case)


@NOT_TOO_MANY
@given(time_prices(), st.integers(0, 10**7), st.integers(0, 10**7))
def test_one_rounding_of_the_whole_is_never_more_than_rounding_the_pieces(price, a, b):
    assert billed_time(price, a + b) <= billed_time(price, a) + billed_time(price, b)


@NOT_TOO_MANY
@given(inputs())
def test_every_line_can_say_in_both_languages_why_it_is_there(case):
    for line in rate(case).lines:
        said = explain_line(line, case)
        assert yuan(line.amount_fen) in said.zh
        assert yuan(line.amount_fen) in said.en


@NOT_TOO_MANY
@given(inputs())
def test_an_input_comes_back_from_its_document(case):
    document = input_document(case)
    assert read_input(document, case.tariff) == case
    assert input_document(read_input(document.decode(), case.tariff)) == document


@NOT_TOO_MANY
@given(tariffs())
def test_every_price_list_comes_back_from_its_bytes(tariff):
    assert read_body(canonical_body(tariff).decode()) == tariff


@NOT_TOO_MANY
@given(st.integers(0, 10_000).map(lambda n: 2 * n + 1), st.sampled_from([90, 450, 1800]))
def test_exact_half_fens_are_rounded_up(odd, step_s):
    # `unit_fen` is chosen so that one step comes to n + 1/2 fen.
    unit_fen = odd * 1800 // step_s
    assume(odd * 1800 % step_s == 0)
    price = TimePrice(per=TimeUnit.HOUR, unit_fen=unit_fen, step_s=step_s)
    case = RatingInput(
        TariffBody(default=Prices(time=price)),
        UserCategory.SME,
        BookingMode.SELF_OPERATED,
        0,
        step_s * 1000,
        0,
    )
    assert rate(case).total_fen * 2 == odd + 1


@NOT_TOO_MANY
@given(inputs(), st.integers(1, 600_000))
def test_a_bridged_hole_costs_what_the_same_time_running_costs_and_never_less_than_without_it(case, ms):
    longer = replace(case, running_ms=case.running_ms + ms)
    bridged = replace(longer, bridged=(Bridged("s", "a/b/1", 0, ms, ms),))
    assert rate(bridged) == rate(longer, "3")
    assert rate(bridged).total_fen >= rate(case).total_fen
