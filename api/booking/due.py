"""Leave work for the worker. A row says what is due when; doing it twice is harmless, forgetting it is not."""

from datetime import datetime

from sqlalchemy.orm import Session

from store.tables.calendar import Due, DueKind
from store.upsert import insert_if_absent, insert_or_update


def ensure_due(session: Session, kind: DueKind, subject_id: str, at: datetime) -> bool:
    """Have `kind` done for a subject at `at`, unless it is waiting already; return whether it is new."""
    return insert_if_absent(session, Due, _row(kind, subject_id, at))


def move_due(session: Session, kind: DueKind, subject_id: str, at: datetime) -> None:
    """Have `kind` done for a subject once more, at `at`, whenever it was due before; its failures are forgotten.

    Waits for a worker that is doing it at this moment: what the caller changes afterwards is then seen by a new run.
    """
    insert_or_update(
        session, Due, _row(kind, subject_id, at), ("kind", "subject_id"), ("due_at", "attempts", "last_error")
    )


def _row(kind: DueKind, subject_id: str, at: datetime) -> dict[str, object]:
    return {"kind": kind.value, "subject_id": subject_id, "due_at": at, "attempts": 0, "last_error": ""}
