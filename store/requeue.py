"""Give a quarantined usage message another try, after what was wrong with it has been put right.

Called by `openlab quarantine replay`, one message a transaction. Decoded again, judged by the same rights as on the
day it came; then it takes its place in its stream: an ordinary arrival where the ledger never had it, the parked
record's own place where it held one (store.ledger.replay says what that means and what is refused).
"""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.alerts import clear_alert
from store.ledger import Arrival, ReplayRefused, Unparked, commit_usage, load_registry, unpark
from store.ledger.refolding import PARKED
from store.tables.usage import Quarantine, UsageRecordRow
from wire.clock import from_ms
from wire.errors import BadPayload, BadTopic
from wire.messages import UsageRecord, decode
from wire.topics import Channel, parse_up


@dataclass(frozen=True)
class Replayed:
    """How it went: `new`: the ledger had never had it. Otherwise what taking it in changed."""

    quarantine_id: str
    new: bool
    changed: Unparked


def replay_quarantined(session: Session, quarantine_id: str, now_ms: int, by: str) -> Replayed:
    """Take a quarantined usage message in. Raises LookupError for an unknown id and ReplayRefused, with the reason,
    where it stays: still not understood, not usage, not allowed, or in the way of use that was given to somebody."""
    row = session.get(Quarantine, quarantine_id)
    if row is None:
        raise LookupError(f"nothing in quarantine is called {quarantine_id}")
    nothing = Unparked((), ())
    if row.replayed_at is not None:
        return Replayed(quarantine_id, False, nothing)
    try:
        topic = parse_up(row.topic)
        if topic.channel is not Channel.USAGE:
            raise ReplayRefused(f"{row.topic} carries no usage record; what it told is told again by the agent itself")
        record = decode(UsageRecord, row.payload)
    except (BadTopic, BadPayload) as error:
        raise ReplayRefused(f"it is still not understood: {error}") from None
    if record.inst != topic.tail:
        raise ReplayRefused(f"the topic is about {topic.tail}, the payload about {record.inst}")
    refusal = load_registry(session, {topic.agent}, {record.inst}).refusal(topic.agent, record.inst)
    if refusal is not None:
        raise ReplayRefused(f"agent {topic.agent} may still not report about {record.inst}: {refusal.value}")
    arrival = Arrival(topic.agent, record.stream, record.seq, row.payload, record)
    stored = session.execute(
        select(UsageRecordRow.kind, UsageRecordRow.payload_sha256).where(
            UsageRecordRow.agent_id == topic.agent,
            UsageRecordRow.stream == record.stream,
            UsageRecordRow.seq == record.seq,
        )
    ).one_or_none()
    if stored is not None and stored.payload_sha256 != arrival.sha256:
        raise ReplayRefused("the ledger has another content under its number; that is a conflict, for a person")
    fresh = stored is None
    changed = nothing
    if stored is None:
        commit_usage(session, [arrival], now_ms, by)
    elif stored.kind == PARKED:
        changed = unpark(session, (topic.agent, record.stream), record.seq, record, now_ms, by)
    row = session.get_one(Quarantine, quarantine_id, populate_existing=True)
    row.replayed_at = from_ms(now_ms)
    session.flush()
    others = select(Quarantine.quarantine_id).where(
        Quarantine.topic == row.topic, Quarantine.reason == row.reason, Quarantine.replayed_at.is_(None)
    )
    if session.scalars(others.limit(1)).first() is None:
        clear_alert(session, f"quarantine_{row.reason}", row.topic, now_ms, by)
    return Replayed(quarantine_id, fresh, changed)
