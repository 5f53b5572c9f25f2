"""What blocks a charge until somebody decides: each rule at its very edge, and with its evidence on a real charge."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from api.charging.flags import (
    BACK_DATED_BOOKING,
    BILLED_ABOVE_METERED,
    CERTIFICATE_EXPIRED,
    COVERAGE_BELOW_95,
    FEE_WITHOUT_SESSION,
    PRICE_ABOVE_LIST,
    ChargeFacts,
    findings,
)
from api.charging.tariff_body import Prices, TariffBody, TimeBasis
from api.charging.tariffs import publish_tariff
from store.tables.audit import Anomaly
from store.tables.calendar import Booking
from tests.api.charging.building import HOURLY_400, INSTRUMENT, County
from tests.support.usage import NINE
from wire.clock import from_ms

FINE = ChargeFacts(
    total_fen=60_000,
    list_fen=60_000,
    basis_ms=3_600_000,
    metered_ms=3_600_000,
    has_session=True,
    coverage_bp=10_000,
    certificate_valid=True,
    booked_at_ms=NINE,
    slot_from_ms=NINE,
    used_from_ms=NINE,
)
HOUR_S = 3600


@pytest.mark.parametrize(
    ("changes", "rules"),
    [
        ({}, []),
        ({"coverage_bp": 9_500}, []),
        ({"coverage_bp": 9_499}, [COVERAGE_BELOW_95]),
        ({"certificate_valid": False}, [CERTIFICATE_EXPIRED]),
        ({"has_session": False, "used_from_ms": None}, [FEE_WITHOUT_SESSION]),
        ({"has_session": False, "used_from_ms": None, "total_fen": 0}, []),
        ({"basis_ms": 4_500_999}, []),
        ({"basis_ms": 4_501_000}, [BILLED_ABOVE_METERED]),
        ({"metered_ms": 36_000_000, "basis_ms": 39_600_999}, []),
        ({"metered_ms": 36_000_000, "basis_ms": 39_601_000}, [BILLED_ABOVE_METERED]),
        ({"basis_ms": None, "metered_ms": 0}, []),
        ({"total_fen": 60_001}, [PRICE_ABOVE_LIST]),
        ({"booked_at_ms": NINE + 1}, [BACK_DATED_BOOKING]),
        ({"booked_at_ms": NINE, "used_from_ms": NINE - 1}, [BACK_DATED_BOOKING]),
        ({"booked_at_ms": NINE, "used_from_ms": NINE + 1}, []),
    ],
)
def test_each_rule_finds_at_its_edge(changes, rules):
    assert [found.rule for found in findings(replace(FINE, **changes))] == rules


def test_the_evidence_holds_the_figures():
    [billed] = findings(replace(FINE, basis_ms=7_200_000))
    assert billed.detail == "7200 s billed, 3600 s metered, 900 s allowed"
    [price] = findings(replace(FINE, total_fen=60_001))
    assert price.detail == "60001 fen, 60000 fen by the list"
    [dated] = findings(replace(FINE, booked_at_ms=NINE + 1))
    assert str(NINE + 1) in dated.detail


def published(county: County, body: TariffBody) -> None:
    county.do(publish_tariff, INSTRUMENT, body, from_ms(NINE - 86_400_000), "manager", "second")


def flagged(county: County, booking_id: str) -> dict[str, str]:
    charge_id = county.charge(booking_id, now=county.now + timedelta(days=1)).charge_id
    with county.database.read() as session:
        rows = session.scalars(select(Anomaly)).all()
    assert {row.subject_id for row in rows} <= {charge_id}
    assert all(row.blocks_reward for row in rows)
    return {row.rule: row.detail for row in rows}


def test_booked_time_far_above_the_meter_is_flagged(county):
    published(county, HOURLY_400.model_copy(update={"time_basis": TimeBasis.BOOKED}))
    booking_id = county.book()
    county.use(booking_id, 60)
    assert flagged(county, booking_id) == {BILLED_ABOVE_METERED: "7200 s billed, 3600 s metered, 900 s allowed"}


def test_steps_and_minimum_of_the_price_list_are_no_finding(county):
    time = HOURLY_400.default.time.model_copy(update={"minimum_s": 7200})
    published(county, TariffBody(default=Prices(time=time)))
    booking_id = county.book()
    county.use(booking_id, 10)
    assert flagged(county, booking_id) == {}


def test_a_price_above_the_labs_own_list_is_flagged(county):
    time = HOURLY_400.default.time.model_copy(update={"unit_fen": 30_000})
    listed = HOURLY_400.model_copy(
        update={"schema_name": "openlab.tariff/2", "list_prices": Prices(time=time)},
    )
    published(county, listed)
    booking_id = county.book()
    county.use(booking_id, 60)
    assert flagged(county, booking_id) == {PRICE_ABOVE_LIST: "40000 fen, 30000 fen by the list"}


def test_a_booking_made_after_its_use_is_flagged(county):
    booking_id = county.book()
    county.use(booking_id, 60)
    with county.database.write() as session:
        late = from_ms(NINE + 90 * 60_000)
        session.execute(update(Booking).where(Booking.booking_id == booking_id).values(created_at=late))
    assert list(flagged(county, booking_id)) == [BACK_DATED_BOOKING]
