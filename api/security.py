"""Who is asking: passwords, tokens and the person behind them. Secrets are compared and stored as hashes only.

Sign-ins and tokens live in the machine's real time, whatever the demo's clock says.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from fastapi import Request
from pwdlib import PasswordHash
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.errors import Refused
from api.work import Actor
from store.tables.accounts import AccessToken, Person, Role, RoleGrant
from store.tables.registry import Org, OrgState

COOKIE = "openlab_session"
TOKEN_PREFIX = "olt_"
PUBLIC_ACTOR = Actor("public", "public", "", frozenset(), frozenset(), frozenset({"read"}))


@dataclass(frozen=True)
class Credential:
    """What a request brought: the hash of its token, and whether a browser sent it by itself."""

    token_sha256: str
    from_cookie: bool


@dataclass(frozen=True)
class SignedIn:
    """The person behind a credential. `may_change` is false while their organisation is not active."""

    actor: Actor
    token_id: str
    may_change: bool


def new_token() -> str:
    """Return a fresh random token (256 bits)."""
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def token_hash(token: str) -> str:
    """Return the form in which a token is stored. Plain SHA-256: the token itself is random, not a word."""
    return hashlib.sha256(token.encode()).hexdigest()


def hash_password(password: str) -> str:
    """Return the argon2id hash of a password."""
    return _hasher().hash(password)


def password_matches(password: str, stored: str | None) -> bool:
    """Whether a password is right. Takes the same time where there is no such person (`stored` is None)."""
    matches = _hasher().verify(password, stored if stored is not None else _nobodys_hash())
    return matches and stored is not None


def credential_of(request: Request) -> Credential | None:
    """Return what the request brought. A bearer token goes before the cookie. Raises 401 for another scheme."""
    header = request.headers.get("authorization")
    if header is not None:
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise not_signed_in()
        return Credential(token_hash(token.strip()), from_cookie=False)
    cookie = request.cookies.get(COOKIE)
    return Credential(token_hash(cookie), from_cookie=True) if cookie else None


def sign_in(session: Session, credential: Credential, real_now: datetime) -> SignedIn | None:
    """Return who the credential belongs to; None where it is unknown, expired, revoked or the person deactivated."""
    row = session.execute(
        select(AccessToken, Person, Org.state)
        .join(Person, Person.person_id == AccessToken.person_id)
        .join(Org, Org.org_id == Person.org_id)
        .where(
            AccessToken.token_sha256 == credential.token_sha256,
            AccessToken.kind == ("session" if credential.from_cookie else "bearer"),
            AccessToken.revoked_at.is_(None),
            AccessToken.expires_at > real_now,
            Person.active,
        )
    ).one_or_none()
    if row is None:
        return None
    token, person, org_state = row
    grants = session.execute(
        select(RoleGrant.role, RoleGrant.host_scope).where(RoleGrant.person_id == person.person_id)
    ).all()
    actor = Actor(
        person.person_id,
        person.name,
        person.org_id,
        frozenset(Role(role) for role, _ in grants),
        frozenset(host for role, host in grants if role == Role.LAB_MANAGER),
        frozenset(token.scopes.split()),
        person.language,
    )
    return SignedIn(actor, token.token_id, org_state == OrgState.ACTIVE)


def not_signed_in() -> Refused:
    """401: no credential, or one that is not valid (any more)."""
    return Refused(
        401,
        "not_signed_in",
        "请先登录(登录可能已过期或被撤销)。",
        "Sign in first; the sign-in or token may have expired or been revoked.",
    )


@cache
def _hasher() -> PasswordHash:
    return PasswordHash.recommended()


@cache
def _nobodys_hash() -> str:
    return hash_password(secrets.token_urlsafe(16))
