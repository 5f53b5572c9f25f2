"""What Grafana is given: generated files that are fresh, panels that fit, data sources that are the same everywhere."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from dashboards.build import FOLDER, all_dashboards, as_file, main, stale_files
from dashboards.panels import GRID_WIDTH, STATES
from dashboards.sources import INFLUX, POSTGRES, data_sources
from store.series import STATE_CODES

PROVISIONING = Path(__file__).parents[2] / "dashboards" / "provisioning"
PANELS = [(name, panel) for name, one in all_dashboards().items() for panel in one["panels"]]
IDS = [f"{name}-{panel['id']}" for name, panel in PANELS]


def test_the_committed_files_are_what_the_code_builds() -> None:
    assert stale_files(FOLDER) == [], "run python -m dashboards.build and commit dashboards/json"


def test_a_file_that_was_edited_by_hand_or_left_over_is_named(tmp_path: Path) -> None:
    for name, one in all_dashboards().items():
        (tmp_path / name).write_text(as_file(one))
    assert stale_files(tmp_path) == []
    (tmp_path / "openlab-health.json").write_text("{}")
    (tmp_path / "old.json").write_text("{}")
    assert stale_files(tmp_path) == ["old.json", "openlab-health.json"]


def test_the_command_writes_and_its_check_only_looks(tmp_path: Path) -> None:
    import typer

    app = typer.Typer()
    app.command()(main)
    refused = CliRunner().invoke(app, ["--folder", str(tmp_path), "--check"])
    assert refused.exit_code == 1
    assert "openlab-health.json" in refused.output
    assert list(tmp_path.iterdir()) == []
    assert CliRunner().invoke(app, ["--folder", str(tmp_path)]).exit_code == 0
    assert CliRunner().invoke(app, ["--folder", str(tmp_path), "--check"]).exit_code == 0
    assert json.loads((tmp_path / "openlab-health.json").read_text())["uid"] == "openlab-health"


def test_every_dashboard_has_its_own_uid_and_shows_shanghai_time() -> None:
    built = all_dashboards()
    assert len({one["uid"] for one in built.values()}) == len(built) == 3
    assert {one["timezone"] for one in built.values()} == {"Asia/Shanghai"}


@pytest.mark.parametrize(("name", "panel"), PANELS, ids=IDS)
def test_a_panel_has_a_title_in_two_languages_a_description_and_one_query(name: str, panel: dict[str, Any]) -> None:
    assert re.match(r".*[\u4e00-\u9fff].* · .*[a-z]", panel["title"])
    assert panel["description"]
    assert len(panel["targets"]) == 1
    assert panel["datasource"] == panel["targets"][0]["datasource"]
    assert panel["datasource"] in (INFLUX, POSTGRES)


def test_panels_lie_inside_the_grid_and_never_on_one_another() -> None:
    for one in all_dashboards().values():
        taken: set[tuple[int, int]] = set()
        for panel in one["panels"]:
            at = panel["gridPos"]
            assert at["x"] + at["w"] <= GRID_WIDTH
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert not cells & taken
            taken |= cells


def test_the_colours_of_states_follow_the_codes_of_the_time_series() -> None:
    assert {code: text.split(" ")[1] for code, (text, _) in STATES.items()} == {
        code: state.value for state, code in STATE_CODES.items()
    }


def test_provisioned_data_sources_are_those_that_are_pushed() -> None:
    found = yaml.safe_load((PROVISIONING / "datasources" / "openlab.yaml").read_text())["datasources"]
    wanted = data_sources(
        influx_url="http://influxdb:8086",
        influx_bucket="openlab",
        influx_token="$INFLUX_READ_TOKEN",
        postgres_address="postgres:5432",
        postgres_database="openlab",
        postgres_user="grafana",
        postgres_password="$GRAFANA_DB_PASSWORD",
    )
    assert found == [{**source, "editable": False} for source in wanted]
