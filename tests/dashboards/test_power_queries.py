"""Every InfluxQL panel runs on a real InfluxDB that the product's own series store has filled."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from dashboards.build import all_dashboards
from dashboards.sources import INFLUX
from store.series import STATE_CODES, Reading, Sample, open_series
from tests.dashboards.queries import FROM_MS, influxql_as_sent
from tests.support.influx import InfluxServer
from wire.messages import PowerState

LATHE, OVEN, VOLTS = "xc-h01-01", "xc-h02-01", "volts_l1"
OTHER_READINGS = "Other readings of the meter: $quantity"
PANELS = {
    panel["title"].split(" · ")[1]: panel
    for one in all_dashboards().values()
    for panel in one["panels"]
    if panel["datasource"] == INFLUX
}


@pytest.fixture(scope="module")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxServer]:
    """Two instruments for two hours from 08:00 Shanghai: one runs at 1,500 W, one stands by at 30 W. The meter of one
    shows a voltage, that of the other also a temperature."""
    server = InfluxServer(tmp_path_factory.mktemp("influx"))
    try:
        server.start()
        server.create("openlab")
        series = open_series(server.url_of("openlab"))
        running, standby = STATE_CODES[PowerState.RUNNING], STATE_CODES[PowerState.STANDBY]
        seconds = range(0, 7200, 10)
        series.write([Sample(LATHE, FROM_MS + s * 1000, 1_500_000, running, 10**9 + s * 417) for s in seconds])
        series.write([Sample(OVEN, FROM_MS + s * 1000, 30_000, standby) for s in seconds])
        minutes = [FROM_MS + minute * 60_000 for minute in range(120)]
        series.write_readings([Reading(one, at, VOLTS, 230.0) for one in (LATHE, OVEN) for at in minutes])
        series.write_readings([Reading(OVEN, at, "celsius", -20.0) for at in minutes])
        series.close()
        yield server
    finally:
        server.stop()


def answer(server: InfluxServer, query: str) -> dict[str, list[list[Any]]]:
    """The rows of each instrument."""
    result = json.loads(server.query(query, "openlab"))["results"][0]
    assert "error" not in result, result
    return {one["tags"]["instrument"]: one["values"] for one in result.get("series", [])}


def sent(title: str, *instruments: str, quantity: str = VOLTS) -> str:
    return influxql_as_sent(PANELS[title]["targets"][0]["query"], instruments or (LATHE, OVEN), quantity)


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


def test_other_readings_are_shown_one_quantity_a_panel(influx: InfluxServer) -> None:
    volts, celsius = answer(influx, sent(OTHER_READINGS)), answer(influx, sent(OTHER_READINGS, quantity="celsius"))
    assert [row[1] for row in volts[LATHE] if row[1] is not None] == [230, 230]
    assert [row[1] for row in celsius[OVEN] if row[1] is not None] == [-20, -20]
    assert set(celsius) == {OVEN}
    assert PANELS[OTHER_READINGS]["repeat"] == "quantity"


def test_the_choices_offer_instruments_that_were_seen_and_what_their_meters_showed(influx: InfluxServer) -> None:
    instruments, quantities = all_dashboards()["openlab-instruments.json"]["templating"]["list"]

    def offered(query: str) -> list[str]:
        result = json.loads(influx.query(query, "openlab"))["results"][0]
        return sorted(row[1] for one in result["series"] for row in one["values"])

    assert offered(instruments["query"]) == [LATHE, OVEN]
    assert offered(influxql_as_sent(quantities["query"], (LATHE, OVEN))) == ["celsius", VOLTS]
    assert offered(influxql_as_sent(quantities["query"], (LATHE,))) == [VOLTS]
