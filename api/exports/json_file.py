"""A reward export as JSON for programs, and back. Pure. Canonical rows by the names of their fields, amounts in fen."""

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from api.exports.cells import (
    VERIFY_WITH,
    WITH_INSTRUMENTS,
    WITHOUT_INSTRUMENTS,
    BadExport,
    parted,
    require_said,
    template_of,
)
from api.exports.reasons import sentences_for
from api.exports.rows import InstrumentRow, LineRow, Row, RunRow, TotalRow, content_sha256


def write_json(rows: Sequence[Row]) -> bytes:
    """Return the file: one row a line, so that a person can look into it and compare two of them."""
    run, totals, instruments, lines = parted(rows)
    reasons = _reasons(lines)
    head = {
        "schema": template_of(rows),
        "verify": VERIFY_WITH,
        "content_sha256": content_sha256(rows),
        "run": asdict(run),
    }
    parts = [*(f"{_text(name)}: {_text(value)}" for name, value in head.items()), f'"reasons": {_text(reasons)}']
    tables: list[tuple[str, Sequence[Row]]] = [("totals", totals), ("instruments", instruments), ("lines", lines)]
    parts += [f'"{name}": {_listed(some)}' for name, some in tables if some or name != "instruments"]
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode()


def parse_json(data: bytes) -> list[Row]:
    """Return the canonical rows of a file. Raises BadExport where a field is missing, unknown or not what it must be,
    or where the rows do not have the content hash that the file names."""
    try:
        said = json.loads(data, object_pairs_hook=_once, parse_float=_refused, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        raise BadExport(f"the file is no JSON of an export: {error}") from None
    tables: dict[str, type[Row]] = {"totals": TotalRow, "instruments": InstrumentRow, "lines": LineRow}
    if isinstance(said, dict) and said.get("schema") == WITHOUT_INSTRUMENTS:
        del tables["instruments"]
    names = {"schema", "verify", "content_sha256", "run", "reasons", *tables}
    if not isinstance(said, dict) or set(said) != names:
        raise BadExport(f"an export has the fields {', '.join(sorted(names))}")
    if said["schema"] not in (WITH_INSTRUMENTS, WITHOUT_INSTRUMENTS) or said["verify"] != VERIFY_WITH:
        raise BadExport(f"this is no {WITH_INSTRUMENTS}")
    rows: list[Row] = [_row(RunRow, said["run"], "run")]
    for name, kind in tables.items():
        if not isinstance(said[name], list):
            raise BadExport(f"{name}: not a list")
        rows += [_row(kind, one, f"{name}[{at}]") for at, one in enumerate(said[name])]
    if said["reasons"] != _reasons(rows):
        raise BadExport("reasons: not the sentences of an export")
    require_said(rows, said["schema"], str(said["content_sha256"]))
    return rows


def _reasons(rows: Sequence[Row]) -> dict[str, dict[str, str]]:
    sentences = sentences_for(row.reason for row in rows if isinstance(row, LineRow))
    return {str(code): {"zh": zh, "en": en} for code, (zh, en) in sentences.items()}


def _row(kind: type[Row], said: Any, place: str) -> Row:
    wanted = {field.name: field.type for field in fields(kind)}
    if not isinstance(said, dict) or set(said) != set(wanted):
        raise BadExport(f"{place}: its fields are not {', '.join(wanted)}")
    for name, value in said.items():
        if type(value) is not wanted[name]:
            raise BadExport(f"{place}.{name}: {value!r} is not what belongs there")
    return kind(**said)


def _listed(rows: Sequence[Row]) -> str:
    return "[" + ",".join("\n" + _text(asdict(row)) for row in rows) + "\n]"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a field stands twice")
    return dict(pairs)


def _refused(text: str) -> Any:
    raise ValueError(f"{text} is no whole number")
