"""`openlab-agent teach` and `detect` as a person uses them: files in, files and lines out, and plain refusals."""

import csv
import json
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from edge_agents.cli import app
from edge_agents.detector import DetectorProfile
from edge_agents.drivers.base import Quality, Reading
from edge_agents.drivers.trace import TraceDriver
from tests.edge.making import trace_path
from tests.support.scoring import Sample, dropped, jittered, noisy, scaled, score
from wire.clock import ManualClock
from wire.profiles import ProfileSettings

LABELS = "trace,start_s,end_s,state\nday,0,100,off\nday,100,400,running\nday,400,600,off\nother,0,9,off\n"


def called(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def write(path: Path, samples: list[Sample]) -> Path:
    path.write_text("t_s,power_w\n" + "".join(f"{t:g},{w:g}\n" for t, w in samples))
    return path


def a_day(*, gap: range = range(0)) -> list[Sample]:
    return [(t, 200.0 if 100 <= t < 400 else 2.0) for t in range(600) if t not in gap]


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text(LABELS)
    return path


@pytest.fixture
def profile(tmp_path: Path, labels: Path) -> Path:
    out = tmp_path / "profile.json"
    done = called("teach", write(tmp_path / "day.csv", a_day()), "--labels", labels, "--name", "day", "-o", out)
    assert done.exit_code == 0, done.output
    return out


def intervals(done: Result) -> list[tuple[float, float]]:
    assert done.exit_code == 0, done.output
    rows = list(csv.reader(done.stdout.splitlines()))
    assert rows[0] == ["start_s", "end_s"]
    return [(float(a), float(b)) for a, b in rows[1:]]


def test_what_was_taught_finds_the_run(tmp_path: Path, profile: Path) -> None:
    assert called("detect", tmp_path / "day.csv", "--profile", profile).stdout == "start_s,end_s\n100,400\n"


def test_the_profile_can_be_put_into_the_settings_of_an_agent(profile: Path) -> None:
    fields = json.loads(profile.read_text())
    assert DetectorProfile(**ProfileSettings(**fields).model_dump()) == DetectorProfile(**fields)


def test_what_was_seen_is_told_apart_from_the_answer(tmp_path: Path, labels: Path) -> None:
    day = write(tmp_path / "day.csv", a_day())
    done = called("teach", day, "--labels", labels, "--name", "day", "-o", tmp_path / "p.json")
    assert done.stdout == ""
    assert "idle ceiling    2 W" in done.stderr
    assert "running, usual  200 W, 100 x idle" in done.stderr
    assert "learned: on above 10 W" in done.stderr
    assert "on this recording 0 s of 300 s are wrong" in done.stderr


def test_thinned_samples_find_the_same_run_within_a_period(tmp_path: Path, profile: Path) -> None:
    [(start, end)] = intervals(called("detect", tmp_path / "day.csv", "--profile", profile, "--period", 7))
    assert 100 <= start <= 107
    assert 400 <= end <= 407


def test_above_ten_seconds_nothing_is_billable(tmp_path: Path, profile: Path) -> None:
    slow = ("detect", tmp_path / "day.csv", "--profile", profile, "--period", 11)
    done = called(*slow)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "one sample in 11 s is not billable" in done.stderr
    assert len(intervals(called(*slow, "--allow-indicative"))) == 1
    sparse = write(tmp_path / "sparse.csv", [(20.0 * n, 2.0) for n in range(50)])
    assert "one sample in 20 s is not billable" in called("detect", sparse, "--profile", profile).stderr
    assert intervals(called("detect", tmp_path / "day.csv", "--profile", profile, "--period", 10))


def test_a_long_hole_inside_a_session_is_left_out_and_a_short_one_is_told(tmp_path: Path, profile: Path) -> None:
    day = write(tmp_path / "holes.csv", a_day(gap=range(200, 260)))
    done = called("detect", day, "--profile", profile)
    assert intervals(done) == [(100, 199), (260, 400)]
    assert done.stderr == "hole,199,260\n"
    done = called("detect", write(tmp_path / "short.csv", a_day(gap=range(200, 215))), "--profile", profile)
    assert intervals(done) == [(100, 400)]
    assert done.stderr == "hole,199,215\n"


def test_a_hole_while_nothing_runs_is_nobodys_business(tmp_path: Path, profile: Path) -> None:
    done = called("detect", write(tmp_path / "idle.csv", a_day(gap=range(450, 560))), "--profile", profile)
    assert intervals(done) == [(100, 400)]
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,watts\n1,2\n", "should name the columns t_s,power_w"),
        ("t_s,power_w\n", "holds no sample"),
        ("t_s,power_w\n1,2\n1,2\n", "line 3: its time is not later"),
        ("t_s,power_w\n1,x\n", "line 2: could not convert"),
        ("t_s,power_w\n1\n", "line 2: has too few fields"),
        ("t_s,power_w\n1,2\n2,inf\n", "line 3: inf W is more than any instrument draws"),
        ("t_s,power_w\n1,2\ninf,3\n", "line 3: the time inf is no moment"),
        ("t_s,power_w\nnan,2\n", "line 2: the time nan is no moment"),
        ("t_s,power_w\n1,nan\n2,\n", "holds no sample"),
    ],
)
def test_a_file_that_is_no_recording_is_refused(tmp_path: Path, profile: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    done = called("detect", path, "--profile", profile)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "bad.csv" in done.stderr


def test_power_that_is_empty_or_no_number_is_a_hole_wherever_a_recording_is_read(
    tmp_path: Path, labels: Path, profile: Path
) -> None:
    """Also of a file that begins with a byte order mark, as spreadsheets write it."""
    day = [(t, power) for t, power in a_day() if not 200 <= t < 260]
    holes = "".join(f"{t},{'nan' if t % 2 else ''}\n" for t in range(200, 260))
    text = write(tmp_path / "gone.csv", day).read_text().replace("260,200\n", holes + "260,200\n")
    file = tmp_path / "holes.csv"
    file.write_text("\ufeff" + text, encoding="utf-8")
    done = called("detect", file, "--profile", profile)
    assert (intervals(done), done.stderr) == ([(100, 199), (260, 400)], "hole,199,260\n")
    out = tmp_path / "learned.json"
    assert called("teach", file, "--labels", labels, "--name", "day", "-o", out).exit_code == 0
    assert called("teach", tmp_path / "gone.csv", "--labels", labels, "--name", "day", "-o", profile).exit_code == 0
    assert out.read_text() == profile.read_text()
    driver = TraceDriver.from_csv(file, ManualClock(0))
    read = [driver.read(t * 1000) for t in range(600)]
    assert [(one.mono_ms // 1000, one.power_w) for one in read if t_is_known(one)] == [
        *day[:200],
        *held(day),
        *day[200:],
    ]


def t_is_known(reading: Reading) -> bool:
    return reading.quality is Quality.GOOD


def held(day: list[Sample]) -> list[tuple[int, float]]:
    """A recorded power holds for less than five periods."""
    return [(t, day[199][1]) for t in range(200, 204)]


@pytest.mark.parametrize("period", ["inf", "nan", "-1"])
def test_a_period_that_is_none_is_refused(tmp_path: Path, profile: Path, period: str) -> None:
    done = called("detect", tmp_path / "day.csv", "--profile", profile, "--period", period)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--period" in done.stderr


def test_labels_of_another_day_write_no_profile(tmp_path: Path, profile: Path) -> None:
    labels, out = tmp_path / "labels.csv", tmp_path / "none.json"
    labels.write_text("trace,start_s,end_s,state\nday,0,100,off\nday,86500,86800,running\n")
    done = called("teach", tmp_path / "day.csv", "--labels", labels, "--name", "day", "-o", out)
    assert done.exit_code == 2
    assert "running from 86500 s to 86800 s holds no sample: the recording goes from 0 s to 599 s" in done.stderr
    assert not out.exists()


def test_labels_and_profiles_that_do_not_fit_are_refused(tmp_path: Path, labels: Path, profile: Path) -> None:
    day = tmp_path / "day.csv"
    done = called("teach", day, "--labels", labels, "--name", "night", "-o", tmp_path / "p.json")
    assert "no line is labelled 'night'; traces named there: day, other" in done.stderr
    labels.write_text("trace,start_s,end_s,state\nday,0,100,asleep\n")
    assert "line 2: 'asleep'" in called("teach", day, "--labels", labels, "--name", "day", "-o", profile).stderr
    labels.write_text("trace,start_s,end_s,state\nday,0,100,running\n")
    assert "labelled off or standby" in called("teach", day, "--labels", labels, "--name", "day", "-o", profile).stderr
    broken = tmp_path / "broken.json"
    broken.write_text('{"on_w": 1}')
    assert "off_w: Field required" in called("detect", day, "--profile", broken).stderr
    broken.write_text('{"on_w": 1, "off_w": 2, "standby_w": 0}')
    assert called("detect", day, "--profile", broken).exit_code == 2
    assert "cannot be read" in called("detect", day, "--profile", tmp_path / "none.json").stderr


@pytest.mark.parametrize("name", ["washer_a", "laser_printer", "dishwasher", "video_projector", "coffee_night"])
def test_the_recorded_traces_go_through_both_commands(name: str, tmp_path: Path) -> None:
    trace = trace_path(name)
    table = trace.with_name("labels.csv")
    with table.open() as file:
        truth = [
            (float(r["start_s"]), float(r["end_s"]), r["state"]) for r in csv.DictReader(file) if r["trace"] == name
        ]
    with trace.open() as file:
        samples = [(float(r["t_s"]), float(r["power_w"])) for r in csv.DictReader(file)]
    out = tmp_path / "profile.json"
    assert called("teach", trace, "--labels", table, "--name", name, "-o", out).exit_code == 0
    dice = random.Random(name)
    other_day = dropped(jittered(noisy(scaled(samples, 0.98), dice), dice), dice, 0.05)
    for day in (trace, write(tmp_path / "other.csv", other_day)):
        for period in (0, 5):
            found = intervals(called("detect", day, "--profile", out, "--period", period))
            result = score(truth, found, (samples[0][0], samples[-1][0]), max(period, 2))
            assert result.missed_runs == result.spurious_runs == []
            edges = 2 * sum(state == "running" for _, _, state in truth)
            assert result.missed_s + result.false_s <= max(0.005 * result.run_s, edges * max(period, 2) * 0.75)
            assert name != "coffee_night" or found == []
