"""Rate limits: how often one address, login or person may do something. Judged in real time.

Attempts to sign in or to register are counted in the database, in a transaction of their own, so that a limit holds
over all processes however many there are, and a guess is counted before its password is looked at. Changing requests
of people who are signed in are counted by each process for itself, which lets its part of the limit through: that
limit protects the server from a program gone wild, not a secret from guessing.
"""

import threading
import time
from collections import deque

from limits import RateLimitItem, parse
from sqlalchemy import delete, text
from sqlalchemy.orm import Session

from api.errors import Refused
from store.database import Database
from store.tables.accounts import AttemptCount, AttemptKind
from wire.clock import Clock

# Text, because building it anew for every sign-in took longer than running it. Spelt alike on every engine.
_COUNT = text(
    "INSERT INTO attempt_count (kind, key, since, count) VALUES (:kind, :key, :now, 1) ON CONFLICT (kind, key)"
    " DO UPDATE SET count = CASE WHEN attempt_count.since <= :over THEN 1 ELSE attempt_count.count + 1 END,"
    " since = CASE WHEN attempt_count.since <= :over OR attempt_count.count + 1 = :amount THEN :now"
    " ELSE attempt_count.since END RETURNING count, since"
)


class Limiter:
    """Counters of the county, and of one process. Built by a composition root with the limits of the settings."""

    def __init__(
        self,
        database: Database,
        real_clock: Clock,
        *,
        login: str,
        lockout: str,
        registration: str,
        write: str,
        processes: int = 1,
    ) -> None:
        """`processes`: how many share the limit of writes. Raises ValueError for a limit that is not written like
        `5/minute` or `5/15 minutes`."""
        self._database, self._real_clock = database, real_clock
        self._login, self._lockout, self._registration = parse(login), parse(lockout), parse(registration)
        self._write = parse(write)
        self._writes_most = -(-self._write.amount // processes)
        # Not the library's window in memory: that one starts a thread every ten milliseconds while it is used.
        self._writes: dict[str, deque[float]] = {}
        self._counting = threading.Lock()

    def count_address(self, address: str) -> None:
        """Count something that anybody may try (see `count_attempt`). Raises 429 when the address tried too often."""
        with self._database.write() as session:
            refused = self._over(session, AttemptKind.ADDRESS, address, self._login)
        _raise(refused)

    def count_registration(self, address: str) -> None:
        """Count the registration of a firm. Raises 429 when too many came from the address."""
        with self._database.write() as session:
            refused = self._over(session, AttemptKind.REGISTRATION, address, self._registration)
        _raise(refused)

    def count_attempt(self, address: str, login: str) -> None:
        """Count an attempt to sign in, as a failure of the login name until `forgive` says otherwise.

        Raises 429 `too_many_requests` for the address, `login_locked` for the name, which says nothing about whether
        it exists: then the password must not be looked at. Several processes together let no more attempts through.
        """
        with self._database.write() as session:
            refused = self._over(session, AttemptKind.ADDRESS, address, self._login)
            if refused is None:
                refused = self._over(session, AttemptKind.LOGIN, login, self._lockout, "login_locked")
        _raise(refused)

    def forgive(self, session: Session, login: str) -> None:
        """Forget the failures of a login name, in the caller's transaction: it has signed in or has a new password."""
        session.execute(
            delete(AttemptCount).where(AttemptCount.kind == AttemptKind.LOGIN.value, AttemptCount.key == login)
        )

    def count_write(self, person_id: str) -> None:
        """Count a changing request of somebody signed in. Raises 429 when this process had too many of theirs."""
        most, now = self._writes_most, time.monotonic()
        with self._counting:
            recent = self._writes.setdefault(person_id, deque(maxlen=most))
            wait_s = recent[0] + self._write.get_expiry() - now if len(recent) == most else 0
            if wait_s <= 0:
                recent.append(now)
        if wait_s > 0:
            raise _too_many("too_many_requests", wait_s)

    def _over(
        self, session: Session, kind: AttemptKind, key: str, limit: RateLimitItem, code: str = "too_many_requests"
    ) -> Refused | None:
        """Count once; return the refusal where it was once too often. One statement: nobody counts between.

        The window starts anew with the last attempt that was let through, so a full window always follows it.
        """
        now, window = self._real_clock.now_ms(), limit.get_expiry() * 1000
        given = {"kind": kind.value, "key": key, "now": now, "over": now - window, "amount": limit.amount}
        count, since = session.execute(_COUNT, given).one()
        return None if count <= limit.amount else _too_many(code, (since + window - now) / 1000)


def _raise(refused: Refused | None) -> None:
    # After the commit: what was refused was counted all the same.
    if refused is not None:
        raise refused


def _too_many(code: str, wait_s: float) -> Refused:
    seconds = max(1, int(wait_s) + 1)
    return Refused(
        429,
        code,
        f"操作过于频繁;请在 {seconds} 秒后重试。",
        f"Too many attempts; try again in {seconds} seconds.",
        retry_after_s=seconds,
    )
