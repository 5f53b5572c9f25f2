"""Signing in with a password, and tokens for programs. All times here are real time, not the demo's."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from api.accounts import letters, one_time, repository
from api.accounts.service import wrong_login
from api.deps import Parts
from api.errors import forbidden, invalid, not_found
from api.security import hash_password, new_token, password_matches, token_hash
from api.work import Actor, Work
from store.audit import COUNTY_CHAIN, append_audit_event
from store.tables.accounts import AccessToken, LetterKind, Person, TokenPurpose
from wire.ids import new_ulid


@dataclass(frozen=True)
class NewSession:
    """A browser that has just signed in. `token` goes into its cookie and nowhere else."""

    token: str
    person_id: str
    name: str
    expires_at: datetime


def sign_in_with_password(parts: Parts, login: str, password: str, address: str) -> NewSession:
    """Open a session. Keeps its own transactions: a refused attempt is audited although nothing else happens.

    Takes the same time whether or not the login exists. Raises 401 `wrong_login`, and 429 `login_locked` or
    `too_many_requests` before any password is looked at.
    """
    parts.limiter.count_attempt(address, login)
    with parts.database.read() as session:
        person = repository.person_by_login(session, login)
        stored = person.password_hash if person is not None and person.active else None
    # Outside of any transaction: the hash is slow on purpose, and nobody should wait for it holding a lock.
    matches = password_matches(password, stored)
    if person is None or not matches:
        with parts.database.write() as session:
            _audit(session, parts, "public", "sign_in_refused", f"login:{login}", {"address": address})
        raise wrong_login()
    token, created_at = new_token(), parts.real_now()
    expires_at = created_at + timedelta(hours=parts.settings.session_hours)
    token_id = new_ulid()
    with parts.database.write() as session:
        session.add(
            AccessToken(
                token_id=token_id,
                token_sha256=token_hash(token),
                kind="session",
                name="browser",
                person_id=person.person_id,
                scopes="read write",
                created_at=created_at,
                expires_at=expires_at,
                revoked_at=None,
                last_used_at=created_at,
                last_used_from=address,
            )
        )
        parts.limiter.forgive(session, login)
        _audit(session, parts, person.person_id, "signed_in", f"token:{token_id}", {"address": address})
    return NewSession(token, person.person_id, person.name, expires_at)


def create_token(
    work: Work, *, name: str, scopes: list[str], days: int, days_max: int, real_now: datetime, made_with: str
) -> tuple[AccessToken, str]:
    """Make a token for a program that acts as the caller; return it with its secret, which is not kept.

    `made_with` is the caller's own session or token. What a token makes ends with it, at the latest when it expires,
    and makes none itself. Raises 403 `token_of_a_token`, 422 for more days than allowed, or for a scope that the
    caller's own sign-in does not have.
    """
    parent = work.session.get_one(AccessToken, made_with)
    if parent.kind == "bearer" and repository.MADE_BY in parent.token_id:
        raise forbidden(
            "由令牌创建的令牌不能再创建令牌;请登录后创建,或使用最初的令牌。",
            "A token that was made by a token makes none; sign in and make it, or use the first token.",
        )
    if days > days_max:
        raise invalid(
            "token_too_long",
            f"令牌有效期最长 {days_max} 天;请改短后重试。",
            f"A token lives at most {days_max} days; ask for fewer.",
            field="days",
            days_max=days_max,
        )
    missing = sorted(set(scopes) - work.actor.scopes)
    if missing:
        raise invalid(
            "scope_not_held",
            f"当前登录没有权限:{', '.join(missing)};请去掉,或用密码登录后创建。",
            f"Your own sign-in does not have: {', '.join(missing)}; leave it out, or sign in with your password first.",
            field="scopes",
        )
    secret, token_id, expires_at = new_token(), new_ulid(), real_now + timedelta(days=days)
    if parent.kind == "bearer":
        token_id, expires_at = f"{parent.token_id}{repository.MADE_BY}{token_id}", min(expires_at, parent.expires_at)
    token = AccessToken(
        token_id=token_id,
        token_sha256=token_hash(secret),
        kind="bearer",
        name=name,
        person_id=work.actor.person_id,
        scopes=" ".join(sorted(set(scopes))),
        created_at=real_now,
        expires_at=expires_at,
        revoked_at=None,
    )
    work.session.add(token)
    work.session.flush()
    after = {"name": name, "scopes": token.scopes, "days": days}
    work.audit("token_created", f"token:{token.token_id}", host_id=None, after=after)
    return token, secret


def revoke_token(work: Work, token_id: str, real_now: datetime, person_id: str | None = None) -> AccessToken:
    """End one token or session of a person, the caller where nobody is named, with the tokens that it made; harmless
    if it has ended.

    Raises 404 for a token of anybody else. Whose tokens the caller may end is the endpoint's rule.
    """
    person_id = person_id or work.actor.person_id
    token = work.session.get(AccessToken, token_id)
    if token is None or token.person_id != person_id:
        raise not_found("令牌", "token", token_id)
    if repository.revoke_tokens(work.session, real_now, person_id, token_id):
        work.session.refresh(token)
        work.audit("token_revoked", f"token:{token_id}", host_id=None)
    return token


def change_password(parts: Parts, actor: Actor, old: str, new: str, address: str) -> None:
    """Give somebody a new password and end all their sessions and tokens. Raises as `_prove`."""
    stored, password_hash = _prove(parts, actor, old, address), hash_password(new)
    with parts.database.write() as session:
        work = Work(session, actor, parts.now())
        person = _proven(work, parts, stored)
        set_password(work, person, password_hash, parts.real_now())


def set_email(parts: Parts, actor: Actor, password: str, email: str | None, address: str) -> None:
    """Say where somebody's letters go. It takes the password, because resets are sent there: those that were on their
    way to the old address are worth nothing. Raises as `_prove`."""
    stored = _prove(parts, actor, password, address)
    with parts.database.write() as session:
        work = Work(session, actor, parts.now())
        person = _proven(work, parts, stored)
        if person.email == email:
            return
        person.email = email
        person.row_version += 1
        session.flush()
        one_time.void(session, TokenPurpose.PASSWORD_RESET, person.person_id, parts.real_now())
        letters.settle(work, LetterKind.PASSWORD_RESET, person.person_id)
        # The address itself is no business of the audit chain, which is kept for ever.
        work.audit("email_changed", f"person:{person.person_id}", host_id=None)


def _prove(parts: Parts, actor: Actor, password: str, address: str) -> str:
    """Return the stored hash that a password fits. Counted and audited like a sign-in, or whoever found an open browser
    could try one password after the other here. Raises 401 `wrong_login`, 429 as `sign_in_with_password`."""
    with parts.database.read() as session:
        person = session.get_one(Person, actor.person_id)
    parts.limiter.count_attempt(address, person.login)
    # As for a sign-in, outside of any writing transaction.
    if person.password_hash is None or not password_matches(password, person.password_hash):
        with parts.database.write() as session:
            subject = f"person:{person.person_id}"
            _audit(session, parts, actor.person_id, "password_refused", subject, {"address": address})
        raise wrong_login()
    return person.password_hash


def _proven(work: Work, parts: Parts, stored: str) -> Person:
    """Return the caller's row, held; their failures are forgiven. Raises 401 where the password changed meanwhile."""
    person = repository.locked_person(work.session, work.actor.person_id)
    if person is None or person.password_hash != stored:
        raise wrong_login()
    parts.limiter.forgive(work.session, person.login)
    return person


def set_password(work: Work, person: Person, password_hash: str, real_now: datetime) -> None:
    """Give a person a new password; end all their sessions, tokens and resets. The caller has locked the row."""
    person.password_hash = password_hash
    person.row_version += 1
    work.session.flush()
    one_time.void(work.session, TokenPurpose.PASSWORD_RESET, person.person_id, real_now)
    work.audit("password_changed", f"person:{person.person_id}", host_id=None)
    revoke_all(work, person.person_id, real_now)


def revoke_all(
    work: Work, person_id: str, real_now: datetime, *, kind: str | None = None, but: str | None = None
) -> int:
    """End every token and session of a person (of one `kind`, all `but` one); return how many."""
    count = repository.revoke_tokens(work.session, real_now, person_id, kind=kind, but=but)
    if count:
        work.audit("tokens_revoked", f"person:{person_id}", host_id=None, after={"count": count})
    return count


def _audit(session: Session, parts: Parts, actor: str, action: str, subject: str, after: dict[str, str]) -> None:
    append_audit_event(
        session,
        chain_id=COUNTY_CHAIN,
        at=parts.now(),
        actor=actor,
        action=action,
        subject=subject,
        after=after,
    )
