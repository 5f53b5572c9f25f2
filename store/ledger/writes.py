"""What folding a batch comes to, collected and written in few statements. Used by store.ledger.records and .replay.

Sessions that ended leave their open slot before new ones take it; links come after the sessions they name.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, insert, update
from sqlalchemy.orm import Session

from store.alerts import raise_alert
from store.database import Base, insert_statement
from store.ledger.streams import StreamKey
from store.tables.calendar import Due, DueKind
from store.tables.usage import MeterPosition, UsageEntry, UsageSession
from wire.clock import from_ms

Row = dict[str, Any]


class Writes:
    """Rows by key, so that a row that changes ten times in a batch is written once."""

    def __init__(self) -> None:
        self.new_sessions: dict[str, Row] = {}
        self.changed_sessions: dict[str, Row] = {}
        self.new_positions: dict[tuple[StreamKey, str], Row] = {}
        self.changed_positions: dict[tuple[StreamKey, str], Row] = {}
        self.links: list[Row] = []
        self.to_match: set[str] = set()
        self._alerts: dict[tuple[str, str], tuple[str, int]] = {}

    def alert(self, rule: str, subject: str, detail: str) -> None:
        """Note that a person should look; the last detail of a rule and subject stands, all are counted."""
        times = self._alerts.get((rule, subject), ("", 0))[1]
        self._alerts[rule, subject] = (detail, times + 1)

    def write_out(self, session: Session, now_ms: int) -> None:
        """Write everything, in the order that the constraints ask for."""
        _update(session, UsageSession, ["session_id"], list(self.changed_sessions.values()))
        _insert(session, UsageSession, list(self.new_sessions.values()))
        keys = ["agent_id", "stream", "instrument_id"]
        _update(session, MeterPosition, keys, list(self.changed_positions.values()))
        _insert(session, MeterPosition, list(self.new_positions.values()))
        _insert(session, UsageEntry, self.links)
        if self.to_match:
            due = {"kind": DueKind.MATCH_SESSION.value, "due_at": from_ms(now_ms), "attempts": 0, "last_error": ""}
            session.execute(
                insert_statement(session, Due).on_conflict_do_nothing(),
                [due | {"subject_id": name} for name in sorted(self.to_match)],
            )
        for (rule, subject), (detail, times) in sorted(self._alerts.items()):
            raise_alert(session, rule, subject, detail, now_ms, times=times)


def _insert(session: Session, table: type[Base], rows: list[Row]) -> None:
    if rows:
        session.connection().execute(insert(table.__table__), rows)  # type: ignore[arg-type]


def _update(session: Session, table: type[Base], key: Sequence[str], rows: list[Row]) -> None:
    if rows:
        columns = table.__table__.c
        session.connection().execute(
            update(table.__table__)  # type: ignore[arg-type]
            .where(*(columns[name] == bindparam(f"of_{name}") for name in key))
            .values({name: bindparam(name) for name in rows[0] if name not in key}),
            [{f"of_{name}" if name in key else name: value for name, value in row.items()} for row in rows],
        )
