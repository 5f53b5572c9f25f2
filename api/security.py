"""Who is asking: passwords, tokens and the person behind them. Secrets are compared and stored as hashes only.

Sign-ins and tokens live in the machine's real time, whatever the demo's clock says.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

import structlog
from fastapi import Request
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import bindparam, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from api.errors import Refused
from api.work import Actor
from store.database import Database
from store.errors import StoreError
from store.tables.accounts import AccessToken, Person, Role, RoleGrant
from store.tables.registry import Org, OrgState
from store.types import UtcDateTime

_log = structlog.get_logger("openlab.security")

COOKIE = "openlab_session"
TOKEN_PREFIX = "olt_"
USE_NOTED_EVERY = timedelta(minutes=5)
"""How exactly it is known when a token was last used."""
PUBLIC_ACTOR = Actor("public", "public", "", frozenset(), frozenset(), frozenset({"read"}))


@dataclass(frozen=True)
class Credential:
    """What a request brought: the hash of its token, and whether a browser sent it by itself."""

    token_sha256: str
    from_cookie: bool


@dataclass(frozen=True)
class SignedIn:
    """The person behind a credential. `may_change` is false while their organisation is not active; `use_is_news`
    says that the last noted use of the token is a while ago."""

    actor: Actor
    token_id: str
    may_change: bool
    use_is_news: bool


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


# Asked with every request, so put together once: building a statement takes longer than the database's answer. Over
# tables, which costs half of what the same over classes does; one row a role, so that one statement tells all.
_TOKEN, _PERSON, _ORG, _GRANT = (each.__table__ for each in (AccessToken, Person, Org, RoleGrant))
_BY_TOKEN = (
    select(
        _TOKEN.c.token_id,
        _TOKEN.c.scopes,
        _TOKEN.c.last_used_at,
        _PERSON.c.person_id,
        _PERSON.c.name,
        _PERSON.c.org_id,
        _PERSON.c.language,
        _ORG.c.state,
        _GRANT.c.role,
        _GRANT.c.host_scope,
    )
    .select_from(_TOKEN)
    .join(_PERSON, _PERSON.c.person_id == _TOKEN.c.person_id)
    .join(_ORG, _ORG.c.org_id == _PERSON.c.org_id)
    .outerjoin(_GRANT, _GRANT.c.person_id == _PERSON.c.person_id)
    .where(
        _TOKEN.c.token_sha256 == bindparam("sha256"),
        _TOKEN.c.kind == bindparam("kind"),
        _TOKEN.c.revoked_at.is_(None),
        _TOKEN.c.expires_at > bindparam("now", type_=UtcDateTime),
        _PERSON.c.active,
    )
)
_GRANTS = select(RoleGrant.role, RoleGrant.host_scope).where(RoleGrant.person_id == bindparam("person"))


def sign_in(session: Session, credential: Credential, real_now: datetime) -> SignedIn | None:
    """Return who the credential belongs to; None where it is unknown, expired, revoked or the person deactivated.

    One statement, so that `Database.look` will do.
    """
    kind = "session" if credential.from_cookie else "bearer"
    asked = {"sha256": credential.token_sha256, "kind": kind, "now": real_now}
    rows = session.execute(_BY_TOKEN, asked).all()
    if not rows:
        return None
    found = rows[0]
    grants = [(row.role, row.host_scope) for row in rows if row.role is not None]
    scopes = frozenset(found.scopes.split())
    return SignedIn(
        _actor(found.person_id, found.name, found.org_id, found.language, grants, scopes),
        found.token_id,
        found.state == OrgState.ACTIVE,
        found.last_used_at is None or real_now - found.last_used_at >= USE_NOTED_EVERY,
    )


def actor_of(session: Session, person: Person, scopes: frozenset[str]) -> Actor:
    """Return a person as somebody who acts: with the roles that they hold now."""
    grants = session.execute(_GRANTS, {"person": person.person_id}).all()
    return _actor(person.person_id, person.name, person.org_id, person.language, grants, scopes)


def _actor(
    person_id: str, name: str, org_id: str, language: str, grants: Sequence[tuple[str, str]], scopes: frozenset[str]
) -> Actor:
    return Actor(
        person_id,
        name,
        org_id,
        frozenset(Role(role) for role, _ in grants),
        frozenset(host for role, host in grants if role == Role.LAB_MANAGER),
        scopes,
        language,
    )


def note_use(database: Database, token_id: str, address: str, real_now: datetime) -> None:
    """Note when and from where a token was used, in a transaction of its own; a busy database is logged, not raised:
    the answer that used it has gone out, and the next use is noted."""
    earlier = or_(AccessToken.last_used_at.is_(None), AccessToken.last_used_at < real_now)
    try:
        with database.write() as session:
            session.execute(
                update(AccessToken)
                .where(AccessToken.token_id == token_id, earlier)
                .values(last_used_at=real_now, last_used_from=address)
            )
    except (StoreError, SQLAlchemyError) as error:
        _log.warning("the use of a token was not noted", token=token_id, error=type(error).__name__)


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
    # 19 MiB, two passes, one lane: what OWASP asks for at least. The library's own 64 MiB and four lanes cost a sixth
    # of a second of both cores, which makes a handful of sign-ins at once a way to stop the service.
    return PasswordHash((Argon2Hasher(memory_cost=19_456, time_cost=2, parallelism=1),))


@cache
def _nobodys_hash() -> str:
    return hash_password(secrets.token_urlsafe(16))
