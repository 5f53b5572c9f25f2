"""Flags of a session: what the ledger cannot prove of it, or found out later. docs/faults.md says what each one means.

Set by the fold and by dating; read by matching, charging, retention and pages, which know them by these names.
"""

CLOSE_LOST = "close_lost"
"""Flag of a session that ends where its last record does, because the one that closed it is lost."""
OPEN_LOST = "open_lost"
"""Flag of a session whose begin lies in a hole: the record that opened it is lost."""
STREAM_LOST = "stream_lost"
"""Flag of a session that was ended because its stream will not go on (store.ledger.ending)."""
START_UNSET, END_UNSET = "start_unset", "end_unset"
"""Flags of a session that began, or ended, while its agent's clock was not set (store.ledger.dating)."""
LENGTH_UNKNOWN = "length_unknown"
"""Flag of a hole between two boots, and of its session, whose length nobody knew: the clock behind it was not set."""
LENGTH_TOLD = "length_told"
"""Takes its place in the session once the clock was set and the agent said how long the hole was."""
DATED_AGAIN = "dated_again"
"""Flag of a session that was dated again when the clock was set."""
DATED_AHEAD = "dated_ahead"
"""Flag of a session of which a record says a later time than it was received at: its clock is known to be wrong."""
DATED_TOO_LATE = "dated_too_late"
"""Flag of a session that was matched before its clock was set: it keeps its dates, for people to correct."""
EDGES_LOST = frozenset({CLOSE_LOST, OPEN_LOST, STREAM_LOST, "closed_by_next_open"})
"""Flags of a session of which not every second is proved to be its own, or all of it to be here."""
