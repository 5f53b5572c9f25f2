"""The charges of a period judged by an engine's rules, many at a time. Called by the reward service and verification.

The rule is `rules.judge` and nothing else. It looks at a charge's amounts only to see whether it is settled, so charges
that agree in everything else have the same reason: the rule is asked once for each kind of charge, and for every charge
that a voucher, a waiver or several payments settled. A batch is worked on column by column, which takes half the
time of row by row.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain, groupby, islice, pairwise, repeat
from typing import Any

from sqlalchemy.orm import Session

from api.rewards.facts import ROWS_AT_ONCE, Asked, FactsRow, charge_instruments, facts_of, facts_rows
from api.rewards.instrument_cap import capped
from api.rewards.policy_body import Amount, PolicyBody
from api.rewards.rules import ChargeFacts, Classified, Reason, engine

_Judge = Callable[[ChargeFacts, PolicyBody], Classified]


def judged(
    session: Session, months: Sequence[int], policy: PolicyBody, engine_version: str, watermark: datetime
) -> Iterator[Classified]:
    """Yield the row of a run for every charge and reversal of these months, by charge id (code point order).

    Raises UnknownEngine.
    """
    return chain.from_iterable(judged_batches(session, months, policy, engine_version, watermark))


def judged_batches(
    session: Session, months: Sequence[int], policy: PolicyBody, engine_version: str, watermark: datetime
) -> Iterator[Sequence[Classified]]:
    """Yield the same rows some hundreds at a time."""
    facts = facts_rows(session, months, policy.attribution, watermark, Asked.by(policy))
    batches = judge_batches(facts, policy, engine_version)
    if policy.instrument_fee_cap_fen is None:
        yield from batches
        return
    instruments = charge_instruments(session, months, policy.attribution, watermark)
    rows = capped(chain.from_iterable(batches), instruments, policy.instrument_fee_cap_fen)
    while some := list(islice(rows, ROWS_AT_ONCE)):
        yield some


def judge_batches(
    batches: Iterable[Sequence[Any]], policy: PolicyBody, engine_version: str
) -> Iterator[list[Classified]]:
    """Judge rows as `facts_rows` yields them; a charge's rows stand one after the other, also from batch to batch."""
    judging = _Judging(policy, engine(engine_version).judge)
    held: list[Any] = []
    for batch in batches:
        rows = [*held, *batch]
        # The last charge may go on in the next batch.
        end = len(rows)
        while end and rows[end - 1][0] == rows[-1][0]:
            end -= 1
        held = rows[end:]
        yield judging.of(rows[:end])
    if held:
        yield judging.of(held)


class _Judging:
    """The rule with what it said so far of each kind of charge."""

    def __init__(self, policy: PolicyBody, judge: _Judge) -> None:
        self._policy, self._judge = policy, judge
        self._known: dict[Any, Reason] = {}

    def of(self, rows: Sequence[Any]) -> list[Classified]:
        """Judge whole charges."""
        if not rows:
            return []
        ids, hosts, totals, nets, keys, fens, tenders, moved, *_ = zip(*rows, strict=True)
        # A kind: everything but the amounts, and whether one payment in cash (tender 0), or nothing due, settles it.
        # None: the rule has to see the charge itself.
        kinds: list[Any] = [
            None if tender or was_moved is not None else key + key + ((0 if tender is None else fen) >= total)
            for key, total, fen, tender, was_moved in zip(keys, totals, fens, tenders, moved, strict=True)
        ]
        if self._policy.looks_at_area:
            kinds = [None if kind is None else (kind, row[-1]) for kind, row in zip(kinds, rows, strict=True)]
        reasons: list[Any] = list(map(self._known.get, kinds))
        alone = []
        for at in [at for at, reason in enumerate(reasons) if reason is None]:
            if kinds[at] is None:
                alone.append(at)
            else:
                reasons[at] = self._reason(kinds[at], rows[at])
        eligible, counts = Reason.ELIGIBLE, totals if self._policy.amount is Amount.GROSS else nets
        counted = [fen if reason is eligible else 0 for fen, reason in zip(counts, reasons, strict=True)]
        out = list(map(tuple.__new__, repeat(Classified), zip(ids, hosts, totals, counted, reasons, strict=True)))
        for at in alone:
            out[at] = self._whole(rows[at : at + 1])
        if len(set(ids)) < len(ids):
            return self._of_parts(rows, out)
        return out

    def _reason(self, kind: Any, row: Any) -> Reason:
        """The reason of a kind, by the first charge of it."""
        if kind not in self._known:
            self._known[kind] = self._whole([row]).reason
        return self._known[kind]

    def _of_parts(self, rows: Sequence[Any], out: Sequence[Classified]) -> list[Classified]:
        """What was judged, with charges of several rows judged by all of them."""
        again = {before[0] for before, row in pairwise(rows) if before[0] == row[0]}
        judged: list[Classified] = []
        for charge_id, group in groupby(zip(rows, out, strict=True), key=lambda one: one[0][0]):
            parts = list(group)
            judged.append(self._whole([row for row, _ in parts]) if charge_id in again else parts[0][1])
        return judged

    def _whole(self, rows: Sequence[Any]) -> Classified:
        return self._judge(facts_of([FactsRow(*row) for row in rows]), self._policy)
