"""Reads recorded power curves and their labels from CSV files. Used by `teach` and `detect`.

Times in files are seconds of the recording, with or without a fraction; here they are whole milliseconds.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge_agents.power_curve import Sample
from edge_agents.teaching import Label, LabelState


class BadFile(Exception):
    """A file cannot be read as what it should be; the message names the file, the line and what is wrong."""


def read_samples(path: Path) -> list[Sample]:
    """Read `t_s,power_w` (seconds, watts), rising in time. Raises BadFile."""
    samples = []
    for line, row in _rows(path, ("t_s", "power_w")):
        try:
            samples.append((_ms(row["t_s"]), float(row["power_w"])))
        except ValueError as error:
            raise BadFile(f"{path}, line {line}: {error}") from None
        if len(samples) > 1 and samples[-1][0] <= samples[-2][0]:
            raise BadFile(f"{path}, line {line}: its time is not later than the one before")
    if not samples:
        raise BadFile(f"{path}: holds no sample")
    return samples


def read_labels(path: Path, name: str) -> list[Label]:
    """Read the lines of `trace,start_s,end_s,state` whose trace is `name`. Raises BadFile, also where there is none."""
    labels, others = [], set()
    for line, row in _rows(path, ("trace", "start_s", "end_s", "state")):
        if row["trace"] != name:
            others.add(row["trace"])
            continue
        try:
            labels.append(Label(_ms(row["start_s"]), _ms(row["end_s"]), LabelState(row["state"])))
        except ValueError as error:
            raise BadFile(f"{path}, line {line}: {error}") from None
    if not labels:
        known = ", ".join(sorted(others)) or "none"
        raise BadFile(f"{path}: no line is labelled {name!r}; traces named there: {known}")
    return labels


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            missing = [name for name in columns if name not in (rows.fieldnames or ())]
            if missing:
                raise BadFile(f"{path}: its first line should name the columns {','.join(columns)}")
            for row in rows:
                if any(row[name] is None for name in columns):
                    raise BadFile(f"{path}, line {rows.line_num}: has too few fields")
                yield rows.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadFile(f"{path}: cannot be read: {error}") from None


def _ms(seconds: str) -> int:
    return round(float(seconds) * 1000)
