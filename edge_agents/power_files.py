"""Reads the labels of recorded power curves from CSV files. Used by `teach`."""

from pathlib import Path

from edge_agents.drivers.recording import BadFile, milliseconds, rows
from edge_agents.teaching import Label, LabelState


def read_labels(path: Path, name: str) -> list[Label]:
    """Read the lines of `trace,start_s,end_s,state` whose trace is `name`. Raises BadFile, also where there is none."""
    labels, others = [], set()
    for line, row in rows(path, ("trace", "start_s", "end_s", "state")):
        if row["trace"] != name:
            others.add(row["trace"])
            continue
        try:
            labels.append(Label(milliseconds(row["start_s"]), milliseconds(row["end_s"]), LabelState(row["state"])))
        except ValueError as error:
            raise BadFile(f"{path}, line {line}: {error}") from None
    if not labels:
        known = ", ".join(sorted(others)) or "none"
        raise BadFile(f"{path}: no line is labelled {name!r}; traces named there: {known}")
    return labels
