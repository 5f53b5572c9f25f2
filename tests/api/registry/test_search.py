"""The public catalogue: what words find, what facets count, what is free, and pages that stay true under writes."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path

import pytest

from api.booking.calendar import insert_row
from api.booking.slots import Interval
from api.charging.seed import seed_tariffs, tariff_from_fee_columns
from api.charging.tariffs import publish_tariff
from api.registry import changes
from api.registry.records import HostRecord, InstrumentRecord
from api.registry.slot_terms import fault_of, terms_of
from api.seeding.catalogue_files import instrument_rows
from api.seeding.people import host_deputy, host_manager
from api.work import Work, system_actor
from store.errors import CalendarOverlap
from store.tables.accounts import Role
from store.tables.calendar import CalendarKind
from store.tables.registry import CatalogueHead, Host, Instrument
from tests.support.api_client import ApiClient, in_process, open_test_series, test_parts
from tests.support.county import MONDAY_NINE_MS, seed_county
from tests.support.databases import DatabaseServers, opened
from wire.clock import ManualClock

FACETS = ("cluster", "town", "category", "mode", "unit", "live")


@pytest.fixture(scope="module")
def shop(database_servers: DatabaseServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiClient]:
    """The seeded county on SQLite, shared by tests that only read."""
    series = open_test_series(Path(tmp_path_factory.mktemp("series")))
    with (
        database_servers.fresh_url("sqlite", seed_county) as url,
        opened(url) as database,
        in_process(test_parts(database, series, ManualClock(MONDAY_NINE_MS))) as client,
    ):
        yield client
    series.close()


def found(client: ApiClient, **params) -> dict:
    answer = client.get("/catalogue", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(client: ApiClient, **params) -> list[str]:
    return [hit["instrument_id"] for hit in found(client, **params)["items"]]


def all_ids(client: ApiClient, **params) -> list[str]:
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = found(client, **params, **({"cursor": cursor} if cursor else {}))
        seen += [hit["instrument_id"] for hit in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            return seen


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("圆度仪", "xc-h01-03"),  # a name
        ("圆柱度", "xc-h01-03"),  # inside a test item
        ("Roundness", "xc-h01-03"),
        ("cylindricity talyrond", "xc-h01-03"),  # a test item and a model
        ("yuanduyi", "xc-h01-03"),
        ("yuandu", "xc-h01-03"),
        ("YDY", "xc-h01-03"),
        ("园度仪", "xc-h01-03"),  # another character that sounds the same
        ("roundnes", "xc-h01-03"),
        ("ruondness", "xc-h01-03"),  # two letters changed round
        ("yuamdu", "xc-h01-03"),  # a wrong letter in pinyin
        ("清洁渡分析", "xc-h01-04"),  # a wrong character
        ("轴承疲寿命", "xc-h01-01"),  # one character too many
        ("hesizeng", None),
        ("hecigongzhen", "xc-h05-03"),
        ("hecigongzen", "xc-h05-03"),  # as the south says it
        ("GB/T 228", "xc-h04-02"),
        ("gbt228", "xc-h04-02"),
        ("GB 228.1", "xc-h04-02"),
        ("ＧＢ／Ｔ　２２８．１－２０２１", "xc-h04-02"),
        ("228.1", "xc-h04-02"),
        ("JY/T 0584", "xc-h08-04"),
        ("abl-t1a", "xc-h01-01"),
        ("XC-H20-02", "xc-h20-02"),
        ("h2002", "xc-h20-02"),
        ("nmr", "xc-h05-03"),
        ("几何量精密", "xc-h01-03"),  # a lab
        ("轴承 振动", "xc-h01-02"),
        ("zhoucheng zhendong", "xc-h01-02"),
        ("拉伸 GB/T 228", "xc-h04-02"),
        ("%%", None),
        ("'; DROP TABLE org; --", None),
        ("完全没有的东西", None),
        ("x" * 100, None),
    ],
)
def test_words_find_what_people_mean(shop: ApiClient, words: str, first: str | None) -> None:
    assert ids(shop, q=words)[:1] == ([first] if first else []), words


def test_a_standard_finds_its_parts_and_not_longer_numbers(shop: ApiClient) -> None:
    assert len(ids(shop, q="GB/T 2423")) == 5
    for hit in found(shop, q="GB/T 2423")["items"]:
        assert any("2423." in standard for standard in hit["standards"])
    assert ids(shop, q="GB/T 24") != [], "an unfinished number shows where it leads"


def test_towns_are_found_in_both_languages_and_in_pinyin(shop: ApiClient) -> None:
    in_town = set(all_ids(shop, town="羽林街道"))
    for words in ("羽林", "Yulin", "yulinjiedao", "yljd"):
        assert set(all_ids(shop, q=words)) == in_town, words


def test_facets_count_what_choosing_them_would_give(shop: ApiClient) -> None:
    choices: list[dict] = [{}, {"q": "试验"}, {"cluster": "轴承"}, {"cluster": ["轴承", "纺织机械"], "category": "02"}]
    for conditions, facet in product(choices, FACETS):
        for value in found(shop, **conditions, limit=1)["facets"][facet]:
            chosen = conditions | {facet: value["value"]}
            assert found(shop, **chosen, limit=1)["total"] == value["count"], (conditions, facet, value)


def test_facet_counts_agree_with_counting_the_whole_list(shop: ApiClient) -> None:
    everything = found(shop, limit=200)["items"]
    facets = found(shop, limit=1)["facets"]
    assert len(everything) == 82
    for facet, of_hit in (("town", "town_zh"), ("category", "category_code")):
        counted = {
            value: sum(hit[of_hit] == value for hit in everything) for value in {hit[of_hit] for hit in everything}
        }
        assert {each["value"]: each["count"] for each in facets[facet]} == counted
    assert {each["value"]: each["count"] for each in facets["mode"]} == {"self_operated": 82, "samples": 82}
    assert facets["cluster"][0]["en"]


@pytest.mark.parametrize("sort", ["relevance", "earliest", "price"])
@pytest.mark.parametrize("words", ["", "试验"])
def test_every_order_is_read_page_by_page_without_gap_or_repeat(shop: ApiClient, sort: str, words: str) -> None:
    seen = all_ids(shop, sort=sort, q=words, limit=7)
    assert len(seen) == len(set(seen)) == found(shop, q=words, limit=1)["total"]


def test_a_cursor_of_another_order_is_refused(shop: ApiClient) -> None:
    cursor = found(shop, limit=1)["next_cursor"]
    for params in ({"sort": "price", "cursor": cursor}, {"cursor": "W10"}, {"cursor": "?"}):
        answer = shop.get("/catalogue", params=params)
        assert (answer.status_code, answer.json()["code"]) == (422, "bad_cursor")


def test_a_time_needs_its_beginning_and_runs_forward(shop: ApiClient) -> None:
    noon, one = "2026-03-02T12:00:00+08:00", "2026-03-02T13:00:00+08:00"
    assert shop.get("/catalogue", params={"free_to": one}).json()["code"] == "free_from_missing"
    assert shop.get("/catalogue", params={"free_from": one, "free_to": noon}).json()["code"] == "slot_reversed"


def test_one_instrument_shows_all_the_public_may_know(shop: ApiClient) -> None:
    body = shop.get("/catalogue/XC-H01-03").json()
    assert body["instrument"]["name_zh"] == "圆度仪"
    assert body["lab"]["town_zh"] == "羽林街道"
    assert body["lab"]["latitude_e6"] == 29_524_000
    assert body["live"] == {"state": "unknown", "heard_at": None, "age_s": None}
    assert body["certificates_now"] == "valid"
    assert [each["verdict"] for each in body["items_now"]] == ["ok"]
    assert len(body["next_slots"]) == 3
    assert body["fees"] == {"in_force": None, "next": None}
    assert body["used_this_year"]["sessions"] == 0
    assert shop.get("/catalogue/xc-none").status_code == 404


def test_the_countys_use_is_sums_only(shop: ApiClient) -> None:
    body = shop.get("/catalogue/usage").json()
    assert (body["year"], body["from_at"]) == (2026, "2026-01-01T00:00:00+08:00")
    assert body["whole"]["outside_firms"] is None


def test_free_and_earliest_agree_with_the_calendar_itself(sqlite_county: ApiClient) -> None:
    """Against the constraint: a slot is free exactly where the terms hold and the database takes the row."""
    parts = sqlite_county.parts
    now = parts.now()
    weeks = ("1-5 08:30-17:30", "1-7 00:00-24:00", "2,4 13:00-18:00", "")
    with parts.database.write() as session:
        work = Work(session, system_actor("test"), now)
        for place in range(1, 5):
            row = session.get_one(Instrument, f"xc-h01-0{place}")
            row.open_hours, row.step_minutes, row.min_slot_minutes = weeks[place - 1], 30, 60
        for place, hours in ((1, (1, 3, 27)), (2, (0, 2, 5, 8))):
            for start in hours:
                span = Interval(now + timedelta(hours=start), now + timedelta(hours=start + 1, minutes=15))
                insert_row(work, f"xc-h01-0{place}", CalendarKind.BOOKING, span, "")
    slots = [(now + timedelta(minutes=30 * n), now + timedelta(minutes=30 * n + 60)) for n in range(0, 70, 3)]
    first: dict[str, datetime] = {}
    for start, end in slots:
        free = set(all_ids(sqlite_county, free_from=start.isoformat(), free_to=end.isoformat(), q="xc-h01", limit=200))
        with parts.database.read() as session:
            rows = [session.get_one(Instrument, f"xc-h01-0{place}") for place in range(1, 5)]
        for row in rows:
            kept = fault_of(terms_of(row, {}), start, end, now) is None
            assert (row.instrument_id in free) == (kept and _takes(parts, row, start, end)), (row.instrument_id, start)
            if row.instrument_id in free:
                first.setdefault(row.instrument_id, start)
    hits = found(sqlite_county, q="xc-h01", sort="earliest", limit=200)["items"]
    earliest = {hit["instrument_id"]: hit["next_free"] for hit in hits}
    starts = [hit["next_free"]["from_at"] if hit["next_free"] else "9999" for hit in hits]
    assert starts == sorted(starts)
    assert earliest["xc-h01-04"] is None, "never open"
    assert hits[-1]["instrument_id"] == "xc-h01-04"
    for key, start in first.items():
        assert datetime.fromisoformat(earliest[key]["from_at"]) <= start


def _takes(parts, row: Instrument, start, end) -> bool:
    try:
        with parts.database.write() as session:
            rest = Interval(start, end + timedelta(minutes=row.buffer_minutes))
            insert_row(Work(session, system_actor("test"), start), row.instrument_id, CalendarKind.BOOKING, rest, "")
            raise LookupError  # it was free; the row is not wanted
    except LookupError:
        return True
    except CalendarOverlap:
        return False


def test_what_changed_is_found_by_every_worker_at_once(county: ApiClient) -> None:
    """Two catalogues over one database, as in two processes: what one changes the other knows at its next question."""
    other = test_parts(county.parts.database, county.parts.series, county.parts.clock)
    with in_process(other) as second:
        assert ids(second, q="梭子蟹") == ids(county, q="梭子蟹") == []
        with county.parts.database.write() as session:
            work = Work(session, system_actor("test"), county.parts.now())
            lab = session.get_one(Instrument, "xc-h01-03")
            record = changes.record_of(session, lab)
            assert isinstance(record, InstrumentRecord)
            changes.replace(work, record.model_copy(update={"name_zh": "梭子蟹测量仪"}), lab.row_version)
        assert ids(second, q="梭子蟹") == ids(county, q="梭子蟹") == ["xc-h01-03"]
        assert ids(second, q="圆度仪") == [], "the old name is gone"
        with county.parts.database.write() as session:
            host = session.get_one(Host, "h02")
            host_record = changes.record_of(session, host)
            assert isinstance(host_record, HostRecord)
            moved = host_record.model_copy(update={"town_zh": "镜岭镇", "town_en": "Jingling"})
            changes.replace(Work(session, system_actor("test"), county.parts.now()), moved, host.row_version)
        assert {each[:6] for each in all_ids(second, q="jingling")} == {"xc-h02"}
        assert found(second, town="镜岭镇", limit=1)["total"] == 5
        with county.parts.database.write() as session:
            session.get_one(Instrument, "xc-h02-01").run_status = "retired"  # past the service: triggers see it too
        assert found(second, town="镜岭镇", limit=1)["total"] == 4


def test_a_change_that_is_taken_back_counts_for_nobody(sqlite_county: ApiClient) -> None:
    assert found(sqlite_county, limit=1)["total"] == 82
    with suppress(LookupError), sqlite_county.parts.database.write() as session:
        session.get_one(Instrument, "xc-h02-01").run_status = "retired"
        session.flush()
        raise LookupError
    assert found(sqlite_county, limit=1)["total"] == 82


def test_pages_hold_while_others_write(sqlite_county: ApiClient) -> None:
    whole = all_ids(sqlite_county, limit=200)
    first = found(sqlite_county, limit=40)
    seen = [hit["instrument_id"] for hit in first["items"]]
    with sqlite_county.parts.database.write() as session:
        for key in (whole[5], whole[60]):  # one behind, one ahead: both are put in anew, at the end
            session.get_one(Instrument, key).model = "another"
        session.get_one(Instrument, whole[50]).share_mode = "none"
    rest = found(sqlite_county, limit=200, cursor=first["next_cursor"])
    seen += [hit["instrument_id"] for hit in rest["items"]]
    assert seen == [key for key in whole if key != whole[50]]


def test_slots_that_move_with_the_clock_are_not_given_twice(sqlite_county: ApiClient) -> None:
    first = found(sqlite_county, sort="earliest", limit=40)
    sqlite_county.parts.clock.advance(90_000)  # type: ignore[attr-defined]
    rest = found(sqlite_county, sort="earliest", limit=200, cursor=first["next_cursor"])
    seen = [hit["instrument_id"] for page in (first, rest) for hit in page["items"]]
    assert len(seen) == len(set(seen)) == 82


def test_prices_count_sort_and_change_with_their_dates(sqlite_county: ApiClient) -> None:
    parts = sqlite_county.parts
    now, later = parts.now(), parts.now() + timedelta(hours=1)

    def signers(host_id: str) -> tuple[str, str]:
        return host_manager(host_id), host_deputy(host_id)

    assert found(sqlite_county, limit=1)["facets"]["unit"] == []
    rows = instrument_rows()
    with parts.database.write() as session:
        work = Work(session, system_actor("test"), now)
        seed_tariffs(work, rows, now, signers)
        dear = tariff_from_fee_columns({**rows[0], "fee_unit": "day", "fee_cny_incl_vat": "999"})
        publish_tariff(work, "xc-h01-01", dear, later, *signers("h01"))
    by_unit = {each["value"]: each["count"] for each in found(sqlite_county, limit=1)["facets"]["unit"]}
    assert by_unit == Counter(row["fee_unit"] for row in rows)
    hourly = [hit["price"] for hit in found(sqlite_county, sort="price", unit="hour", limit=200)["items"]]
    assert [each["unit_fen"] for each in hourly] == sorted(each["unit_fen"] for each in hourly)
    priced = all_ids(sqlite_county, sort="price", limit=9)
    assert len(priced) == len(set(priced)) == 82
    fees = sqlite_county.get("/catalogue/xc-h01-01").json()["fees"]
    assert (fees["in_force"]["version"], fees["next"]["version"]) == (1, 2)
    parts.clock.advance(3_600_000)  # type: ignore[attr-defined]
    [hit] = found(sqlite_county, q="xc-h01-01")["items"]
    assert (hit["price"]["unit"], hit["price"]["unit_yuan"]) == ("day", "999.00")


def test_a_special_day_changes_what_is_free(sqlite_county: ApiClient) -> None:
    noon = "2026-03-03T12:00:00+08:00"
    assert found(sqlite_county, free_from=noon, limit=1)["total"] == 82
    answer = sqlite_county.signed_in(Role.COUNTY_OFFICER).post(
        "/special-days", {"host_id": "h01", "day": "2026-03-03", "name_zh": "停电检修"}
    )
    assert answer.status_code == 201, answer.text
    page = found(sqlite_county, free_from=noon, limit=200)
    assert page["total"] == page["facets"]["free"] == 76
    assert not {hit["host_id"] for hit in page["items"]} & {"h01"}
    with sqlite_county.parts.database.read() as session:
        assert session.get_one(CatalogueHead, "catalogue").seq > 1
