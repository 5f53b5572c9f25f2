"""What is recorded of a host, a lab, an instrument, a test item: one schema for creating, replacing and importing.

An edit sends the whole record again with the version that was read, so that nothing is lost between two editors; a
row of an import file is the same record as text. Names of fields are those of the tables and of the CSV columns.
"""

from datetime import date
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from api.registry.opening import BadHours, canonical
from api.schemas import Day, Instant, Name, Question
from store.tables.registry import Approval, ReportType, RunStatus, ShareMode, TraceabilityKind, UseDetection
from wire.ids import is_wire_id

POWER_MAX_W = 100_000_000
MINUTES_MAX = 366 * 1440


class BadCell(ValueError):
    """A value that says itself, in both languages, what is wrong with it."""

    def __init__(self, zh: str, en: str) -> None:
        super().__init__(en)
        self.zh, self.en = zh, en


def _wire_id(text: str) -> str:
    if not is_wire_id(text):
        raise BadCell("编号须为 3 至 32 个小写字母、数字或 -", "an id is 3 to 32 characters of a-z, 0-9 and '-'")
    return text


def _week(text: str) -> str:
    try:
        return canonical(text)
    except BadHours as error:
        raise BadCell(error.zh, str(error)) from None


def _date_or_nothing(text: str) -> str:
    if text:
        try:
            if date.fromisoformat(text).isoformat() != text:
                raise ValueError(text)
        except ValueError:
            raise BadCell("日期应写作 2024-05-31", "write a date like 2024-05-31") from None
    return text


Uscc = Annotated[str, Field(max_length=40), AfterValidator(str.upper)]
Code = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[A-Za-z0-9._-]+$")]
ShortId = Annotated[str, Field(min_length=1, max_length=32, pattern=r"^[a-z0-9-]+$")]
WireId = Annotated[str, Field(max_length=40), AfterValidator(_wire_id)]
Week = Annotated[str, Field(max_length=500), AfterValidator(_week)]
DateOrNothing = Annotated[str, Field(max_length=10), AfterValidator(_date_or_nothing)]
Short = Annotated[str, Field(max_length=200)]
Long = Annotated[str, Field(max_length=4000)]
Latitude = Annotated[int, Field(ge=-90_000_000, le=90_000_000, description="Millionths of a degree, WGS-84")]
Longitude = Annotated[int, Field(ge=-180_000_000, le=180_000_000, description="Millionths of a degree, WGS-84")]
Watts = Annotated[int, Field(ge=0, le=POWER_MAX_W)]
Minutes = Annotated[int, Field(ge=0, le=MINUTES_MAX)]
ValueFen = Annotated[int, Field(ge=0, le=10**14)]


class _Contact(Question):
    address: Short = ""
    contact_name: Short = ""
    contact_phone: Short = ""
    contact_email: Short = ""
    retired: bool = Field(False, description="No longer open; kept as history")


class HostRecord(_Contact):
    """An organisation that opens labs. Its names are those of the organisation with this social credit code."""

    host_id: ShortId
    uscc: Uscc = Field(description="Unified social credit code, 18 characters")
    name_zh: Name
    name_en: Short = ""
    host_type: str = Field(pattern=r"^(enterprise|institution)$")
    cluster_zh: Name
    cluster_en: Short = ""
    town_zh: Name
    town_en: Short = ""
    latitude_e6: Latitude
    longitude_e6: Longitude


class LabRecord(_Contact):
    """An open lab. An empty town or position means: where its host is."""

    lab_id: ShortId
    host_id: str
    name_zh: Name
    name_en: Short = ""
    town_zh: Short = ""
    town_en: Short = ""
    latitude_e6: Latitude | None = None
    longitude_e6: Longitude | None = None

    @model_validator(mode="after")
    def _whole_position(self) -> Self:
        if (self.latitude_e6 is None) != (self.longitude_e6 is None):
            raise BadCell("经度和纬度须同时填写或同时留空", "give latitude and longitude, or neither")
        return self


class InstrumentRecord(Question):
    """An instrument with its plate, its terms of booking and where it came from. Powers are watts."""

    instrument_id: WireId
    code: Code
    lab_id: str
    name_zh: Name
    name_en: Short = ""
    category_code: Annotated[str, Field(pattern=r"^(\d\d){1,3}$", description="2, 4 or 6 digits")]
    category_zh: Name
    category_en: Short = ""
    model: Short = ""
    supply: Short = ""
    power_rated_w: Watts
    power_standby_w: Watts
    power_idle_w: Watts
    power_running_w: Watts
    run_threshold_w: Watts
    use_detection: UseDetection
    original_value_fen: ValueFen
    share_mode: ShareMode = ShareMode.EXTERNAL
    run_status: RunStatus = RunStatus.NORMAL
    approval: Approval = Approval.MANAGER
    self_operated: bool = True
    takes_samples: bool = True
    open_hours: Week = Field(description="`1-5 08:30-12:00,13:30-17:30; 6 08:30-12:00` (1 is Monday); nothing: closed")
    lead_minutes: Minutes = 0
    horizon_days: Annotated[int, Field(ge=1, le=366)] = 366
    min_slot_minutes: Minutes = 0
    max_slot_minutes: Annotated[int, Field(ge=1, le=MINUTES_MAX)]
    step_minutes: Annotated[int, Field(ge=0, le=1440, description="Starts and lengths; 0: any")] = 0
    buffer_minutes: Annotated[int, Field(ge=0, le=1440)] = 0
    traceability_months: Annotated[int, Field(ge=0, le=600)] = 12
    inner_code: Short = ""
    manufacturer: Short = ""
    country: Short = ""
    source: Short = ""
    fund_source: Short = ""
    start_date: DateOrNothing = ""
    technical: Long = ""
    function: Long = ""
    subject_areas: Short = ""
    address: Short = ""
    open_rule: Long = ""
    service_url: Annotated[str, Field(max_length=500, pattern=r"^(https?://\S+)?$")] = ""
    gs1_code: Annotated[str, Field(pattern=r"^\d{0,18}$")] = ""
    customs_duty_free: bool = False

    @model_validator(mode="after")
    def _lengths_fit(self) -> Self:
        if self.min_slot_minutes > self.max_slot_minutes:
            raise BadCell("最短时长大于最长时长", "min_slot_minutes is more than max_slot_minutes")
        if self.step_minutes > self.max_slot_minutes:
            raise BadCell("预约步长大于最长时长", "step_minutes is more than max_slot_minutes")
        if not (self.self_operated or self.takes_samples):
            raise BadCell("自主上机和送样检测至少开放一种", "open it for self_operated, takes_samples or both")
        return self


class TestItemRecord(Question):
    """What an instrument tests. `turnaround_days` 0: not said."""

    __test__ = False
    test_item_id: ShortId
    instrument_id: str
    name_zh: Name
    name_en: Short = ""
    parameter_zh: Short = ""
    parameter_en: Short = ""
    standard: Short = ""
    sample_form_zh: Short = ""
    sample_form_en: Short = ""
    turnaround_days: Annotated[int, Field(ge=0, le=3660)] = 0
    report_type: ReportType = ReportType.INTERNAL
    typical_session_minutes: Minutes = Field(description="Time on the instrument, a sample")
    retired: bool = False


class CertificateRecord(Question):
    """A certificate of verification or calibration, valid in [valid_from, valid_to), as a row of a file."""

    instrument_id: str
    kind: TraceabilityKind
    number: Name
    body: Short = ""
    valid_from: Instant
    valid_to: Instant


class SpecialDayRecord(Question):
    """A day that is closed, or open like a weekday (1 is Monday), as a row of a file. No host: the whole county."""

    host_id: str = ""
    day: Day
    like_weekday: Annotated[int, Field(ge=1, le=7)] | None = None
    name_zh: Name
    name_en: Short = ""


Record = HostRecord | LabRecord | InstrumentRecord | TestItemRecord
PaperRecord = CertificateRecord | SpecialDayRecord
FileRecord = Record | PaperRecord
"""What a row of an import file may be."""
