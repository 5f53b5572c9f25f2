"""Messages from the county to an agent, and the answers: command, reply, desired config. Docs: docs/messages.md.

Same rules as `wire.messages` (frozen, canonical bytes, no field added to a version). Used by the gateway, which sends
commands, and by the agent, which judges and executes them. A command is executed at most once, never after
`not_after` and never when it was retained; a configuration is retained, and applied again and again without effect.
"""

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, ValidationError, model_validator
from ulid import ULID

from wire.ids import is_wire_id
from wire.messages import (
    ClockQuality,
    InstrumentId,
    Message,
    Odometer,
    PowerState,
    RecordKind,
    Sequence,
    StreamId,
    Timestamp,
    UsageRecord,
    timestamp,
)
from wire.topics import AGENT_ITSELF

REMEMBERED_MS = 24 * 3600 * 1000
"""How long an agent knows the commands it has seen. No command may live longer."""
DEFAULT_LIFETIME_S = 30.0
MAX_REPLAY_RANGES = 100
NOT_KEPT = "not_kept"
"""The `reason` of the record that takes the place of one nobody has any more."""


class Op(StrEnum):
    """What an agent can be told to do. What is not listed here is not in version 1."""

    IDENTIFY = "identify"
    READ_NOW = "read_now"
    REPLAY = "replay"
    CONFIG = "config"
    TEACH = "teach"
    RESTART = "restart"
    SWITCH = "switch"


class NoArgs(Message):
    """For identify (who are you, what do you keep), config (what do you go by) and restart."""


class ReadNowArgs(Message):
    """Show the newest reading of one instrument, or (null) of all."""

    inst: InstrumentId | None = None


class ReplayArgs(Message):
    """Send records again. Both ends of a range belong to it; what is no longer kept comes as a `gap` record."""

    stream: StreamId
    ranges: tuple[tuple[Sequence, Sequence], ...] = Field(min_length=1, max_length=MAX_REPLAY_RANGES, strict=False)

    @model_validator(mode="after")
    def _ranges_run_forward(self) -> Self:
        if any(last < first for first, last in self.ranges):
            raise ValueError("a range runs from its first to its last number")
        return self


class TeachArgs(Message):
    """Mark when a labelled interval starts and stops while somebody watches; `learn` makes a profile of them."""

    inst: InstrumentId
    mark: Literal["start", "stop", "learn", "cancel"]
    state: Literal["off", "standby", "running", "ambiguous"] | None = None

    @model_validator(mode="after")
    def _a_start_says_what_starts(self) -> Self:
        if (self.mark == "start") != (self.state is not None):
            raise ValueError("a mark `start` names the state that begins, and no other mark does")
        return self


class OnlyIf(Message):
    """What must also hold, at the agent and at the moment of switching."""

    state: Annotated[PowerState, Field(strict=False)] | None = None
    power_below_w: float | None = Field(None, allow_inf_nan=False)


class SwitchArgs(Message):
    """Grant or cut an instrument's power. `approved_by` is the second person of an emergency cut."""

    inst: InstrumentId
    on: bool
    only_if: OnlyIf | None = None
    quiet_s: int = Field(120, ge=0, le=86_400)
    approved_by: str | None = Field(None, min_length=1, max_length=128)


ARGUMENTS: Mapping[Op, type[Message]] = {
    Op.IDENTIFY: NoArgs,
    Op.READ_NOW: ReadNowArgs,
    Op.REPLAY: ReplayArgs,
    Op.CONFIG: NoArgs,
    Op.TEACH: TeachArgs,
    Op.RESTART: NoArgs,
    Op.SWITCH: SwitchArgs,
}


class Command(Message):
    """One order to one agent, never retained. `id` is a fresh ULID: executed once, however often it comes.

    `args` fit the op (`ARGUMENTS`); `not_after` is wall time, at most 24 h ahead; `by` names who ordered it.
    """

    SCHEMA: ClassVar[str] = "lab.command/1"
    schema_name: Literal["lab.command/1"] = Field("lab.command/1", alias="schema")
    id: StreamId
    op: Annotated[Op, Field(strict=False)]
    args: dict[str, JsonValue]
    not_after: Timestamp
    by: str = Field(min_length=1, max_length=128)

    @model_validator(mode="after")
    def _args_fit_the_op(self) -> Self:
        self.arguments()
        return self

    def arguments(self) -> Message:
        """Return `args` as the type that belongs to the op. Raises ValueError, naming the field."""
        try:
            return ARGUMENTS[self.op].model_validate_json(json.dumps(self.args))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in ("args", *first["loc"]))
            raise ValueError(f"{where}: {first['msg']}") from None


class Reply(Message):
    """What became of a command. `code` is stable and for programs, `text` one sentence for a person.

    `refused`: nothing was done. `failed`: it was begun, and what it did is not certain.
    """

    SCHEMA: ClassVar[str] = "lab.reply/1"
    schema_name: Literal["lab.reply/1"] = Field("lab.reply/1", alias="schema")
    id: StreamId
    op: str = Field(max_length=32)
    outcome: Literal["done", "refused", "failed"]
    code: str = Field(min_length=1, max_length=64)
    text: str = Field("", max_length=1000)
    result: dict[str, JsonValue] = Field(default_factory=dict)
    ts: Timestamp


def _agent_id(text: str) -> str:
    if not is_wire_id(text):
        raise ValueError("an agent is 3 to 32 characters of a-z, 0-9 and '-'")
    return text


AgentId = Annotated[str, AfterValidator(_agent_id)]
ProfileFields = dict[str, bool | int | float]


class Refused(Message):
    """What will not be acknowledged, and why: it was set aside and holds no place in the stream. Retained by nobody.

    `seq` is the lowest number of those that came together. The agent keeps them and repeats them seldom: a person has
    to act. `reason` is a code of the quarantine (`wrong_kind`, `unknown_agent`, `revoked_agent`).
    """

    SCHEMA: ClassVar[str] = "lab.refused/1"
    schema_name: Literal["lab.refused/1"] = Field("lab.refused/1", alias="schema")
    stream: StreamId
    seq: Sequence
    reason: str = Field(min_length=1, max_length=64)
    text: str = Field(max_length=500)


class Config(Message):
    """What an agent should go by: the detector profile of each instrument it names. Retained.

    Versions only rise; an agent applies a higher one and reports it in its birth. `sha256` is over the profiles
    (`profiles_sha256`), so that half a document or an edited one is refused. Profile fields are those of the
    agent's detector: watts and milliseconds (`on_w`, `off_w`, `standby_w`, `up_ms`, `down_ms`, ...).
    """

    SCHEMA: ClassVar[str] = "lab.config/1"
    schema_name: Literal["lab.config/1"] = Field("lab.config/1", alias="schema")
    agent: AgentId
    version: Sequence
    profiles: dict[InstrumentId, ProfileFields] = Field(max_length=64)
    sha256: str
    by: str = Field(min_length=1, max_length=128)

    @model_validator(mode="after")
    def _hash_fits(self) -> Self:
        if self.sha256 != profiles_sha256(self.profiles):
            raise ValueError("sha256 does not fit the profiles")
        return self


def profiles_sha256(profiles: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the hash a configuration carries: SHA-256 of the profiles as canonical JSON, in hexadecimal."""
    text = json.dumps(profiles, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def desired_config(agent: str, version: int, profiles: Mapping[str, ProfileFields], by: str) -> Config:
    """Return the configuration with its hash. Raises pydantic.ValidationError for ids or values it may not hold."""
    held = {inst: dict(fields) for inst, fields in profiles.items()}
    return Config(agent=agent, version=version, profiles=held, sha256=profiles_sha256(held), by=by)


def not_kept_record(stream: str, seq: int) -> UsageRecord:
    """Return the record that takes the place of one that nobody has any more: an explicit hole, so that all goes on.

    It is the same, byte for byte, whoever says it and however often: nothing in it depends on a clock. Its label
    is the birth of the stream, with the quality `unset`.
    """
    return UsageRecord(
        stream=stream,
        seq=seq,
        boot="-",
        kind=RecordKind.GAP,
        inst=AGENT_ITSELF,
        session=None,
        from_ms=0,
        to_ms=0,
        state=PowerState.UNKNOWN,
        odo=Odometer(),
        ts=_born(stream),
        ts_q=ClockQuality.UNSET,
        flags=("gap",),
        reason=NOT_KEPT,
    )


def _born(stream: str) -> str:
    try:
        return timestamp(ULID.from_str(stream).milliseconds)
    except (ValueError, OverflowError):
        return timestamp(0)
