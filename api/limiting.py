"""Rate limits: how often one address, login or person may do something. Counted in memory, in real time.

Each process counts for itself; the sliding window is the `limits` library's.
"""

import time

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from api.errors import Refused


class Limiter:
    """Counters of one process. Built by a composition root with the limits of the settings."""

    def __init__(self, *, login: str, lockout: str, write: str) -> None:
        """Raises ValueError for a limit that is not written like `5/minute` or `5/15 minutes`."""
        self._counters = MovingWindowRateLimiter(MemoryStorage())
        self._login, self._lockout, self._write = parse(login), parse(lockout), parse(write)

    def count_login(self, address: str) -> None:
        """Count an attempt to sign in. Raises 429 when the address has made too many."""
        self._count(self._login, "login", address)

    def count_write(self, person_id: str) -> None:
        """Count a changing request. Raises 429 when the person has made too many."""
        self._count(self._write, "write", person_id)

    def check_not_locked(self, login: str) -> None:
        """Raise 429 while a login name has too many failures behind it. Says nothing about whether it exists."""
        if not self._counters.test(self._lockout, "lockout", login):
            raise self._too_many(self._lockout, "lockout", login, "login_locked")

    def count_failure(self, login: str) -> None:
        """Count a failed attempt of a login name."""
        self._counters.hit(self._lockout, "lockout", login)

    def forgive(self, login: str) -> None:
        """Forget the failures of a login name, after it signed in."""
        self._counters.clear(self._lockout, "lockout", login)

    def _count(self, item: RateLimitItem, kind: str, key: str) -> None:
        if not self._counters.hit(item, kind, key):
            raise self._too_many(item, kind, key, "too_many_requests")

    def _too_many(self, item: RateLimitItem, kind: str, key: str, code: str) -> Refused:
        reset_at = self._counters.get_window_stats(item, kind, key).reset_time
        seconds = max(1, int(reset_at - time.time()) + 1)
        return Refused(
            429,
            code,
            f"操作过于频繁;请在 {seconds} 秒后重试。",
            f"Too many attempts; try again in {seconds} seconds.",
            retry_after_s=seconds,
        )
