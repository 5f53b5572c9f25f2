"""What approved corrections make of a charge: another metered time, lines that are not charged. Read by posting and
by verification alike; `apply_waivers` is pure.

A correction speaks about the revision of the charge that it was proposed for, and holds for every later one: what was
found out once is not forgotten by the next correction.
"""

import json
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from sqlalchemy import Select, bindparam, func, select
from sqlalchemy.orm import Session

from api.charging.rating import Rated, RatedLine
from store.canonical import canonical_json
from store.money import net_of_vat
from store.tables.charging import Charge, ChargePurpose, Component
from store.tables.disputes import Correction, CorrectionDecision, CorrectionKind

WAIVER_RULE = "waiver.line"
LineKey = tuple[str, str]
"""Component and item of a line: unique within a charge."""


def apply_waivers(rated: Rated, waived: Collection[LineKey], vat_rate_bp: int) -> Rated:
    """Return the price with a line of the opposite amount for each waived line that it has; net from the new total.

    The waived lines stay visible. A minimum is not topped up again: what is waived is not owed in another way. Where a
    discount has taken off part of it before, only what is left is waived: nobody is paid for having used something.
    """
    chosen = [line for line in rated.lines if (line.component.value, line.item_code) in waived and line.amount_fen]
    taken_off, total = [], rated.total_fen
    # What lowers the price is given back first, so that the limit does not depend on the order of lines.
    for line in sorted(chosen, key=lambda each: each.amount_fen):
        off = _taken_off(line, min(line.amount_fen, total))
        if off.amount_fen:
            taken_off.append(off)
            total += off.amount_fen
    if not taken_off:
        return rated
    net = net_of_vat(total, vat_rate_bp)
    return replace(rated, lines=rated.lines + tuple(taken_off), total_fen=total, net_fen=net, vat_fen=total - net)


def corrected_ms(
    session: Session, booking_id: str, before_revision: int | None = None, session_id: str | None = None
) -> int:
    """Return by how much approved corrections change the metered time of a booking's use, in milliseconds.

    `before_revision`: only those proposed for an earlier revision of the charge, as that revision was posted with.
    `session_id`: only those about this session.
    """
    query = _METERED if session_id is None else _METERED_OF_SESSION
    asked = _asked(booking_id, before_revision)
    return int(session.execute(query, asked if session_id is None else asked | {"session": session_id}).scalar_one())


def waived_lines(session: Session, booking_id: str, before_revision: int | None = None) -> frozenset[LineKey]:
    """Return the lines that approved corrections waive for a booking's use; `before_revision` as `corrected_ms`."""
    found = session.execute(_WAIVED, _asked(booking_id, before_revision)).scalars()
    return frozenset(pair for text in found for pair in read_lines(text))


def decided_sessions(session: Session, booking_id: str, before_revision: int | None = None) -> frozenset[str]:
    """Return the sessions whose metered time approved corrections changed; `before_revision` as `corrected_ms`."""
    return frozenset(session.execute(_DECIDED, _asked(booking_id, before_revision)).scalars())


def write_lines(lines: Collection[LineKey]) -> str:
    """Return waived lines in the form that is stored."""
    return canonical_json([list(pair) for pair in sorted(set(lines))]).decode()


def read_lines(text: str) -> list[LineKey]:
    """Read the stored form of waived lines."""
    return [(component, item) for component, item in json.loads(text)]


def _asked(booking_id: str, before_revision: int | None) -> dict[str, object]:
    return {"booking": booking_id, "before": _EVERY_REVISION if before_revision is None else before_revision}


def _approved(columns: Select[Any], kind: CorrectionKind) -> Select[Any]:
    return (
        columns.join(CorrectionDecision, CorrectionDecision.correction_id == Correction.correction_id)
        .join(Charge, Charge.charge_id == Correction.charge_id)
        .where(
            Charge.booking_id == bindparam("booking"),
            Charge.purpose == ChargePurpose.USE.value,
            Charge.revision < bindparam("before"),
            Correction.kind == kind.value,
            CorrectionDecision.approved,
        )
    )


# Put together once: building a statement costs more than the database's answer to it.
_EVERY_REVISION = 2**31 - 1
_METERED = _approved(
    select(func.coalesce(func.sum(Correction.metered_after_ms - Correction.metered_before_ms), 0)),
    CorrectionKind.METERED,
)
_METERED_OF_SESSION = _METERED.where(Correction.session_id == bindparam("session"))
_DECIDED = _approved(select(Correction.session_id), CorrectionKind.METERED).where(Correction.session_id.is_not(None))
_WAIVED = _approved(select(Correction.lines), CorrectionKind.WAIVER)


def _taken_off(line: RatedLine, amount_fen: int) -> RatedLine:
    """The opposite of a line; of one that is waived in part, one time the part."""
    whole = amount_fen == line.amount_fen
    return replace(
        line,
        component=Component.MANUAL,
        item_code=f"waived-{line.component.value}-{line.item_code}",
        quantity=-line.quantity if whole else -1,
        per_quantity=line.per_quantity if whole else 1,
        unit_fen=line.unit_fen if whole else amount_fen,
        amount_fen=-amount_fen,
        rule=WAIVER_RULE,
    )
