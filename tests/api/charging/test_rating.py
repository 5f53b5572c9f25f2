"""Golden vectors of calculation 1: amounts that must come out for ever, to the fen."""

import pytest

from api.charging.rating import CALC_VERSIONS, RatingInput, UnknownCalcVersion, quote, rate
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
)
from store.tables.calendar import BookingMode
from store.tables.charging import Component

MINUTE, HOUR = 60_000, 3_600_000


def hourly(yuan: int, step_min: int = 30, minimum_min: int = 0, **prices: int) -> TariffBody:
    time = TimePrice(per=TimeUnit.HOUR, unit_fen=yuan * 100, step_s=step_min * 60, minimum_s=minimum_min * 60)
    return TariffBody(default=Prices(time=time, **prices))


def counted(yuan: int, minimum: int = 1, per: CountUnit = CountUnit.SAMPLE, **prices: int) -> TariffBody:
    return TariffBody(default=Prices(unit=UnitPrice(per=per, unit_fen=yuan * 100, minimum_units=minimum), **prices))


def used(
    tariff: TariffBody, ms: int = 0, slot_ms: int = 0, quantity: int = 0, category=UserCategory.SME
) -> RatingInput:
    return RatingInput(tariff, category, BookingMode.SELF_OPERATED, slot_ms, ms, quantity)


WEEKLY = TariffBody(
    default=Prices(time=TimePrice(per=TimeUnit.DAY, unit_fen=6_000, step_s=86_400, minimum_s=7 * 86_400))
)
LIFE_RIG = hourly(30, 60, 24 * 60, setup_fen=10_000)
AT_LEAST_300 = counted(150, setup_fen=5_000, minimum_fen=30_000)


@pytest.mark.parametrize(
    ("what", "given", "total_fen", "billed_s"),
    [
        ("an electron microscope for 77 min", used(hourly(400), 77 * MINUTE), 60_000, 5_400),
        ("one run of 80 min 40 s by the half hour", used(hourly(400), 80 * MINUTE + 40_000), 60_000, 5_400),
        ("exactly three half hours", used(hourly(400), 90 * MINUTE), 60_000, 5_400),
        ("one second more is a fourth half hour", used(hourly(400), 90 * MINUTE + 1_000), 80_000, 7_200),
        ("less than a second more is not", used(hourly(400), 90 * MINUTE + 999), 60_000, 5_400),
        ("nothing used, nothing owed", used(hourly(400)), 0, 0),
        ("a day price by the day", used(WEEKLY, 8 * 24 * HOUR + 1_000), 54_000, 777_600),
        ("the minimum of a week", used(WEEKLY, HOUR), 42_000, 604_800),
        ("set-up 100 once and at least 24 h at 30", used(LIFE_RIG, 10 * HOUR), 82_000, 86_400),
        ("one sample", used(counted(150), quantity=1), 15_000, 0),
        ("five pieces are the least", used(counted(40, 5, CountUnit.PIECE), quantity=2), 20_000, 0),
        ("set-up and three samples", used(counted(150, setup_fen=5_000), quantity=3), 50_000, 0),
        ("raised to the minimum charge once", used(AT_LEAST_300, quantity=1), 30_000, 0),
        ("at the minimum charge exactly", used(counted(150, minimum_fen=30_000), quantity=2), 30_000, 0),
    ],
)
def test_the_golden_amounts_stand(what, given, total_fen, billed_s):
    rated = rate(given, "1")
    assert (rated.total_fen, rated.billed_seconds) == (total_fen, billed_s), what


@pytest.mark.parametrize(
    ("gross", "net", "vat"), [(90_000, 84_906, 5_094), (15_000, 14_151, 849), (60_000, 56_604, 3_396)]
)
def test_prices_include_vat_of_six_per_cent(gross, net, vat):
    rated = rate(used(counted(gross // 100), quantity=1))
    assert (rated.total_fen, rated.net_fen, rated.vat_fen) == (gross, net, vat)


def test_a_tie_of_half_a_fen_goes_up():
    # 90 s at 1.00 yuan an hour are 2.5 fen.
    time = TimePrice(per=TimeUnit.HOUR, unit_fen=100, step_s=90)
    assert rate(used(TariffBody(default=Prices(time=time)), 90_000)).total_fen == 3


def test_each_line_says_why_it_is_there():
    tariff = TariffBody(
        default=Prices(
            time=TimePrice(per=TimeUnit.HOUR, unit_fen=10_000, step_s=1800, minimum_s=3600),
            unit=UnitPrice(per=CountUnit.ITEM, unit_fen=1_000, minimum_units=2),
            setup_fen=500,
            minimum_fen=20_000,
        )
    )
    lines = rate(used(tariff, MINUTE, quantity=1)).lines
    assert [(line.component, line.amount_fen, line.rule) for line in lines] == [
        (Component.SETUP, 500, "setup.once"),
        (Component.TIME, 10_000, "time.metered.minimum"),
        (Component.ITEM, 2_000, "unit.minimum"),
        (Component.MINIMUM, 7_500, "minimum.top_up"),
    ]


def test_no_line_tops_up_a_charge_that_reaches_the_minimum_by_itself():
    [line] = rate(used(counted(150, minimum_fen=30_000), quantity=2)).lines
    assert line.rule == "unit.count"


def test_the_line_at_exactly_the_minimum_time_is_not_called_a_minimum():
    [line] = rate(used(hourly(100, 30, 60), 60 * MINUTE)).lines
    assert line.rule == "time.metered"


def test_exactly_the_minimum_number_of_pieces_is_not_called_a_minimum():
    [line] = rate(used(counted(40, 5, CountUnit.PIECE), quantity=5)).lines
    assert (line.quantity, line.rule) == (5, "unit.count")


@pytest.mark.parametrize(
    ("basis", "fen"), [(TimeBasis.METERED, 5_000), (TimeBasis.BOOKED, 20_000), (TimeBasis.LARGER, 20_000)]
)
def test_the_basis_says_which_time_is_billed(basis, fen):
    tariff = hourly(100).model_copy(update={"time_basis": basis})
    assert rate(used(tariff, 20 * MINUTE, slot_ms=2 * HOUR)).total_fen == fen


def test_a_category_with_prices_of_its_own_pays_those_and_only_those():
    cheap = Prices(time=TimePrice(per=TimeUnit.HOUR, unit_fen=11_500, step_s=1800))
    tariff = hourly(230, setup_fen=10_000).model_copy(update={"overrides": CategoryPrices(own=cheap)})
    assert rate(used(tariff, HOUR, category=UserCategory.OWN)).total_fen == 11_500
    assert rate(used(tariff, HOUR, category=UserCategory.ACADEMIC)).total_fen == 33_000


def test_the_quote_is_the_charge_of_exactly_the_booked_slot():
    tariff = hourly(400, setup_fen=10_000)
    offered = quote(tariff, UserCategory.SME, BookingMode.SELF_OPERATED, 77 * MINUTE, 0)
    assert offered == rate(used(tariff, 77 * MINUTE, 77 * MINUTE))


def test_a_calculation_that_does_not_exist_is_refused_by_name():
    with pytest.raises(UnknownCalcVersion, match="'9'"):
        rate(used(hourly(400)), "9")
    assert list(CALC_VERSIONS) == ["1", "2", "3", "4"]


@pytest.mark.parametrize("wrong", [{"ms": -1}, {"slot_ms": -1}, {"quantity": -1}, {"ms": 1.5}, {"quantity": True}])
def test_amounts_of_use_are_whole_numbers_from_zero(wrong):
    with pytest.raises(ValueError, match="must be a whole number"):
        used(hourly(400), **wrong)
