"""Where a policy caps what of one instrument's fees counts in a period. Pure.

Called on the judged rows of a run, in order of their charge ids, before anything is summed: an instrument's eligible
charges count until its cap is full. One may count in part; the others have the reason instrument_cap. Which of them
those are may change from run to run, their sum not: of each instrument of a host it is the smaller of its eligible fees
and the cap. So a host's base is still the sum of its lines, and tiers, coefficient, cap of the host, rounding and
minimum payout come after it as ever.

A cap on fees and not on rewards: with marginal tiers a reward has no part that belongs to one instrument, and any
proportional share of it would let a further fee of one instrument lower the reward of the host.
"""

from collections.abc import Iterable, Iterator

from api.rewards.policy_body import PolicyBody
from api.rewards.rules import Classified, Reason


class InstrumentCaps:
    """How much of each instrument's eligible fees has counted so far in one run. Rows come in order of their ids."""

    def __init__(self, cap_fen: int) -> None:
        self._cap_fen = cap_fen
        self._counted: dict[tuple[str, str], int] = {}

    def within(self, row: Classified, instrument_id: str) -> Classified:
        """Return the row with what still counts of it: all, a part, or nothing for the reason instrument_cap."""
        if row.eligible_fen <= 0:
            return row
        key = (row.host_id, instrument_id)
        before = self._counted.get(key, 0)
        counts = min(row.eligible_fen, self._cap_fen - before)
        self._counted[key] = before + counts
        return row._replace(eligible_fen=counts, reason=row.reason if counts else Reason.INSTRUMENT_CAP)


def is_cut_of(row: Classified, judged: Classified, policy: PolicyBody) -> bool:
    """Whether a row of a run is what the rule said of the charge, but for what a cap on its instrument cut off."""
    if policy.instrument_fee_cap_fen is None or judged.eligible_fen <= 0:
        return row == judged
    reason = judged.reason if row.eligible_fen else Reason.INSTRUMENT_CAP
    return row == judged._replace(eligible_fen=row.eligible_fen, reason=reason) and (
        0 <= row.eligible_fen <= judged.eligible_fen
    )


def capped(rows: Iterable[Classified], instruments: Iterator[tuple[str, str]], cap_fen: int) -> Iterator[Classified]:
    """Yield rows with no more of each instrument's fees than the cap.

    `instruments` names that of every row, in the same order. It may know further charges, and is not begun before the
    first row is there: what is read later in a transaction may know more, never less.
    """
    caps = InstrumentCaps(cap_fen)
    for row in rows:
        instrument_id = next(instrument for charge_id, instrument in instruments if charge_id == row.charge_id)
        yield caps.within(row, instrument_id)
