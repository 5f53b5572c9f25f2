"""State another metered quantity of a closed session: a reversal and a new statement in the chain of its stream.

Called by charging when a second person approved a correction, inside that transaction. The session's own row and its
records stay what the meter said; only the ledger's statement about them changes, and both versions stay readable.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from store.ledger.chain import METRIC_RUNNING, ChainBuilder, Statement
from store.ledger.streams import lock_streams
from store.tables.usage import EntryKind, UsageEntry, UsageSession, UsageStream
from wire.clock import to_ms
from wire.messages import StreamKind


@dataclass(frozen=True)
class CorrectedUsage:
    """The links that were added: the reversal's revision is `revision - 1`; quantities in milliseconds."""

    revision: int
    before_ms: int
    after_ms: int


def correct_usage(
    session: Session, session_id: str, difference_ms: int, reason: str, recorded_by: str, at: datetime
) -> CorrectedUsage:
    """Add a reversal of the running time stated last and a statement that differs from it by `difference_ms`.

    Takes the stream's row lock, as arriving records do. Raises LookupError for a session that is unknown or open,
    ValueError where the reason is empty or the result would be below zero.
    """
    if not reason.strip():
        raise ValueError("a correction of use needs a reason")
    metered = session.get(UsageSession, session_id)
    if metered is None:
        raise LookupError(f"there is no session {session_id}")
    key = (metered.agent_id, metered.stream)
    head = lock_streams(session, [key], StreamKind.USAGE, to_ms(at))[key]
    last = session.execute(
        select(UsageEntry.revision, UsageEntry.quantity_ms)
        .where(UsageEntry.session_id == session_id, UsageEntry.metric == METRIC_RUNNING)
        .order_by(UsageEntry.revision.desc())
        .limit(1)
    ).one_or_none()
    if last is None or metered.ended_at is None:
        raise LookupError(f"session {session_id} is not closed; nothing is stated of it yet")
    after_ms = last.quantity_ms + difference_ms
    if after_ms < 0:
        raise ValueError(f"session {session_id} has {last.quantity_ms} ms; {difference_ms} ms cannot be added")
    chain = ChainBuilder(head, recorded_by, to_ms(at))
    for number, quantity_ms in ((last.revision + 1, -last.quantity_ms), (last.revision + 2, after_ms)):
        # Covers no record: those after the last link wait for the next one that covers records.
        chain.link(
            head.chained_upto,
            Statement(
                EntryKind.CORRECTION,
                metered.instrument_id,
                session_id,
                METRIC_RUNNING,
                quantity_ms,
                to_ms(metered.started_at),
                to_ms(metered.ended_at),
                reason.strip(),
                number,
            ),
        )
    session.flush()
    session.execute(insert(UsageEntry), chain.rows)
    session.execute(
        update(UsageStream)
        .where(UsageStream.agent_id == head.agent_id, UsageStream.stream == head.stream)
        .values(chain_seq=head.chain_seq, chain_hash=head.chain_hash)
    )
    return CorrectedUsage(last.revision + 2, last.quantity_ms, after_ms)
