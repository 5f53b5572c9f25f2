"""Notices that are not about a booking: from an audit event to the people it concerns, in the event's transaction.

Called by `Work.audit`. One notice for each person, which names the audit event: what was said stays in the audit chain,
which never changes, so nothing is kept twice, and no event tells anybody twice. An e-mail beside it, for who has an
address and wants that kind.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Select, String, and_, bindparam, or_, select
from sqlalchemy.orm import Session

from api.notices.concerns import INBOX_ONLY, MATTERS, matter_kind
from api.notices.keeping import new_mail
from api.notices.matter_facts import Event, Facts, facts_of
from api.notices.texts import Rendered, render_matter
from api.work import Work
from store.keyed import KEYS_AT_ONCE, keys_to_join
from store.tables.accounts import Person, Role, RoleGrant
from store.tables.audit import AuditEvent
from store.tables.notices import MailSource, Notice, NoticeParty, NoticePreference
from wire.ids import new_ulid

_NAMES_FIRMS = frozenset({NoticeParty.MANAGER, NoticeParty.COUNTY})
_BY_ROLE = {
    Role.LAB_MANAGER.value: NoticeParty.MANAGER,
    Role.SME.value: NoticeParty.CUSTOMER,
    Role.COUNTY_OFFICER.value: NoticeParty.COUNTY,
}


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
        notice = Notice(
            notice_id=new_ulid(),
            person_id=person_id,
            party=side.value,
            kind=kind,
            booking_id=None,
            event_no=None,
            chain_id=chain_id,
            seq=seq,
            facts="",
            at=work.now,
            read_at=None,
        )
        work.session.add(notice)
        if wants_mail:
            work.session.add(new_mail(work, MailSource.NOTICE, notice.notice_id))


def matters_of(session: Session, notices: Sequence[Notice], language: str) -> list[tuple[str, Rendered]]:
    """Return of each such notice, in their order, what it is about (`noun:id`) and its text in a language."""
    events: dict[tuple[str, int], AuditEvent] = {}
    keys = sorted({(str(notice.chain_id), int(notice.seq or 0)) for notice in notices})
    for start in range(0, len(keys), KEYS_AT_ONCE):
        wanted = keys_to_join({"chain_id": String(), "seq": BigInteger()}, keys[start : start + KEYS_AT_ONCE])
        told = and_(AuditEvent.chain_id == wanted.c.chain_id, AuditEvent.seq == wanted.c.seq)
        for row in session.scalars(select(AuditEvent).join(wanted, told)):
            events[row.chain_id, row.seq] = row
    return [_told(session, notice, events[str(notice.chain_id), int(notice.seq or 0)], language) for notice in notices]


def _told(session: Session, notice: Notice, row: AuditEvent, language: str) -> tuple[str, Rendered]:
    facts = facts_of(session, Event(row.action, row.subject, json.loads(row.body)["after"] or {}))
    assert facts is not None  # it was told, and what an audit event says never changes
    side = NoticeParty(notice.party)
    says = {name: value for name, value in facts.says.items() if name != "firm" or side in _NAMES_FIRMS}
    return row.subject, render_matter(notice.kind, side, says, language)


def _hearers(session: Session, kind: str, facts: Facts) -> dict[str, tuple[NoticeParty, bool]]:
    """Return who hears of it, as what, and whether by e-mail too; a manager of the host only as such."""
    sides = MATTERS[kind]
    asked = {"payer": facts.payer_org, "hosts": facts.host_ids, "persons": facts.person_ids}
    rows = session.execute(_who_hears(frozenset(sides)), asked).all()
    found: dict[str, tuple[NoticeParty, bool]] = {}
    for person_id, email, role, without_email in sorted(rows, key=lambda row: row.role != Role.LAB_MANAGER.value):
        side = _BY_ROLE.get(role, NoticeParty.PERSON)
        if person_id in facts.person_ids and NoticeParty.PERSON in sides:
            side = NoticeParty.PERSON
        if side in sides:
            wants = bool(email) and kind not in INBOX_ONLY and not (without_email and kind in json.loads(without_email))
            found.setdefault(person_id, (side, wants))
    return found


@cache
def _who_hears(sides: frozenset[NoticeParty]) -> Select[str, str | None, str, str]:
    """The query for the people on these sides; put together once, which costs more than the database's answer."""
    known: dict[NoticeParty, ColumnElement[bool]] = {
        NoticeParty.CUSTOMER: and_(RoleGrant.role == Role.SME.value, Person.org_id == bindparam("payer")),
        NoticeParty.MANAGER: and_(
            RoleGrant.role == Role.LAB_MANAGER.value, RoleGrant.host_scope.in_(bindparam("hosts", expanding=True))
        ),
        NoticeParty.COUNTY: RoleGrant.role == Role.COUNTY_OFFICER.value,
        NoticeParty.PERSON: Person.person_id.in_(bindparam("persons", expanding=True)),
    }
    return (
        select(Person.person_id, Person.email, RoleGrant.role, NoticePreference.without_email)
        .outerjoin(RoleGrant, RoleGrant.person_id == Person.person_id)
        .outerjoin(NoticePreference, NoticePreference.person_id == Person.person_id)
        .where(Person.active, or_(*(known[side] for side in sorted(sides))))
        .order_by(Person.person_id)
    )
