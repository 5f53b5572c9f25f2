"""The audit chain: every state change, in the transaction that makes it. One chain a host, `county` for the rest.

Appending takes the chain's row lock, so writers of one chain queue up and writers of different chains do not.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from store.canonical import GENESIS, canonical_json, chain_hash
from store.later import set_later, write_later
from store.tables.audit import AuditEvent, ChainHead
from store.upsert import insert_if_absent
from wire.clock import to_ms

COUNTY_CHAIN = "county"
# Over the table, which costs half of what it costs over the class.
_HEAD = ChainHead.__table__.c
_HEAD_LOCKED = select(_HEAD.seq, _HEAD.hash).where(_HEAD.chain_id == bindparam("chain")).with_for_update()
_HELD = "chain_heads"


@dataclass
class _Head:
    """The end of a chain that this transaction holds: `seq` and `hash` of its last event."""

    seq: int
    hash: str
    held_in: tuple[object, object]


@dataclass(frozen=True)
class BrokenLink:
    """The first row of a chain that does not follow from the one before it."""

    chain_id: str
    seq: int
    what: str


def append_audit_event(
    session: Session,
    *,
    chain_id: str,
    at: datetime,
    actor: str,
    action: str,
    subject: str,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> int:
    """Add one event to a chain and return its number. `before` and `after` hold integers and text only.

    Raises TypeError for floats (see store.canonical). Commits nothing: it belongs to the caller's transaction.
    """
    head = _take_head(session, chain_id)
    seq = head.seq + 1
    body = canonical_json(
        {
            "chain": chain_id,
            "seq": seq,
            "at_ms": to_ms(at),
            "actor": actor,
            "action": action,
            "subject": subject,
            "before": before,
            "after": after,
        }
    )
    row_hash = chain_hash(head.hash, body)
    row = {
        "chain_id": chain_id,
        "seq": seq,
        "at": at,
        "actor": actor,
        "action": action,
        "subject": subject,
        "body": body,
        "prev_hash": head.hash,
        "row_hash": row_hash,
    }
    write_later(session, AuditEvent, row)
    head.seq, head.hash = seq, row_hash
    set_later(session, ChainHead, {"chain_id": chain_id}, {"seq": seq, "hash": row_hash})
    return seq


def _take_head(session: Session, chain_id: str) -> _Head:
    """Lock the end of a chain, once a transaction: until it ends nobody else moves it, and further events follow on."""
    held: dict[str, _Head] = session.info.setdefault(_HELD, {})
    known = held.get(chain_id)
    # A savepoint that was rolled back took its events with it: then the end is what the database says.
    if known is not None and known.held_in == _transactions(session):
        return known
    row = session.execute(_HEAD_LOCKED, {"chain": chain_id}).one_or_none()
    if row is None:  # once a chain; asking first saves every other event a statement
        insert_if_absent(session, ChainHead, {"chain_id": chain_id, "seq": 0, "hash": GENESIS})
        row = session.execute(_HEAD_LOCKED, {"chain": chain_id}).one()
    head = held[chain_id] = _Head(row.seq, row.hash, _transactions(session))
    return head


def _transactions(session: Session) -> tuple[object, object]:
    return session.get_transaction(), session.get_nested_transaction()


def check_audit_chain(session: Session, chain_id: str) -> BrokenLink | None:
    """Recompute a chain from its stored bytes; return its first wrong row, None where it holds."""
    previous, expected = GENESIS, 1
    rows = session.execute(
        select(AuditEvent.seq, AuditEvent.at, AuditEvent.body, AuditEvent.prev_hash, AuditEvent.row_hash)
        .where(AuditEvent.chain_id == chain_id)
        .order_by(AuditEvent.seq)
        .execution_options(yield_per=1000)
    )
    for row in rows:
        if row.seq != expected:
            return BrokenLink(chain_id, expected, "the event is missing")
        if row.prev_hash != previous or row.row_hash != chain_hash(previous, row.body):
            return BrokenLink(chain_id, row.seq, "its hash does not follow from its bytes and the event before")
        previous, expected = row.row_hash, expected + 1
    head = session.get(ChainHead, chain_id)
    if head is not None and (head.seq != expected - 1 or head.hash != previous):
        return BrokenLink(chain_id, head.seq, "the chain's head does not match its last event")
    return None
