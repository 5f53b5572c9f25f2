"""Who acts in a command: a person of the county, by login. The database is open to whoever runs commands; the name
given stands under what is done, and the two-person rule holds here as everywhere."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.command_line import Ledger
from api.errors import not_found
from api.work import Actor, Work
from store.tables.accounts import Person, Role, RoleGrant


def actor_by_login(session: Session, login: str) -> Actor:
    """Return the active person with this login and their roles. Refused 404."""
    person = session.execute(select(Person).where(Person.login == login, Person.active)).scalar_one_or_none()
    if person is None:
        raise not_found("用户", "active person with the login", login)
    grants = session.execute(
        select(RoleGrant.role, RoleGrant.host_scope).where(RoleGrant.person_id == person.person_id)
    ).all()
    return Actor(
        person.person_id,
        person.name,
        person.org_id,
        frozenset(Role(role) for role, _ in grants),
        frozenset(host for role, host in grants if role == Role.LAB_MANAGER),
        language=person.language,
    )


@contextmanager
def acting_as(ledger: Ledger, login: str) -> Iterator[Work]:
    """One changing transaction in the name of a person; commits when the block ends."""
    with ledger.unit("command") as work:
        yield Work(work.session, actor_by_login(work.session, login), work.now)
