"""Topic and bytes -> what arrived, or why it is set aside. Pure: no clock, no database, no network."""

import json
from dataclasses import dataclass

from store.tables.usage import QuarantineReason
from wire.errors import BadPayload, BadTopic
from wire.ids import is_stream_id
from wire.messages import AgentState, Birth, Telemetry, UsageRecord, decode
from wire.topics import Channel, parse_up


@dataclass(frozen=True)
class Place:
    """The place of a message in its stream, as far as it can be read."""

    stream: str
    seq: int


@dataclass(frozen=True)
class Rejected:
    """A message that cannot be understood. With a `place` it holds that place, so that it blocks nothing."""

    agent: str | None
    reason: QuarantineReason
    detail: str
    place: Place | None


@dataclass(frozen=True)
class Understood:
    """A message of the contract and the agent whose branch it came on."""

    agent: str
    message: UsageRecord | Telemetry | AgentState | Birth


_TYPES: dict[Channel, type[UsageRecord] | type[Telemetry] | type[AgentState] | type[Birth]] = {
    Channel.USAGE: UsageRecord,
    Channel.TELEMETRY: Telemetry,
    Channel.STATE: AgentState,
    Channel.BIRTH: Birth,
}


def understand(topic: str, payload: bytes) -> Understood | Rejected:
    """Decode one delivery. The agent is the topic's, whatever the payload says; the instrument must match the topic."""
    try:
        where = parse_up(topic)
    except BadTopic as error:
        return Rejected(None, QuarantineReason.BAD_TOPIC, str(error), None)
    kind = _TYPES.get(where.channel)
    if kind is None:
        return Rejected(where.agent, QuarantineReason.BAD_TOPIC, f"the gateway does not read {where.channel}", None)
    try:
        message = decode(kind, payload)
    except BadPayload as error:
        return Rejected(where.agent, QuarantineReason(error.reason), str(error), _place(payload))
    if isinstance(message, UsageRecord | Telemetry) and message.inst != where.tail:
        detail = f"the topic is about {where.tail}, the payload about {message.inst}"
        return Rejected(where.agent, QuarantineReason.INVALID, detail, Place(message.stream, message.seq))
    return Understood(where.agent, message)


def _place(payload: bytes) -> Place | None:
    """Read stream and seq out of a message that is otherwise not understood (a newer version, a bad field)."""
    try:
        fields = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    stream, seq = fields.get("stream"), fields.get("seq")
    if isinstance(stream, str) and is_stream_id(stream) and type(seq) is int and 1 <= seq <= 2**53:
        return Place(stream, seq)
    return None
