"""What has to reach a person outside of the pages: written here with its cause, sent by whoever delivers letters.

`write` puts a letter on the list, in the transaction of its cause. A sender takes `waiting` ones, calls `open_letter`
in a transaction of its own, commits, then sends what it got (`put_back` where that failed). A letter holds no secret:
a reset or an invitation gets its token when it is opened, so the database never keeps one that can be read.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from api.accounts import one_time
from api.pagination import PageAsked, paginate
from api.work import Work
from store.canonical import canonical_json
from store.tables.accounts import Invitation, Letter, LetterKind, Person, TokenPurpose
from wire.ids import new_ulid


@dataclass(frozen=True)
class OpenedLetter:
    """A letter as it is sent. `secret` is its one-time token, with the end of its life, where it has one."""

    letter_id: str
    kind: LetterKind
    address: str
    language: str
    name: str
    login: str
    facts: dict[str, str]
    secret: str | None = field(repr=False)
    expires_at: datetime | None


def write(
    work: Work,
    kind: LetterKind,
    subject_id: str,
    *,
    person_id: str | None,
    address: str,
    language: str,
    facts: dict[str, str] | None = None,
) -> Letter:
    """Put a letter on the list. `facts` are shown to the reader; they hold no secret. `address` may be '' (no e-mail is
    known): then it waits until somebody hands over what it says."""
    letter = Letter(
        letter_id=new_ulid(),
        kind=kind.value,
        subject_id=subject_id,
        person_id=person_id,
        address=address,
        language=language,
        facts=canonical_json(facts or {}).decode(),
        written_at=work.now,
        opened_at=None,
        opened_by=None,
    )
    work.session.add(letter)
    work.session.flush()
    return letter


def waiting(session: Session, limit: int = 100) -> Sequence[Letter]:
    """Return letters with an address that nobody has opened, the oldest first."""
    wanted = select(Letter).where(Letter.opened_at.is_(None), Letter.address != "")
    return session.scalars(wanted.order_by(Letter.letter_id).limit(limit)).all()


def listed(session: Session, only_waiting: bool, page: PageAsked) -> tuple[list[Letter], str | None]:
    """Return a page of the letters, the oldest first, also those without an address."""
    wanted = select(Letter).where(Letter.opened_at.is_(None)) if only_waiting else select(Letter)
    return paginate(session, wanted, (Letter.letter_id,), page)


def open_letter(work: Work, letter_id: str, real_now: datetime, *, reset_for: timedelta) -> OpenedLetter | None:
    """Take a letter to send it, with a fresh token where it is about one; `reset_for` is how long a reset is good.

    None where somebody else took it, or it is about nothing any more: then it is off the list."""
    taken = work.session.execute(
        update(Letter)
        .where(Letter.letter_id == letter_id, Letter.opened_at.is_(None))
        .values(opened_at=work.now, opened_by=work.actor.person_id)
        .returning(Letter.letter_id)
    ).one_or_none()
    if taken is None:
        return None
    letter = work.session.get_one(Letter, letter_id)
    person = None if letter.person_id is None else work.session.get(Person, letter.person_id)
    if person is not None and not person.active:
        return None
    kind, secret, expires_at = LetterKind(letter.kind), None, None
    by = work.actor.person_id
    if kind is LetterKind.PASSWORD_RESET:
        purpose = TokenPurpose.PASSWORD_RESET
        secret, expires_at = one_time.issue(
            work.session, purpose, letter.subject_id, by=by, real_now=real_now, good_for=reset_for
        )
    elif kind is LetterKind.INVITATION:
        offer = work.session.get_one(Invitation, letter.subject_id)
        if offer.accepted_at is not None or offer.withdrawn_at is not None or offer.expires_at <= real_now:
            return None
        purpose, left = TokenPurpose.INVITATION, offer.expires_at - real_now
        secret, expires_at = one_time.issue(
            work.session, purpose, letter.subject_id, by=by, real_now=real_now, good_for=left
        )
    return OpenedLetter(
        letter_id,
        kind,
        letter.address,
        letter.language,
        person.name if person is not None else "",
        person.login if person is not None else "",
        json.loads(letter.facts),
        secret,
        expires_at,
    )


def put_back(session: Session, letter_id: str) -> None:
    """Put a letter that could not be sent on the list again; it gets another token when it is opened again."""
    session.execute(update(Letter).where(Letter.letter_id == letter_id).values(opened_at=None, opened_by=None))


def settle(work: Work, kind: LetterKind, subject_id: str) -> None:
    """Take the letters about something off the list: somebody has said it in person."""
    waits = (Letter.kind == kind.value, Letter.subject_id == subject_id, Letter.opened_at.is_(None))
    work.session.execute(update(Letter).where(*waits).values(opened_at=work.now, opened_by=work.actor.person_id))
