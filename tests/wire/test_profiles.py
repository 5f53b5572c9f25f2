"""One hash for one profile, whoever writes it down and however."""

import json

import pytest

from api.embedded.seeding import _profile_of
from api.seeding.catalogue_files import instrument_rows
from edge_agents.settings import InstrumentSettings
from wire.profiles import ProfileSettings, profile_sha256

PROFILE = ProfileSettings(on_w=300, off_w=250, standby_w=20)


@pytest.mark.parametrize(
    "text",
    [
        PROFILE.canonical(),
        '{"on_w":300,"off_w":250,"standby_w":20}',
        '{\n "standby_w": 2e1, "off_w": 250.0, "on_w": 300.00, "up_ms": 10000\n}',
        json.dumps(PROFILE.model_dump(), indent=1),
    ],
)
def test_a_profile_has_one_hash_however_it_is_written(text: str) -> None:
    assert profile_sha256(text) == PROFILE.sha256


@pytest.mark.parametrize(
    "text",
    ["", "{}", "as delivered", '{"on_w":300,"off_w":250}', '{"on_w":NaN,"off_w":1,"standby_w":0}', '{"on":1,"off":0}'],
)
def test_what_says_no_profile_has_no_hash(text: str) -> None:
    assert profile_sha256(text) is None


def test_the_agents_of_the_demo_go_by_the_profiles_of_their_meterings() -> None:
    for row in instrument_rows():
        levels = {f"{name}_w": int(row[f"power_{name}_w"]) for name in ("standby", "idle", "running")}
        catalogue = levels | {"run_threshold_w": int(row["run_threshold_w"])}
        settings = InstrumentSettings.model_validate({"id": "xc-h01-01", "driver": "simulated", "catalogue": catalogue})
        assert profile_sha256(_profile_of(row)) == settings.detector_profile().sha256
