"""Time-series stores that are away, hang, refuse or are named wrongly, and what only one backend can get wrong."""

import multiprocessing
import time
from contextlib import closing
from pathlib import Path

import pytest

from store.series import (
    HOUR_MS,
    Sample,
    SeriesRefused,
    SeriesUnavailable,
    open_series,
)
from tests.contracts.conftest import SeriesCase
from tests.support.influx import InfluxServer
from tests.support.ports import free_port
from tests.support.samples import OFF, OVEN, RUNNING, SPINDLE, H, all_of, steady, the_hours


def test_a_store_that_hangs_is_reported_in_bounded_time_and_serves_again(series_case: SeriesCase) -> None:
    with closing(open_series(series_case.url_with(300))) as impatient, closing(open_series(series_case.url)) as patient:
        impatient.write(steady(H, H + 20_000))
        with series_case.hung():
            began = time.monotonic()
            with pytest.raises(SeriesUnavailable):
                impatient.write(steady(H, H + 40_000))
            assert time.monotonic() - began < 5
        patient.write(steady(H, H + 40_000))
        assert all_of(patient) == steady(H, H + 40_000)
        (use,) = the_hours(patient)
        assert use.running_ms == 60_000


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("memcached://here", "no time-series backend is called 'memcached'; known: influxdb, influxdbs, sqlite"),
        ("series.db", "no time-series backend is called 'series.db'"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("sqlite:////tmp/x.db?timeout_ms=soon", "does not name a time-series file"),
        ("influxdb://localhost:8086", "a host, an organisation and a bucket"),
        ("influxdb://localhost:8086/org", "a host, an organisation and a bucket"),
        ("influxdb://localhost:eight/org/bucket", "whole numbers"),
        ("influxdb://user:secret@localhost/org/bucket", "does not belong in a URL"),
        ("influxdb://user:secret@localhost/org", "does not belong in a URL"),
        ("influxdb://localhost/org/bucket?token=secret", "does not belong in a URL"),
        ("influxdb://localhost/org/bucket?token_file=/nowhere/to/be/found", "cannot read the token file"),
        ("influxdb://localhost/org/bucket?retries=9", "unknown option retries"),
    ],
)
def test_a_bad_address_is_refused_in_a_sentence(url: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as refused:
        open_series(url)
    assert "user:secret" not in str(refused.value)
    assert "token=secret" not in str(refused.value)


def test_a_file_that_was_never_set_up_is_unavailable(tmp_path: Path) -> None:
    with closing(open_series(f"sqlite:///{tmp_path}/none.db")) as series:
        with pytest.raises(SeriesUnavailable):
            series.ping()
        with pytest.raises(SeriesUnavailable):
            series.write(steady(H, H + 10_000))
    assert not (tmp_path / "none.db").exists(), "asking must not make an empty store"


def _write_for_a_while(url: str, instrument_id: str) -> None:
    with closing(open_series(url)) as series:
        for start in range(H, H + 3 * HOUR_MS, 60_000):
            series.write(steady(start, start + 60_000, of=instrument_id))


def test_other_processes_read_whole_writes_while_one_writes(sqlite_case: SeriesCase) -> None:
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_write_for_a_while, args=(sqlite_case.url, one)) for one in (SPINDLE, OVEN)]
    for writer in writers:
        writer.start()
    seen = 0
    with closing(open_series(sqlite_case.url)) as series:
        while any(writer.is_alive() for writer in writers):
            uses = series.hourly([SPINDLE], H, H + HOUR_MS)
            samples = len(list(series.read(SPINDLE, H, H + 3 * HOUR_MS, 999)))
            assert samples >= seen
            assert samples == 999 or samples % 6 == 0, "half a write was seen"
            assert all(use.samples % 6 == 0 for use in uses)
            seen = samples
        assert [writer.exitcode for writer in writers] == [0, 0]
        for one in (SPINDLE, OVEN):
            assert all_of(series, one) == steady(H, H + 3 * HOUR_MS, of=one)
            assert [use.running_ms for use in the_hours(series, one)] == [HOUR_MS] * 3 + [20_000]


def test_nobody_listening_is_unavailable_at_once() -> None:
    with closing(open_series(f"influxdb://127.0.0.1:{free_port()}/openlab/none")) as series:
        began = time.monotonic()
        for ask in (series.ping, lambda: series.write(steady(H, H + 10_000)), lambda: series.expire(H)):
            with pytest.raises(SeriesUnavailable):
                ask()
        assert time.monotonic() - began < 5


def test_a_missing_database_is_unavailable_and_says_so(influx_server: InfluxServer) -> None:
    with closing(open_series(influx_server.url_of("nowhere"))) as series:
        with pytest.raises(SeriesUnavailable, match="nowhere"):
            series.ping()
        with pytest.raises(SeriesUnavailable, match="nowhere"):
            series.write(steady(H, H + 10_000))


def test_points_the_server_refuses_are_named_and_not_tried_for_ever(
    influx_server: InfluxServer, influx_case: SeriesCase
) -> None:
    database = influx_case.url.split("/")[-1].split("?")[0]
    week = 168 * HOUR_MS
    # Another program made `power_mw` a float in that week's shard: the server takes no integer there any more.
    influx_server.write_line(database, f"power,instrument={OVEN} power_mw=1.5,state=1i {H}")
    good = [Sample(SPINDLE, H + 2 * week, 1, OFF), Sample(OVEN, H + 2 * week, 2, RUNNING)]
    bad = Sample(OVEN, H + 5, 3, RUNNING)
    with closing(open_series(influx_case.url)) as series:
        with pytest.raises(SeriesRefused, match="type conflict") as refused:
            series.write([good[0], bad, good[1]])
        assert [refusal.sample for refusal in refused.value.refused] == [bad]
        assert all_of(series) + all_of(series, OVEN) == good, "what is not ours is not shown as ours"
        assert {use.hour_ms for use in the_hours(series)} == {H + 2 * week}


def test_one_refused_point_does_not_make_samples_of_other_weeks_refused(
    influx_server: InfluxServer, influx_case: SeriesCase
) -> None:
    """The server answers at the first shard that refuses, while the shards of the other weeks are still writing."""
    database = influx_case.url.split("/")[-1].split("?")[0]
    influx_server.write_line(database, f"power,instrument={OVEN} power_mw=1.5,state=1i {H}")
    weeks = [Sample(SPINDLE, H + week * 168 * HOUR_MS, week, RUNNING) for week in range(1, 61)]
    bad = Sample(OVEN, H + 5, 3, RUNNING)
    with closing(open_series(influx_case.url)) as series:
        with pytest.raises(SeriesRefused, match="type conflict") as refused:
            series.write([bad, *weeks])
        assert [refusal.sample for refusal in refused.value.refused] == [bad]
        assert all_of(series) == weeks
