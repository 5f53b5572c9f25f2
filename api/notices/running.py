"""Composes the sender of e-mail from an application's parts, and keeps it at work beside a worker.

Used by `openlab worker` and the demo's server process.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from api.deps import Parts
from api.notices.postman import Postman
from api.notices.transports import TIMEOUT_S, open_transport


def open_postman(parts: Parts) -> Postman:
    """Return a sender as the settings want it. Connects to nothing."""
    settings = parts.settings
    return Postman(
        parts.database,
        open_transport(settings),
        parts.clock,
        parts.real_clock,
        sender=settings.mail_from,
        reset_for=timedelta(hours=settings.reset_hours),
    )


@contextmanager
def postman_at_work(parts: Parts) -> Iterator[None]:
    """Send e-mail in a thread of its own while the block runs; finishes the one in hand."""
    until = threading.Event()
    thread = threading.Thread(target=open_postman(parts).run, args=(until,), name="postman", daemon=True)
    thread.start()
    try:
        yield
    finally:
        until.set()
        thread.join(TIMEOUT_S + 5)
