"""Alerts: things a person should look at. One open alert a rule and subject, counted until somebody is done with it."""

from sqlalchemy import ColumnElement, CursorResult, select, update
from sqlalchemy.orm import Session

from store.tables.registry import Agent, Instrument
from store.tables.usage import Alert
from store.upsert import insert_if_absent
from wire.clock import from_ms
from wire.errors import BadTopic
from wire.ids import new_ulid
from wire.topics import parse_up


def raise_alert(
    session: Session, rule: str, subject: str, detail: str, now_ms: int, owner: str | None = None, *, times: int = 1
) -> None:
    """Open an alert, or count the one that is open.

    `owner` is a host id, '' for the county; where it is not given it is the host of the agent or instrument that
    `subject` names (also by a topic of that agent).
    """
    now = from_ms(now_ms)
    opened = insert_if_absent(
        session,
        Alert,
        {
            "alert_id": new_ulid(),
            "rule": rule,
            "subject": subject,
            "open_slot": 1,
            "owner": host_of(session, subject) if owner is None else owner,
            "detail": detail,
            "times": times,
            "first_at": now,
            "last_at": now,
            "done_by": None,
        },
    )
    if not opened:
        session.execute(
            update(Alert)
            .where(Alert.rule == rule, Alert.subject == subject, Alert.open_slot == 1)
            .values(times=Alert.times + times, last_at=now, detail=detail)
        )


def clear_alert(session: Session, rule: str, subject: str, now_ms: int, by: str) -> bool:
    """Close the open alert of a rule and subject; return whether there was one. `by`: a person, or `system`."""
    return _close(session, (Alert.rule == rule) & (Alert.subject == subject), now_ms, by)


def finish_alert(session: Session, alert_id: str, now_ms: int, by: str) -> bool:
    """Close one alert; return whether it was open. Whoever finds its cause again raises another."""
    return _close(session, Alert.alert_id == alert_id, now_ms, by)


def _close(session: Session, which: ColumnElement[bool], now_ms: int, by: str) -> bool:
    result = session.execute(
        update(Alert).where(which, Alert.open_slot == 1).values(open_slot=None, done_by=by, last_at=from_ms(now_ms)),
        execution_options={"synchronize_session": False},
    )
    assert isinstance(result, CursorResult)
    return result.rowcount > 0


def host_of(session: Session, subject: str) -> str:
    """Return the host of the agent or instrument that `subject` names by its id or in a topic; '' where none does."""
    try:
        name = parse_up(subject).agent
    except BadTopic:
        name = subject
    found = session.scalars(select(Agent.host_id).where(Agent.agent_id == name)).one_or_none()
    if found is None:
        found = session.scalars(select(Instrument.host_id).where(Instrument.instrument_id == name)).one_or_none()
    return found or ""
