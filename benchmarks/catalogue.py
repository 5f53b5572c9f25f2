"""The public catalogue under load: `python -m benchmarks.catalogue [--instruments 82 100000] [--engine sqlite]`.

Fills a registry with so many instruments (names, tests, prices and hours drawn from the demonstration county's), three
bookings ahead of every second one, and asks the application (through ASGI, one worker, one question at a time)
what people ask: words in both languages, pinyin, slips, standards, facets, free at a time, the three orders, later
pages, one instrument as a whole. Beside it the same words as LIKE over the same columns, without facets or counts.
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import func, or_, select

from api.app import create_app
from api.charging.seed import tariff_from_fee_columns
from api.charging.tariff_body import canonical_body
from api.seeding.catalogue_files import Row, host_rows, instrument_rows
from store.canonical import sha256_hex
from store.database import Database, insert_many, open_database
from store.migrations import upgrade
from store.tables.accounts import Person
from store.tables.calendar import CalendarRow
from store.tables.charging import Tariff, TariffVersion
from store.tables.registry import Host, Instrument, Lab, Org, TestItem
from tests.support.api_client import open_test_series, test_parts
from tests.support.databases import DatabaseServers
from wire.clock import ManualClock, from_ms

NOW_MS = 1_772_413_200_000
"""A Monday, 09:00 in Shanghai."""
WEEKS = ("1-5 08:30-17:30", "1-5 08:30-12:00,13:30-17:30; 6 08:30-12:00", "1-7 00:00-24:00", "1-6 07:00-22:00")
WORDS = (
    "精密",
    "高速",
    "微型",
    "数显",
    "全自动",
    "立式",
    "卧式",
    "双柱",
    "小型",
    "重载",
    "在线",
    "便携",
    "低温",
    "真空",
    "伺服",
    "多通道",
)
LIKE = ("圆度", "roundness", "GB/T 228", "新昌")

Asked = tuple[str, dict[str, Any]]
QUESTIONS: tuple[Asked, ...] = (
    ("everything", {}),
    ("Chinese word", {"q": "圆度"}),
    ("frequent word", {"q": "试验"}),
    ("English word", {"q": "roundness"}),
    ("standard", {"q": "GB/T 228"}),
    ("pinyin", {"q": "yuanduyi"}),
    ("initials", {"q": "ydy"}),
    ("homophone", {"q": "园度仪"}),
    ("slip, English", {"q": "ruondness"}),
    ("slip, Chinese", {"q": "清洁渡分析"}),
    ("two words", {"q": "轴承 振动"}),
    ("no hit", {"q": "qqqqzzzz"}),
    ("facets", {"cluster": ["轴承", "纺织机械"], "category": "02", "mode": "samples"}),
    ("word and facets", {"q": "试验", "cluster": "轴承", "unit": "hour"}),
    ("by price", {"sort": "price", "unit": "hour"}),
    ("earliest", {"sort": "earliest"}),
    ("word, earliest", {"q": "试验", "sort": "earliest"}),
    ("free now", {"free_from": "2026-03-02T10:00:00+08:00"}),
    ("free slot", {"free_from": "2026-03-03T10:00:00+08:00", "free_to": "2026-03-03T12:00:00+08:00", "q": "试验"}),
)


def fill(database: Database, count: int, seed: int = 1) -> None:
    """Put `count` instruments in, with labs, hosts, tests, prices and bookings; a host to 50, a lab to 4."""
    chance = random.Random(seed)
    hosts, rows = host_rows(), instrument_rows()
    now = from_ms(NOW_MS)
    tables: dict[Any, list[dict[str, Any]]] = {
        table: [] for table in (Org, Person, Host, Lab, Instrument, TestItem, Tariff, TariffVersion, CalendarRow)
    }
    for number in range(max(20, count // 50)):
        base = hosts[number % len(hosts)]
        town = "" if number < len(hosts) else f"{number // len(hosts)} 区"
        tables[Org].append(
            _with(
                Org,
                org_id=f"o{number}",
                uscc=f"{number:018d}",
                kind="host",
                state="active",
                created_at=now,
                name_zh=f"{base['name_zh']}{number}",
                name_en=f"{base['name_en']} {number}",
            )
        )
        tables[Host].append(
            _with(
                Host,
                host_id=f"h{number}",
                org_id=f"o{number}",
                host_type=base["host_type"],
                town_en=base["town_en"],
                cluster_zh=base["cluster_zh"],
                cluster_en=base["cluster_en"],
                town_zh=f"{town}{base['town_zh']}",
                latitude_e6=29_500_000,
                longitude_e6=120_900_000,
            )
        )
    for name in ("p1", "p2"):
        tables[Person].append(
            _with(
                Person, person_id=name, login=name, name=name, org_id="o0", language="zh", active=True, created_at=now
            )
        )
    labs = max(82, count // 4)
    for number in range(labs):
        base = rows[number % len(rows)]
        host = f"h{number % len(tables[Host])}"
        tables[Lab].append(
            _with(
                Lab,
                lab_id=f"l{number}",
                host_id=host,
                name_zh=f"{base['lab_name_zh']}{number}",
                name_en=f"Lab {number}",
            )
        )
    bodies = [canonical_body(tariff_from_fee_columns(row)).decode() for row in rows]
    for number in range(count):
        _add_instrument(tables, number, rows[number % len(rows)], bodies[number % len(rows)], labs, chance)
    with database.write() as session:
        for table, wanted in tables.items():
            insert_many(session, table, wanted)


def _add_instrument(
    tables: dict[Any, list[dict[str, Any]]], number: int, base: Row, body: str, labs: int, chance: random.Random
) -> None:
    now, key = from_ms(NOW_MS), f"xc-{number:06d}"
    lab = tables[Lab][number % labs]
    word = "" if number < 82 else chance.choice(WORDS)
    columns = ("power_rated_w", "power_standby_w", "power_idle_w", "power_running_w", "run_threshold_w")
    tables[Instrument].append(
        _with(
            Instrument,
            **{name: int(base[name]) for name in columns},
            **{
                name: base[name] for name in ("name_en", "category_code", "category_zh", "category_en", "use_detection")
            },
            instrument_id=key,
            code=key.upper(),
            lab_id=lab["lab_id"],
            host_id=lab["host_id"],
            name_zh=f"{word}{base['name_zh']}",
            model=f"{base['model_class']} {chance.randrange(400)}",
            manufacturer=f"制造商 {chance.randrange(300)}",
            supply=base["supply"],
            original_value_fen=1,
            share_mode="external",
            run_status="normal",
            approval="automatic",
            buffer_minutes=15,
            max_slot_minutes=480,
            min_slot_minutes=60,
            step_minutes=30,
            lead_minutes=chance.choice((0, 60, 1440)),
            traceability_months=12,
            open_hours=chance.choice(WEEKS),
        )
    )
    tables[TestItem].append(
        _with(
            TestItem,
            test_item_id=f"{key}-t",
            instrument_id=key,
            name_zh=f"{word}{base['test_item_zh']}",
            name_en=base["test_item_en"],
            standard=base["test_standard"],
            typical_session_minutes=60,
        )
    )
    tables[Tariff].append(
        _with(Tariff, tariff_id=f"t-{key}", instrument_id=key, host_id=lab["host_id"], created_at=now)
    )
    tables[TariffVersion].append(
        _with(
            TariffVersion,
            tariff_id=f"t-{key}",
            version=1,
            valid_from=now - timedelta(days=30),
            body=body,
            body_sha256=sha256_hex(body.encode()),
            prepared_by="p1",
            approved_by="p2",
            published_at=now,
        )
    )
    for slot in range(3 if number % 2 else 0):
        start = now + timedelta(days=slot, minutes=30 * chance.randrange(12))
        tables[CalendarRow].append(
            _with(
                CalendarRow,
                row_id=f"r-{number}-{slot}",
                instrument_id=key,
                kind="booking",
                from_at=start,
                to_at=start + timedelta(minutes=135),
                active=True,
                created_by="p1",
                created_at=now,
            )
        )


def _with(table: Any, **values: Any) -> dict[str, Any]:
    """Return a whole row: what is not given is the column's default, nothing, or version 1."""
    row = {}
    for column in table.__table__.columns:
        default = None if column.default is None else column.default.arg
        if column.name in values:
            row[column.name] = values[column.name]
        elif default is not None or column.nullable:
            row[column.name] = default
        else:
            row[column.name] = 1 if column.name == "row_version" else ""
    return row


async def measure(database: Database, folder: Path, rounds: int) -> None:
    """Ask every question `rounds` times, in turn, and print what it took."""
    series = open_test_series(folder)
    app = create_app(test_parts(database, series, ManualClock(NOW_MS)))
    took: dict[str, list[tuple[float, float]]] = {}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://bench") as client:
        began, worked = time.perf_counter(), time.process_time()
        assert (await client.get("/api/v1/catalogue")).status_code == 200
        waited, worked = time.perf_counter() - began, time.process_time() - worked
        print(f"  first question, with loading: {waited:.1f} s, {worked:.1f} s of it work")
        for _ in range(rounds):
            for name, params in QUESTIONS:
                page = await _ask(client, took, name, "/api/v1/catalogue", params)
                if name in ("everything", "earliest", "by price") and page["next_cursor"]:
                    later = params | {"cursor": page["next_cursor"]}
                    await _ask(client, took, f"{name}, next page", "/api/v1/catalogue", later)
            await _ask(client, took, "one instrument", f"/api/v1/catalogue/{page['items'][0]['instrument_id']}", {})
    series.close()
    took["all questions"] = [each for seconds in took.values() for each in seconds]
    for name, seconds in took.items():
        print(f"  {name:24} {_figures(seconds)}")


async def _ask(
    client: httpx.AsyncClient, took: dict[str, list[tuple[float, float]]], name: str, path: str, params: dict[str, Any]
) -> dict[str, Any]:
    began, worked = time.perf_counter(), time.process_time()
    answer = await client.get(path, params=params)
    took.setdefault(name, []).append((time.perf_counter() - began, time.process_time() - worked))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def like(database: Database) -> None:
    """Print what the words alone take as LIKE in the database: a count, no facets, no pinyin, no slips."""
    columns = (Instrument.name_zh, Instrument.name_en, Instrument.code, Instrument.model, Lab.name_zh, Lab.name_en,
               TestItem.name_zh, TestItem.name_en, TestItem.standard, Host.town_zh)  # fmt: skip
    took = []
    for word in LIKE * 3:
        wanted = (
            select(func.count(Instrument.instrument_id.distinct()))
            .join(Lab, Lab.lab_id == Instrument.lab_id)
            .join(Host, Host.host_id == Instrument.host_id)
            .outerjoin(TestItem, TestItem.instrument_id == Instrument.instrument_id)
            .where(or_(*(column.icontains(word, autoescape=True) for column in columns)))
        )
        with database.read() as session:
            began, worked = time.perf_counter(), time.process_time()
            session.scalar(wanted)
            took.append((time.perf_counter() - began, time.process_time() - worked))
    print(f"  {'(LIKE, count only)':24} {_figures(took)}")


def _figures(took: Sequence[tuple[float, float]]) -> str:
    """p50 and p95 by the clock and (behind the stroke) by processor time of the whole process, in milliseconds."""
    shown = []
    for share in (0.5, 0.95):
        both = (sorted(each[place] * 1000 for each in took) for place in (0, 1))
        shown.append(" / ".join(f"{values[min(len(values) - 1, int(len(values) * share))]:6.1f}" for values in both))
    return f"p50 {shown[0]}  p95 {shown[1]} ms  ({len(took)} asked)"


@contextmanager
def _database(engine: str, folder: Path, servers: DatabaseServers) -> Iterator[Database]:
    if engine == "postgresql":
        with servers.unmigrated_url("postgresql") as url:
            yield open_database(url)
        return
    yield open_database(f"sqlite:///{folder / 'openlab.db'}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instruments", type=int, nargs="+", default=[82, 100_000])
    parser.add_argument("--engine", nargs="+", choices=["sqlite", "postgresql"], default=["sqlite"])
    parser.add_argument("--rounds", type=int, default=20)
    asked = parser.parse_args()
    servers = DatabaseServers()
    try:
        for engine in asked.engine:
            for count in asked.instruments:
                with (
                    tempfile.TemporaryDirectory(prefix="openlab-bench-") as folder,
                    _database(engine, Path(folder), servers) as database,
                ):
                    upgrade(database.engine)
                    began = time.perf_counter()
                    fill(database, count)
                    print(f"{count:,} instruments on {engine} (filled in {time.perf_counter() - began:.0f} s)")
                    asyncio.run(measure(database, Path(folder), asked.rounds))
                    like(database)
                    database.dispose()
    finally:
        servers.close()


if __name__ == "__main__":
    main()
