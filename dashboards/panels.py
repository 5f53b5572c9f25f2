"""The few kinds of panel the dashboards are made of, and how a list of them becomes a Grafana dashboard. Pure.

Used by instruments.py, use_and_money.py and health.py. Nothing here reaches a server; a panel is plain data.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dashboards.sources import INFLUX, POSTGRES

SCHEMA_VERSION = 41
GRID_WIDTH = 24
YUAN = "currency:¥"

# The codes of the `state` field in the time series.
STATES = {0: ("关机 off", "#6e7277"), 1: ("待机 standby", "#f2cc0c"), 2: ("运行 running", "#37872d")}
STATES |= {3: ("未知 unknown", "#c4162a")}


@dataclass(frozen=True)
class Panel:
    """One panel: what it shows, how wide (of 24) and high it is, and the query it asks. Exactly one query a panel.

    `repeat`: the variable of which Grafana shows each chosen value in a panel of its own, side by side.
    """

    kind: str
    title: str
    description: str
    source: dict[str, str]
    target: dict[str, Any]
    width: int = 12
    height: int = 8
    defaults: dict[str, Any] = field(default_factory=dict)
    overrides: tuple[dict[str, Any], ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    repeat: str | None = None


@dataclass(frozen=True)
class Variable:
    """A choice at the top of a dashboard, filled by a query; several values or all of them."""

    name: str
    label: str
    source: dict[str, str]
    query: str


def influxql(query: str, alias: str = "$tag_instrument", as_table: bool = False) -> dict[str, Any]:
    """A query to the time series."""
    form = "table" if as_table else "time_series"
    return {"query": query, "rawQuery": True, "resultFormat": form, "alias": alias}


def sql(query: str, as_series: bool = False) -> dict[str, Any]:
    """A query to the ledger; `as_series` where the first column is `time`."""
    return {
        "rawSql": " ".join(query.split()),
        "rawQuery": True,
        "editorMode": "code",
        "format": "time_series" if as_series else "table",
    }


def number(title: str, description: str, query: str, *, unit: str = "short", width: int = 6) -> Panel:
    """One big number out of the ledger."""
    return Panel(
        "stat",
        title,
        description,
        POSTGRES,
        sql(query),
        width,
        4,
        {"unit": unit},
        options={"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "none"},
    )


def alarm(title: str, description: str, query: str, *, unit: str = "short", red_from: int = 1, width: int = 6) -> Panel:
    """One big number that ought to be zero: green below `red_from`, red from there on."""
    steps = [{"color": "green", "value": None}, {"color": "red", "value": red_from}]
    return Panel(
        "stat",
        title,
        description,
        POSTGRES,
        sql(query),
        width,
        4,
        {"unit": unit, "thresholds": {"mode": "absolute", "steps": steps}, "color": {"mode": "thresholds"}},
        options={"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "background"},
    )


def table(title: str, description: str, query: str, *, units: dict[str, str] | None = None, width: int = 24) -> Panel:
    """Rows out of the ledger; `units` says which columns are money, hours and so on."""
    overrides = tuple(
        {"matcher": {"id": "byName", "options": column}, "properties": [{"id": "unit", "value": unit}]}
        for column, unit in (units or {}).items()
    )
    return Panel("table", title, description, POSTGRES, sql(query), width, 9, overrides=overrides)


def bars(title: str, description: str, query: str, *, unit: str, width: int = 12) -> Panel:
    """Bars out of the ledger, one a row; the first column names the bar."""
    return Panel("barchart", title, description, POSTGRES, sql(query), width, 9, {"unit": unit})


def curve(title: str, description: str, query: str, *, unit: str, width: int = 24) -> Panel:
    """Lines over time out of the time series, one an instrument."""
    custom = {"lineWidth": 1, "spanNulls": 60_000, "showPoints": "never"}
    return Panel(
        "timeseries", title, description, INFLUX, influxql(query), width, 10, {"unit": unit, "min": 0, "custom": custom}
    )


def curves_by(variable: str, title: str, description: str, query: str, *, width: int = 12) -> Panel:
    """A panel of lines over time for each chosen value of a variable, each with an axis of its own."""
    custom = {"lineWidth": 1, "spanNulls": 180_000, "showPoints": "auto"}
    return Panel(
        "timeseries", title, description, INFLUX, influxql(query), width, 8, {"custom": custom}, repeat=variable
    )


def timeline(title: str, description: str, query: str) -> Panel:
    """Coloured bands, one an instrument: in which state it was."""
    shown = {str(code): {"text": text, "color": color} for code, (text, color) in STATES.items()}
    return Panel(
        "state-timeline",
        title,
        description,
        INFLUX,
        influxql(query),
        GRID_WIDTH,
        14,
        {"mappings": [{"type": "value", "options": shown}], "custom": {"fillOpacity": 80, "spanNulls": 60_000}},
        options={"mergeValues": True, "showValue": "never", "rowHeight": 0.85},
    )


def gauges(title: str, description: str, query: str, *, unit: str, width: int = 12) -> Panel:
    """One horizontal bar an instrument: its newest value in the time range."""
    return Panel(
        "bargauge",
        title,
        description,
        INFLUX,
        influxql(query),
        width,
        12,
        {"unit": unit, "min": 0},
        options={
            "orientation": "horizontal",
            "displayMode": "basic",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        },
    )


def dashboard(
    uid: str,
    title: str,
    panels: Sequence[Panel],
    *,
    variables: Sequence[Variable] = (),
    time_from: str,
    refresh: str,
) -> dict[str, Any]:
    """Return the dashboard in Grafana's own JSON. Panels flow from left to right and wrap at the grid's edge.

    Times are shown in Asia/Shanghai, whatever the browser's zone: periods and fees are in it too.
    """
    placed: list[dict[str, Any]] = []
    x = y = row_height = 0
    for number_, panel in enumerate(panels, start=1):
        if x + panel.width > GRID_WIDTH:
            x, y, row_height = 0, y + row_height, 0
        placed.append(_panel(number_, panel, x, y))
        x, row_height = x + panel.width, max(row_height, panel.height)
    return {
        "uid": uid,
        "title": title,
        "tags": ["openlab"],
        "timezone": "Asia/Shanghai",
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "time": {"from": time_from, "to": "now"},
        "refresh": refresh,
        "templating": {"list": [_variable(variable) for variable in variables]},
        "annotations": {"list": []},
        "panels": placed,
    }


def _panel(number_: int, panel: Panel, x: int, y: int) -> dict[str, Any]:
    repeated = {} if panel.repeat is None else {"repeat": panel.repeat, "repeatDirection": "h", "maxPerRow": 2}
    return {
        "id": number_,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": panel.source,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
        "targets": [{"refId": "A", "datasource": panel.source, **panel.target}],
        "fieldConfig": {"defaults": panel.defaults, "overrides": list(panel.overrides)},
        "options": panel.options,
        **repeated,
    }


def _variable(variable: Variable) -> dict[str, Any]:
    return {
        "type": "query",
        "name": variable.name,
        "label": variable.label,
        "datasource": variable.source,
        "query": variable.query,
        "definition": variable.query,
        "multi": True,
        "includeAll": True,
        "current": {"text": ["All"], "value": ["$__all"]},
        "refresh": 2,
        "sort": 1,
        "options": [],
    }
