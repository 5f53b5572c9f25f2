"""The catalogue of the demonstration county, as files of this package. Illustrative data, no real organisation."""

import csv
from collections.abc import Mapping
from importlib.resources import files

Row = Mapping[str, str]


def host_rows() -> list[Row]:
    """Return the 20 hosts as the file has them."""
    return _rows("hosts.csv")


def instrument_rows() -> list[Row]:
    """Return the 82 instruments, each in a lab of its own, with their fee columns (see api.charging.seed)."""
    return _rows("instruments.csv")


def _rows(name: str) -> list[Row]:
    text = files("api.seeding").joinpath("data", name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
