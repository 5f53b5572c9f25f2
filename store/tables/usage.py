"""The usage ledger: records as they came, sessions folded from them, and the hash chain over both."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, CheckConstraint, ForeignKeyConstraint, Index, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from store.database import Base
from store.tables.columns import IntegerKey, TextKey, one_of, refers_to, revision_chain


class EntryKind(StrEnum):
    """What a link of a usage chain states besides the digest of the records it covers."""

    SESSION = "session"
    UNKNOWN = "unknown"
    EVENT = "event"
    FOLD = "fold"
    CORRECTION = "correction"


class QuarantineReason(StrEnum):
    """Why a message was set aside."""

    BAD_TOPIC = "bad_topic"
    TOO_LARGE = "too_large"
    NOT_JSON = "not_json"
    UNKNOWN_SCHEMA = "unknown_schema"
    INVALID = "invalid"
    UNKNOWN_AGENT = "unknown_agent"
    UNKNOWN_INSTRUMENT = "unknown_instrument"
    FOREIGN_INSTRUMENT = "foreign_instrument"
    REVOKED_AGENT = "revoked_agent"
    WRONG_KIND = "wrong_kind"
    SERIES_REFUSED = "series_refused"


class UsageStream(Base):
    """One spool file of one agent. `upto`: highest seq up to which everything is committed; the chain's head."""

    __tablename__ = "usage_stream"
    agent_id: Mapped[str] = refers_to("agent.agent_id", primary_key=True)
    stream: Mapped[TextKey]
    kind: Mapped[str]
    upto: Mapped[int]
    chain_seq: Mapped[int]
    chain_hash: Mapped[str]
    chained_upto: Mapped[int]
    first_seen_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]
    __table_args__ = (
        CheckConstraint("kind IN ('usage', 'telemetry')", name="kind_known"),
        CheckConstraint("upto >= 0 AND chained_upto <= upto", name="marks_in_order"),
    )


class UsageRecordRow(Base):
    """A usage record as it came. Key (agent, stream, seq): the judge of every repeat. `payload` is what was sent."""

    __tablename__ = "usage_record"
    agent_id: Mapped[TextKey]
    stream: Mapped[TextKey]
    seq: Mapped[IntegerKey]
    kind: Mapped[str]
    instrument_id: Mapped[str | None] = refers_to("instrument.instrument_id")
    session_id: Mapped[str | None]
    at: Mapped[datetime]
    payload: Mapped[bytes] = mapped_column(LargeBinary)
    payload_sha256: Mapped[str]
    received_at: Mapped[datetime]
    __table_args__ = (
        ForeignKeyConstraint(
            ["agent_id", "stream"], ["usage_stream.agent_id", "usage_stream.stream"], ondelete="RESTRICT"
        ),
        CheckConstraint("seq >= 1", name="seq_from_one"),
        Index(None, "instrument_id", "at"),
    )


class UsageConflict(Base):
    """The second content that came under a key that was already taken: kept for a person, never counted."""

    __tablename__ = "usage_conflict"
    agent_id: Mapped[TextKey]
    stream: Mapped[TextKey]
    seq: Mapped[IntegerKey]
    payload_sha256: Mapped[TextKey]
    payload: Mapped[bytes] = mapped_column(LargeBinary)
    received_at: Mapped[datetime]


class Quarantine(Base):
    """A message that could not be taken in, with its bytes and the reason. The id is the hash of topic and bytes."""

    __tablename__ = "quarantine"
    quarantine_id: Mapped[TextKey]
    topic: Mapped[str]
    payload: Mapped[bytes] = mapped_column(LargeBinary)
    reason: Mapped[str]
    detail: Mapped[str]
    times: Mapped[int]
    first_at: Mapped[datetime]
    last_at: Mapped[datetime]
    replayed_at: Mapped[datetime | None]
    __table_args__ = (one_of("reason", QuarantineReason),)


class MeterPosition(Base):
    """How far one instrument is accounted for in one stream: the fold's own state, rebuilt by folding again."""

    __tablename__ = "meter_position"
    agent_id: Mapped[TextKey]
    stream: Mapped[TextKey]
    instrument_id: Mapped[str] = refers_to("instrument.instrument_id", primary_key=True, index=True)
    last_seq: Mapped[int]
    boot: Mapped[str]
    to_ms: Mapped[int]
    accounted_to: Mapped[datetime]
    state: Mapped[str]
    odo_off_ms: Mapped[int]
    odo_standby_ms: Mapped[int]
    odo_running_ms: Mapped[int]
    odo_unknown_ms: Mapped[int]
    sessions: Mapped[int]
    open_session_id: Mapped[str | None]
    __table_args__ = (
        ForeignKeyConstraint(
            ["agent_id", "stream"], ["usage_stream.agent_id", "usage_stream.stream"], ondelete="RESTRICT"
        ),
    )


class UsageSession(Base):
    """One run of one instrument, folded from its records. Open while `ended_at` is null.

    Running time is odo_running_last - odo_running_first, whatever happened to the messages between.
    """

    __tablename__ = "usage_session"
    session_id: Mapped[TextKey]
    instrument_id: Mapped[str] = refers_to("instrument.instrument_id")
    agent_id: Mapped[str]
    stream: Mapped[str]
    metering_from: Mapped[datetime]
    open_seq: Mapped[int]
    last_seq: Mapped[int]
    close_seq: Mapped[int | None]
    open_slot: Mapped[int | None]
    started_at: Mapped[datetime]
    last_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    odo_running_first_ms: Mapped[int] = mapped_column(BigInteger)
    odo_running_last_ms: Mapped[int] = mapped_column(BigInteger)
    odo_unknown_first_ms: Mapped[int] = mapped_column(BigInteger)
    odo_unknown_last_ms: Mapped[int] = mapped_column(BigInteger)
    flags: Mapped[str]
    __table_args__ = (
        UniqueConstraint("instrument_id", "stream", "open_slot"),
        UniqueConstraint("agent_id", "stream", "open_seq"),
        CheckConstraint(
            "(ended_at IS NULL AND close_seq IS NULL AND open_slot IS NOT NULL AND open_slot = 1)"
            " OR (ended_at IS NOT NULL AND close_seq IS NOT NULL AND open_slot IS NULL)",
            name="open_or_ended",
        ),
        CheckConstraint("odo_running_last_ms >= odo_running_first_ms", name="running_rises"),
        CheckConstraint("odo_unknown_last_ms >= odo_unknown_first_ms", name="unknown_rises"),
        CheckConstraint("last_at >= started_at", name="runs_forward"),
        ForeignKeyConstraint(
            ["instrument_id", "metering_from"], ["metering.instrument_id", "metering.effective_at"], ondelete="RESTRICT"
        ),
        Index(None, "instrument_id", "started_at"),
    )


class UsageEntry(Base):
    """A link of a stream's hash chain. Covers the records (after the previous link's last_seq .. last_seq] by a digest,
    and states a quantity where one was concluded. `body` holds the canonical bytes that are hashed."""

    __tablename__ = "usage_entry"
    agent_id: Mapped[TextKey]
    stream: Mapped[TextKey]
    chain_seq: Mapped[IntegerKey]
    kind: Mapped[str]
    last_seq: Mapped[int]
    records_sha256: Mapped[str]
    instrument_id: Mapped[str | None] = refers_to("instrument.instrument_id")
    session_id: Mapped[str | None] = refers_to("usage_session.session_id")
    metric: Mapped[str | None]
    revision: Mapped[int]
    prev_revision: Mapped[int | None]
    quantity_ms: Mapped[int]
    from_at: Mapped[datetime]
    to_at: Mapped[datetime]
    reason: Mapped[str]
    recorded_by: Mapped[str]
    recorded_at: Mapped[datetime]
    body: Mapped[bytes] = mapped_column(LargeBinary)
    prev_hash: Mapped[str]
    row_hash: Mapped[str] = mapped_column(unique=True)
    __table_args__ = (
        one_of("kind", EntryKind),
        *revision_chain(),
        CheckConstraint("to_at >= from_at", name="runs_forward"),
        CheckConstraint(
            "(revision % 2 = 1 AND quantity_ms >= 0) OR (revision % 2 = 0 AND quantity_ms <= 0 AND reason <> '')",
            name="odd_states_even_reverses",
        ),
        ForeignKeyConstraint(
            ["agent_id", "stream"], ["usage_stream.agent_id", "usage_stream.stream"], ondelete="RESTRICT"
        ),
        UniqueConstraint("session_id", "metric", "revision"),
        ForeignKeyConstraint(
            ["session_id", "metric", "prev_revision"],
            ["usage_entry.session_id", "usage_entry.metric", "usage_entry.revision"],
            name="fk_usage_entry_prev_revision",
            ondelete="RESTRICT",
        ),
    )


class AgentStatus(Base):
    """What was last heard of an agent. Times are the gateway's; `online` is what the agent (or its will) said."""

    __tablename__ = "agent_status"
    agent_id: Mapped[str] = refers_to("agent.agent_id", primary_key=True)
    online: Mapped[bool]
    changed_at: Mapped[datetime]
    heard_at: Mapped[datetime]
    boot: Mapped[str]
    software: Mapped[str]
    queued: Mapped[int]
    dropped: Mapped[int]
    skew_ms: Mapped[int]


class Alert(Base):
    """Something a person should look at. One open alert a rule and subject; `open_slot` is 1 until it is done."""

    __tablename__ = "alert"
    alert_id: Mapped[TextKey]
    rule: Mapped[str]
    subject: Mapped[str]
    open_slot: Mapped[int | None]
    owner: Mapped[str]
    detail: Mapped[str]
    times: Mapped[int]
    first_at: Mapped[datetime]
    last_at: Mapped[datetime]
    done_by: Mapped[str | None]
    __table_args__ = (UniqueConstraint("rule", "subject", "open_slot"),)
