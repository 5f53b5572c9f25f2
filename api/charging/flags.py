"""What looks wrong with a charge for use, from facts that are known when it is posted. Pure: facts in, findings out.

Called by charging, which records each finding as an anomaly that blocks the charge until somebody decides. Every
detail holds the figures that it was judged by.
"""

from dataclasses import dataclass

from api.charging.bridged import DECIDED, LeftHole
from store.periods import SHANGHAI
from wire.clock import from_ms

COVERAGE_MIN_BP = 9_500
ALLOWANCE_S = 900
ALLOWANCE_DIVISOR = 10

COVERAGE_BELOW_95 = "coverage_below_95"
CERTIFICATE_EXPIRED = "certificate_expired"
FEE_WITHOUT_SESSION = "fee_without_session"
BILLED_ABOVE_METERED = "billed_above_metered"
PRICE_ABOVE_LIST = "price_above_list"
BACK_DATED_BOOKING = "back_dated_booking"
HOLE_NOT_BRIDGED = "hole_not_bridged"
HOLES_TOLD_FROM_MS = 60_000
"""Unknown time below this is said in the explanation of the charge only: nobody has to look at an agent's restart."""
HOLES_NAMED = 20


@dataclass(frozen=True)
class ChargeFacts:
    """What is known; instants in UTC milliseconds. `basis_ms`: the time billed before steps and minimum; None where the
    price does not depend on time. `used_from_ms`: None where there is no session."""

    total_fen: int
    list_fen: int
    basis_ms: int | None
    metered_ms: int
    has_session: bool
    coverage_bp: int
    certificate_valid: bool
    booked_at_ms: int
    slot_from_ms: int
    used_from_ms: int | None
    holes_left: tuple[LeftHole, ...] = ()


@dataclass(frozen=True)
class Finding:
    """A rule that found something, and the evidence."""

    rule: str
    detail: str
    blocks_reward: bool = True


def findings(facts: ChargeFacts) -> tuple[Finding, ...]:
    """Return what does not fit. Steps and minimum of a published price are no finding: they are the price."""
    found = []
    if facts.has_session and facts.coverage_bp < COVERAGE_MIN_BP:
        found.append(Finding(COVERAGE_BELOW_95, f"coverage {facts.coverage_bp} of 10000"))
    if not facts.certificate_valid:
        found.append(Finding(CERTIFICATE_EXPIRED, "no certificate covers the end of use"))
    if not facts.has_session and facts.total_fen > 0:
        found.append(Finding(FEE_WITHOUT_SESSION, f"{facts.total_fen} fen and no session"))
    if facts.has_session and facts.basis_ms is not None:
        billed_s, metered_s = facts.basis_ms // 1000, facts.metered_ms // 1000
        allowed_s = max(ALLOWANCE_S, metered_s // ALLOWANCE_DIVISOR)
        if billed_s > metered_s + allowed_s:
            told = f"{billed_s} s billed, {metered_s} s metered, {allowed_s} s allowed"
            found.append(Finding(BILLED_ABOVE_METERED, told))
    if facts.total_fen > facts.list_fen:
        found.append(Finding(PRICE_ABOVE_LIST, f"{facts.total_fen} fen, {facts.list_fen} fen by the list"))
    began = facts.slot_from_ms if facts.used_from_ms is None else min(facts.slot_from_ms, facts.used_from_ms)
    if facts.booked_at_ms > began:
        used = "" if facts.used_from_ms is None else f", used from {facts.used_from_ms} ms"
        told = f"booked at {facts.booked_at_ms} ms, slot from {facts.slot_from_ms} ms{used}"
        found.append(Finding(BACK_DATED_BOOKING, told))
    left = [hole for hole in facts.holes_left if hole.why_not != DECIDED]
    if sum(hole.to_ms - hole.from_ms for hole in left) >= HOLES_TOLD_FROM_MS:
        # It costs the host and nobody else: the reward of what was billed does not wait for it.
        told = "; ".join(_hole(hole) for hole in left[:HOLES_NAMED])
        more = len(left) - HOLES_NAMED
        found.append(Finding(HOLE_NOT_BRIDGED, told + (f"; {more} more" if more > 0 else ""), blocks_reward=False))
    return tuple(found)


def _hole(hole: LeftHole) -> str:
    since, until = (from_ms(ms).astimezone(SHANGHAI).strftime("%Y-%m-%d %H:%M:%S") for ms in (hole.from_ms, hole.to_ms))
    seconds = (hole.to_ms - hole.from_ms) // 1000
    return f"{hole.record}: {seconds} s not billed, {since} to {until} ({hole.why_not}), session {hole.session_id}"
