"""A new password for somebody who has lost theirs, by a token that works once.

Anybody may ask, and always gets the same answer. The token reaches the person by letter, or by the hand of an officer
or admin who knows them (`issue_by_hand`, `openlab accounts reset`). When it is used all sessions and tokens end.
"""

from datetime import datetime, timedelta

from sqlalchemy import select

from api.accounts import granting, letters, one_time, repository, tokens
from api.deps import Parts
from api.errors import forbidden, not_found
from api.security import PUBLIC_ACTOR, hash_password
from api.work import Work
from store.tables.accounts import Letter, LetterKind, OneTimeToken, Person, TokenPurpose

ASK_AGAIN_AFTER = timedelta(minutes=10)
"""How long after a letter about a reset the next one is written to the same person."""


def ask(work: Work, login_or_email: str, real_now: datetime) -> None:
    """Write a letter to everybody active with this login name or e-mail address. Never says whether there was one.

    While a letter waits, or soon after a token was made, no other is written.
    """
    for person in repository.people_called(work.session, login_or_email.strip().lower()):
        if not _was_told(work, person, real_now):
            letters.write(
                work,
                LetterKind.PASSWORD_RESET,
                person.person_id,
                person_id=person.person_id,
                address=person.email or "",
                language=person.language,
            )
            work.audit("reset_asked", f"person:{person.person_id}", host_id=None)


def issue_by_hand(work: Work, person_id: str, real_now: datetime, good_for: timedelta) -> tuple[Person, str, datetime]:
    """Make a reset to be handed over in person; return it with the end of its life. It is shown now or never.

    Raises 404 for nobody or somebody deactivated, 403 unless the caller may (see granting.may_reset).
    """
    person = work.session.get(Person, person_id)
    if person is None or not person.active:
        raise not_found("在用账号", "active person", person_id)
    held = [role for role, _ in repository.roles_of(work.session, [person_id])[person_id]]
    if not work.actor.is_system and not granting.may_reset(work.actor, held):
        raise forbidden(
            "县经办人只能为企业用户重置密码;其他人员请联系系统管理员办理。",
            "An officer makes resets for people of firms only; ask an admin for others.",
        )
    by = work.actor.person_id
    purpose = TokenPurpose.PASSWORD_RESET
    secret, expires_at = one_time.issue(work.session, purpose, person_id, by=by, real_now=real_now, good_for=good_for)
    letters.settle(work, LetterKind.PASSWORD_RESET, person_id)
    work.audit("reset_issued", f"person:{person_id}", host_id=None)
    return person, secret, expires_at


def complete(parts: Parts, secret: str, password: str, address: str) -> None:
    """Set a new password by a token, end all sessions and tokens, and unlock the login name.

    Keeps its own transactions: the slow hash is made outside of any, and only for a token that is good. Raises 422
    `token_not_valid`, 429.
    """
    parts.limiter.count_address(address)
    purpose = TokenPurpose.PASSWORD_RESET
    with parts.database.read() as session:
        one_time.look(session, purpose, secret, parts.real_now())
    password_hash = hash_password(password)
    with parts.database.write() as session:
        work = Work(session, PUBLIC_ACTOR, parts.now())
        person_id = one_time.spend(session, purpose, secret, parts.real_now())
        person = repository.locked_person(session, person_id)
        if person is None or not person.active:
            raise one_time.not_valid()
        tokens.set_password(work, person, password_hash, parts.real_now())
        parts.limiter.forgive(session, person.login)


def _was_told(work: Work, person: Person, real_now: datetime) -> bool:
    waits = select(Letter.letter_id).where(
        Letter.kind == LetterKind.PASSWORD_RESET.value,
        Letter.subject_id == person.person_id,
        Letter.opened_at.is_(None),
        Letter.address == (person.email or ""),
    )
    if work.session.scalars(waits.limit(1)).one_or_none() is not None:
        return True
    made = select(OneTimeToken.token_sha256).where(
        OneTimeToken.purpose == TokenPurpose.PASSWORD_RESET.value,
        OneTimeToken.subject_id == person.person_id,
        OneTimeToken.issued_at > real_now - ASK_AGAIN_AFTER,
    )
    return work.session.scalars(made.limit(1)).one_or_none() is not None
