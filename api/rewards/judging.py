"""The charges of a period judged by an engine's rules, many at a time. Called by the reward service and verification.

The rule is `rules.judge` and nothing else. It looks at a charge's amounts only to see whether it is settled, so charges
that agree in everything else have the same reason: the rule is asked once for each kind of charge, and for every charge
that a voucher, a waiver or several payments settled.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain
from typing import Any

from sqlalchemy.orm import Session

from api.rewards.facts import Asked, FactsRow, charge_instruments, facts_of, facts_rows
from api.rewards.instrument_cap import capped
from api.rewards.policy_body import Amount, PolicyBody
from api.rewards.rules import Classified, Reason, engine

_CASH = 0


def judged(
    session: Session, months: Sequence[int], policy: PolicyBody, engine_version: str, watermark: datetime
) -> Iterator[Classified]:
    """Yield the row of a run for every charge and reversal of these months, by charge id (code point order).

    Raises UnknownEngine.
    """
    batches = facts_rows(session, months, policy.attribution, watermark, Asked.by(policy))
    rows = chain.from_iterable(judge_batches(batches, policy, engine_version))
    if policy.instrument_fee_cap_fen is None:
        return rows
    instruments = charge_instruments(session, months, policy.attribution, watermark)
    return capped(rows, instruments, policy.instrument_fee_cap_fen)


def judge_batches(
    batches: Iterable[Sequence[Any]], policy: PolicyBody, engine_version: str
) -> Iterator[list[Classified]]:
    """Judge rows as `facts_rows` yields them; a charge's rows stand one after the other, also from batch to batch."""
    judge = engine(engine_version).judge
    gross = policy.amount is Amount.GROSS
    # Reason by key (and region): of charges that one cash payment settles in full, and of those that nothing or too
    # little does.
    settled: dict[Any, Reason] = {}
    open_: dict[Any, Reason] = {}
    by_region = policy.looks_at_area
    eligible = Reason.ELIGIBLE
    make = tuple.__new__
    held: list[FactsRow] = []
    for rows in batches:
        out: list[Classified] = []
        append = out.append
        for row, following in zip(rows, chain(rows[1:], (None,)), strict=True):
            charge_id, host_id, total, net, key, fen, tender, moved, *_ = row
            if held and held[0].charge_id != charge_id:
                append(judge(facts_of(held), policy))
                held = []
            # The last row of a batch may go on in the next one.
            goes_on = following is None or following[0] == charge_id
            if held or goes_on or moved is not None or (tender is not None and tender != _CASH):
                held.append(FactsRow(*row))
                continue
            reasons = settled if (0 if tender is None else fen) >= total else open_
            if by_region:
                key = key, row[-1]
            reason = reasons.get(key)
            if reason is None:
                reason = reasons[key] = judge(facts_of([FactsRow(*row)]), policy).reason
            counted = (total if gross else net) if reason is eligible else 0
            append(make(Classified, (charge_id, host_id, total, counted, reason)))
        yield out
    if held:
        yield [judge(facts_of(held), policy)]
