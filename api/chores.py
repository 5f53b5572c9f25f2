"""What the worker does again and again, beside what is due once: the one list of it. Read by worker.py.

A chore is a row of the `due` table that is never finished, only put off; so of several workers one does it, what fails
is tried again with patience and told, and a chore that is new in a version starts with the worker.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from api.accounts.housekeeping import housekeeping
from api.booking.due import ensure_due
from api.charging.price_watch import watch_prices
from api.notices.housekeeping import forget_old_notices
from api.rewards.payments import watch_payments
from api.settings import IDEMPOTENCY_DAYS, Settings
from api.work import Work
from store.tables.calendar import DueKind


@dataclass(frozen=True)
class Chore:
    """`do` works in one transaction of the worker, which commits it; `every` is time of the worker's clock."""

    name: str
    every: timedelta
    do: Callable[[Work], None]


CHORES: tuple[Chore, ...] = (
    Chore("watch_prices", timedelta(hours=1), watch_prices),
    Chore("watch_reward_payments", timedelta(hours=6), watch_payments),
    Chore("housekeeping", timedelta(hours=1), housekeeping(IDEMPOTENCY_DAYS)),
    Chore("forget_old_notices", timedelta(hours=6), forget_old_notices),
)


def chores_of(settings: Settings) -> tuple[Chore, ...]:
    """Return the chores as the settings want them."""
    own = {"housekeeping": housekeeping(settings.idempotency_days)}
    return tuple(replace(chore, do=own.get(chore.name, chore.do)) for chore in CHORES)


def plan_chores(session: Session, now: datetime, chores: Sequence[Chore]) -> None:
    """Put every chore that was never planned on the list, due now."""
    for chore in chores:
        ensure_due(session, DueKind.CHORE, chore.name, now)


def do_chore(work: Work, name: str, chores: Sequence[Chore] = CHORES) -> datetime | None:
    """Do a chore and return when it is due again; None for one that this version does not know any more."""
    chore = next((each for each in chores if each.name == name), None)
    if chore is None:
        return None
    chore.do(work)
    return work.now + chore.every
