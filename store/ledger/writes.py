"""What folding a batch comes to, collected and written in few statements. Used by store.ledger.records and .replay.

Sessions that ended leave their open slot before new ones take it; links come after the sessions they name.
"""

from typing import Any

from sqlalchemy.orm import Session

from store.alerts import raise_alert
from store.database import insert_many, insert_statement, update_many
from store.ledger.streams import StreamKey
from store.tables.calendar import Due, DueKind
from store.tables.usage import MeterPosition, UsageEntry, UsageSession
from wire.clock import from_ms

Row = dict[str, Any]


def reading_subject(agent_id: str, stream: str, seq: int) -> str:
    """Return how a `checkin` record is named among what is due."""
    return f"{agent_id}/{stream}/{seq}"


class Writes:
    """Rows by key, so that a row that changes ten times in a batch is written once."""

    def __init__(self) -> None:
        self.new_sessions: dict[str, Row] = {}
        self.changed_sessions: dict[str, Row] = {}
        self.dated_sessions: dict[str, Row] = {}
        self.new_positions: dict[tuple[StreamKey, str], Row] = {}
        self.changed_positions: dict[tuple[StreamKey, str], Row] = {}
        self.links: list[Row] = []
        self.to_match: set[str] = set()
        self.to_check_in: set[str] = set()
        self._alerts: dict[tuple[str, str], tuple[str, int]] = {}

    def alert(self, rule: str, subject: str, detail: str) -> None:
        """Note that a person should look; the last detail of a rule and subject stands, all are counted."""
        times = self._alerts.get((rule, subject), ("", 0))[1]
        self._alerts[rule, subject] = (detail, times + 1)

    def write_out(self, session: Session, now_ms: int) -> None:
        """Write everything, in the order that the constraints ask for."""
        update_many(session, UsageSession, ["session_id"], list(self.dated_sessions.values()))
        update_many(session, UsageSession, ["session_id"], list(self.changed_sessions.values()))
        insert_many(session, UsageSession, list(self.new_sessions.values()))
        keys = ["agent_id", "stream", "instrument_id"]
        update_many(session, MeterPosition, keys, list(self.changed_positions.values()))
        insert_many(session, MeterPosition, list(self.new_positions.values()))
        insert_many(session, UsageEntry, self.links)
        due = {"due_at": from_ms(now_ms), "attempts": 0, "last_error": ""}
        work = [
            due | {"kind": kind.value, "subject_id": subject}
            for kind, subjects in ((DueKind.CHECKIN, self.to_check_in), (DueKind.MATCH_SESSION, self.to_match))
            for subject in sorted(subjects)
        ]
        if work:
            # What waited for later is due now: it has changed.
            added = insert_statement(session, Due)
            sooner = {"due_at": added.excluded.due_at}
            session.execute(added.on_conflict_do_update(index_elements=["kind", "subject_id"], set_=sooner), work)
        for (rule, subject), (detail, times) in sorted(self._alerts.items()):
            raise_alert(session, rule, subject, detail, now_ms, times=times)
