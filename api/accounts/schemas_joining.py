"""What the endpoints of registration, invitation, password reset and letters take and give."""

from typing import Annotated, Any, Self

from pydantic import Field

from api.accounts.invitations import Accepted
from api.accounts.registrations import Verdict
from api.accounts.schemas import Email, Language, LoginName, NewPassword, Secret
from api.schemas import Answer, Instant, Name, Question
from store.tables.accounts import LetterKind, RegistrationState, Role
from store.tables.registry import OrgKind

LoginWish = Annotated[LoginName, Field(max_length=40)]
Reason = Annotated[str, Field(max_length=500)]


class FirmAsked(Question):
    """A firm or institution that wants to take part."""

    uscc: Annotated[str, Field(max_length=30, description="统一社会信用代码, 18 characters")]
    kind: OrgKind = OrgKind.SME
    name_zh: Name
    name_en: Annotated[str, Field(max_length=200)] = ""
    note: Annotated[str, Field(max_length=1000, description="Anything the county should know")] = ""


class RegistrationAsked(FirmAsked):
    """A firm with its first person. The login name is made from `login`: four characters are put behind it."""

    login: LoginWish
    name: Name
    email: Email | None = None
    language: Language = "zh"
    password: NewPassword


class RegistrationAnswer(Answer):
    """A registration as its firm and the county see it."""

    registration_id: str
    org_id: str
    person_id: str
    uscc: str
    kind: OrgKind
    name_zh: str
    name_en: str
    note: str
    submitted_at: Instant
    state: RegistrationState
    reason: str
    decided_at: Instant | None
    row_version: int


class RegistrationReceived(RegistrationAnswer):
    """A new registration. Sign in as `login` with the password given; until it is approved you may read only."""

    login: str

    @classmethod
    def of(cls, registration: Any, login: str) -> Self:
        """Return the answer to who has just registered."""
        return cls(**dict(RegistrationAnswer.model_validate(registration)), login=login)


class RegistrationSeen(RegistrationAnswer):
    """A registration as an officer sees it. `rivals`: others of the same code that wait; `known_org_id`: the
    organisation that has the code already, so that the person can only join it."""

    decided_by: str | None
    contact_name: str
    contact_email: str | None
    rivals: int
    known_org_id: str | None


class VerdictAsked(Question):
    """What the county decides; a rejection says why."""

    verdict: Verdict
    reason: Reason = ""


class StandingAsked(Question):
    """Whether an organisation may act; whoever is suspended reads only."""

    active: bool
    reason: Annotated[str, Field(min_length=1, max_length=500)]


class InvitationAsked(Question):
    """An offer of a role: to a new person by `email`, or to one who can sign in by `login`."""

    role: Role
    host_id: str = ""
    email: Email | None = None
    login: LoginName | None = None
    language: Language = "zh"


class InvitationAnswer(Answer):
    """An invitation, without its token. Times are real time."""

    invitation_id: str
    org_id: str
    role: Role
    host_id: str
    email: str | None
    login: str | None
    invited_by: str
    invited_at: Instant
    expires_at: Instant
    accepted_by: str | None
    accepted_at: Instant | None
    withdrawn_at: Instant | None

    @classmethod
    def of(cls, invitation: Any) -> "InvitationAnswer":
        """Return an invitation as it is shown."""
        return cls(
            **{name: getattr(invitation, name) for name in cls.model_fields if name not in {"host_id", "token"}},
            host_id=invitation.host_scope,
        )


class InvitationCreated(InvitationAnswer):
    """A new invitation. `token` is shown this once, to be handed over; a repeat of the request gives null, and so does
    an invitation by e-mail to be a lab manager, but an admin's: only the letter brings that one."""

    token: str | None


class TokenGiven(Question):
    """A one-time token."""

    token: Secret


class InvitationShown(Answer):
    """What an invitation offers, for whoever holds its token. With `for_login` only that person may accept it."""

    org_zh: str
    org_en: str
    role: Role
    host_id: str
    for_login: bool
    expires_at: Instant


class AcceptanceAsked(TokenGiven):
    """A new person. The login name is made from `login`: four characters are put behind it."""

    login: LoginWish
    name: Name
    password: NewPassword


class AcceptanceAnswer(Answer):
    """Who accepted, and the name to sign in with."""

    person_id: str
    login: str
    org_id: str
    waits_for_county: bool = Field(
        description="A lab manager proposed them: they have the role once a county officer appoints them"
    )

    @classmethod
    def of(cls, accepted: Accepted) -> "AcceptanceAnswer":
        """Return who accepted."""
        person = accepted.person
        return cls(
            person_id=person.person_id,
            login=person.login,
            org_id=person.org_id,
            waits_for_county=accepted.waits_for_county,
        )


class ResetAsked(Question):
    """Whose password is lost, by login name or e-mail address."""

    login: Annotated[str, Field(min_length=3, max_length=254)]


class ResetAnswer(Answer):
    """The same for everybody: whether there is such a person is not said."""

    zh: str
    en: str


class ResetMade(Answer):
    """A reset to hand over in person. `token` is shown this once; a repeat of the request gives null."""

    person_id: str
    login: str
    expires_at: Instant
    token: str | None


class ResetDone(TokenGiven):
    """The new password, at least 10 characters."""

    password: NewPassword


class LetterAnswer(Answer):
    """Something to be told to a person, without any secret. An empty `address` waits to be said in person."""

    letter_id: str
    kind: LetterKind
    subject_id: str
    person_id: str | None
    address: str
    written_at: Instant
    opened_at: Instant | None
