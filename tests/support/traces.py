"""Power curves for tests: recordings of real devices where they are at hand, a made one where they are not."""

import csv
import os
from pathlib import Path

DISHWASHER_RUN_S = 80 * 60 + 40
"""How long the recorded programme runs, by hand label."""
DISHWASHER_STARTS_AFTER_S = 2320
"""How long the recording shows the device switched off before it."""
DISHWASHER_LASTS_S = 9900


def dishwasher(folder: Path) -> Path:
    """Return a curve with one run of 80 min 40 s: the recording, or one made after its description in `folder`."""
    recordings = os.environ.get("OPENLAB_POWER_TRACES")
    if recordings is not None:
        return Path(recordings) / "dishwasher.csv"
    path = folder / "made_dishwasher.csv"
    end = DISHWASHER_STARTS_AFTER_S + DISHWASHER_RUN_S
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("t_s", "power_w"))
        for t in range(0, DISHWASHER_LASTS_S, 2):
            writer.writerow((30_600 + t, _made_power(t) if DISHWASHER_STARTS_AFTER_S <= t < end else 0))
    return path


def _made_power(t: int) -> int:
    """Heating, washing, and five dips to 1 W of up to 30 s: the pauses inside a programme."""
    into = t - DISHWASHER_STARTS_AFTER_S
    if into % 900 < 28 and into >= 900:
        return 1
    return 2100 if into % 1800 < 700 else 70


def samples_of_the_run(path: Path) -> int:
    """Count the samples of a curve that lie in its run."""
    start = 30_600 + DISHWASHER_STARTS_AFTER_S
    with path.open(newline="") as file:
        return sum(start <= float(row["t_s"]) < start + DISHWASHER_RUN_S for row in csv.DictReader(file))
