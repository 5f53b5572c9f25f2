"""The canonical documents that money is hashed over: rating input, quote, charge, statement. Pure.

Written once when the fact is posted and rebuilt by verification from the stored columns; both must give these bytes.
Everything that says something about the money is in them, so no column can change without its hash noticing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.charging.rating_types import (
    Asked,
    Bridged,
    Discount,
    Ending,
    ManualItem,
    Piece,
    Rated,
    RatedLine,
    RatingInput,
    Times,
)
from api.charging.tariff_body import Day, TariffBody, UserCategory, canonical_body
from store.canonical import canonical_json, sha256_hex
from store.tables.calendar import BookingMode
from store.tables.charging import Charge, ChargeLine, ChargePurpose, Component
from wire.clock import to_ms

INPUT_SCHEMA = "openlab.rating_input/1"
INPUT_SCHEMA_2 = "openlab.rating_input/2"
INPUT_SCHEMA_3 = "openlab.rating_input/3"
INPUT_SCHEMA_4 = "openlab.rating_input/4"
_INPUT_SCHEMAS = (INPUT_SCHEMA, INPUT_SCHEMA_2, INPUT_SCHEMA_3, INPUT_SCHEMA_4)
QUOTE_SCHEMA = "openlab.quote/1"
QUOTE_SCHEMA_2 = "openlab.quote/2"
CHARGE_SCHEMA = "openlab.charge/1"
STATEMENT_SCHEMA = "openlab.statement/1"

_CHARGE_FIELDS = (
    "charge_id",
    "booking_id",
    "purpose",
    "revision",
    "prev_revision",
    "host_id",
    "payer_org",
    "instrument_id",
    "category",
    "tariff_id",
    "tariff_version",
    "calc_version",
    "input_sha256",
    "service_month",
    "posting_month",
    "total_fen",
    "net_fen",
    "line_count",
    "metered_ms",
    "internal",
    "has_session",
    "certificate_valid",
    "coverage_bp",
    "reason",
    "recorded_by",
)
_LINE_FIELDS = ("line_no", "component", "item_code", "quantity", "per_quantity", "unit_fen", "amount_fen", "rule")


def input_document(given: RatingInput) -> bytes:
    """Return what is stored as a charge's input. The tariff stands in it by its hash.

    Plain use is a document of /1, so what the first calculation stored keeps its bytes; whatever says more is /2,
    what says anything of the public calendar /3, and what names bridged holes /4.
    """
    fields: dict[str, Any] = {
        "schema": INPUT_SCHEMA if given.is_plain else INPUT_SCHEMA_2,
        "tariff_sha256": sha256_hex(canonical_body(given.tariff)),
        "category": given.category.value,
        "mode": given.mode.value,
        "slot_ms": given.slot_ms,
        "running_ms": given.running_ms,
        "quantity": given.quantity,
    }
    if not given.is_plain:
        fields |= _more_fields(given)
    return canonical_json(fields)


def _more_fields(given: RatingInput) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "rush": given.asked.rush,
        "options": list(given.asked.options),
        "discounts": [dict(vars(discount)) for discount in given.asked.discounts],
    }
    if given.times is not None:
        pieces = [[piece.from_ms, piece.to_ms, piece.running_ms] for piece in given.times.pieces]
        fields["times"] = {"slot_from_ms": given.times.slot_from_ms, "pieces": pieces}
        if given.times.days:
            fields["schema"] = INPUT_SCHEMA_3
            fields["times"]["days"] = [[day, kind.value] for day, kind in given.times.days]
    if given.bridged:
        fields["schema"] = INPUT_SCHEMA_4
        fields["bridged"] = [
            [hole.session_id, hole.record, hole.from_ms, hole.to_ms, hole.ms] for hole in given.bridged
        ]
    if isinstance(given.instead, Ending):
        fields["ending"] = dict(vars(given.instead)) | {"purpose": given.instead.purpose.value}
    elif given.instead is not None:
        fields["manual"] = [dict(vars(item)) for item in given.instead]
    return fields


def read_input(document: str | bytes, tariff: TariffBody) -> RatingInput:
    """Rebuild the input of a charge. Raises ValueError where it was not made with this tariff, or is no input."""
    fields: Any = json.loads(document)
    if not isinstance(fields, dict) or fields.get("schema") not in _INPUT_SCHEMAS:
        raise ValueError(f"this is not a document of {', '.join(_INPUT_SCHEMAS)}")
    if fields["tariff_sha256"] != sha256_hex(canonical_body(tariff)):
        raise ValueError("the input names another tariff by its hash")
    return RatingInput(
        tariff,
        UserCategory(fields["category"]),
        BookingMode(fields["mode"]),
        fields["slot_ms"],
        fields["running_ms"],
        fields["quantity"],
        read_times(fields),
        read_asked(fields),
        _read_instead(fields),
        read_bridged(fields),
    )


def read_bridged(fields: Mapping[str, Any]) -> tuple[Bridged, ...]:
    """Return the bridged holes that an input of any schema names."""
    return tuple(Bridged(*hole) for hole in fields.get("bridged", ()))


def read_asked(fields: Mapping[str, Any]) -> Asked:
    """Return what was ordered beside the use, from the fields of an input (of either schema)."""
    discounts = tuple(Discount(**each) for each in fields.get("discounts", ()))
    return Asked(fields.get("rush", ""), tuple(fields.get("options", ())), discounts)


def read_times(fields: Mapping[str, Any]) -> Times | None:
    """Return when the use was, None where the input does not say so."""
    times = fields.get("times")
    if times is None:
        return None
    days = tuple((day, Day(kind)) for day, kind in times.get("days", ()))
    return Times(times["slot_from_ms"], tuple(Piece(*piece) for piece in times["pieces"]), days)


def _read_instead(fields: Mapping[str, Any]) -> Ending | tuple[ManualItem, ...] | None:
    if "ending" in fields:
        return Ending(**fields["ending"] | {"purpose": ChargePurpose(fields["ending"]["purpose"])})
    return tuple(ManualItem(**item) for item in fields["manual"]) if "manual" in fields else None


def quote_document(given: RatingInput, rated: Rated, calc_version: str) -> bytes:
    """Return the promise frozen on a booking: what goes in, the lines, the total, and from /2 on the list price."""
    fields = {
        "schema": QUOTE_SCHEMA,
        "calc_version": calc_version,
        "input": json.loads(input_document(given)),
        "lines": [rated_line_fields(line) for line in rated.lines],
        "total_fen": rated.total_fen,
        "net_fen": rated.net_fen,
        "vat_fen": rated.vat_fen,
        "billed_seconds": rated.billed_seconds,
    }
    if calc_version != "1":
        fields |= {"schema": QUOTE_SCHEMA_2, "list_fen": rated.list_fen}
    return canonical_json(fields)


def rated_line_fields(line: RatedLine) -> dict[str, Any]:
    """Return a rated line as plain JSON values."""
    return {
        "component": line.component.value,
        "item_code": line.item_code,
        "quantity": line.quantity,
        "per_quantity": line.per_quantity,
        "unit_fen": line.unit_fen,
        "amount_fen": line.amount_fen,
        "rule": line.rule,
    }


def charge_document(charge: Charge, lines: Sequence[ChargeLine], evidence: Mapping[str, str]) -> bytes:
    """Return the bytes whose hash is the charge's `row_hash`. `evidence` is kind -> content hash."""
    header = {name: getattr(charge, name) for name in _CHARGE_FIELDS}
    header["service_at_ms"] = to_ms(charge.service_at)
    header["recorded_at_ms"] = to_ms(charge.recorded_at)
    ordered = sorted(lines, key=lambda line: line.line_no)
    return canonical_json(
        {
            "schema": CHARGE_SCHEMA,
            "charge": header,
            "lines": [{name: getattr(line, name) for name in _LINE_FIELDS} for line in ordered],
            "evidence": dict(evidence),
        }
    )


def charge_hash(charge: Charge, lines: Sequence[ChargeLine], evidence: Mapping[str, str]) -> str:
    """Return what `row_hash` of the charge must be."""
    return sha256_hex(charge_document(charge, lines, evidence))


def lines_of(charge_id: str, rated: Sequence[RatedLine]) -> list[ChargeLine]:
    """Return the rows of rated lines, numbered from 1."""
    return [
        ChargeLine(
            charge_id=charge_id,
            line_no=number,
            line_count=len(rated),
            component=line.component.value,
            item_code=line.item_code,
            quantity=line.quantity,
            per_quantity=line.per_quantity,
            unit_fen=line.unit_fen,
            amount_fen=line.amount_fen,
            rule=line.rule,
        )
        for number, line in enumerate(rated, start=1)
    ]


def rated_lines(lines: Sequence[ChargeLine]) -> tuple[RatedLine, ...]:
    """Return stored lines in the form that `rate` returns, to hold one against the other."""
    return tuple(
        RatedLine(
            Component(line.component),
            line.item_code,
            line.quantity,
            line.per_quantity,
            line.unit_fen,
            line.amount_fen,
            line.rule,
        )
        for line in sorted(lines, key=lambda line: line.line_no)
    )


@dataclass(frozen=True)
class StatementItem:
    """A charge as it stands on a statement."""

    charge_id: str
    charge_row_hash: str
    amount_fen: int
    net_fen: int


@dataclass(frozen=True)
class StatementHead:
    """What a statement says besides its lines. A draft has no number and nobody who finalised it."""

    statement_id: str
    host_id: str
    payer_org: str
    month: int
    kind: str
    part: int
    number: str | None
    finalized_by: str | None
    finalized_at_ms: int | None


def statement_document(head: StatementHead, items: Sequence[StatementItem]) -> bytes:
    """Return the bytes whose hash is the statement's `content_sha256`; the order of the items is part of them."""
    return canonical_json(
        {
            "schema": STATEMENT_SCHEMA,
            "statement": dict(vars(head)),
            "lines": [dict(vars(item)) for item in items],
            "total_fen": sum(item.amount_fen for item in items),
            "net_fen": sum(item.net_fen for item in items),
        }
    )
