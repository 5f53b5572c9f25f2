"""People, what they may do, and how they prove who they are. Secrets are kept hashed only."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from store.database import Base
from store.tables.columns import TextKey, one_of, refers_to


class Role(StrEnum):
    """What a person may do."""

    SME = "sme"
    LAB_MANAGER = "lab_manager"
    COUNTY_OFFICER = "county_officer"
    FINANCE = "finance"
    AUDITOR = "auditor"
    ADMIN = "admin"


class Person(Base):
    """Somebody who signs in. Deactivated, never deleted: their signature stands under facts."""

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
    """A signed-in browser (kind session) or a program (kind bearer). Times here are real time, not demo time."""

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
