"""Alerts: things a person should look at. One open alert a rule and subject, counted until somebody is done with it."""

from sqlalchemy import update
from sqlalchemy.orm import Session

from store.tables.usage import Alert
from store.upsert import insert_if_absent
from wire.clock import from_ms
from wire.ids import new_ulid


def raise_alert(session: Session, rule: str, subject: str, detail: str, now_ms: int, owner: str = "") -> None:
    """Open an alert, or count the one that is open. `owner` is a host id, '' for the county."""
    now = from_ms(now_ms)
    opened = insert_if_absent(
        session,
        Alert,
        {
            "alert_id": new_ulid(),
            "rule": rule,
            "subject": subject,
            "open_slot": 1,
            "owner": owner,
            "detail": detail,
            "times": 1,
            "first_at": now,
            "last_at": now,
            "done_by": None,
        },
    )
    if not opened:
        session.execute(
            update(Alert)
            .where(Alert.rule == rule, Alert.subject == subject, Alert.open_slot == 1)
            .values(times=Alert.times + 1, last_at=now, detail=detail)
        )
