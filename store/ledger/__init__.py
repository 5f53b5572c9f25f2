"""The usage ledger: records in, sessions and hash chains out, and the same again for whoever wants to check."""

from store.ledger.chain import Fault
from store.ledger.checking import check_usage_chain
from store.ledger.correcting import CorrectedUsage, correct_usage
from store.ledger.dating import DATES_WRONG, UNSET, WAITS_FOR_A_CLOCK
from store.ledger.ending import Ended, LeftOpen, end_open_sessions, sessions_left_open
from store.ledger.flags import DATED_TOO_LATE, EDGES_LOST
from store.ledger.memory import ChainMemory
from store.ledger.reading import folded_upto, refold, session_records
from store.ledger.records import Arrival, CommitResult, commit_usage
from store.ledger.replay import ReplayRefused, Unparked, unpark
from store.ledger.retention import CannotFold, TicksDropped, drop_ticks, streams_with_old_ticks
from store.ledger.rights import Registry, load_registry
from store.ledger.streams import StreamMark, Written, mark_telemetry, stream_marks

__all__ = [
    "DATED_TOO_LATE",
    "DATES_WRONG",
    "EDGES_LOST",
    "UNSET",
    "WAITS_FOR_A_CLOCK",
    "Arrival",
    "CannotFold",
    "ChainMemory",
    "CommitResult",
    "CorrectedUsage",
    "Ended",
    "Fault",
    "LeftOpen",
    "Registry",
    "ReplayRefused",
    "StreamMark",
    "TicksDropped",
    "Unparked",
    "Written",
    "check_usage_chain",
    "commit_usage",
    "correct_usage",
    "drop_ticks",
    "end_open_sessions",
    "folded_upto",
    "load_registry",
    "mark_telemetry",
    "refold",
    "session_records",
    "sessions_left_open",
    "stream_marks",
    "streams_with_old_ticks",
    "unpark",
]
