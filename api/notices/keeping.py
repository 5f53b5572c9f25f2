"""Write what an event of a booking means for people: a row each in the inbox, and one in the outbox of e-mail.

Called by api/booking/notices.py in the transaction of the event; sends nothing, reads people and what they want.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, and_, bindparam, or_, select
from sqlalchemy.orm import Session

from api.booking.states import Party
from api.schemas import rfc3339
from api.work import Work
from store.canonical import canonical_json
from store.later import write_later
from store.tables.accounts import Person, Role, RoleGrant
from store.tables.calendar import Booking
from store.tables.notices import Mail, MailSource, MailState, Notice, NoticeParty, NoticePreference
from wire.ids import new_ulid

_HEARERS = "notice_hearers"


@dataclass(frozen=True)
class Hearer:
    """Somebody who is told of a booking. `without_email`: kinds that they do not want as e-mail."""

    person_id: str
    party: NoticeParty
    has_email: bool
    without_email: frozenset[str]


def _speakers() -> Select[Any]:
    """Managers of the host, and of the payer whoever booked and who wants to hear of everything; all of it where
    somebody else booked."""
    person, grant, wishes = (each.__table__ for each in (Person, RoleGrant, NoticePreference))
    booker, held = person.alias(), grant.alias()
    booked_itself = (
        select(booker.c.person_id)
        .join(held, held.c.person_id == booker.c.person_id)
        .where(
            booker.c.person_id == bindparam("booker"),
            booker.c.active,
            booker.c.org_id == bindparam("payer"),
            held.c.role == Role.SME.value,
        )
    )
    hears = or_(person.c.person_id == bindparam("booker"), wishes.c.firm_bookings, ~booked_itself.exists())
    return (
        select(person.c.person_id, person.c.email, grant.c.role, wishes.c.without_email)
        .join(grant, grant.c.person_id == person.c.person_id)
        .outerjoin(wishes, wishes.c.person_id == person.c.person_id)
        .where(
            person.c.active,
            or_(
                and_(grant.c.role == Role.SME.value, person.c.org_id == bindparam("payer"), hears),
                and_(grant.c.role == Role.LAB_MANAGER.value, grant.c.host_scope == bindparam("host")),
            ),
        )
        .order_by(person.c.person_id)
    )


# Asked with every booking, so put together once, in one statement and over tables, which costs half of what it costs
# over classes.
_SPEAKERS = _speakers()


def hearers_of(session: Session, booking: Booking) -> tuple[Hearer, ...]:
    """Return who hears of a booking, a manager of the host only as such.

    For the customer: who booked, where they act for the payer, and members of the firm who asked for all its bookings;
    where somebody else booked for the firm, everybody of it.
    """
    asked = {"payer": booking.payer_org, "host": booking.host_id, "booker": booking.person_id}
    rows = session.execute(_SPEAKERS, asked).all()
    managers = {row.person_id for row in rows if row.role == Role.LAB_MANAGER.value}
    found = {}
    for person_id, email, role, without_email in rows:
        if role == Role.SME.value and person_id in managers:
            continue
        party = NoticeParty.MANAGER if role == Role.LAB_MANAGER.value else NoticeParty.CUSTOMER
        muted = frozenset(json.loads(without_email)) if without_email else frozenset()
        found[person_id] = Hearer(person_id, party, bool(email), muted)
    return tuple(found.values())


def tell(
    work: Work, booking: Booking, kind: str, event_no: int, to: Iterable[Party], facts: Mapping[str, object]
) -> None:
    """Write the notices of an event, in its transaction. Whoever did it is not told; nor is anybody twice.

    Of the `facts` of the event only another slot that is proposed is kept.
    """
    parties = {party.value for party in to}
    did_it = work.actor.person_id.rpartition(":")[2]  # `system:consent:p-a` did what p-a agreed to
    slot = {"slot_from": rfc3339(booking.slot_from), "slot_to": rfc3339(booking.slot_to)}
    asked = {f"asked_{name}": str(facts[name]) for name in slot if name in facts and facts[name] != slot[name]}
    said = canonical_json(slot | asked).decode()
    for hearer in _hearers(work.session, booking):
        if hearer.party.value not in parties or hearer.person_id == did_it:
            continue
        notice_id = new_ulid()
        row = {
            "notice_id": notice_id,
            "person_id": hearer.person_id,
            "party": hearer.party.value,
            "kind": kind,
            "booking_id": booking.booking_id,
            "event_no": event_no,
            "facts": said,
            "at": work.now,
            "read_at": None,
        }
        write_later(work.session, Notice, row)
        if hearer.has_email and kind not in hearer.without_email:
            work.session.add(new_mail(work, MailSource.NOTICE, notice_id))


def new_mail(work: Work, source: MailSource, source_id: str) -> Mail:
    """Return a row for the outbox, due at once."""
    return Mail(
        source=source.value,
        source_id=source_id,
        state=MailState.WAITING.value,
        written_at=work.now,
        next_at=work.now,
        attempts=0,
        last_error="",
        ended_at=None,
    )


def _hearers(session: Session, booking: Booking) -> Sequence[Hearer]:
    # Booking and confirming by rule are two events of one transaction: who hears of them is asked once.
    known: dict[str, Sequence[Hearer]] = session.info.setdefault(_HEARERS, {})
    if booking.booking_id not in known:
        known[booking.booking_id] = hearers_of(session, booking)
    return known[booking.booking_id]
