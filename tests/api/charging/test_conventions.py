"""One golden vector per fee convention, by calculation 2: amounts that must come out for ever, to the fen."""

from datetime import datetime

import pytest

from api.charging.documents import input_document, quote_document, read_input
from api.charging.rating import Asked, Discount, Piece, RatingInput, Times, Unpriceable, rate
from api.charging.sentences import explain_line
from api.charging.tariff_body import TariffBody, UserCategory, parse_body
from store.periods import SHANGHAI
from store.tables.calendar import BookingMode
from wire.clock import to_ms

MINUTE, HOUR = 60_000, 3_600_000
SEM = {"per": "hour", "unit_fen": 40_000, "step_s": 1800}
NIGHTS = [
    {"code": "evening", "starts": "17:30", "ends": "20:30", "package_fen": 120_000},
    {"code": "late", "starts": "20:30", "ends": "24:00", "package_fen": 80_000},
    {"code": "night", "starts": "00:00", "ends": "07:00", "package_fen": 40_000},
]
RUSH = [
    {"code": "fast", "surcharge_bp": 5_000, "name_zh": "加急", "name_en": "fast"},
    {"code": "day", "surcharge_bp": 10_000, "name_zh": "24 小时加急", "name_en": "in 24 h"},
]
EXTRAS = [
    {"code": "seal", "kind": "report", "unit_fen": 20_000, "name_zh": "CMA 报告", "name_en": "CMA report"},
    {"code": "seal_cnas", "kind": "report", "unit_fen": 50_000, "name_zh": "CNAS 报告", "name_en": "CNAS report"},
    {"code": "cut", "kind": "preparation", "per": "sample", "unit_fen": 20_000, "name_zh": "切样", "name_en": "cut"},
    {"code": "embed", "kind": "preparation", "unit_fen": 80_000, "name_zh": "镶样", "name_en": "embedding"},
]


def tariff(default: dict | None = None, **more) -> TariffBody:
    return parse_body({"schema": "openlab.tariff/2", "default": default or {"time": SEM}} | more)


def timed(**changes) -> TariffBody:
    return tariff({"time": SEM | changes})


def at(text: str) -> int:
    """A local time of March 2026 (the 2nd is a Monday), `02 09:00`."""
    return to_ms(datetime.strptime(f"2026-03-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=SHANGHAI))


def used(
    body: TariffBody,
    minutes: float = 0,
    *,
    start: str = "02 09:00",
    quantity: int = 0,
    who: UserCategory = UserCategory.SME,
    slot_minutes: float | None = None,
    **asked,
) -> RatingInput:
    ms, from_ms = round(minutes * MINUTE), at(start)
    slot_ms = ms if slot_minutes is None else round(slot_minutes * MINUTE)
    times = Times(from_ms, (Piece(from_ms, from_ms + ms, ms),))
    return RatingInput(body, who, BookingMode.SELF_OPERATED, slot_ms, ms, quantity, times, Asked(**asked))


def fens(given: RatingInput) -> list[tuple[str, str, int]]:
    return [(line.component.value, line.item_code, line.amount_fen) for line in rate(given, "2").lines]


FIRST_THEN_50 = timed(unit_fen=5_000, step_s=3600, first={"length_s": 3600, "unit_fen": 20_000})
FIRST_THEN_400 = timed(step_s=3600, first={"length_s": 3600, "unit_fen": 50_000})
VACUUM = tariff(
    {"unit": {"per": "batch", "unit_fen": 10_000}, "setup_fen": 30_000},
    overrides={"own": {"unit": {"per": "batch", "unit_fen": 10_000}, "setup_fen": 20_000}},
)
MAGNET = tariff(
    {"time": SEM | {"unit_fen": 23_000}},
    overrides={"affiliate": {"time": SEM | {"unit_fen": 11_500}}, "own": {"time": SEM | {"unit_fen": 4_500}}},
)
UPLIFTS = tariff(uplifts={"other": 2_500, "own": -3_000})
PACKED = tariff({"slots": {"length_s": 3 * 3600, "unit_fen": 90_000}})
NIGHT_PACKAGES = timed(bands=NIGHTS)


@pytest.mark.parametrize(
    ("what", "given", "total_fen"),
    [
        ("SEM 400/h, 77 min by the half hour", used(timed(), 77), 60_000),
        ("the same in a rush, +50 %", used(tariff(rush=RUSH), 77, rush="fast"), 90_000),
        ("the same within 24 h, +100 %", used(tariff(rush=RUSH), 77, rush="day"), 120_000),
        ("200 the first hour, 50 an hour then: 1 h", used(FIRST_THEN_50, 60), 20_000),
        ("1 h and a second are two hours", used(FIRST_THEN_50, 60 + 1 / 60), 25_000),
        ("whole hours: 3.2 h are four", used(FIRST_THEN_50, 192), 35_000),
        ("500 the first hour, then 400 an hour", used(FIRST_THEN_400, 150), 130_000),
        ("set-up 300 for others", used(VACUUM, quantity=1), 40_000),
        ("set-up 200 for the host's own", used(VACUUM, quantity=1, who=UserCategory.OWN), 30_000),
        ("magnetometer 230 external", used(MAGNET, 60), 23_000),
        ("magnetometer 115 internal", used(MAGNET, 60, who=UserCategory.AFFILIATE), 11_500),
        ("magnetometer 45 own lab", used(MAGNET, 60, who=UserCategory.OWN), 4_500),
        ("the shortest slot is 2 h", used(timed(minimum_s=7200), 10), 80_000),
        ("packages of 3 h, 20 min count as one", used(PACKED, 20), 90_000),
        ("exactly 3 h are one", used(PACKED, 180), 90_000),
        ("3 h and a second are two", used(PACKED, 180 + 1 / 60), 180_000),
        ("an evening package, however short", used(NIGHT_PACKAGES, 5, start="02 18:00"), 120_000),
        ("the whole evening and night", used(NIGHT_PACKAGES, 13.5 * 60, start="02 17:30"), 240_000),
        ("from 19:00 to 22:00", used(NIGHT_PACKAGES, 180, start="02 19:00"), 200_000),
        ("half an hour before the evening package", used(NIGHT_PACKAGES, 60, start="02 17:00"), 140_000),
        ("from 23:00 to midnight of the next day", used(NIGHT_PACKAGES, 25 * 60, start="02 23:00"), 740_000),
        ("external +25 %", used(UPLIFTS, 60, who=UserCategory.OTHER), 50_000),
        ("internal 70 %", used(UPLIFTS, 60, who=UserCategory.OWN), 28_000),
        ("a local firm pays neither", used(UPLIFTS, 60), 40_000),
        ("a report with a seal, 200", used(tariff(options=EXTRAS), 60, options=("seal",)), 60_000),
        ("a report with a seal, 500", used(tariff(options=EXTRAS), 60, options=("seal_cnas",)), 90_000),
        ("preparation 200 a sample", used(tariff(options=EXTRAS), 60, quantity=3, options=("cut",)), 100_000),
        ("preparation 800 once", used(tariff(options=EXTRAS), 60, quantity=3, options=("embed",)), 120_000),
        ("a day", used(timed(per="day", unit_fen=6_000, step_s=86_400), 25 * 60), 12_000),
        ("10 % less", used(timed(), 77, discounts=(Discount("pilot", bp=1_000),)), 54_000),
        ("50.00 less", used(timed(), 77, discounts=(Discount("pilot", fen=5_000),)), 55_000),
        ("never below nothing", used(timed(), 77, discounts=(Discount("pilot", fen=10**9),)), 0),
        ("two discounts, one on the other's rest",
         used(timed(), 60, discounts=(Discount("a", bp=5_000), Discount("b", bp=5_000))), 10_000),
    ],
)  # fmt: skip
def test_the_golden_amounts_stand(what, given, total_fen):
    rated = rate(given, "2")
    assert rated.total_fen == total_fen, what
    assert rate(given, "3") == rated, what
    assert rate(read_input(input_document(given), given.tariff), "2") == rated
    for line in rated.lines:
        said = explain_line(line, given)
        assert said.zh
        assert said.en


@pytest.mark.parametrize("per", ["sample", "piece", "item", "batch"])
def test_everything_that_can_be_counted_is_priced(per):
    body = tariff({"unit": {"per": per, "unit_fen": 15_000}})
    assert rate(used(body, quantity=3), "2").total_fen == 45_000


def test_rush_of_900_yuan_is_849_06_and_50_94_of_vat():
    rated = rate(used(tariff(rush=RUSH), 77, rush="fast"), "2")
    assert (rated.total_fen, rated.net_fen, rated.vat_fen) == (90_000, 84_906, 5_094)


def test_rush_is_on_the_work_and_its_minimum_but_not_on_set_up_and_reports():
    body = tariff({"time": SEM, "setup_fen": 10_000, "minimum_fen": 100_000}, rush=RUSH, options=EXTRAS)
    assert fens(used(body, 77, rush="fast", options=("seal",))) == [
        ("setup", "setup", 10_000),
        ("time", "hour", 60_000),
        ("minimum", "minimum", 30_000),
        ("surcharge", "rush_fast", 45_000),
        ("report", "seal", 20_000),
    ]


WEEK = [
    {"code": "night", "starts": "22:00", "ends": "06:00", "days": ["mon", "tue", "wed", "thu"], "unit_fen": 60_000},
    {"code": "weekend", "starts": "00:00", "ends": "24:00", "days": ["sat", "sun"], "unit_fen": 80_000},
]


def test_seconds_are_split_at_the_edge_of_a_band_and_the_step_goes_to_the_last():
    # 21:30 to 22:50:40: 30 min at the day's price; 50 min 40 s and the rest of the step at the night's.
    given = used(timed(bands=WEEK), 80 + 40 / 60, start="02 21:30")
    assert fens(given) == [("time", "hour", 20_000), ("time", "hour@night", 60_000)]
    assert rate(given, "2").billed_seconds == 5_400


def test_a_band_crosses_midnight_and_the_edge_of_a_day():
    # Thursday's night runs into Friday; from 06:00 on it is an ordinary day, and Friday has no night.
    given = used(timed(bands=WEEK), 120, start="06 05:00")
    assert fens(given) == [("time", "hour", 40_000), ("time", "hour@night", 60_000)]
    assert fens(used(timed(bands=WEEK), 60, start="06 22:30")) == [("time", "hour", 40_000)]
    weekend = used(timed(bands=WEEK), 120, start="06 23:00")
    assert fens(weekend) == [("time", "hour", 40_000), ("time", "hour@weekend", 80_000)]


@pytest.mark.parametrize(("seconds", "bands"), [(3600, ["hour"]), (3601, ["hour", "hour@night"])])
def test_a_second_beyond_the_edge_is_in_the_other_band(seconds, bands):
    given = used(timed(bands=WEEK, step_s=1), seconds / 60, start="02 21:00")
    assert [item for _, item, _ in fens(given)] == bands


def test_a_month_edge_is_no_edge_of_a_price():
    whole = used(timed(step_s=60), 77, start="31 23:30")
    assert rate(whole, "2").total_fen == rate(used(timed(step_s=60), 77, start="30 09:00"), "2").total_fen


def test_where_nothing_was_used_the_minimum_is_billed_where_the_slot_starts():
    body = timed(bands=WEEK, minimum_s=3600)
    given = RatingInput(body, UserCategory.SME, BookingMode.SELF_OPERATED, HOUR, 0, 0, Times(at("02 23:00")))
    assert fens(given) == [("time", "hour@night", 60_000)]
    assert fens(used(timed(bands=WEEK), 0)) == [("time", "hour", 0)]


def test_booked_time_is_split_by_the_slot_not_by_the_use():
    body = tariff({"time": SEM | {"bands": WEEK}}, time_basis="booked")
    assert fens(used(body, 10, start="02 21:00", slot_minutes=120)) == [
        ("time", "hour", 40_000),
        ("time", "hour@night", 60_000),
    ]


def test_the_list_price_stands_beside_the_actual_one_and_the_difference_is_the_saving():
    listed = tariff(list_prices={"time": SEM | {"unit_fen": 90_000}})
    rated = rate(used(listed, 60), "2")
    assert (rated.total_fen, rated.list_fen, rated.saving_fen) == (40_000, 90_000, 50_000)
    less = rate(used(listed, 60, discounts=(Discount("pilot", bp=1_000),)), "2")
    assert (less.list_fen, less.saving_fen) == (90_000, 54_000)
    own = rate(used(MAGNET, 60, who=UserCategory.OWN), "2")
    assert (own.list_fen, own.saving_fen) == (23_000, 18_500)
    assert rate(used(UPLIFTS, 60, who=UserCategory.OWN), "2").saving_fen == 12_000
    other = rate(used(UPLIFTS, 60, who=UserCategory.OTHER), "2")
    assert (other.list_fen, other.saving_fen) == (50_000, 0)


def test_a_price_above_its_own_list_has_no_saving():
    dear = tariff(list_prices={"time": SEM | {"unit_fen": 10_000}})
    rated = rate(used(dear, 60), "2")
    assert (rated.total_fen, rated.list_fen, rated.saving_fen) == (40_000, 10_000, 0)


@pytest.mark.parametrize("asked", [{"rush": "none"}, {"options": ("none",)}])
def test_what_the_price_list_does_not_have_is_refused(asked):
    with pytest.raises(Unpriceable, match="'none'"):
        rate(used(timed(), 60, **asked), "2")


def test_bands_without_times_and_new_conventions_by_the_old_calculation_are_refused():
    plain = RatingInput(timed(bands=WEEK), UserCategory.SME, BookingMode.SELF_OPERATED, HOUR, HOUR, 0)
    with pytest.raises(Unpriceable, match="when the use was"):
        rate(plain, "2")
    for given in (plain, used(parse_body({"default": {"time": SEM}}), 60, discounts=(Discount("x", bp=1),))):
        with pytest.raises(Unpriceable, match="calculation 1"):
            rate(given, "1")


@pytest.mark.parametrize("wrong", [{"reason": " ", "bp": 1}, {"reason": "x"}, {"reason": "x", "bp": 1, "fen": 1},
                                   {"reason": "x", "bp": 10_001}, {"reason": "x", "fen": -1}])  # fmt: skip
def test_a_discount_has_a_reason_and_is_a_share_or_an_amount(wrong):
    with pytest.raises(ValueError, match="discount"):
        Discount(**wrong)


def test_a_quote_of_the_second_calculation_holds_the_list_price():
    given = used(timed(), 60)
    assert b'"list_fen":40000' in quote_document(given, rate(given, "2"), "2")
    assert b"list_fen" not in quote_document(given, rate(given, "2"), "1")
