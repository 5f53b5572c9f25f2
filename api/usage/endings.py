"""End sessions that will not go on, so that bookings, charges and months do not wait for them for ever.

A chore of the worker. A stream is over when it was silent for ten minutes and its instrument is accounted for by a
stream that began later (a new spool, another box) or by the agent it was moved to, or when its agent was revoked. In a
stream that lives, a session is over when the agent went on with other instruments for an hour and said nothing of this
one: it was moved, or renamed. Each ended session raises an alert for its host and, flagged, waits for an officer before
its fees count for a reward.
"""

from datetime import timedelta
from itertools import groupby

from api.work import Work
from store.alerts import raise_alert
from store.ledger import end_open_sessions, sessions_left_open
from wire.clock import to_ms

QUIET = timedelta(minutes=10)
UNWATCHED = timedelta(hours=1)
"""Well above the longest time for which an agent may say nothing of an instrument that it watches: ten minutes between
ticks at most, a quarter of an hour where its meter is silent, and what its profile takes to decide."""
RULE = "session_stream_lost"


def end_lost_sessions(work: Work) -> None:
    """End what will not go on. Repeating it changes nothing."""
    now_ms = to_ms(work.now)
    found = sessions_left_open(work.session, work.now, QUIET, UNWATCHED)
    for key, left in groupby(found, lambda one: one.key):
        for ended in end_open_sessions(work.session, key, left, now_ms, work.actor.name):
            told = (
                f"session {ended.session_id} was ended after {ended.running_ms} ms running, since {ended.why}; nobody "
                f"knows what the instrument did for {ended.unknown_ms} ms after it"
            )
            raise_alert(work.session, RULE, ended.instrument_id, told, now_ms)
