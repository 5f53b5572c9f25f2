"""Every InfluxQL panel runs on a real InfluxDB that the product's own series store has filled."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from dashboards.build import all_dashboards
from dashboards.sources import INFLUX
from store.series import STATE_CODES, Sample, open_series
from tests.dashboards.queries import FROM_MS, influxql_as_sent
from tests.support.influx import InfluxServer
from wire.messages import PowerState

LATHE, OVEN = "xc-h01-01", "xc-h02-01"
PANELS = {
    panel["title"].split(" · ")[1]: panel
    for one in all_dashboards().values()
    for panel in one["panels"]
    if panel["datasource"] == INFLUX
}


@pytest.fixture(scope="module")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxServer]:
    """Two instruments for two hours from 08:00 Shanghai: one runs at 1,500 W, one stands by at 30 W."""
    server = InfluxServer(tmp_path_factory.mktemp("influx"))
    try:
        server.start()
        server.create("openlab")
        series = open_series(server.url_of("openlab"))
        running, standby = STATE_CODES[PowerState.RUNNING], STATE_CODES[PowerState.STANDBY]
        seconds = range(0, 7200, 10)
        series.write([Sample(LATHE, FROM_MS + s * 1000, 1_500_000, running, 10**9 + s * 417) for s in seconds])
        series.write([Sample(OVEN, FROM_MS + s * 1000, 30_000, standby) for s in seconds])
        series.close()
        yield server
    finally:
        server.stop()


def answer(server: InfluxServer, query: str) -> dict[str, list[list[Any]]]:
    """The rows of each instrument."""
    result = json.loads(server.query(query, "openlab"))["results"][0]
    assert "error" not in result, result
    return {one["tags"]["instrument"]: one["values"] for one in result.get("series", [])}


def sent(title: str, *instruments: str) -> str:
    return influxql_as_sent(PANELS[title]["targets"][0]["query"], instruments or (LATHE, OVEN))


@pytest.mark.parametrize("title", PANELS)
def test_a_panel_shows_the_chosen_instruments_only(influx: InfluxServer, title: str) -> None:
    assert LATHE in answer(influx, sent(title))
    assert set(answer(influx, sent(title, LATHE))) == {LATHE}


def test_power_is_in_watts_and_state_is_a_code(influx: InfluxServer) -> None:
    power, state = answer(influx, sent("Power")), answer(influx, sent("State"))
    assert [row[1] for row in power[LATHE] if row[1] is not None] == [1500, 1500]
    assert [row[1] for row in power[OVEN] if row[1] is not None] == [30, 30]
    assert [row[1] for row in state[LATHE]] == [2, 2]
    assert [row[1] for row in state[OVEN]] == [1, 1]


def test_running_hours_come_from_the_roll_up(influx: InfluxServer) -> None:
    hours = answer(influx, sent("Running hours witnessed by samples"))
    assert 2 <= hours[LATHE][0][1] < 2.01  # the last sample speaks for half a minute more
    assert hours[OVEN][0][1] == 0


def test_energy_is_the_difference_of_the_register_in_kilowatt_hours(influx: InfluxServer) -> None:
    assert answer(influx, sent("Energy by the meter's register"))[LATHE][0][1] == pytest.approx(3.0, abs=0.01)


def test_the_choice_of_instruments_offers_those_that_were_seen(influx: InfluxServer) -> None:
    [variable] = all_dashboards()["openlab-instruments.json"]["templating"]["list"]
    result = json.loads(influx.query(variable["query"], "openlab"))["results"][0]
    assert [row[1] for row in result["series"][0]["values"]] == [LATHE, OVEN]
