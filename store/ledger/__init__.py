"""The usage ledger: records in, sessions and hash chains out, and the same again for whoever wants to check."""

from store.ledger.chain import Fault
from store.ledger.checking import check_usage_chain
from store.ledger.correcting import CorrectedUsage, correct_usage
from store.ledger.dating import UNSET, WAITS_FOR_A_CLOCK
from store.ledger.ending import Ended, end_open_sessions, streams_that_are_over
from store.ledger.fold import EDGES_LOST
from store.ledger.memory import ChainMemory
from store.ledger.reading import folded_upto, refold, session_records
from store.ledger.records import Arrival, CommitResult, commit_usage
from store.ledger.replay import ReplayRefused, Unparked, unpark
from store.ledger.retention import CannotFold, TicksDropped, drop_ticks, streams_with_old_ticks
from store.ledger.rights import Registry, load_registry
from store.ledger.streams import StreamMark, Written, mark_telemetry, stream_marks

__all__ = [
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
    "stream_marks",
    "streams_that_are_over",
    "streams_with_old_ticks",
    "unpark",
]
