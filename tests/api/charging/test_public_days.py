"""Public holidays and weekend days that are worked: golden vectors by calculation 3, and what of it is frozen."""

import json
from datetime import date, datetime, timedelta

import pytest
from sqlalchemy import select

from api.charging.documents import input_document, read_input
from api.charging.explain import explain_charge
from api.charging.rating import Piece, RatingInput, Times, Unpriceable, rate
from api.charging.sentences import explain_line
from api.charging.tariff_body import BadTariff, Day, UserCategory, canonical_body, parse_body
from api.charging.tariffs import publish_tariff
from api.registry.papers import put_special_day
from api.verify.checks import charge_checks, verify
from store.periods import SHANGHAI
from store.tables.calendar import BookingMode
from store.tables.charging import Charge
from tests.api.charging.building import HOST, INSTRUMENT, OFFICER, County
from wire.clock import from_ms, to_ms

HOUR = 3_600_000
WEEKEND = {"code": "weekend", "starts": "00:00", "ends": "24:00", "days": ["sat", "sun"], "unit_fen": 60_000}
NIGHT = {"code": "night", "starts": "20:00", "ends": "07:00", "days": ["mon", "tue", "wed", "thu"], "unit_fen": 50_000}
FESTIVE = {"code": "festive", "starts": "00:00", "ends": "24:00", "days": ["holiday"], "unit_fen": 120_000}
PACKED = {"code": "feast", "starts": "08:00", "ends": "20:00", "days": ["holiday"], "package_fen": 300_000}


def priced_by(*bands: dict, schema: str = "openlab.tariff/3", **more) -> dict:
    time = {"per": "hour", "unit_fen": 40_000, "step_s": 1800, "bands": list(bands)}
    return {"schema": schema, "default": {"time": time}} | more


def at(text: str) -> int:
    """A local time of 2026; 1 October is a Thursday, 27 September and 10 October are a Sunday and a Saturday."""
    return to_ms(datetime.strptime(f"2026-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=SHANGHAI))


NATIONAL = tuple((f"2026-10-0{day}", Day.HOLIDAY) for day in range(1, 8))
YEAR_2026 = (("2026-09-27", Day.FRI), *NATIONAL, ("2026-10-10", Day.WED))


def used(document: dict, start: str, hours: float, days=YEAR_2026) -> RatingInput:
    from_ms, ms = at(start), round(hours * HOUR)
    times = Times(from_ms, (Piece(from_ms, from_ms + ms, ms),), days)
    return RatingInput(parse_body(document), UserCategory.SME, BookingMode.SELF_OPERATED, ms, ms, 0, times)


ALL = priced_by(WEEKEND, NIGHT, FESTIVE)


@pytest.mark.parametrize(
    ("what", "given", "total_fen"),
    [
        ("a holiday", used(ALL, "10-01 09:00", 1), 120_000),
        ("a Saturday that is a holiday", used(ALL, "10-03 09:00", 1), 120_000),
        ("a Sunday that is worked costs like a Friday", used(ALL, "09-27 09:00", 1), 40_000),
        ("a Saturday that is worked has the night of a Wednesday", used(ALL, "10-10 20:00", 1), 50_000),
        ("a plain Sunday", used(ALL, "10-11 09:00", 1), 60_000),
        ("without a word of the calendar a holiday is a Thursday", used(ALL, "10-01 09:00", 1, ()), 40_000),
        ("across the eve's midnight, night to holiday", used(ALL, "09-30 23:00", 2), 50_000 + 120_000),
        ("from the last holiday into the morning after", used(ALL, "10-07 23:00", 2), 120_000 + 40_000),
        ("no band names holidays: a Saturday stays one", used(priced_by(WEEKEND), "10-03 09:00", 1), 60_000),
        ("no band names holidays: a Thursday stays one", used(priced_by(WEEKEND), "10-01 09:00", 1), 40_000),
        ("a package of a holiday counts whole", used(priced_by(PACKED), "10-01 19:00", 2), 340_000),
        ("no package on the day after", used(priced_by(PACKED), "10-08 09:00", 1), 40_000),
    ],
)  # fmt: skip
def test_the_golden_amounts_stand(what, given, total_fen):
    rated = rate(given, "3")
    assert rated.total_fen == total_fen, what
    assert rate(read_input(input_document(given), given.tariff), "3") == rated
    assert all(explain_line(line, given).zh and explain_line(line, given).en for line in rated.lines)


def test_a_line_of_a_public_holiday_says_so():
    given = used(ALL, "10-01 09:00", 1)
    [said] = [explain_line(line, given) for line in rate(given, "3").lines]
    assert "法定节假日" in said.zh
    assert "public holidays" in said.en


def test_older_calculations_and_schemas_refuse_the_calendar_instead_of_ignoring_it():
    with pytest.raises(Unpriceable):
        rate(used(ALL, "10-01 09:00", 1, ()), "2")
    old = priced_by(WEEKEND, schema="openlab.tariff/2")
    for calculation in ("2", "3"):
        with pytest.raises(Unpriceable):
            rate(used(old, "10-01 09:00", 1), calculation)
    assert rate(used(old, "10-01 09:00", 1, ()), "3") == rate(used(old, "10-01 09:00", 1, ()), "2")


def test_what_says_nothing_of_the_calendar_keeps_its_bytes():
    assert json.loads(input_document(used(ALL, "10-20 09:00", 1, ())))["schema"] == "openlab.rating_input/2"
    assert json.loads(input_document(used(ALL, "10-20 09:00", 1)))["schema"] == "openlab.rating_input/3"
    for schema in ("openlab.tariff/2", "openlab.tariff/3"):
        night = {key: value for key, value in NIGHT.items() if key != "days"}
        body = parse_body(priced_by(night, schema=schema))
        assert json.loads(canonical_body(body))["default"]["time"]["bands"][0]["days"] == list(Day)[:7]


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (priced_by(WEEKEND, FESTIVE, schema="openlab.tariff/2"), "default.time.bands.1.days"),
        (priced_by(schema="openlab.tariff/2", list_prices=ALL["default"]), "list_prices.time.bands.2.days"),
        (priced_by(FESTIVE, PACKED), "default.time.bands"),
        (priced_by(FESTIVE | {"starts": "22:00", "ends": "06:00"}, PACKED | {"starts": "05:00"}), "default.time.bands"),
        (priced_by(FESTIVE | {"days": ["holidays"]}), "default.time.bands.0.days.0"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(document, field):
    with pytest.raises(BadTariff) as caught:
        parse_body(document)
    assert caught.value.field == field


def test_the_calendar_is_frozen_with_the_charge(county: County):
    published = datetime(2026, 3, 2, 0, 0, tzinfo=SHANGHAI)
    festive = parse_body(priced_by(FESTIVE))
    county.do(publish_tariff, INSTRUMENT, festive, published, "manager", "second")
    start = to_ms(datetime(2026, 3, 3, 9, 0, tzinfo=SHANGHAI))
    booking_id = county.book(start, 60)
    county.use(booking_id, 60, start)

    def call_it(host_id: str | None, day: date, like: int | None) -> None:
        with county.database.write() as session:
            work = county.work(session, OFFICER)
            put_special_day(work, host_id=host_id, day=day, like_weekday=like, name_zh="节", name_en="feast")

    # The host opens on the holiday: that does not make it a working day for its prices.
    call_it(None, date(2026, 3, 3), None)
    call_it(HOST, date(2026, 3, 3), 2)
    call_it(HOST, date(2026, 3, 4), None)
    charge_id = county.charge(booking_id, now=from_ms(start) + timedelta(days=2)).charge_id
    assert charge_id is not None
    call_it(None, date(2026, 3, 3), 2)
    with county.database.read() as session:
        charge = session.scalars(select(Charge)).one()
        assert (charge.total_fen, charge.calc_version) == (120_000, "4")
        assert json.loads(charge.input)["times"]["days"] == [["2026-03-03", "holiday"]]
        assert [outcome.finding for outcome in verify(session, charge_checks())] == [None] * len(charge_checks())
    with county.database.read() as session:
        found = explain_charge(county.work(session, OFFICER), charge_id)
        assert found.given.times is not None
        assert found.given.times.days == (("2026-03-03", Day.HOLIDAY),)
