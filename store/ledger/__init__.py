"""The usage ledger: records in, sessions and hash chains out, and the same again for whoever wants to check."""

from store.ledger.chain import Fault, check_usage_chain
from store.ledger.reading import refold, session_records
from store.ledger.records import Arrival, CommitResult, StreamMark, commit_usage, mark_telemetry, stream_marks
from store.ledger.rights import Registry, load_registry

__all__ = [
    "Arrival",
    "CommitResult",
    "Fault",
    "Registry",
    "StreamMark",
    "check_usage_chain",
    "commit_usage",
    "load_registry",
    "mark_telemetry",
    "refold",
    "session_records",
    "stream_marks",
]
