"""Who and what there is: organisations, hosts, labs, instruments, agents, and the dated facts between them."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from store.database import Base
from store.tables.columns import TextKey, one_of, refers_to


class OrgKind(StrEnum):
    """What an organisation is to the county; prices may differ by it."""

    HOST = "host"
    SME = "sme"
    ACADEMIC = "academic"
    GOV = "gov"


class OrgState(StrEnum):
    """An organisation acts only while it is active."""

    PENDING = "pending"
    ACTIVE = "active"
    SUSPENDED = "suspended"


class UseDetection(StrEnum):
    """What proves that an instrument was used."""

    POWER = "power"
    POWER_CHECKIN = "power+checkin"
    CHECKIN = "checkin"


class ShareMode(StrEnum):
    """Who may book."""

    EXTERNAL = "external"
    INTERNAL = "internal"
    NONE = "none"


class RunStatus(StrEnum):
    """Whether the instrument works."""

    NORMAL = "normal"
    FAULTY = "faulty"
    IN_REPAIR = "in_repair"
    RETIRED = "retired"


class Approval(StrEnum):
    """Whether a booking is confirmed by itself or by the lab manager."""

    AUTOMATIC = "automatic"
    MANAGER = "manager"


class Affiliation(StrEnum):
    """How two organisations stand to each other from an instant on."""

    AFFILIATED = "affiliated"
    INDEPENDENT = "independent"


class TraceabilityKind(StrEnum):
    """Verification is statutory (检定), calibration is the lab's own duty (校准)."""

    VERIFICATION = "verification"
    CALIBRATION = "calibration"


class Org(Base):
    """A legal person, known by its unified social credit code (uscc)."""

    __tablename__ = "org"
    org_id: Mapped[TextKey]
    uscc: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]
    state: Mapped[str]
    name_zh: Mapped[str]
    name_en: Mapped[str]
    created_at: Mapped[datetime]
    row_version: Mapped[int]
    __table_args__ = (one_of("kind", OrgKind), one_of("state", OrgState))


class Host(Base):
    """An organisation that opens labs. Positions are WGS-84 in millionths of a degree."""

    __tablename__ = "host"
    host_id: Mapped[TextKey]
    org_id: Mapped[str] = refers_to("org.org_id", unique=True)
    host_type: Mapped[str]
    cluster_zh: Mapped[str]
    cluster_en: Mapped[str]
    town_zh: Mapped[str]
    town_en: Mapped[str]
    latitude_e6: Mapped[int]
    longitude_e6: Mapped[int]
    row_version: Mapped[int]


class Lab(Base):
    """An open lab of a host."""

    __tablename__ = "lab"
    lab_id: Mapped[TextKey]
    host_id: Mapped[str] = refers_to("host.host_id", index=True)
    name_zh: Mapped[str]
    name_en: Mapped[str]
    row_version: Mapped[int]


class Instrument(Base):
    """What is booked. `instrument_id` is the wire id, `code` the county's; powers are watts, names as on the plate."""

    __tablename__ = "instrument"
    instrument_id: Mapped[TextKey]
    code: Mapped[str] = mapped_column(unique=True)
    lab_id: Mapped[str] = refers_to("lab.lab_id", index=True)
    host_id: Mapped[str] = refers_to("host.host_id", index=True)
    name_zh: Mapped[str]
    name_en: Mapped[str]
    category_code: Mapped[str]
    category_zh: Mapped[str]
    category_en: Mapped[str]
    model: Mapped[str]
    supply: Mapped[str]
    power_rated_w: Mapped[int]
    power_standby_w: Mapped[int]
    power_idle_w: Mapped[int]
    power_running_w: Mapped[int]
    run_threshold_w: Mapped[int]
    use_detection: Mapped[str]
    original_value_fen: Mapped[int]
    share_mode: Mapped[str]
    run_status: Mapped[str]
    approval: Mapped[str]
    buffer_minutes: Mapped[int]
    max_slot_minutes: Mapped[int]
    traceability_months: Mapped[int]
    row_version: Mapped[int]
    __table_args__ = (
        one_of("use_detection", UseDetection),
        one_of("share_mode", ShareMode),
        one_of("run_status", RunStatus),
        one_of("approval", Approval),
        CheckConstraint("buffer_minutes >= 0", name="buffer_not_negative"),
    )


class TestItem(Base):
    """What an instrument tests, by which method standard."""

    __test__ = False
    __tablename__ = "test_item"
    test_item_id: Mapped[TextKey]
    instrument_id: Mapped[str] = refers_to("instrument.instrument_id", index=True)
    name_zh: Mapped[str]
    name_en: Mapped[str]
    standard: Mapped[str]
    typical_session_minutes: Mapped[int]
    row_version: Mapped[int]


class Certificate(Base):
    """A traceability certificate: valid in [valid_from, valid_to)."""

    __tablename__ = "certificate"
    certificate_id: Mapped[TextKey]
    instrument_id: Mapped[str] = refers_to("instrument.instrument_id", index=True)
    kind: Mapped[str]
    number: Mapped[str]
    body: Mapped[str]
    valid_from: Mapped[datetime]
    valid_to: Mapped[datetime]
    recorded_by: Mapped[str]
    recorded_at: Mapped[datetime]
    __table_args__ = (
        one_of("kind", TraceabilityKind),
        CheckConstraint("valid_to > valid_from", name="validity_runs_forward"),
        UniqueConstraint("instrument_id", "number"),
    )


class AffiliationEvent(Base):
    """A dated fact with evidence. Only starts are stored: the state holds until the next row, so none overlap."""

    __tablename__ = "affiliation_event"
    host_org: Mapped[str] = refers_to("org.org_id", primary_key=True)
    other_org: Mapped[str] = refers_to("org.org_id", primary_key=True)
    effective_at: Mapped[datetime] = mapped_column(primary_key=True)
    state: Mapped[str]
    evidence: Mapped[str]
    recorded_by: Mapped[str]
    recorded_at: Mapped[datetime]
    __table_args__ = (one_of("state", Affiliation), CheckConstraint("host_org <> other_org", name="two_parties"))


class Agent(Base):
    """One process with one credential, beside one or more instruments of one host."""

    __tablename__ = "agent"
    agent_id: Mapped[TextKey]
    host_id: Mapped[str] = refers_to("host.host_id", index=True)
    registered_by: Mapped[str]
    registered_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class Metering(Base):
    """From `effective_at` on, this meter speaks for this instrument through this agent. Sessions cite the row."""

    __tablename__ = "metering"
    instrument_id: Mapped[str] = refers_to("instrument.instrument_id", primary_key=True)
    effective_at: Mapped[datetime] = mapped_column(primary_key=True)
    agent_id: Mapped[str] = refers_to("agent.agent_id", index=True)
    meter_serial: Mapped[str]
    ct_ratio_milli: Mapped[int]
    profile: Mapped[str]
    profile_sha256: Mapped[str]
    sample_period_ms: Mapped[int]
    installed_by: Mapped[str]
    recorded_by: Mapped[str]
    recorded_at: Mapped[datetime]
    __table_args__ = (
        CheckConstraint("ct_ratio_milli > 0", name="ct_ratio_positive"),
        CheckConstraint("sample_period_ms > 0", name="period_positive"),
        Index(None, "agent_id", "instrument_id"),
    )
