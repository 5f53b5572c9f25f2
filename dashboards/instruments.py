"""The dashboard a lab manager opens in the morning: what every instrument is doing now and did today."""

from typing import Any

from dashboards.panels import Variable, curve, curves_by, dashboard, gauges, timeline
from dashboards.sources import INFLUX

_CHOSEN = '"instrument" =~ /^$instrument$/ AND $timeFilter'


def instruments_dashboard() -> dict[str, Any]:
    """Power and state per instrument, from the measurements `power` (samples) and `power_hour` (hourly roll-up); what
    else its meter showed, from `reading`."""
    return dashboard(
        "openlab-instruments",
        "仪器此刻与今日 · Instruments now and today",
        [
            timeline(
                "状态 · State",
                "Last state of each slice of time; a gap means that nobody saw the instrument.",
                f'SELECT last("state") FROM "power" WHERE {_CHOSEN}'
                ' GROUP BY time($__interval), "instrument" fill(none)',
            ),
            curve(
                "功率 · Power",
                "Mean power of each slice of time.",
                f'SELECT mean("power_mw") / 1000 FROM "power" WHERE {_CHOSEN}'
                ' GROUP BY time($__interval), "instrument" fill(null)',
                unit="watt",
            ),
            gauges(
                "运行小时 · Running hours witnessed by samples",
                "From the hourly roll-up. For orientation: fees rest on the ledger's odometers, not on samples.",
                f'SELECT sum("running_ms") / 3600000 FROM "power_hour" WHERE {_CHOSEN} GROUP BY "instrument"',
                unit="h",
            ),
            gauges(
                "电量 · Energy by the meter's register",
                "Highest minus lowest reading of the register in the time range, where there is one.",
                f'SELECT spread("energy_mwh") / 1000000 FROM "power" WHERE {_CHOSEN} GROUP BY "instrument"',
                unit="kwatth",
            ),
            curves_by(
                "quantity",
                "电表其他读数 $quantity · Other readings of the meter: $quantity",
                "Mean of each slice of time, in the unit the name says; about one reading a minute is kept. "
                "For orientation: no fee rests on it.",
                f'SELECT mean("value") FROM "reading" WHERE "quantity" =~ /^$quantity$/ AND {_CHOSEN}'
                ' GROUP BY time($__interval), "instrument" fill(null)',
            ),
        ],
        variables=[
            Variable("instrument", "仪器 · Instrument", INFLUX, 'SHOW TAG VALUES FROM "power" WITH KEY = "instrument"'),
            Variable(
                "quantity",
                "其他读数 · Other readings",
                INFLUX,
                'SHOW TAG VALUES FROM "reading" WITH KEY = "quantity" WHERE "instrument" =~ /^$instrument$/',
            ),
        ],
        time_from="now/d",
        refresh="30s",
    )
