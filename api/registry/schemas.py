"""What the registry endpoints take and give."""

from datetime import date
from typing import Annotated

from pydantic import Field

from api.registry.records import HostRecord, InstrumentRecord, LabRecord, TestItemRecord
from api.schemas import Answer, Day, Instant, Name, Question
from store.tables.registry import (
    Approval,
    OrgKind,
    OrgState,
    ReportType,
    RunStatus,
    ShareMode,
    TraceabilityKind,
    UseDetection,
)
from wire.messages import PowerState


class HostAnswer(Answer):
    """An organisation that opens labs. Positions are millionths of a degree, WGS-84."""

    host_id: str
    name_zh: str
    name_en: str
    host_type: str
    cluster_zh: str
    cluster_en: str
    town_zh: str
    town_en: str
    latitude_e6: int
    longitude_e6: int
    address: str
    contact_name: str
    contact_phone: str
    contact_email: str
    retired: bool
    row_version: int
    lab_count: int
    instrument_count: int


class LabAnswer(Answer):
    """An open lab; town and position are its host's where it has none of its own."""

    lab_id: str
    host_id: str
    name_zh: str
    name_en: str
    town_zh: str
    town_en: str
    latitude_e6: int
    longitude_e6: int
    address: str
    contact_name: str
    contact_phone: str
    contact_email: str
    retired: bool
    row_version: int
    instrument_count: int


class InstrumentAnswer(Answer):
    """An instrument of the catalogue."""

    instrument_id: str
    code: str
    lab_id: str
    host_id: str
    name_zh: str
    name_en: str
    category_code: str
    category_zh: str
    category_en: str
    model: str
    share_mode: ShareMode
    run_status: RunStatus
    use_detection: UseDetection
    row_version: int


class TestItemAnswer(Answer):
    """What an instrument tests."""

    __test__ = False
    test_item_id: str
    name_zh: str
    name_en: str
    standard: str
    typical_session_minutes: int
    parameter_zh: str
    parameter_en: str
    sample_form_zh: str
    sample_form_en: str
    turnaround_days: int
    report_type: ReportType
    row_version: int


class CertificateAnswer(Answer):
    """A traceability certificate, valid in [valid_from, valid_to) unless it was withdrawn."""

    certificate_id: str
    instrument_id: str
    kind: TraceabilityKind
    number: str
    body: str
    valid_from: Instant
    valid_to: Instant
    withdrawn_at: Instant | None
    valid_now: bool


class Witness(Answer):
    """What the instrument itself says: its state, and up to when its use is accounted for."""

    agent_id: str | None = Field(description="The agent that speaks for it now; null where nobody meters it")
    online: bool | None = Field(description="What the agent last said of itself; null if it was never heard")
    heard_at: Instant | None
    state: PowerState = Field(description="`unknown` where nothing is known")
    accounted_to: Instant | None = Field(description="Use before this instant is in the ledger")


class InstrumentDetail(InstrumentAnswer):
    """An instrument with all that the public may know about it. Powers are watts."""

    lab_name_zh: str
    lab_name_en: str
    host_name_zh: str
    host_name_en: str
    supply: str
    power_rated_w: int
    power_standby_w: int
    power_idle_w: int
    power_running_w: int
    original_value_fen: int
    run_threshold_w: int
    approval: Approval
    self_operated: bool
    takes_samples: bool
    open_hours: str = Field(description="`1-5 08:30-17:30; 6 08:30-12:00` in Asia/Shanghai; 1 is Monday")
    lead_minutes: int
    horizon_days: int
    min_slot_minutes: int
    max_slot_minutes: int
    step_minutes: int
    buffer_minutes: int
    traceability_months: int
    inner_code: str
    manufacturer: str
    country: str
    source: str
    fund_source: str
    start_date: str
    technical: str
    function: str
    subject_areas: str
    address: str
    open_rule: str
    service_url: str
    gs1_code: str
    customs_duty_free: bool
    test_items: list[TestItemAnswer]
    certificates: list[CertificateAnswer]
    certificate_valid: bool = Field(description="Whether a certificate is valid at this moment")
    witness: Witness


class RecordAnswer(Answer):
    """A record as it is kept, ready to be edited and sent back with its version."""

    row_version: int
    record: HostRecord | LabRecord | InstrumentRecord | TestItemRecord


class ImportAsked(Question):
    """CSV files of the registry as text, any of the six. A dry run reports and changes nothing."""

    hosts: str | None = None
    labs: str | None = None
    instruments: str | None = None
    test_items: str | None = None
    certificates: str | None = None
    special_days: str | None = None
    dry_run: bool = False


class FindingAnswer(Answer):
    """One thing wrong with a file: where (line 1 is the header), what stands there, and what to do."""

    file: str
    line: int
    column: str
    value: str
    code: str
    zh: str
    en: str


class TableCounts(Answer):
    """How many rows of a file are new, differ from what is recorded, or say the same."""

    new: int
    changed: int
    same: int


class ImportAnswer(Answer):
    """What an import did, or (dry run) would do. With findings nothing is imported."""

    imported: bool
    counts: dict[str, TableCounts]
    findings: list[FindingAnswer]


class CertificateAsked(Question):
    """A certificate of verification (statutory) or calibration (the lab's own duty)."""

    kind: TraceabilityKind
    number: Name
    body: Annotated[str, Field(max_length=200, description="Who issued it")]
    valid_from: Instant
    valid_to: Instant


class WithdrawalAsked(Question):
    """Why a certificate does not count."""

    reason: Name


class SpecialDayAsked(Question):
    """A day that is not like its weekday: closed, or open as on another weekday."""

    host_id: str | None = Field(None, description="Of one host; null for the whole county")
    day: Day
    like_weekday: Annotated[int, Field(ge=1, le=7)] | None = Field(None, description="1 is Monday; null: closed")
    name_zh: Name
    name_en: Annotated[str, Field(max_length=200)] = ""


class SpecialDayAnswer(Answer):
    """A day that is not like its weekday. A host's own word goes before the county's."""

    special_day_id: str
    host_id: str | None
    day: date
    like_weekday: int | None
    name_zh: str
    name_en: str
    row_version: int


class OrgAsked(Question):
    """An organisation to record."""

    uscc: str = Field(description="Unified social credit code, 18 characters", max_length=40)
    kind: OrgKind
    name_zh: Name
    name_en: Annotated[str, Field(max_length=200)] = ""


class OrgAnswer(Answer):
    """A legal person."""

    org_id: str
    uscc: str
    kind: OrgKind
    state: OrgState
    name_zh: str
    name_en: str
    created_at: Instant
    row_version: int


class AgentAsked(Question):
    """An agent to register: one process with one credential, beside instruments of one host."""

    agent_id: str = Field(description="Wire id: 3 to 32 characters of a-z, 0-9 and '-'", max_length=40)
    host_id: str


class AgentAnswer(Answer):
    """A registered agent."""

    agent_id: str
    host_id: str
    registered_by: str
    registered_at: Instant
    revoked_at: Instant | None


class CautionAnswer(Answer):
    """What something costs, and what to do first."""

    code: str
    zh: str
    en: str


class AgentRevocationAnswer(AgentAnswer):
    """A revoked agent; `cautions` say what of its use will not be taken in any more."""

    cautions: list[CautionAnswer]


class MeteringAsked(Question):
    """From `effective_at` on, this meter speaks for the instrument through this agent."""

    agent_id: str
    effective_at: Instant
    meter_serial: Name
    ct_ratio_milli: Annotated[int, Field(ge=1, le=10**9, description="Current transformer ratio x 1000")] = 1000
    profile: Annotated[str, Field(min_length=2, max_length=20_000, description="The detector profile as JSON")]
    sample_period_ms: Annotated[int, Field(ge=100, le=3_600_000)] = 1000
    installed_by: Name


class MeteringAnswer(Answer):
    """A dated metering fact; sessions cite it by instrument and start."""

    instrument_id: str
    effective_at: Instant
    agent_id: str
    meter_serial: str
    ct_ratio_milli: int
    profile: str
    profile_sha256: str
    sample_period_ms: int
    installed_by: str
    recorded_by: str
    recorded_at: Instant
