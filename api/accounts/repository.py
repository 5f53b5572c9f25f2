"""The SQL of accounts: people, their roles, their tokens."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from api.pagination import PageAsked, paginate
from store.tables.accounts import AccessToken, Person, Role, RoleGrant


def person_by_login(session: Session, login: str) -> Person | None:
    """Return the person with this login name (lower case)."""
    return session.scalars(select(Person).where(Person.login == login)).one_or_none()


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


def tokens_of(session: Session, person_id: str, page: PageAsked) -> tuple[list[AccessToken], str | None]:
    """Return a page of a person's program tokens, revoked ones included."""
    wanted = select(AccessToken).where(AccessToken.person_id == person_id, AccessToken.kind == "bearer")
    return paginate(session, wanted, (AccessToken.token_id,), page)


def revoke_tokens(session: Session, real_now: datetime, person_id: str, token_id: str | None = None) -> int:
    """Revoke a person's tokens and sessions (or one of them) that are not revoked yet; return how many."""
    wanted = [AccessToken.person_id == person_id, AccessToken.revoked_at.is_(None)]
    if token_id is not None:
        wanted.append(AccessToken.token_id == token_id)
    found = session.scalars(
        update(AccessToken).where(*wanted).values(revoked_at=real_now).returning(AccessToken.token_id)
    ).all()
    return len(found)
