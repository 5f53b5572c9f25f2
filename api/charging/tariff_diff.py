"""What changed between two price lists, as data: field, old, new. Pure.

Called by the endpoint and the command that show it to whoever approves. Lists of things with a code (bands, rush
levels, options) are compared by that code, so a new band in the middle is one new band.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from api.charging.tariff_body import TariffBody, body_document


@dataclass(frozen=True)
class FieldChange:
    """One field, by its path. `old` or `new` is None where the version does not have the field."""

    field: str
    old: Any
    new: Any


def diff(old: TariffBody | None, new: TariffBody) -> tuple[FieldChange, ...]:
    """Return every field whose value differs, by path in code point order; empty where the texts say the same."""
    before = {} if old is None else dict(_fields("", body_document(old)))
    after = dict(_fields("", body_document(new)))
    return tuple(
        FieldChange(path, before.get(path), after.get(path))
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    )


def _fields(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _fields(f"{path}.{key}" if path else key, inner)
    elif isinstance(value, list) and value and all(isinstance(each, dict) and "code" in each for each in value):
        for each in value:
            inner = {key: content for key, content in each.items() if key != "code"}
            yield from _fields(f"{path}[{each['code']}]", inner)
    else:
        yield path, value
