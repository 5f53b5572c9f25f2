"""The document of the second schema: what it refuses and by which field; what changed between two; and how what was
ordered, and when an instrument ran, come from a booking into its charge."""

import json
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

import api.commands
from api.booking.rules import BookingRequest
from api.booking.service import create_booking, quote
from api.booking.slots import Interval
from api.booking.states import BookingAction
from api.booking.steps import take_step
from api.charging.documents import read_input
from api.charging.rating import rate
from api.charging.tariff_body import BadTariff, TariffBody, canonical_body, parse_body, read_body
from api.charging.tariff_diff import diff
from api.charging.tariffs import changes_between, changes_by_proposal, propose_tariff, publish_tariff
from api.errors import Refused
from store.ledger import commit_usage
from store.periods import SHANGHAI
from store.tables.calendar import Booking, BookingMode, BookingUse, Due
from store.tables.charging import Charge, ChargeLine
from store.tables.usage import UsageSession
from tests.api.charging.building import CUSTOMER, HOURLY_400, INSTRUMENT, MANAGER, MINUTE, SECOND, County, build
from tests.support.usage import NINE, StreamWriter
from wire.clock import from_ms, to_ms
from wire.messages import PowerState

HOUR = {"per": "hour", "unit_fen": 40_000, "step_s": 1800}
NIGHT = {"code": "night", "starts": "22:00", "ends": "06:00", "unit_fen": 60_000}
RUSH = {"code": "fast", "surcharge_bp": 5_000, "name_zh": "加急", "name_en": "fast"}
SEAL = {"code": "seal", "kind": "report", "unit_fen": 30_000, "name_zh": "报告", "name_en": "report"}
FULL = {
    "schema": "openlab.tariff/2",
    "default": {"time": HOUR | {"bands": [NIGHT]}, "setup_fen": 1_000},
    "overrides": {"own": {"slots": {"length_s": 10_800, "unit_fen": 1}}},
    "uplifts": {"other": 2_500},
    "list_prices": {"time": HOUR | {"unit_fen": 90_000}},
    "rush": [RUSH],
    "options": [SEAL],
    "cancellation": {"free_until_s": 86_400, "fee_bp": 3_000},
    "no_show": {"fee_bp": 5_000},
}


def bands(*changed: dict) -> dict:
    return {"default": {"time": HOUR | {"bands": [NIGHT | each for each in changed]}}}


def test_a_document_with_every_convention_comes_back_byte_for_byte():
    body = parse_body(FULL)
    text = canonical_body(body).decode()
    assert canonical_body(read_body(text)) == text.encode()
    assert read_body(text) == body


def test_a_document_of_the_first_schema_holds_nothing_of_the_second():
    plain = json.loads(canonical_body(HOURLY_400))
    assert set(plain) == {
        "schema", "currency", "vat_rate_bp", "time_basis", "default", "overrides", "early_grace_s", "late_grace_s",
    }  # fmt: skip
    assert set(plain["default"]) == {"time", "setup_fen", "minimum_fen"}
    assert set(plain["default"]["time"]) == {"per", "unit_fen", "step_s", "minimum_s"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"schema": "openlab.tariff/1"}, "default.time.bands"),
        ({"schema": "openlab.tariff/1", "default": {"time": HOUR}}, "overrides.own.slots"),
        ({"schema": "openlab.tariff/1", "default": {"time": HOUR}, "overrides": {}}, "uplifts"),
        (bands({"unit_fen": None}), "default.time.bands.0.unit_fen"),
        (bands({"package_fen": 1}), "default.time.bands.0.unit_fen"),
        (bands({"starts": "24:00"}), "default.time.bands.0.starts"),
        (bands({"starts": "7:00"}), "default.time.bands.0.starts"),
        (bands({"ends": "22:00"}), "default.time.bands.0.ends"),
        (bands({"ends": "24:01"}), "default.time.bands.0.ends"),
        (bands({"days": []}), "default.time.bands.0.days"),
        (bands({"days": ["mon", "mon"]}), "default.time.bands.0.days"),
        (bands({"days": ["monday"]}), "default.time.bands.0.days.0"),
        (bands({"code": "Night"}), "default.time.bands.0.code"),
        (bands({}, {}), "default.time.bands"),
        (bands({"days": ["mon"]}, {"code": "early", "starts": "05:59", "ends": "07:00", "days": ["tue"]}),
         "default.time.bands"),
        (bands({"days": ["sun"]}, {"code": "early", "starts": "00:00", "ends": "07:00", "days": ["mon"]}),
         "default.time.bands"),
        ({"default": {"time": HOUR | {"bands": [NIGHT], "first": {"length_s": 3600, "unit_fen": 1}}}},
         "default.time.bands"),
        ({"default": {"time": HOUR, "slots": {"length_s": 1, "unit_fen": 1}}}, "default.slots"),
        ({"default": {"time": HOUR | {"first": {"length_s": 0, "unit_fen": 1}}}}, "default.time.first.length_s"),
        ({"rush": [RUSH, RUSH]}, "rush"),
        ({"rush": [RUSH | {"surcharge_bp": 0}]}, "rush.0.surcharge_bp"),
        ({"options": [SEAL, SEAL]}, "options"),
        ({"options": [SEAL | {"kind": "coffee"}]}, "options.0.kind"),
        ({"uplifts": {"vip": 1}}, "uplifts.vip"),
        ({"cancellation": {"free_until_s": 0, "fee_bp": 10_001}}, "cancellation.fee_bp"),
        ({"no_show": {}}, "no_show.fee_bp"),
        ({"list_prices": {}}, "list_prices"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(change, field):
    with pytest.raises(BadTariff) as caught:
        parse_body(FULL | change)
    assert caught.value.field == field
    assert caught.value.why


def test_bands_that_only_touch_do_not_overlap():
    touching = bands({"days": ["mon"]}, {"code": "early", "starts": "06:00", "ends": "07:00", "days": ["tue"]})
    assert parse_body(FULL | touching).default.time is not None


def test_a_difference_is_data_by_field_and_by_code():
    dearer = FULL | {"default": FULL["default"] | {"time": HOUR | {"unit_fen": 50_000, "bands": [NIGHT]}}}
    day = RUSH | {"code": "day", "surcharge_bp": 10_000}
    new = dearer | {"rush": [day, RUSH]} | {"no_show": {"fee_bp": 4_000}}
    found = {each.field: (each.old, each.new) for each in diff(parse_body(FULL), parse_body(new))}
    assert found == {
        "default.time.unit_fen": (40_000, 50_000),
        "no_show.fee_bp": (5_000, 4_000),
        "rush[day].name_en": (None, "fast"),
        "rush[day].name_zh": (None, "加急"),
        "rush[day].surcharge_bp": (None, 10_000),
    }
    assert diff(parse_body(FULL), parse_body(FULL)) == ()
    assert all(each.old is None for each in diff(None, HOURLY_400))


def publish(county: County, body: TariffBody, at: datetime | None = None) -> None:
    start = at or from_ms(NINE) - timedelta(days=2)
    county.do(publish_tariff, INSTRUMENT, body, start, "manager", "second")


def test_what_changes_is_read_before_it_is_approved(county):
    proposal = county.do(propose_tariff, INSTRUMENT, parse_body(FULL), county.now + timedelta(days=1), who=MANAGER)
    with county.database.read() as session:
        proposed = changes_by_proposal(session, proposal.proposal_id)
    publish(county, parse_body(FULL))
    with county.database.read() as session:
        published = changes_between(session, INSTRUMENT, 1, 2)
        with pytest.raises(Refused) as caught:
            changes_between(session, INSTRUMENT, 1, 3)
    assert proposed == published
    assert ("default.setup_fen", 0, 1_000) in [(each.field, each.old, each.new) for each in published]
    assert caught.value.status == 404


def test_the_command_line_shows_what_changed(sqlite_database, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENLAB_DATABASE_URL", sqlite_database.engine.url.render_as_string(hide_password=False))
    county = build(sqlite_database, tmp_path)
    publish(county, parse_body(FULL))
    text = CliRunner().invoke(api.commands.app, ["tariff-diff", INSTRUMENT, "1", "2"]).output
    assert "default.setup_fen: 0 -> 1000" in text
    told = CliRunner().invoke(api.commands.app, ["tariff-diff", INSTRUMENT, "2", "1", "--json"]).output
    assert {"field": "default.setup_fen", "old": 1_000, "new": 0} in json.loads(told)
    same = CliRunner().invoke(api.commands.app, ["tariff-diff", INSTRUMENT, "1", "1"]).output
    assert same.strip() == "the same"
    county.series.close()


def run_through(county: County, booking_id: str, start_ms: int, parts: list[tuple[PowerState, float]]) -> str:
    """One session with pauses, matched to the booking as a whole."""
    writer = StreamWriter(INSTRUMENT, start_ms=start_ms)
    writer.open(0)
    name = str(writer.session)
    for state, minutes in parts:
        writer.tick(state, minutes * 60)
    writer.close(0)
    with county.database.write() as session:
        commit_usage(session, writer.arrivals(), writer.now_ms + MINUTE, "gateway:test")
        session.query(Due).filter(Due.subject_id == name).delete()
        row = session.get_one(UsageSession, name)
        running = row.odo_running_last_ms - row.odo_running_first_ms
        use = {"session_id": name, "booking_id": booking_id, "from_at": row.started_at, "to_at": row.ended_at}
        session.add(BookingUse(**use, running_ms=running, unknown_ms=0, matched_at=county.now))
    county.sample(start_ms, writer.now_ms, 1000)
    return name


def charged(county: County, booking_id: str) -> tuple[Charge, dict[str, ChargeLine]]:
    charge_id = county.charge(booking_id, now=county.now + timedelta(days=9)).charge_id
    with county.database.read() as session:
        lines = session.scalars(select(ChargeLine).where(ChargeLine.charge_id == charge_id))
        return session.get_one(Charge, charge_id), {line.item_code: line for line in lines}


def test_the_odometer_says_how_much_ran_on_either_side_of_a_band(county):
    body = parse_body({"schema": "openlab.tariff/2", "default": {"time": HOUR | {"step_s": 1, "bands": [NIGHT]}}})
    publish(county, body)
    start = to_ms(datetime(2026, 3, 2, 21, 0, tzinfo=SHANGHAI))
    booking_id = county.book(start, 180)
    # Ran 20 min, paused 60 min across 22:00, ran 40 min: 20 min by day and 40 by night, not two thirds of an hour each.
    states = [(PowerState.RUNNING, 20.0), (PowerState.STANDBY, 60.0), (PowerState.RUNNING, 40.0)]
    run_through(county, booking_id, start, states)
    charge, lines = charged(county, booking_id)
    assert {code: line.quantity for code, line in lines.items()} == {"hour": 1_200, "hour@night": 2_400}
    given = read_input(charge.input, body)
    assert rate(given, charge.calc_version).total_fen == charge.total_fen == 53_333
    assert given.times is not None
    assert [piece.running_ms for piece in given.times.pieces] == [20 * MINUTE, 40 * MINUTE]


def test_a_price_change_in_mid_session_changes_nothing(county):
    publish(county, parse_body(FULL), from_ms(NINE + 30 * MINUTE))
    booking_id = county.book(NINE, 120)
    county.use(booking_id, 77)
    charge, lines = charged(county, booking_id)
    assert (charge.tariff_version, charge.total_fen, list(lines)) == (1, 60_000, ["hour"])


def test_what_is_ordered_is_quoted_frozen_and_charged(county):
    publish(county, parse_body(FULL))
    start = from_ms(NINE) + timedelta(days=2)
    request = BookingRequest(
        INSTRUMENT,
        BookingMode.SELF_OPERATED,
        Interval(start, start + timedelta(hours=1)),
        rush="fast",
        options=("seal",),
    )
    with county.database.read() as session:
        offer = quote(county.work(session, CUSTOMER), request)
    assert offer.price.rated.total_fen == 1_000 + 40_000 + 20_000 + 30_000
    assert (offer.price.rated.list_fen, offer.price.rated.saving_fen) == (165_000, 74_000)
    booking, _ = county.do(create_booking, request, who=CUSTOMER)
    county.use(booking.booking_id, 60, to_ms(start))
    with county.database.write() as session:
        work = county.work(session, now=start + timedelta(hours=2))
        row = session.get_one(Booking, booking.booking_id)
        take_step(work, row, BookingAction.USE_FOUND)
        take_step(work, row, BookingAction.COMPLETE)
    charge, lines = charged(county, booking.booking_id)
    assert charge.total_fen == 91_000
    assert set(lines) == {"setup", "hour", "rush_fast", "seal"}


@pytest.mark.parametrize(
    ("asked", "code"),
    [({"rush": "day"}, "unknown_rush"), ({"options": ("x",)}, "unknown_option"),
     ({"options": ("seal", "seal")}, "option_twice")],
)  # fmt: skip
def test_what_the_price_list_does_not_have_cannot_be_ordered(county, asked, code):
    publish(county, parse_body(FULL))
    start = county.now + timedelta(days=1)
    slot = Interval(start, start + timedelta(hours=1))
    with pytest.raises(Refused) as caught, county.database.read() as session:
        quote(county.work(session, CUSTOMER), BookingRequest(INSTRUMENT, BookingMode.SELF_OPERATED, slot, **asked))
    assert (caught.value.status, caught.value.code) == (422, code)


def test_the_signers_of_a_document_with_every_convention_are_two(county):
    with pytest.raises(Refused) as caught:
        county.do(
            publish_tariff, INSTRUMENT, parse_body(FULL), county.now + timedelta(days=1), "second", "second", who=SECOND
        )
    assert caught.value.code == "same_person"
