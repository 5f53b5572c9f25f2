"""Reads recorded power curves from CSV files: the one place where `teach`, `detect` and the trace driver get them from.

Times in files are seconds of the recording, with or without a fraction; here they are whole milliseconds. Power that is
empty or NaN is a reading the meter did not give: that line is a hole, as if it were not there. Anything else that is
no finite number is refused.
"""

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge_agents.drivers.base import MAX_POWER_W


class BadFile(Exception):
    """A file cannot be read as what it should be; the message names the file, the line and what is wrong."""


def read_samples(path: Path) -> list[tuple[int, float]]:
    """Read `t_s,power_w` (seconds, watts), rising in time. Raises BadFile."""
    samples = []
    before = None
    for line, row in rows(path, ("t_s", "power_w")):
        try:
            at, power = milliseconds(row["t_s"]), _watts(row["power_w"])
        except ValueError as error:
            raise BadFile(f"{path}, line {line}: {error}") from None
        if before is not None and at <= before:
            raise BadFile(f"{path}, line {line}: its time is not later than the one before")
        before = at
        if power is not None:
            samples.append((at, power))
    if not samples:
        raise BadFile(f"{path}: holds no sample")
    return samples


def rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number and the fields of each line of a CSV file that names `columns`. Raises BadFile."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if any(name not in (reader.fieldnames or ()) for name in columns):
                raise BadFile(f"{path}: its first line should name the columns {','.join(columns)}")
            for row in reader:
                if any(row[name] is None for name in columns):
                    raise BadFile(f"{path}, line {reader.line_num}: has too few fields")
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadFile(f"{path}: cannot be read: {error}") from None


def milliseconds(seconds: str) -> int:
    """Return a time of a file. Raises ValueError where it is no finite number."""
    ms = float(seconds) * 1000
    if not math.isfinite(ms):
        raise ValueError(f"the time {seconds.strip()} is no moment")
    return round(ms)


def _watts(text: str) -> float | None:
    power = float(text) if text.strip() else math.nan
    if math.isnan(power):
        return None
    if abs(power) > MAX_POWER_W:
        raise ValueError(f"{text.strip()} W is more than any instrument draws")
    return power
