"""What the accounts endpoints take and give."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from api.schemas import Answer, Instant, Name, Question
from store.tables.accounts import Role

Scope = Literal["read", "write"]
Language = Literal["zh", "en"]


def _known_characters(login: str) -> str:
    lowered = login.lower()
    if not all(character.isascii() and (character.isalnum() or character in "._-@") for character in lowered):
        raise ValueError("a login name is made of letters, digits and . _ - @")
    return lowered


LoginName = Annotated[str, Field(min_length=3, max_length=64), AfterValidator(_known_characters)]
"""Lower case inside; people may type capitals."""

Email = Annotated[
    str,
    Field(max_length=254, pattern=r"^[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$"),
    AfterValidator(str.lower),
]
"""An address that letters can be sent to; lower case inside."""

NewPassword = Annotated[SecretStr, Field(min_length=10, max_length=200)]
Secret = Annotated[SecretStr, Field(min_length=8, max_length=200)]
"""A one-time token as it was handed over."""


class SignInAsked(Question):
    """A login name and its password."""

    login: LoginName
    password: Annotated[SecretStr, Field(max_length=200)]


class RoleGranted(Answer):
    """One role; `host_id` is set for a lab manager."""

    role: Role
    host_id: str | None


class Me(Answer):
    """Who is signed in and what they may do."""

    person_id: str
    name: str
    org_id: str
    roles: list[Role]
    host_ids: list[str]
    scopes: list[str]
    language: str


class SignedInAnswer(Answer):
    """The browser got a session cookie; this says whose it is and until when (real time)."""

    person_id: str
    name: str
    expires_at: Instant


class PersonAnswer(Answer):
    """Somebody who can sign in."""

    person_id: str
    login: str
    name: str
    org_id: str
    language: str
    email: str | None
    active: bool
    roles: list[RoleGranted]
    created_at: Instant
    row_version: int


class PersonCreated(PersonAnswer):
    """A new person. `first_password` is shown this once; a repeat of the request gives null: it is not stored."""

    first_password: str | None


class PasswordChange(Question):
    """The old password and the new one, at least 10 characters."""

    old: Annotated[SecretStr, Field(max_length=200)]
    new: NewPassword


class RoleAsked(Question):
    """A role to grant; a lab manager's names the host."""

    role: Role
    host_id: str = ""


class PersonAsked(Question):
    """Somebody who shall sign in. Their first password is made by the server."""

    login: LoginName
    name: Name
    org_id: str
    email: Email | None = None
    language: Language = "zh"
    roles: Annotated[list[RoleAsked], Field(max_length=10)] = []


class PersonEdit(Question):
    """Let a person in or keep them out. Nobody is deleted: their signature stands under facts."""

    active: bool


class EmailEdit(Question):
    """Where one's own letters go; null for nowhere."""

    email: Email | None
    password: Annotated[SecretStr, Field(max_length=200)]


class TokenAsked(Question):
    """A token for a program."""

    name: Name
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=2)] = ["read"]
    days: Annotated[int, Field(ge=1, le=3660)] = 90


class TokenAnswer(Answer):
    """A token or session as it can be seen later: never the secret itself. Times are real time.

    When and from which network address it was last used is known to five minutes.
    """

    token_id: str
    kind: Literal["session", "bearer"]
    name: str
    scopes: list[str]
    created_at: Instant
    expires_at: Instant
    revoked_at: Instant | None
    last_used_at: Instant | None
    last_used_from: str | None


class RevocationAsked(Question):
    """Which sign-ins end: browser sessions, tokens of programs, or both; `keep_current` spares the one that asks."""

    sessions: bool = True
    tokens: bool = True
    keep_current: bool = False


class RevocationAnswer(Answer):
    """How many sessions and tokens ended; those that had ended before do not count."""

    ended: int


class TokenCreated(TokenAnswer):
    """A new token. `token` is shown this once; a repeat of the same request gives null, because it is not stored."""

    token: str | None
