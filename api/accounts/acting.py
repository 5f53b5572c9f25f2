"""Who acts in a command: a person, by login (`--as LOGIN`). Used by the commands of every domain.

The database is open to whoever runs commands; the name given stands under what is done, and the two-person rule holds
here as everywhere.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.orm import Session

from api.accounts import repository
from api.command_line import Ledger
from api.errors import not_found
from api.security import actor_of
from api.work import Work
from store.tables.accounts import Person


@contextmanager
def acting_as(ledger: Ledger, login: str | None) -> Iterator[Work]:
    """One changing transaction in the name of a person, or of the system without a login; commits when the block ends.

    Refused 404 where nobody active has the login.
    """
    with ledger.unit("command") as work:
        if login is None:
            yield work
        else:
            actor = actor_of(work.session, active_person(work.session, login), frozenset({"read", "write"}))
            yield Work(work.session, actor, work.now)


def active_person(session: Session, login: str) -> Person:
    """Return the active person with a login. Refused 404."""
    person = repository.person_by_login(session, login.lower())
    if person is None or not person.active:
        raise not_found("在用账号", "active person with the login", login)
    return person
