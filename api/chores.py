"""What the worker does again and again, beside what is due once: the one list of it. Read by worker.py.

A chore is a row of the `due` table that is never finished, only put off; so of several workers one does it, what fails
is tried again with patience and told, and a chore that is new in a version starts with the worker.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from api.accounts.housekeeping import housekeeping
from api.booking.claims_due import expire_claims
from api.booking.due import ensure_due
from api.charging.price_watch import watch_prices
from api.doctor.nightly import EXPIRE, Expiry
from api.notices.housekeeping import forget_old_notices
from api.notices.reminders import remind_of_overdue, warn_of_expiring, warn_of_qualifications
from api.rewards.payments import watch_payments
from api.settings import CLAIM_DAYS, IDEMPOTENCY_DAYS, Settings
from api.usage.endings import end_lost_sessions
from api.work import Work
from store.periods import SHANGHAI
from store.series import SeriesStore
from store.tables.calendar import DueKind


@dataclass(frozen=True)
class Chore:
    """`do` works in one transaction of the worker, which commits it; `every` is time of the worker's clock.

    With `at_hour` it is done at that hour of Asia/Shanghai, not as soon as a worker starts. One that leaves `parts` on
    the list (`name:part`) does each with `do_part`, once, in a transaction of its own.
    """

    name: str
    every: timedelta
    do: Callable[[Work], None]
    at_hour: int | None = None
    do_part: Callable[[Work, str], None] | None = None

    def next_after(self, now: datetime) -> datetime:
        """When it is due again, having been done now."""
        if self.at_hour is None:
            return now + self.every
        local = now.astimezone(SHANGHAI)
        at = local.replace(hour=self.at_hour, minute=0, second=0, microsecond=0)
        return at if at > local else at + self.every


CHORES: tuple[Chore, ...] = (
    Chore("watch_prices", timedelta(hours=1), watch_prices),
    Chore("watch_reward_payments", timedelta(hours=6), watch_payments),
    Chore("housekeeping", timedelta(hours=1), housekeeping(IDEMPOTENCY_DAYS)),
    Chore("forget_old_notices", timedelta(hours=6), forget_old_notices),
    Chore("end_lost_sessions", timedelta(minutes=10), end_lost_sessions),
    Chore("expire_claims", timedelta(hours=1), expire_claims(CLAIM_DAYS)),
    Chore("remind_of_overdue", timedelta(hours=24), remind_of_overdue),
    Chore("warn_of_expiring", timedelta(hours=24), warn_of_expiring),
    Chore("warn_of_qualifications", timedelta(hours=24), warn_of_qualifications),
)


def chores_of(settings: Settings, series: SeriesStore) -> tuple[Chore, ...]:
    """Return the chores as the settings want them, and the one that needs the time series."""
    own = {
        "housekeeping": housekeeping(settings.idempotency_days),
        "expire_claims": expire_claims(settings.claim_days),
    }
    expiry = Expiry(series, settings.expire_days)
    nightly = Chore(EXPIRE, timedelta(days=1), expiry.plan, at_hour=3, do_part=expiry.do_part)
    return (*(replace(chore, do=own.get(chore.name, chore.do)) for chore in CHORES), nightly)


def plan_chores(session: Session, now: datetime, chores: Sequence[Chore]) -> None:
    """Put every chore that was never planned on the list, due now or at its hour."""
    for chore in chores:
        first = now if chore.at_hour is None else chore.next_after(now)
        ensure_due(session, DueKind.CHORE, chore.name, first)


def do_chore(work: Work, name: str, chores: Sequence[Chore] = CHORES) -> datetime | None:
    """Do a chore, or a part of one, and return when it is due again; None for a part, and for a chore that this version
    does not know any more."""
    name, _, part = name.partition(":")
    chore = next((each for each in chores if each.name == name), None)
    if chore is None:
        return None
    if part:
        if chore.do_part is not None:
            chore.do_part(work, part)
        return None
    chore.do(work)
    return chore.next_after(work.now)
