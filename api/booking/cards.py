"""Whose card it is: issued to a person by a host for its instruments, or by the county for all; taken back by a fact.

A card is known by the keyed hash that readers make of its number; the number itself never comes here. Called by the
endpoints, and by `card_readings` to find who held it. Issuing again replaces nothing: the card has to be over first.
"""

from datetime import datetime

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from api.charging.access import SEE_ALL
from api.errors import Refused, conflict, forbidden, invalid, not_found
from api.work import Actor, Work
from store.tables.accounts import Person, Role
from store.tables.cards import AccessCard, CardReading, CardRevocation
from store.tables.registry import Host
from wire.ids import new_ulid

COUNTY = ""


def issue(
    work: Work, card_sha256: str, person_id: str, host_id: str | None, label: str, valid_to: datetime | None
) -> AccessCard:
    """Make a card a person's from now until `valid_to` (None: until it is taken back). `host_id` None: county-wide.

    By a lab manager of that host; county-wide by an officer. Refused: 403, 404, 409 `card_in_use`, 422.
    """
    _require(work, host_id)
    if valid_to is not None and valid_to <= work.now:
        raise invalid(
            "expired_already",
            "有效期须晚于现在;请更正有效期。",
            "A card has to be valid beyond now; give a later end.",
            field="valid_to",
        )
    if host_id is not None and work.session.get(Host, host_id) is None:
        raise not_found("依托单位", "host", host_id)
    # Locked: two that issue one card at once to one person wait for each other; to two, the numbering refuses one.
    person = work.session.get(Person, person_id, with_for_update={"key_share": True})
    if person is None or not person.active:
        raise not_found("用户", "person", person_id)
    scope = COUNTY if host_id is None else host_id
    before = _issued(work.session, card_sha256, scope)
    if before and is_valid(work.session, before[-1], work.now):
        raise conflict(
            "card_in_use",
            "该卡已发给用户并仍然有效;请先收回,再重新发放。",
            "This card is somebody's and still valid; take it back first.",
            card_id=before[-1].card_id,
            person_id=before[-1].person_id,
        )
    card = AccessCard(
        card_id=new_ulid(),
        card_sha256=card_sha256,
        host_scope=scope,
        issue_no=len(before) + 1,
        person_id=person_id,
        label=label.strip(),
        valid_from=work.now,
        valid_to=valid_to,
        issued_by=work.actor.person_id,
        issued_at=work.now,
    )
    work.session.add(card)
    work.session.flush()
    told = {"person": person_id, "valid_to": "" if valid_to is None else valid_to.isoformat(), "no": card.issue_no}
    work.audit("access_card.issued", f"access_card:{card.card_id}", host_id=host_id, after=told)
    return card


def revoke(work: Work, card_id: str, reason: str) -> AccessCard:
    """Take a card back from now on, by whoever may issue it. Refused: 404, 403, 409 `card_revoked`, 422."""
    card = _visible_card(work, card_id)
    _require(work, card.host_scope or None)
    if not reason.strip():
        raise invalid("reason_required", "请写明收回原因。", "Say why it is taken back.", field="reason")
    if work.session.get(CardRevocation, card_id) is not None:
        raise conflict(
            "card_revoked",
            "该卡已收回;请刷新,如仍需使用请另发新卡。",
            "This card was taken back already; issue another one if it is still wanted.",
            card_id=card_id,
        )
    work.session.add(
        CardRevocation(card_id=card_id, reason=reason.strip(), revoked_by=work.actor.person_id, revoked_at=work.now)
    )
    work.session.flush()
    said = {"reason": reason.strip()}
    work.audit("access_card.revoked", f"access_card:{card_id}", host_id=card.host_scope or None, after=said)
    return card


def is_valid(session: Session, card: AccessCard, at: datetime) -> bool:
    """Whether a card counted at an instant: issued, not expired and not taken back by then."""
    if at < card.valid_from or (card.valid_to is not None and at >= card.valid_to):
        return False
    gone = session.get(CardRevocation, card.card_id)
    return gone is None or at < gone.revoked_at


def known_at(session: Session, card_sha256: str, host_id: str) -> list[AccessCard]:
    """Return what was ever issued of a card for a host's instruments, the newest first; the host's own before the
    county's."""
    own, county = _issued(session, card_sha256, host_id), _issued(session, card_sha256, COUNTY)
    return [*reversed(own), *reversed(county)]


def seen_by(actor: Actor, person_id: str | None) -> Select[AccessCard]:
    """Return the selection of the cards that an actor may see: a manager its host's, the county all."""
    statement = select(AccessCard)
    if not actor.has(*SEE_ALL):
        statement = statement.where(AccessCard.host_scope.in_(sorted(actor.host_ids)))
    return statement if person_id is None else statement.where(AccessCard.person_id == person_id)


def readings_seen_by(actor: Actor, instrument_id: str | None) -> Select[CardReading]:
    """Return the selection of the readings that an actor may see: a manager its host's, the county all."""
    statement = select(CardReading)
    if not actor.has(*SEE_ALL):
        statement = statement.where(CardReading.host_id.in_(sorted(actor.host_ids)))
    return statement if instrument_id is None else statement.where(CardReading.instrument_id == instrument_id)


def _issued(session: Session, card_sha256: str, scope: str) -> list[AccessCard]:
    return list(
        session.scalars(
            select(AccessCard)
            .where(AccessCard.card_sha256 == card_sha256, AccessCard.host_scope == scope)
            .order_by(AccessCard.issue_no)
        )
    )


def _visible_card(work: Work, card_id: str) -> AccessCard:
    card = work.session.scalars(seen_by(work.actor, None).where(AccessCard.card_id == card_id)).one_or_none()
    if card is None:
        raise not_found("卡", "card", card_id)
    return card


def _require(work: Work, host_id: str | None) -> None:
    if work.actor.has(Role.COUNTY_OFFICER) or (host_id is not None and work.actor.manages(host_id)):
        return
    raise _not_yours(host_id)


def _not_yours(host_id: str | None) -> Refused:
    return forbidden(
        "实验室管理员只能发放、收回本单位仪器使用的卡(请填写 host_id);全县通用的卡由县级管理人员办理。",
        "A lab manager issues and takes back cards for its own host (name `host_id`);"
        " ask a county officer for a card of the whole county.",
        host_id=host_id or "",
    )
