"""Messages that could not be taken in, with their bytes and the reason: nothing that arrived is ever thrown away."""

from sqlalchemy import update
from sqlalchemy.orm import Session

from store.alerts import raise_alert
from store.canonical import sha256_hex
from store.tables.usage import Quarantine, QuarantineReason
from store.upsert import insert_if_absent
from wire.clock import from_ms


def set_aside(session: Session, topic: str, payload: bytes, reason: QuarantineReason, detail: str, now_ms: int) -> None:
    """Keep a message and raise an alert. The same bytes on the same topic again are only counted."""
    quarantine_id = sha256_hex(topic.encode() + b"\0" + payload)
    now = from_ms(now_ms)
    kept = insert_if_absent(
        session,
        Quarantine,
        {
            "quarantine_id": quarantine_id,
            "topic": topic,
            "payload": payload,
            "reason": reason.value,
            "detail": detail,
            "times": 1,
            "first_at": now,
            "last_at": now,
            "replayed_at": None,
        },
    )
    if not kept:
        session.execute(
            update(Quarantine)
            .where(Quarantine.quarantine_id == quarantine_id)
            .values(times=Quarantine.times + 1, last_at=now)
        )
    raise_alert(session, f"quarantine_{reason.value}", topic, detail, now_ms)
