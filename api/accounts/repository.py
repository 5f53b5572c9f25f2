"""The SQL of accounts: people, their roles, their tokens."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.orm import Session

from api.pagination import PageAsked, paginate
from store.tables.accounts import AccessToken, Invitation, Person, Registration, RegistrationState, Role, RoleGrant
from store.tables.audit import AuditEvent
from store.tables.registry import Org

MADE_BY = "."
"""Stands in a token's id between that of the token it was made with and its own."""


def person_by_login(session: Session, login: str) -> Person | None:
    """Return the person with this login name (lower case)."""
    return session.scalars(select(Person).where(Person.login == login)).one_or_none()


def people_called(session: Session, login_or_email: str) -> list[Person]:
    """Return the active people with this login name or this e-mail address (lower case)."""
    wanted = select(Person).where(or_(Person.login == login_or_email, Person.email == login_or_email), Person.active)
    return list(session.scalars(wanted.order_by(Person.person_id)))


def contact_of(session: Session, org_id: str) -> str | None:
    """Return who speaks for an organisation: of its active people the one who has been there longest.

    Whoever came from a registration of their own that was joined to it has been there since that decision."""
    joined = and_(Registration.person_id == Person.person_id, Registration.state == RegistrationState.JOINED.value)
    since = func.coalesce(Registration.decided_at, Person.created_at)
    wanted = select(Person.person_id).outerjoin(Registration, joined).where(Person.org_id == org_id, Person.active)
    came_later = Registration.registration_id.is_not(None)
    found: str | None = session.scalar(wanted.order_by(since, came_later, Person.created_at, Person.person_id).limit(1))
    return found


def was_shown_password(session: Session, giver_id: str, person_id: str) -> bool:
    """Whether somebody made the account of a person, or a reset of its password, with their own hands, or was shown the
    token of the invitation that it was made with."""
    shown = select(Invitation.invitation_id).where(
        Invitation.accepted_by == person_id,
        Invitation.invited_by == giver_id,
        Invitation.role == Role.SME.value,
        Invitation.email.is_not(None),
    )
    if session.scalar(shown.limit(1)) is not None:
        return True
    wanted = select(AuditEvent.seq).where(
        AuditEvent.subject == f"person:{person_id}",
        AuditEvent.actor == giver_id,
        AuditEvent.action.in_(("person_created", "reset_issued")),
    )
    return session.scalar(wanted.limit(1)) is not None


def has_admin(session: Session) -> bool:
    """Whether anybody active is an admin."""
    wanted = select(Person.person_id).join(RoleGrant, RoleGrant.person_id == Person.person_id)
    return session.scalar(wanted.where(RoleGrant.role == Role.ADMIN.value, Person.active).limit(1)) is not None


def org_with_code(session: Session, uscc: str) -> Org | None:
    """Return the organisation that this social credit code belongs to, by an officer's word."""
    return session.scalars(select(Org).where(Org.uscc == uscc)).one_or_none()


def locked_person(session: Session, person_id: str) -> Person | None:
    """Return a person, held until the transaction ends."""
    return session.scalars(select(Person).where(Person.person_id == person_id).with_for_update()).one_or_none()


def people_of(session: Session, org_id: str, page: PageAsked) -> tuple[list[Person], str | None]:
    """Return a page of the people of an organisation."""
    return paginate(session, select(Person).where(Person.org_id == org_id), (Person.person_id,), page)


def roles_of(session: Session, person_ids: Iterable[str]) -> dict[str, list[tuple[Role, str]]]:
    """Return the roles of people as (role, host id or ''), sorted."""
    rows = session.execute(
        select(RoleGrant.person_id, RoleGrant.role, RoleGrant.host_scope)
        .where(RoleGrant.person_id.in_(list(person_ids)))
        .order_by(RoleGrant.person_id, RoleGrant.role, RoleGrant.host_scope)
    )
    found: dict[str, list[tuple[Role, str]]] = defaultdict(list)
    for person_id, role, host in rows:
        found[person_id].append((Role(role), host))
    return found


def remove_role(session: Session, person_id: str, role: Role, host_id: str) -> bool:
    """Take a role away; return whether it was held."""
    wanted = (RoleGrant.person_id == person_id, RoleGrant.role == role.value, RoleGrant.host_scope == host_id)
    gone = session.scalars(delete(RoleGrant).where(*wanted).returning(RoleGrant.person_id)).all()
    return bool(gone)


def tokens_of(
    session: Session, person_id: str, kind: str | None, page: PageAsked
) -> tuple[list[AccessToken], str | None]:
    """Return a page of a person's `session`s, `bearer` tokens or (None) both, the newest first, ended ones included."""
    wanted = select(AccessToken).where(AccessToken.person_id == person_id)
    if kind is not None:
        wanted = wanted.where(AccessToken.kind == kind)
    return paginate(session, wanted, (AccessToken.created_at, AccessToken.token_id), page, descending=True)


def revoke_tokens(
    session: Session,
    real_now: datetime,
    person_id: str,
    token_id: str | None = None,
    *,
    kind: str | None = None,
    but: str | None = None,
) -> int:
    """Revoke a person's tokens and sessions (one of them with those it made, those of a kind, all but one); return how
    many were."""
    wanted = [AccessToken.person_id == person_id, AccessToken.revoked_at.is_(None)]
    if token_id is not None:
        made = AccessToken.token_id.startswith(token_id + MADE_BY, autoescape=True)
        wanted.append(or_(AccessToken.token_id == token_id, made))
    if kind is not None:
        wanted.append(AccessToken.kind == kind)
    if but is not None:
        wanted.append(AccessToken.token_id != but)
    found = session.scalars(
        update(AccessToken).where(*wanted).values(revoked_at=real_now).returning(AccessToken.token_id)
    ).all()
    return len(found)
