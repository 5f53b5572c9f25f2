"""People, what they may do, and how they prove who they are. Secrets are kept hashed only."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from store.database import Base
from store.tables.columns import TextKey, one_of, refers_to
from store.tables.registry import Affiliation, OrgKind


class Role(StrEnum):
    """What a person may do."""

    SME = "sme"
    LAB_MANAGER = "lab_manager"
    COUNTY_OFFICER = "county_officer"
    FINANCE = "finance"
    AUDITOR = "auditor"
    ADMIN = "admin"


class RegistrationState(StrEnum):
    """How far a firm's request to take part has come. `joined`: the firm was known, its person became a member."""

    PENDING = "pending"
    APPROVED = "approved"
    JOINED = "joined"
    REJECTED = "rejected"


class TokenPurpose(StrEnum):
    """What a one-time token opens."""

    PASSWORD_RESET = "password_reset"
    INVITATION = "invitation"


class LetterKind(StrEnum):
    """What a letter to a person is about; its subject is a person, an invitation or a registration."""

    PASSWORD_RESET = "password_reset"
    INVITATION = "invitation"
    REGISTRATION_DECIDED = "registration_decided"


class AttemptKind(StrEnum):
    """What is counted to be limited: by address, or failed sign-ins of a login name."""

    ADDRESS = "address"
    REGISTRATION = "registration"
    LOGIN = "login"


class AffiliationGround(StrEnum):
    """Why two organisations are affiliated: holding of 25 % or more, one controller, shared directors, or a sign of it
    (same legal person, address, telephone or bank account)."""

    HOLDING = "holding"
    SAME_CONTROLLER = "same_controller"
    SHARED_MANAGEMENT = "shared_management"
    SHARED_IDENTITY = "shared_identity"


class Person(Base):
    """Somebody who signs in. Deactivated, never deleted: their signature stands under facts.

    `email` (lower case) is where letters go; several people may share one.
    """

    __tablename__ = "person"
    person_id: Mapped[TextKey]
    login: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    org_id: Mapped[str] = refers_to("org.org_id", index=True)
    password_hash: Mapped[str | None]
    language: Mapped[str]
    active: Mapped[bool]
    created_at: Mapped[datetime]
    row_version: Mapped[int]
    email: Mapped[str | None] = mapped_column(default=None, index=True)


class RoleGrant(Base):
    """One role of a person; a lab manager's names the host it is bound to, other roles have host_id ''."""

    __tablename__ = "role_grant"
    person_id: Mapped[str] = refers_to("person.person_id", primary_key=True)
    role: Mapped[TextKey]
    host_scope: Mapped[TextKey]
    granted_by: Mapped[str]
    granted_at: Mapped[datetime]
    __table_args__ = (
        one_of("role", Role),
        CheckConstraint("(role = 'lab_manager') = (host_scope <> '')", name="managers_have_a_host"),
    )


class AccessToken(Base):
    """A signed-in browser (kind session) or a program (kind bearer). Times here are real time, not demo time.

    When and from which address it was last used is written at most every few minutes.
    """

    __tablename__ = "access_token"
    token_id: Mapped[TextKey]
    token_sha256: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]
    name: Mapped[str]
    person_id: Mapped[str] = refers_to("person.person_id", index=True)
    scopes: Mapped[str]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None] = mapped_column(default=None)
    last_used_from: Mapped[str | None] = mapped_column(default=None)
    __table_args__ = (CheckConstraint("kind IN ('session', 'bearer')", name="kind_known"),)


class IdempotencyKey(Base):
    """A creating request that has been answered; committed with its effect. The answer holds no secret."""

    __tablename__ = "idempotency_key"
    principal: Mapped[TextKey]
    route: Mapped[TextKey]
    key: Mapped[TextKey]
    request_sha256: Mapped[str]
    status: Mapped[int]
    answer: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime]


class Registration(Base):
    """A firm's request to take part. The code it names counts only when an officer has approved it: until then the
    organisation made for it carries a placeholder, so nobody can take a code away from the firm it belongs to."""

    __tablename__ = "registration"
    registration_id: Mapped[TextKey]
    org_id: Mapped[str] = refers_to("org.org_id", index=True)
    person_id: Mapped[str] = refers_to("person.person_id", index=True)
    uscc: Mapped[str] = mapped_column(index=True)
    kind: Mapped[str]
    name_zh: Mapped[str]
    name_en: Mapped[str]
    note: Mapped[str]
    submitted_at: Mapped[datetime]
    state: Mapped[str]
    reason: Mapped[str]
    decided_by: Mapped[str | None] = refers_to("person.person_id")
    decided_at: Mapped[datetime | None]
    row_version: Mapped[int]
    __table_args__ = (
        one_of("kind", OrgKind),
        one_of("state", RegistrationState),
        CheckConstraint(
            "(state = 'pending') = (decided_by IS NULL) AND (state = 'pending') = (decided_at IS NULL)",
            name="decided_by_somebody",
        ),
        CheckConstraint("state <> 'rejected' OR reason <> ''", name="rejected_with_reason"),
        Index(None, "state", "registration_id"),
    )


class Invitation(Base):
    """An offer of a role in an organisation, to a new person (`email`) or one who can sign in (`login`). Real time."""

    __tablename__ = "invitation"
    invitation_id: Mapped[TextKey]
    org_id: Mapped[str] = refers_to("org.org_id", index=True)
    role: Mapped[str]
    host_scope: Mapped[str]
    email: Mapped[str | None]
    login: Mapped[str | None]
    language: Mapped[str]
    invited_by: Mapped[str] = refers_to("person.person_id")
    invited_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    accepted_by: Mapped[str | None] = refers_to("person.person_id")
    accepted_at: Mapped[datetime | None]
    withdrawn_at: Mapped[datetime | None]
    __table_args__ = (
        one_of("role", Role),
        CheckConstraint("(role = 'lab_manager') = (host_scope <> '')", name="managers_have_a_host"),
        CheckConstraint("(email IS NULL) <> (login IS NULL)", name="to_one_person"),
        CheckConstraint("(accepted_by IS NULL) = (accepted_at IS NULL)", name="accepted_by_somebody"),
        CheckConstraint("accepted_at IS NULL OR withdrawn_at IS NULL", name="one_end"),
    )


class OneTimeToken(Base):
    """A secret that opens one thing once. Kept hashed; all tokens of a subject are spent together. Real time."""

    __tablename__ = "one_time_token"
    token_sha256: Mapped[TextKey]
    purpose: Mapped[str]
    subject_id: Mapped[str]
    issued_by: Mapped[str]
    issued_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    __table_args__ = (one_of("purpose", TokenPurpose), Index(None, "purpose", "subject_id"))


class Letter(Base):
    """Something to be told to a person, waiting to be sent. Holds no secret: that is made when it is opened."""

    __tablename__ = "letter"
    letter_id: Mapped[TextKey]
    kind: Mapped[str]
    subject_id: Mapped[str] = mapped_column(index=True)
    person_id: Mapped[str | None] = refers_to("person.person_id")
    address: Mapped[str]
    language: Mapped[str]
    facts: Mapped[str]
    written_at: Mapped[datetime]
    opened_at: Mapped[datetime | None]
    opened_by: Mapped[str | None]
    __table_args__ = (
        one_of("kind", LetterKind),
        CheckConstraint("(opened_at IS NULL) = (opened_by IS NULL)", name="opened_by_somebody"),
        Index(None, "opened_at", "letter_id"),
    )


class AttemptCount(Base):
    """How often something was tried since an instant; shared by all processes. Real time."""

    __tablename__ = "attempt_count"
    kind: Mapped[TextKey]
    key: Mapped[TextKey]
    since: Mapped[datetime]
    count: Mapped[int]
    __table_args__ = (one_of("kind", AttemptKind),)


class AffiliationClaim(Base):
    """What somebody says about two organisations, with evidence. Counts when another person has agreed: then it is
    written to `affiliation_event`, one fact for its start and one for its end."""

    __tablename__ = "affiliation_claim"
    claim_id: Mapped[TextKey]
    host_org: Mapped[str] = refers_to("org.org_id", index=True)
    other_org: Mapped[str] = refers_to("org.org_id", index=True)
    state: Mapped[str]
    ground: Mapped[str]
    from_at: Mapped[datetime]
    until_at: Mapped[datetime | None]
    evidence: Mapped[str]
    evidence_sha256: Mapped[str | None]
    reason: Mapped[str]
    proposed_by: Mapped[str] = refers_to("person.person_id")
    proposed_at: Mapped[datetime]
    __table_args__ = (
        one_of("state", Affiliation),
        one_of("ground", AffiliationGround),
        CheckConstraint("host_org <> other_org", name="two_parties"),
        CheckConstraint("until_at IS NULL OR until_at > from_at", name="runs_forward"),
        CheckConstraint("until_at IS NULL OR state = 'affiliated'", name="independence_has_no_end"),
        CheckConstraint("evidence <> '' AND reason <> ''", name="says_why"),
        UniqueConstraint("claim_id", "proposed_by"),
    )


class AffiliationDecision(Base):
    """Another person's word on a claim. Never the proposer's: by constraint."""

    __tablename__ = "affiliation_decision"
    claim_id: Mapped[TextKey]
    approved: Mapped[bool]
    note: Mapped[str]
    proposed_by: Mapped[str]
    decided_by: Mapped[str] = refers_to("person.person_id")
    decided_at: Mapped[datetime]
    __table_args__ = (
        CheckConstraint("proposed_by <> decided_by", name="two_people"),
        ForeignKeyConstraint(
            ["claim_id", "proposed_by"],
            ["affiliation_claim.claim_id", "affiliation_claim.proposed_by"],
            name="fk_affiliation_decision_claim",
            ondelete="RESTRICT",
        ),
    )
