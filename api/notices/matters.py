"""Notices that are not about a booking: from an audit event to the people it concerns, in the event's transaction.

Called by `Work.audit`. One row of the outbox for each person, whose key names person, notice and audit event: what was
said stays in the audit chain, which never changes, so nothing is kept twice, and no event tells anybody twice. The row
of somebody without an address, or who wants no e-mail of that kind, is `dropped` from the start; the inbox
(matter_inbox.py) shows it all the same.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, func, or_, select, tuple_
from sqlalchemy.orm import Session

from api.notices.concerns import INBOX_ONLY, MATTERS, Side, matter_kind
from api.notices.keeping import new_mail
from api.notices.matter_facts import Event, Facts, facts_of
from api.notices.texts import Rendered, render_matter
from api.work import Work
from store.tables.accounts import Person, Role, RoleGrant
from store.tables.audit import AuditEvent
from store.tables.notices import Mail, MailSource, MailState, NoticePreference
from wire.ids import new_ulid

_NAMES_FIRMS = frozenset({Side.MANAGER, Side.COUNTY})
_BY_ROLE = {
    Role.LAB_MANAGER.value: Side.MANAGER,
    Role.SME.value: Side.CUSTOMER,
    Role.COUNTY_OFFICER.value: Side.COUNTY,
}


@dataclass(frozen=True)
class MatterKey:
    """What the outbox row of such a notice is called."""

    person_id: str
    notice_id: str
    side: Side
    chain_id: str
    seq: int

    @property
    def source_id(self) -> str:
        """As it is stored; the person first, so that the rows of one person lie together, by age."""
        return f"{self.person_id}/{self.notice_id}/{self.side}/{self.chain_id}/{self.seq}"


@dataclass(frozen=True)
class Matter:
    """A notice that is not about a booking, as its reader sees it; `subject` is `noun:id`."""

    notice_id: str
    kind: str
    party: Side
    subject: str
    at: datetime
    read_at: datetime | None
    text: Rendered


def read_key(source_id: str) -> MatterKey | None:
    """Return what a row of the outbox is about; None where it is about a booking's notice."""
    parts = source_id.rsplit("/", 4)
    if len(parts) != 5:
        return None
    return MatterKey(parts[0], parts[1], Side(parts[2]), parts[3], int(parts[4]))


def gather(work: Work, chain_id: str, seq: int, action: str, subject: str, after: Mapping[str, Any] | None) -> None:
    """Keep a notice for everybody whom an audit event concerns, but not for whoever did it; send nothing."""
    said = after or {}
    kind = matter_kind(action, said)
    if kind is None:
        return
    facts = facts_of(work.session, Event(action, subject, said))
    if facts is None:
        return
    did_it = work.actor.person_id.rpartition(":")[2]
    for person_id, (side, wants_mail) in _hearers(work.session, kind, facts).items():
        if person_id == did_it:
            continue
        key = MatterKey(person_id, new_ulid(), side, chain_id, seq)
        mail = new_mail(work, MailSource.NOTICE, key.source_id)
        if not wants_mail:
            mail.state, mail.ended_at = MailState.DROPPED.value, work.now
        work.session.add(mail)


def matters_of(session: Session, keys: Sequence[tuple[MatterKey, datetime | None]], language: str) -> list[Matter]:
    """Return notices with their text in a language, in their order; each key with when it was read."""
    wanted = {(key.chain_id, key.seq) for key, _ in keys}
    rows = select(AuditEvent).where(tuple_(AuditEvent.chain_id, AuditEvent.seq).in_(sorted(wanted)))
    events = {(row.chain_id, row.seq): row for row in session.scalars(rows)} if wanted else {}
    return [_matter(session, key, read_at, events[key.chain_id, key.seq], language) for key, read_at in keys]


def mails_of(person_id: str) -> tuple[ColumnElement[bool], ...]:
    """Return the SQL of "these rows are that person's notices", for any order of text that an engine may have.

    The bounds are for the index: ids begin with a digit below 9, and no order puts a digit behind a greater one.
    """
    prefix = f"{person_id}/"
    column = Mail.__table__.c.source_id
    return (
        Mail.source == MailSource.NOTICE.value,
        column >= prefix + "0",
        column < prefix + "9",
        func.substr(column, 1, len(prefix)) == prefix,
    )


def _matter(session: Session, key: MatterKey, read_at: datetime | None, row: AuditEvent, language: str) -> Matter:
    after = json.loads(row.body)["after"] or {}
    kind = matter_kind(row.action, after)
    facts = facts_of(session, Event(row.action, row.subject, after))
    assert kind is not None  # it was told, and what an audit event says never changes
    assert facts is not None
    says = {name: value for name, value in facts.says.items() if name != "firm" or key.side in _NAMES_FIRMS}
    text = render_matter(kind, key.side, says, language)
    return Matter(key.notice_id, kind, key.side, row.subject, row.at, read_at, text)


def _hearers(session: Session, kind: str, facts: Facts) -> dict[str, tuple[Side, bool]]:
    """Return who hears of it, as what, and whether by e-mail too; a manager of the host only as such."""
    sides = MATTERS[kind]
    asked = {"payer": facts.payer_org, "hosts": facts.host_ids, "persons": facts.person_ids}
    rows = session.execute(_who_hears(frozenset(sides)), asked).all()
    found: dict[str, tuple[Side, bool]] = {}
    for person_id, email, role, without_email in sorted(rows, key=lambda row: row.role != Role.LAB_MANAGER.value):
        side = _BY_ROLE.get(role, Side.PERSON)
        if person_id in facts.person_ids and Side.PERSON in sides:
            side = Side.PERSON
        if side in sides:
            wants = bool(email) and kind not in INBOX_ONLY and not (without_email and kind in json.loads(without_email))
            found.setdefault(person_id, (side, wants))
    return found


@cache
def _who_hears(sides: frozenset[Side]) -> Select[str, str | None, str, str]:
    """The query for the people on these sides; put together once, which costs more than the database's answer."""
    known: dict[Side, ColumnElement[bool]] = {
        Side.CUSTOMER: and_(RoleGrant.role == Role.SME.value, Person.org_id == bindparam("payer")),
        Side.MANAGER: and_(
            RoleGrant.role == Role.LAB_MANAGER.value, RoleGrant.host_scope.in_(bindparam("hosts", expanding=True))
        ),
        Side.COUNTY: RoleGrant.role == Role.COUNTY_OFFICER.value,
        Side.PERSON: Person.person_id.in_(bindparam("persons", expanding=True)),
    }
    return (
        select(Person.person_id, Person.email, RoleGrant.role, NoticePreference.without_email)
        .outerjoin(RoleGrant, RoleGrant.person_id == Person.person_id)
        .outerjoin(NoticePreference, NoticePreference.person_id == Person.person_id)
        .where(Person.active, or_(*(known[side] for side in sorted(sides))))
        .order_by(Person.person_id)
    )
