"""Proof: who did what (one hash chain a host), and what looked wrong until somebody decided."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from store.database import Base
from store.tables.columns import IntegerKey, TextKey, one_of, refers_to


class Verdict(StrEnum):
    """What a person concluded about an anomaly."""

    CLEARED = "cleared"
    CONFIRMED = "confirmed"


class ChainHead(Base):
    """The end of an audit chain; advanced in the transaction that appends to it."""

    __tablename__ = "chain_head"
    chain_id: Mapped[TextKey]
    seq: Mapped[int]
    hash: Mapped[str]


class AuditEvent(Base):
    """One state change. `body` holds the canonical bytes that are hashed: who, when, what, before, after."""

    __tablename__ = "audit_event"
    chain_id: Mapped[str] = refers_to("chain_head.chain_id", primary_key=True)
    seq: Mapped[IntegerKey]
    at: Mapped[datetime]
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str] = mapped_column(index=True)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    prev_hash: Mapped[str]
    row_hash: Mapped[str] = mapped_column(unique=True)
    __table_args__ = (CheckConstraint("seq >= 1", name="seq_from_one"),)


class Anomaly(Base):
    """Something that does not fit. Found once per rule, rule version and subject; may keep a charge out of a reward."""

    __tablename__ = "anomaly"
    anomaly_id: Mapped[TextKey]
    rule: Mapped[str]
    rule_version: Mapped[str]
    subject_kind: Mapped[str]
    subject_id: Mapped[str] = mapped_column(index=True)
    host_id: Mapped[str] = refers_to("host.host_id", index=True)
    detail: Mapped[str]
    blocks_reward: Mapped[bool]
    found_at: Mapped[datetime]
    __table_args__ = (UniqueConstraint("rule", "rule_version", "subject_kind", "subject_id"),)


class AnomalyDecision(Base):
    """What a person decided about an anomaly, once."""

    __tablename__ = "anomaly_decision"
    anomaly_id: Mapped[str] = refers_to("anomaly.anomaly_id", primary_key=True)
    verdict: Mapped[str]
    note: Mapped[str]
    decided_by: Mapped[str] = refers_to("person.person_id")
    decided_at: Mapped[datetime]
    __table_args__ = (one_of("verdict", Verdict),)
