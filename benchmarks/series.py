"""What the time-series stores cost: `python -m benchmarks.series [--instruments 82] [--hours 2]`.

Side by side: a store's `write` (validation, samples and hourly roll-up, on disk on return) against the least that the
same engine can do with the same batches (bare inserts; bare lines over HTTP); bytes a point; and the hourly question
answered from the roll-up against a scan of the raw samples. InfluxDB takes part where `influxd` is installed.
"""

import argparse
import math
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from store.series import HOUR_MS, Sample, SeriesStore, open_series
from store.series_sqlite import create_schema

START = 450_000 * HOUR_MS
PERIOD_MS = 10_000
BATCH_MS = 60_000  # what agents send: a minute at a time


@dataclass(frozen=True)
class Result:
    """The figures of one backend."""

    name: str
    bare_per_s: float
    write_per_s: float
    bytes_per_point: float
    rollup_s: float
    scan_s: float


def batches(instruments: int, hours: int) -> Iterator[list[Sample]]:
    """A minute of all instruments at a time: working days of a machine with noise, no two readings alike."""
    for begin in range(START, START + hours * HOUR_MS, BATCH_MS):
        yield [
            Sample(f"xc-h01-{number:04d}", at, *_reading(number, at))
            for number in range(instruments)
            for at in range(begin, begin + BATCH_MS, PERIOD_MS)
        ]


def _reading(number: int, at_ms: int) -> tuple[int, int, int]:
    tick = at_ms // PERIOD_MS
    running = (tick // 90 + number) % 3 != 0
    noise = int(20_000 * math.sin(tick * 0.7 + number))
    return (1_500_000 + noise if running else 40_000 + noise // 10, 2 if running else 1, tick * 4_000 + number)


def seconds(work: Callable[[], object]) -> float:
    """Return how long `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def best_of(times: int, work: Callable[[], object]) -> float:
    """Return the shortest of several runs, for work that may be repeated."""
    return min(seconds(work) for _ in range(times))


def settled(size: Callable[[], int], still_s: float = 3.0, at_most_s: float = 12.0) -> int:
    """Return a size once it has not changed for a while: compaction runs in the background."""
    deadline = time.monotonic() + at_most_s
    last, since = size(), time.monotonic()
    while time.monotonic() < min(deadline, since + still_s):
        time.sleep(0.2)
        now = size()
        if now != last:
            last, since = now, time.monotonic()
    return last


def write_all(store: SeriesStore, data: list[list[Sample]]) -> None:
    """Write all batches."""
    for batch in data:
        store.write(batch)


def measure_sqlite(folder: Path, data: list[list[Sample]], end_ms: int) -> Result:
    """SQLite: bare upserts into the same table, one commit a batch, against the store."""
    points = sum(map(len, data))
    bare_path, path = folder / "bare.db", folder / "series.db"
    create_schema(bare_path)
    create_schema(path)
    with closing(sqlite3.connect(bare_path)) as bare:
        bare.execute("PRAGMA journal_mode=WAL")
        bare.execute("PRAGMA synchronous=FULL")

        def insert_all() -> None:
            for batch in data:
                rows = [(s.instrument_id, s.at_ms, s.power_mw, s.state, s.energy_mwh) for s in batch]
                bare.executemany("INSERT OR REPLACE INTO sample VALUES (?, ?, ?, ?, ?)", rows)
                bare.commit()

        bare_s = seconds(insert_all)
    with closing(open_series(f"sqlite:///{path}")) as store:
        write_s = seconds(lambda: write_all(store, data))
        rollup_s = best_of(3, lambda: store.hourly(None, START, end_ms))
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        scan = (
            "SELECT instrument_id, at_ms / 3600000, count(*), avg(power_mw), max(power_mw), sum(state = 2)"
            " FROM sample GROUP BY 1, 2"
        )
        scan_s = best_of(3, lambda: raw.execute(scan).fetchall())
    return Result("SQLite", points / bare_s, points / write_s, path.stat().st_size / points, rollup_s, scan_s)


def measure_influx(folder: Path, data: list[list[Sample]], end_ms: int) -> Result:
    """InfluxDB: bare line protocol over HTTP against the store."""
    from tests.support.influx import InfluxServer  # the tests' own server; without influxd this is never reached

    points = sum(map(len, data))
    server = InfluxServer(folder, 'cache-snapshot-write-cold-duration = "1s"\ncompact-full-write-cold-duration = "1s"')
    try:
        server.start()
        server.create("bare")

        def post_all() -> None:
            for batch in data:
                lines = (
                    f"power,instrument={s.instrument_id} power_mw={s.power_mw}i,state={s.state}i,"
                    f"energy_mwh={s.energy_mwh}i {s.at_ms}"
                    for s in batch
                )
                server.write_line("bare", "\n".join(lines))

        bare_s = seconds(post_all)
        server.drop("bare")
        server.create("series")
        with closing(open_series(server.url_of("series"))) as store:
            store.write(data[0][:1])  # the first point of a database sets 32 MiB of index files aside
            empty = server.disk_bytes()
            write_s = seconds(lambda: write_all(store, data))
            rollup_s = best_of(3, lambda: store.hourly(None, START, end_ms))
        size = settled(server.disk_bytes) - empty
        scan = (
            'SELECT count(power_mw), mean(power_mw), max(power_mw) FROM "series"."autogen"."power"'
            f" WHERE time >= {START}ms AND time < {end_ms}ms GROUP BY time(1h), instrument"
        )
        scan_s = best_of(3, lambda: server.query(scan))
    finally:
        server.stop()
    return Result("InfluxDB", points / bare_s, points / write_s, size / points, rollup_s, scan_s)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instruments", type=int, default=82)
    parser.add_argument("--hours", type=int, default=2)
    asked = parser.parse_args()
    data = list(batches(asked.instruments, asked.hours))
    end_ms = START + asked.hours * HOUR_MS
    needed = asked.instruments * 1000 / PERIOD_MS
    print(f"{sum(map(len, data)):,} points: {asked.instruments} instruments, {asked.hours} h, one reading in 10 s")
    print(f"in {len(data)} writes of {len(data[0])}; such a county makes {needed:.1f} points/s\n")
    print(
        f"{'':10}{'bare':>12}{'store.write':>13}{'of bare':>9}{'of need':>9}"
        f"{'B/point':>9}{'hourly':>10}{'raw scan':>10}{'ratio':>7}"
    )
    with tempfile.TemporaryDirectory(prefix="openlab-bench-") as folder:
        for name, program, measure in (("sqlite", None, measure_sqlite), ("influx", "influxd", measure_influx)):
            if program is not None and shutil.which(program) is None:
                print(f"{program} is not installed: no figures for it")
                continue
            place = Path(folder) / name
            place.mkdir()
            r = measure(place, data, end_ms)
            print(
                f"{r.name:10}{r.bare_per_s:>10,.0f}/s{r.write_per_s:>11,.0f}/s{r.write_per_s / r.bare_per_s:>9.2f}"
                f"{r.write_per_s / needed:>8,.0f}x{r.bytes_per_point:>9.1f}{r.rollup_s * 1e3:>8.2f}ms"
                f"{r.scan_s * 1e3:>8.1f}ms{r.scan_s / r.rollup_s:>6.0f}x"
            )


if __name__ == "__main__":
    main()
