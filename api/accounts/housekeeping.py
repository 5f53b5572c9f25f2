"""What accounts throw away: answers kept for repeated requests, counts of attempts, letters that were sent. A chore of
the worker; by its clock, in small bites, harmless to do twice.

What is left is what somebody may be asked about later: people, sessions and tokens, invitations, registrations.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import CursorResult, delete, select, tuple_

from api.work import Work
from store.tables.accounts import AttemptCount, IdempotencyKey, Letter, OneTimeToken

BITE = 5_000
ATTEMPTS_KEPT = timedelta(days=2)
"""Longer than any limit counts."""
LETTERS_KEPT = timedelta(days=90)
TOKENS_KEPT = timedelta(days=90)


def housekeeping(idempotency_days: int) -> Callable[[Work], None]:
    """Return the chore; `idempotency_days` is how long the same Idempotency-Key gets the same answer."""

    def sweep(work: Work) -> None:
        drop_old_keys(work, work.now - timedelta(days=idempotency_days))
        work.session.execute(delete(AttemptCount).where(AttemptCount.since < work.now - ATTEMPTS_KEPT))
        work.session.execute(delete(Letter).where(Letter.opened_at < work.now - LETTERS_KEPT))
        work.session.execute(delete(OneTimeToken).where(OneTimeToken.expires_at < work.now - TOKENS_KEPT))

    return sweep


def drop_old_keys(work: Work, before: datetime) -> int:
    """Forget answers of requests made before an instant, at most BITE of them; return how many went."""
    key = (IdempotencyKey.principal, IdempotencyKey.route, IdempotencyKey.key)
    old = select(*key).where(IdempotencyKey.created_at < before).limit(BITE)
    gone = work.session.execute(delete(IdempotencyKey).where(tuple_(*key).in_(old)))
    assert isinstance(gone, CursorResult)
    return gone.rowcount
