"""Leave work for the worker. A row says what is due when; doing it twice is harmless, forgetting it is not."""

from datetime import datetime

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from store.later import write_later
from store.tables.calendar import Due, DueKind
from store.tables.registry import Metering
from store.upsert import insert_if_absent, insert_or_update

_READINGS = (
    select(Due.subject_id)
    .join(Metering, Due.subject_id.like(Metering.agent_id.concat("/%")))
    .where(Due.kind == DueKind.CHECKIN.value, Metering.instrument_id == bindparam("instrument"))
    .limit(1)
)


def ensure_due(session: Session, kind: DueKind, subject_id: str, at: datetime) -> bool:
    """Have `kind` done for a subject at `at`, unless it is waiting already; return whether it is new."""
    return insert_if_absent(session, Due, _row(kind, subject_id, at))


def due_later(session: Session, kind: DueKind, subject_id: str, at: datetime) -> None:
    """As `ensure_due`, with the next flush: for who does not ask whether it is new."""
    write_later(session, Due, _row(kind, subject_id, at), if_absent=True)


def move_due(session: Session, kind: DueKind, subject_id: str, at: datetime) -> None:
    """Have `kind` done for a subject once more, at `at`, whenever it was due before; its failures are forgotten.

    Waits for a worker that is doing it at this moment: what the caller changes afterwards is then seen by a new run.
    """
    insert_or_update(
        session, Due, _row(kind, subject_id, at), ("kind", "subject_id"), ("due_at", "attempts", "last_error")
    )


def readings_wait(session: Session, instrument_id: str) -> bool:
    """Whether a card reading of an agent that speaks for the instrument is still to be judged."""
    return session.execute(_READINGS, {"instrument": instrument_id}).first() is not None


def earlier_reading_waits(session: Session, agent_id: str, stream: str, seq: int) -> bool:
    """Whether a card reading before this one of its stream is still to be judged: they are taken in their order."""
    beginning = f"{agent_id}/{stream}/"
    waiting = session.scalars(
        select(Due.subject_id).where(Due.kind == DueKind.CHECKIN.value, Due.subject_id.startswith(beginning))
    )
    return any(int(subject.removeprefix(beginning)) < seq for subject in waiting)


def _row(kind: DueKind, subject_id: str, at: datetime) -> dict[str, object]:
    return {"kind": kind.value, "subject_id": subject_id, "due_at": at, "attempts": 0, "last_error": ""}
