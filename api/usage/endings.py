"""End sessions whose stream will not go on, so that bookings, charges and months do not wait for it for ever.

A chore of the worker. A stream is over when it was silent for ten minutes and its instrument is accounted for by a
stream that began later (a new spool, another box), or when its agent was revoked. Each ended session raises an alert
for its host and, flagged, waits for an officer before its fees count for a reward.
"""

from datetime import timedelta

from api.work import Work
from store.alerts import raise_alert
from store.ledger import end_open_sessions, streams_that_are_over
from wire.clock import to_ms

QUIET = timedelta(minutes=10)
RULE = "session_stream_lost"


def end_lost_sessions(work: Work) -> None:
    """End what streams that are over left open. Repeating it changes nothing."""
    now_ms = to_ms(work.now)
    for agent_id, stream in streams_that_are_over(work.session, work.now, QUIET):
        for ended in end_open_sessions(work.session, (agent_id, stream), now_ms, work.actor.name):
            told = (
                f"session {ended.session_id} ended with its stream after {ended.running_ms} ms running; nobody knows "
                f"what the instrument did for {ended.unknown_ms} ms after it"
            )
            raise_alert(work.session, RULE, ended.instrument_id, told, now_ms)
