"""Publishing prices: two people, never edited, found by date; and the demo's prices from its catalogue."""

import csv
from datetime import timedelta
from importlib.resources import files

import pytest
from sqlalchemy import select, update

from api.charging.seed import seed_tariffs, tariff_from_fee_columns
from api.charging.tariff_body import BadTariff, canonical_body
from api.charging.tariffs import approve_proposal, propose_tariff, publish_tariff, tariff_in_force, tariff_versions
from api.errors import Refused
from api.work import system_actor
from store.canonical import sha256_hex
from store.errors import AppendOnly
from store.tables.accounts import Person
from store.tables.charging import TariffVersion
from tests.api.charging.building import (
    CUSTOMER,
    FINANCE,
    HOURLY_400,
    INSTRUMENT,
    MANAGER,
    OFFICER,
    SECOND,
    STRANGER,
    County,
)
from tests.support.usage import LONG_AGO
from wire.clock import from_ms, to_ms

pytestmark = pytest.mark.slow_on_postgresql

OTHER = "xc-h01-02"
TICK = timedelta(milliseconds=1)
DEARER = HOURLY_400.model_copy(update={"vat_rate_bp": 300})


def in_force(county: County, at, instrument: str = INSTRUMENT):
    with county.database.read() as session:
        return tariff_in_force(session, instrument, at)


def refusal(county: County, step, *args, **who) -> str:
    with pytest.raises(Refused) as caught:
        county.do(step, *args, **who)
    return caught.value.code


def test_the_version_in_force_changes_at_its_very_instant(county):
    start = county.now + timedelta(days=1)
    county.do(publish_tariff, INSTRUMENT, DEARER, start, "manager", "second")
    assert (in_force(county, start - TICK).version, in_force(county, start).version) == (1, 2)
    assert in_force(county, start).body == DEARER
    with county.database.read() as session:
        assert [found.version for found in tariff_versions(session, INSTRUMENT)] == [2, 1]


def test_before_the_first_version_there_is_no_price(county):
    assert in_force(county, LONG_AGO).version == 1
    for at, instrument in ((LONG_AGO - TICK, INSTRUMENT), (county.now, OTHER)):
        with pytest.raises(Refused) as caught:
            in_force(county, at, instrument)
        assert (caught.value.status, caught.value.code) == (409, "no_tariff")


def test_what_is_stored_is_what_is_hashed(county):
    with county.database.read() as session:
        row = session.scalars(select(TariffVersion)).one()
    assert row.body.encode() == canonical_body(HOURLY_400)
    assert row.body_sha256 == sha256_hex(row.body.encode())


def test_a_proposal_is_published_by_a_second_person_and_keeps_both_names(county):
    start = county.now + timedelta(days=1)
    proposal = county.do(propose_tariff, INSTRUMENT, DEARER, start, who=MANAGER)
    assert refusal(county, approve_proposal, proposal.proposal_id, proposal.body_sha256, who=MANAGER) == "same_person"
    assert refusal(county, approve_proposal, proposal.proposal_id, "0" * 64, who=SECOND) == "other_body"
    assert refusal(county, approve_proposal, proposal.proposal_id, proposal.body_sha256, who=STRANGER) == "forbidden"
    assert in_force(county, start).version == 1
    published = county.do(approve_proposal, proposal.proposal_id, proposal.body_sha256, who=OFFICER)
    assert (published.version, published.prepared_by, published.approved_by) == (2, "manager", "officer")
    assert published.body == DEARER
    again = refusal(county, approve_proposal, proposal.proposal_id, proposal.body_sha256, who=SECOND)
    assert again == "not_after_latest"


@pytest.mark.parametrize(
    ("days", "prepared", "approved", "who", "code"),
    [
        (1, "manager", "manager", MANAGER, "same_person"),
        (1, "manager", "second", MANAGER, "same_person"),
        (1, "customer", "manager", MANAGER, "signer_not_entitled"),
        (1, "finance", "manager", MANAGER, "signer_not_entitled"),
        (1, "nobody", "manager", MANAGER, "signer_not_entitled"),
        (-1, "second", "manager", MANAGER, "tariff_backdated"),
        (1, "manager", "customer", CUSTOMER, "forbidden"),
        (1, "manager", "finance", FINANCE, "forbidden"),
    ],
)
def test_a_publication_is_refused(county, days, prepared, approved, who, code):
    start = county.now + timedelta(days=days)
    assert refusal(county, publish_tariff, INSTRUMENT, DEARER, start, prepared, approved, who=who) == code


def test_versions_only_follow_each_other(county):
    system = system_actor("seed")
    for start in (LONG_AGO, LONG_AGO - TICK):
        code = refusal(county, publish_tariff, INSTRUMENT, DEARER, start, "manager", "second", who=system)
        assert code == "not_after_latest"


def test_somebody_who_left_signs_nothing(county):
    with county.database.write() as session:
        session.execute(update(Person).where(Person.person_id == "second").values(active=False))
    start = county.now + timedelta(days=1)
    code = refusal(county, publish_tariff, INSTRUMENT, DEARER, start, "second", "manager", who=MANAGER)
    assert code == "signer_not_entitled"


def test_a_published_price_cannot_be_edited(county):
    for change in ("UPDATE tariff_version SET body = '{}'", "DELETE FROM tariff_version"):
        with pytest.raises(AppendOnly), county.database.write() as session:
            session.connection().exec_driver_sql(change)


def catalogue() -> list[dict[str, str]]:
    text = files("api.seeding").joinpath("data/instruments.csv").read_text("utf-8-sig")
    return list(csv.DictReader(text.splitlines()))


def test_every_instrument_of_the_catalogue_has_prices_that_make_sense():
    by_code = {row["instrument_code"]: tariff_from_fee_columns(row) for row in catalogue()}
    assert len(by_code) == 82
    time = by_code["XC-H02-05"].default.time
    assert time is not None
    assert (time.per, time.unit_fen, time.step_s, time.minimum_s) == ("hour", 18_000, 1800, 4 * 3600)
    assert by_code["XC-H02-05"].default.setup_fen == 30_000
    unit = by_code["XC-H01-02"].default.unit
    assert unit is not None
    assert (unit.per, unit.unit_fen, unit.minimum_units) == ("piece", 4_000, 5)


@pytest.mark.parametrize(
    ("column", "text"), [("fee_unit", "minute"), ("fee_cny_incl_vat", "12.345"), ("billing_step", "x")]
)
def test_a_wrong_fee_column_is_named(column, text):
    with pytest.raises(BadTariff) as caught:
        tariff_from_fee_columns(catalogue()[0] | {column: text})
    assert caught.value.field == column


def test_the_demo_prices_are_published_once(county):
    rows = [row for row in catalogue() if row["instrument_code"] in ("XC-H01-01", "XC-H01-02")]
    for expected in (1, 0):
        found = county.do(seed_tariffs, rows, from_ms(to_ms(LONG_AGO)), lambda host: ("manager", "second"))
        assert found == expected
    assert in_force(county, county.now, OTHER).body == tariff_from_fee_columns(rows[1])
