"""Message types: frozen, versioned by the `schema` field, one class a message. Docs: docs/messages.md.

`encode` gives canonical bytes (sorted keys, no spaces, UTF-8), so a message that is sent again is the same
message byte for byte; `decode` refuses what the contract does not allow. A field is added to a version only with a
default that means "not said", so that older agents stay understood (gateways are renewed before agents: one that does
not know a field parks the message instead of guessing); anything else is a new version.
"""

import json
import re
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from wire.clock import timestamp as timestamp
from wire.clock import timestamp_ms as timestamp_ms
from wire.errors import BadPayload
from wire.ids import QUANTITY, is_stream_id, is_wire_id

MAX_USAGE_BYTES = 8 * 1024
MAX_TELEMETRY_BYTES = 64 * 1024
MAX_TELEMETRY_SAMPLES = 60
MAX_EXTRA = 16

_TIMESTAMP = re.compile(r"[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z\Z")


class PowerState(StrEnum):
    """What an instrument is doing, as far as its power tells."""

    OFF = "off"
    STANDBY = "standby"
    RUNNING = "running"
    UNKNOWN = "unknown"


class ClockQuality(StrEnum):
    """How far a wall-clock label may be trusted."""

    NTP = "ntp"
    RTC = "rtc"
    HOLDOVER = "holdover"
    UNSET = "unset"


class StreamKind(StrEnum):
    """A spool file carries one kind: usage is never dropped, telemetry may be (and is counted)."""

    USAGE = "usage"
    TELEMETRY = "telemetry"


class RecordKind(StrEnum):
    """Why a usage record was written."""

    TICK = "tick"
    OPEN = "open"
    CLOSE = "close"
    GAP = "gap"
    CLOCK = "clock"
    CHECKIN = "checkin"
    FAULT = "fault"
    SPOOL_LOST = "spool_lost"
    CONFIG = "config"


def _stream(text: str) -> str:
    if not is_stream_id(text):
        raise ValueError("a stream is a ULID of 26 characters")
    return text


def _instrument(text: str) -> str:
    if text != "_" and not is_wire_id(text):
        raise ValueError("an instrument is 3 to 32 characters of a-z, 0-9 and '-', or '_' for the agent itself")
    return text


def _timestamp(text: str) -> str:
    # The pattern first: parsing alone takes other forms too, and an offset at the end of the calendar overflows.
    if not _TIMESTAMP.match(text):
        raise ValueError("times are UTC with milliseconds, like 2026-11-21T01:02:03.004Z")
    timestamp_ms(text)  # raises ValueError for a day or an hour that does not exist
    return text


StreamId = Annotated[str, AfterValidator(_stream)]
InstrumentId = Annotated[str, AfterValidator(_instrument)]
Timestamp = Annotated[str, AfterValidator(_timestamp)]
Extra = Annotated[
    dict[Annotated[str, Field(pattern=QUANTITY)], Annotated[float, Field(allow_inf_nan=False)]],
    Field(max_length=MAX_EXTRA, json_schema_extra={"additionalProperties": False}),
]
"""Further readings of a meter by what they are (`volts_l1`, `amperes_l1`, `power_factor`, `celsius`)."""
Milliseconds = Annotated[int, Field(ge=0, le=2**53)]
Sequence = Annotated[int, Field(ge=1, le=2**53)]
Count = Annotated[int, Field(ge=0, le=2**53)]


class Message(BaseModel):
    """Base of everything that travels: immutable, no unknown fields, no silent conversion."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True, allow_inf_nan=False)
    SCHEMA: ClassVar[str]


class Odometer(Message):
    """Running totals of one instrument in one stream, milliseconds per state. Their sum is the time accounted for."""

    off: Milliseconds = 0
    standby: Milliseconds = 0
    running: Milliseconds = 0
    unknown: Milliseconds = 0

    @property
    def total(self) -> int:
        return self.off + self.standby + self.running + self.unknown

    def plus(self, state: PowerState, ms: int) -> "Odometer":
        """Return this odometer driven `ms` further in `state`."""
        return self.model_copy(update={state.value: getattr(self, state.value) + ms})


class Power(Message):
    """Power over an interval, watts."""

    avg: float = Field(allow_inf_nan=False)
    min: float = Field(allow_inf_nan=False)
    max: float = Field(allow_inf_nan=False)


class UsageRecord(Message):
    """One durable fact of the usage stream: what one instrument did during [from_ms, to_ms).

    Intervals of one instrument touch within a boot, and `odo` is cumulative: a lost record shows as a hole and a
    repeated one as nothing. Key: (agent, stream, seq), with the agent taken from the topic. `open` and `close` lie
    at `to_ms`: the session opened by record n is `{inst}.{stream}.{n}`. Facts that take no time (clock, checkin,
    fault, config, spool_lost) have from_ms = to_ms. Whether a record is late is for the receiver to say: a field
    for it would change the bytes of a repeat.
    """

    SCHEMA: ClassVar[str] = "lab.usage/1"
    schema_name: Literal["lab.usage/1"] = Field("lab.usage/1", alias="schema")
    stream: StreamId
    seq: Sequence
    boot: str = Field(min_length=1, max_length=64)
    kind: Annotated[RecordKind, Field(strict=False)]
    inst: InstrumentId
    session: str | None = Field(None, max_length=128)
    from_ms: Milliseconds
    to_ms: Milliseconds
    state: Annotated[PowerState, Field(strict=False)]
    odo: Odometer
    ts: Timestamp
    ts_q: Annotated[ClockQuality, Field(strict=False)]
    power_w: Power | None = None
    energy_wh: float | None = Field(None, allow_inf_nan=False)
    energy_q: Literal["ok", "reset", "jump", "none"] = "none"
    samples: Count = 0
    missed: Count = 0
    flags: tuple[Annotated[str, Field(max_length=64)], ...] = Field(
        (),
        max_length=16,
        strict=False,
        description="gap, inferred, driver_stale, length_unknown, open_after_boot, narrow_contrast, indicative",
    )
    reason: str | None = Field(None, max_length=64)
    user_hint: str | None = Field(None, max_length=128)
    edge_unc_ms: Milliseconds | None = None
    detail: dict[str, str | int | float | None] = Field(
        default_factory=dict,
        max_length=16,
        description=(
            "of a gap: before, after, by, from_q, next_boot, and where the energy register was read on both sides "
            "energy_mwh, step_mwh, level_mw, level_ms, stop_mw, dwell_ms"
        ),
    )

    @model_validator(mode="after")
    def _interval_runs_forward(self) -> Self:
        if self.to_ms < self.from_ms:
            raise ValueError("to_ms lies before from_ms")
        if self.kind in (RecordKind.OPEN, RecordKind.CLOSE) and self.session is None:
            raise ValueError(f"a record of kind {self.kind} names its session")
        return self


class Telemetry(Message):
    """A batch of samples of one instrument. `dt_ms[i]` is the offset of sample i from `t0_ms` (and from `ts`).

    `extra`: what else the meter showed during the batch, the last value of each; an older agent leaves it out.
    """

    SCHEMA: ClassVar[str] = "lab.telemetry/1"
    schema_name: Literal["lab.telemetry/1"] = Field("lab.telemetry/1", alias="schema")
    stream: StreamId
    seq: Sequence
    boot: str = Field(min_length=1, max_length=64)
    inst: InstrumentId
    t0_ms: Milliseconds
    ts: Timestamp
    ts_q: Annotated[ClockQuality, Field(strict=False)]
    period_ms: Annotated[int, Field(ge=1, le=2**53)]
    dt_ms: tuple[Milliseconds, ...] = Field(min_length=1, max_length=MAX_TELEMETRY_SAMPLES, strict=False)
    power_w: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = Field(strict=False)
    state: tuple[Annotated[PowerState, Field(strict=False)], ...] = Field(strict=False)
    energy_wh: tuple[float | None, ...] = Field((), strict=False)
    extra: Extra = Field(default_factory=dict)

    @model_validator(mode="after")
    def _columns_match(self) -> Self:
        if not len(self.dt_ms) == len(self.power_w) == len(self.state):
            raise ValueError("dt_ms, power_w and state have one entry a sample each")
        if self.energy_wh and len(self.energy_wh) != len(self.dt_ms):
            raise ValueError("energy_wh is empty or has one entry a sample")
        if any(b <= a for a, b in zip(self.dt_ms, self.dt_ms[1:], strict=False)):
            raise ValueError("dt_ms must rise from sample to sample")
        return self


class StreamPosition(Message):
    """Where one stream stands at the agent: rows below `first_kept` are gone (acknowledged, or dropped and counted)."""

    stream: StreamId
    kind: Annotated[StreamKind, Field(strict=False)]
    first_kept: Sequence
    last: Milliseconds


class AgentState(Message):
    """Retained, on every connect and each minute: is the agent there? The last will has online=False, cause "lost".

    `stream` is its usage stream. An older agent says neither that nor, between two connects, anything.
    """

    SCHEMA: ClassVar[str] = "lab.state/1"
    schema_name: Literal["lab.state/1"] = Field("lab.state/1", alias="schema")
    online: bool
    cause: Literal["start", "running", "stop", "lost"]
    boot: str
    ts: Timestamp
    clock: Annotated[ClockQuality, Field(strict=False)] = ClockQuality.UNSET
    queued: Count = 0
    dropped: Count = 0
    stream: StreamId | None = None


class Birth(Message):
    """Retained, on every connect: what speaks here, for which instruments, and where its streams stand.

    The gateway answers each birth with an acknowledgement for every stream in it. `capabilities` says by instrument
    what can be learnt there: `power`, `energy` (its meter has a register), `checkin` (a card reader stands beside it).
    """

    SCHEMA: ClassVar[str] = "lab.birth/1"
    schema_name: Literal["lab.birth/1"] = Field("lab.birth/1", alias="schema")
    agent: str
    boot: str
    ts: Timestamp
    software: str
    speaks: tuple[str, ...] = Field(strict=False)
    instruments: tuple[InstrumentId, ...] = Field(strict=False)
    drivers: dict[str, str]
    profiles: dict[str, str]
    streams: tuple[StreamPosition, ...] = Field(strict=False)
    config_version: Count = 0
    capabilities: dict[str, tuple[str, ...]] = Field(default_factory=dict)


class Live(Message):
    """The newest sample, for a wall display: never stored, never billed, judged by its `ts`.

    `extra`: the newest of what else the meter shows; an older agent leaves it out.
    """

    SCHEMA: ClassVar[str] = "lab.live/1"
    schema_name: Literal["lab.live/1"] = Field("lab.live/1", alias="schema")
    inst: InstrumentId
    ts: Timestamp
    power_w: float | None
    state: Annotated[PowerState, Field(strict=False)]
    extra: Extra = Field(default_factory=dict)


class Ack(Message):
    """Everything of `stream` up to `upto` is committed in the server's database, but for the `holes` in it.

    The only receipt an agent may delete on. It may fall back below what was said before (a restored
    database): the agent then sends again what it still keeps.
    """

    SCHEMA: ClassVar[str] = "lab.ack/1"
    schema_name: Literal["lab.ack/1"] = Field("lab.ack/1", alias="schema")
    stream: StreamId
    upto: Milliseconds
    holes: tuple[tuple[int, int], ...] = Field((), max_length=100, strict=False)


class ServerState(Message):
    """Retained: is this gateway there? While none is online, agents record and do not send."""

    SCHEMA: ClassVar[str] = "lab.server/1"
    schema_name: Literal["lab.server/1"] = Field("lab.server/1", alias="schema")
    online: bool
    gateway: str
    ts: Timestamp


M = TypeVar("M", bound=Message)


def encode(message: Message) -> bytes:
    """Return the canonical bytes of a message: the same message always gives the same bytes."""
    fields = message.model_dump(mode="json", by_alias=True)
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def decode(kind: type[M], payload: bytes) -> M:
    """Return the message in `payload`.

    Raises BadPayload with reason `too_large`, `not_json`, `unknown_schema` or `invalid`; the message names the field.
    """
    limit = MAX_USAGE_BYTES if kind is UsageRecord else MAX_TELEMETRY_BYTES
    if len(payload) > limit:
        raise BadPayload("too_large", f"{len(payload)} bytes; at most {limit} are allowed")
    try:
        message = kind.model_validate_json(payload)
    except ValidationError as error:
        raise _why_not(kind, payload, error) from None
    if "schema_name" not in message.model_fields_set:
        raise BadPayload("unknown_schema", f"schema is None; this reader knows {kind.SCHEMA!r}")
    return message


def _why_not(kind: type[Message], payload: bytes, error: ValidationError) -> BadPayload:
    """Return what is wrong with a payload: only what was refused is parsed a second time to find out."""
    try:
        fields: Any = json.loads(payload)
    except (ValueError, RecursionError) as broken:
        return BadPayload("not_json", f"not JSON: {broken}")
    schema = fields.get("schema") if isinstance(fields, dict) else None
    if schema != kind.SCHEMA:
        return BadPayload("unknown_schema", f"schema is {schema!r}; this reader knows {kind.SCHEMA!r}")
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the message"
    return BadPayload("invalid", f"{where}: {first['msg']}")
