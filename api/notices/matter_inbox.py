"""Which notices that are not about a booking somebody has, and which of them they read. Their own only.

That a person read something is an event of the county's audit chain (`notices_read`): what was told of a statement or
a decision, and seen, is evidence. Called by inbox.py.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.notices.matters import MatterKey, mails_of, read_key
from api.work import Work
from store.tables.audit import AuditEvent
from store.tables.notices import Mail

MATTERS_KEPT = timedelta(days=400)
"""How long such a notice is in the inbox, read or not; what it is about is in the audit chain for ever."""
READ = "notices_read"


@dataclass(frozen=True)
class Entry:
    """A notice that somebody has."""

    key: MatterKey
    read_at: datetime | None

    @property
    def notice_id(self) -> str:
        """By which it is listed among the others."""
        return self.key.notice_id


def entries_of(session: Session, person_id: str, now: datetime) -> list[Entry]:
    """Return every notice of this sort that somebody has, the newest first."""
    mine = select(Mail.source_id).where(*mails_of(person_id), Mail.written_at > now - MATTERS_KEPT)
    keys = [key for source_id in session.scalars(mine) if (key := read_key(source_id)) is not None]
    if not keys:
        return []
    each, until = _marks(session, person_id, now)
    found = [Entry(key, each.get(key.notice_id) or _read_with(until, key.notice_id)) for key in keys]
    return sorted(found, key=lambda entry: entry.notice_id, reverse=True)


def note_read(work: Work, notice_id: str) -> None:
    """Record that the caller read one."""
    _note(work, {"notice": notice_id})


def note_all_read(work: Work, until: str | None) -> None:
    """Record that the caller read everything up to one, or all; nothing where nothing is unread."""
    entries = entries_of(work.session, work.actor.person_id, work.now)
    fresh = [one.notice_id for one in entries if one.read_at is None and (until is None or one.notice_id <= until)]
    if fresh:
        _note(work, {"until": max(fresh)})


def _note(work: Work, what: dict[str, str]) -> None:
    work.audit(READ, f"inbox:{work.actor.person_id}", host_id=None, after=what)


def _marks(
    session: Session, person_id: str, now: datetime
) -> tuple[Mapping[str, datetime], list[tuple[str, datetime]]]:
    """Return when single ones were read, and everything up to which, in the order of time."""
    wanted = select(AuditEvent.at, AuditEvent.body).where(
        AuditEvent.subject == f"inbox:{person_id}", AuditEvent.action == READ, AuditEvent.at > now - MATTERS_KEPT
    )
    each: dict[str, datetime] = {}
    until: list[tuple[str, datetime]] = []
    for at, body in session.execute(wanted.order_by(AuditEvent.seq)):
        after = json.loads(body)["after"]
        if "until" in after:
            if not until or after["until"] > until[-1][0]:
                until.append((after["until"], at))
        else:
            each.setdefault(after["notice"], at)
    return each, until


def _read_with(until: list[tuple[str, datetime]], notice_id: str) -> datetime | None:
    return next((at for upper, at in until if notice_id <= upper), None)
