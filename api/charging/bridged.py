"""The holes in a booking's use: which were bridged by rule and count as use, and which are not billed, and why.

`bridge` is pure: gap records and the booking's parts of sessions in, holes out. Charging asks it when it posts, with
the records of the ledger; explanation and verification ask it with the records that were frozen with the charge. Where
nothing but a check-in tells the use there is nothing to bridge: nobody asks.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from api.charging.evidence import UseSpan
from api.charging.rating_types import Bridged
from store.ledger.bridging import BRIDGED, COSTS_NOTHING, RULES, Hole, bridged_within, judge_holes
from wire.messages import RecordKind, UsageRecord

BRIDGED_BY = {"4": "1"}
"""Calculation -> the rule by which it bridges (store.ledger.bridging); those that are not here bridge nothing."""
DECIDED = "decided"
"""Why no hole of a session is bridged, whatever the rule says: two people decided how long that session was."""

Line = tuple[str, str, int, bytes]
"""A record as it is frozen: agent, stream, seq, payload."""


@dataclass(frozen=True)
class LeftHole:
    """A hole in a booking's use, [from_ms, to_ms) in UTC milliseconds, that is not billed. `record` names its record,
    agent/stream/seq; `why_not` is a code of store.ledger.bridging, or `decided`."""

    session_id: str
    record: str
    from_ms: int
    to_ms: int
    why_not: str


@dataclass(frozen=True)
class Holes:
    """What became of the holes in a booking's use, in the order of its parts."""

    bridged: tuple[Bridged, ...] = ()
    left: tuple[LeftHole, ...] = ()

    @property
    def bridged_ms(self) -> int:
        """How much of the metered time was bridged."""
        return sum(hole.ms for hole in self.bridged)


def bridge(spans: Sequence[UseSpan], lines: Iterable[Line], calc_version: str, decided: Collection[str] = ()) -> Holes:
    """Judge the holes in these parts of sessions. `decided`: sessions whose time people have corrected; there their
    word counts, and nothing is bridged. A calculation that bridges nothing gives no hole.
    """
    rule = BRIDGED_BY.get(calc_version)
    if rule is None or not any(span.unknown_ms for span in spans):
        return Holes()
    assert rule in RULES
    named = _gaps(lines)
    bridged: list[Bridged] = []
    left: list[LeftHole] = []
    for span in spans:
        records = [record for _, record in named.get(span.session_id, ())]
        names = {record.seq: name for name, record in named.get(span.session_id, ())}
        holes = judge_holes(records, rule)
        for hole in holes:
            why_not = DECIDED if span.session_id in decided else hole.why_not
            if hole.why_not != COSTS_NOTHING and why_not != BRIDGED and _inside(hole, span):
                since, until = max(hole.from_ms, span.from_ms), min(hole.to_ms, span.to_ms)
                left.append(LeftHole(span.session_id, names[hole.seq], since, until, why_not))
        if span.session_id in decided:
            continue
        for hole, ms in bridged_within(holes, span.from_ms, span.to_ms, span.unknown_ms):
            since, until = max(hole.from_ms, span.from_ms), min(hole.to_ms, span.to_ms)
            bridged.append(Bridged(span.session_id, names[hole.seq], since, until, ms))
    return Holes(tuple(bridged), tuple(left))


def _inside(hole: Hole, span: UseSpan) -> bool:
    return hole.from_ms < span.to_ms and span.from_ms < hole.to_ms


def _gaps(lines: Iterable[Line]) -> dict[str, list[tuple[str, UsageRecord]]]:
    """The gap records by the session they name: a hole that names none lies in no session."""
    found = []
    for agent, stream, seq, payload in lines:
        record = UsageRecord.model_validate_json(payload)
        if record.kind is RecordKind.GAP and record.session is not None:
            found.append((f"{agent}/{stream}/{seq}", record))
    found.sort(key=lambda pair: (pair[1].session or "", pair[1].seq))
    return {name or "": list(pairs) for name, pairs in groupby(found, key=lambda pair: pair[1].session)}
