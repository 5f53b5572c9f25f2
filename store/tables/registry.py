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


class ReportType(StrEnum):
    """What a test's report may be used for: CMA as public proof, CNAS as accredited result, internal for R&D only."""

    CMA = "cma"
    CNAS = "cnas"
    INTERNAL = "internal"


ACCREDITED = (ReportType.CMA, ReportType.CNAS)
ALWAYS_OPEN = "1-7 00:00-24:00"


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
    address: Mapped[str] = mapped_column(default="")
    contact_name: Mapped[str] = mapped_column(default="")
    contact_phone: Mapped[str] = mapped_column(default="")
    contact_email: Mapped[str] = mapped_column(default="")
    retired_at: Mapped[datetime | None] = mapped_column(default=None)


class Lab(Base):
    """An open lab of a host. An empty town or position means: where the host is."""

    __tablename__ = "lab"
    lab_id: Mapped[TextKey]
    host_id: Mapped[str] = refers_to("host.host_id", index=True)
    name_zh: Mapped[str]
    name_en: Mapped[str]
    row_version: Mapped[int]
    town_zh: Mapped[str] = mapped_column(default="")
    town_en: Mapped[str] = mapped_column(default="")
    latitude_e6: Mapped[int | None] = mapped_column(default=None)
    longitude_e6: Mapped[int | None] = mapped_column(default=None)
    address: Mapped[str] = mapped_column(default="")
    contact_name: Mapped[str] = mapped_column(default="")
    contact_phone: Mapped[str] = mapped_column(default="")
    contact_email: Mapped[str] = mapped_column(default="")
    retired_at: Mapped[datetime | None] = mapped_column(default=None)
    __table_args__ = (
        CheckConstraint("latitude_e6 BETWEEN -90000000 AND 90000000", name="latitude_in_range"),
        CheckConstraint("longitude_e6 BETWEEN -180000000 AND 180000000", name="longitude_in_range"),
    )


class Instrument(Base):
    """What is booked. `instrument_id` is the wire id, `code` the county's; powers are watts, names as on the plate.

    When it can be booked: `open_hours` is a week in Asia/Shanghai as text (api/registry/opening.py reads it); special
    days override it. `step_minutes` 0 means any start; `min_slot_minutes` 0 means any length.
    """

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
    self_operated: Mapped[bool] = mapped_column(default=True)
    takes_samples: Mapped[bool] = mapped_column(default=True)
    open_hours: Mapped[str] = mapped_column(default=ALWAYS_OPEN)
    lead_minutes: Mapped[int] = mapped_column(default=0)
    horizon_days: Mapped[int] = mapped_column(default=366)
    min_slot_minutes: Mapped[int] = mapped_column(default=0)
    step_minutes: Mapped[int] = mapped_column(default=0)
    inner_code: Mapped[str] = mapped_column(default="")
    manufacturer: Mapped[str] = mapped_column(default="")
    country: Mapped[str] = mapped_column(default="")
    source: Mapped[str] = mapped_column(default="")
    fund_source: Mapped[str] = mapped_column(default="")
    start_date: Mapped[str] = mapped_column(default="")
    technical: Mapped[str] = mapped_column(default="")
    function: Mapped[str] = mapped_column(default="")
    subject_areas: Mapped[str] = mapped_column(default="")
    address: Mapped[str] = mapped_column(default="")
    open_rule: Mapped[str] = mapped_column(default="")
    service_url: Mapped[str] = mapped_column(default="")
    gs1_code: Mapped[str] = mapped_column(default="")
    customs_duty_free: Mapped[bool] = mapped_column(default=False)
    __table_args__ = (
        CheckConstraint("lead_minutes >= 0", name="lead_not_negative"),
        CheckConstraint("horizon_days >= 1", name="horizon_positive"),
        CheckConstraint("min_slot_minutes >= 0", name="min_slot_not_negative"),
        CheckConstraint("step_minutes BETWEEN 0 AND 1440", name="step_in_a_day"),
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
    parameter_zh: Mapped[str] = mapped_column(default="")
    parameter_en: Mapped[str] = mapped_column(default="")
    sample_form_zh: Mapped[str] = mapped_column(default="")
    sample_form_en: Mapped[str] = mapped_column(default="")
    turnaround_days: Mapped[int] = mapped_column(default=0)
    report_type: Mapped[str] = mapped_column(default=ReportType.INTERNAL.value)
    retired_at: Mapped[datetime | None] = mapped_column(default=None)
    __table_args__ = (
        one_of("report_type", ReportType),
        CheckConstraint("turnaround_days >= 0", name="turnaround_not_negative"),
    )


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
    withdrawn_at: Mapped[datetime | None] = mapped_column(default=None)
    __table_args__ = (
        one_of("kind", TraceabilityKind),
        CheckConstraint("valid_to > valid_from", name="validity_runs_forward"),
        UniqueConstraint("instrument_id", "number"),
    )


class SpecialDay(Base):
    """A day (YYYY-MM-DD, Asia/Shanghai) that is not like its weekday: for the county (`host_id` empty) or one host,
    whose word goes before the county's. `like_weekday` empty: closed; 1 (Monday) to 7: open as on that weekday."""

    __tablename__ = "special_day"
    special_day_id: Mapped[TextKey]
    host_id: Mapped[str | None] = refers_to("host.host_id", index=True)
    day: Mapped[str] = mapped_column(index=True)
    like_weekday: Mapped[int | None]
    name_zh: Mapped[str]
    name_en: Mapped[str]
    recorded_by: Mapped[str]
    recorded_at: Mapped[datetime]
    row_version: Mapped[int]
    __table_args__ = (
        CheckConstraint("like_weekday BETWEEN 1 AND 7", name="weekday_known"),
        CheckConstraint("length(day) = 10", name="day_is_a_date"),
    )


class CatalogueHead(Base):
    """How often what the catalogue shows has changed. One row, locked by whoever changes the registry, until they
    commit: so the numbers grow in the order of the commits, and a reader who has seen one has seen all before."""

    __tablename__ = "catalogue_head"
    head_id: Mapped[TextKey]
    seq: Mapped[int]


class CatalogueChange(Base):
    """At which number of the head an instrument's entry last changed. Written by triggers, whoever it was."""

    __tablename__ = "catalogue_change"
    instrument_id: Mapped[str] = refers_to("instrument.instrument_id", primary_key=True)
    seq: Mapped[int] = mapped_column(index=True)


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
