"""The topic tree `lab/v1/...`: the only file that joins or splits topic levels.

`up`/`down` come before the agent so that a broker needs two pattern lines: an agent writes below
`lab/v1/up/{agent}` and reads below `lab/v1/down/{agent}`; everybody may read `lab/v1/srv`.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from wire.errors import BadTopic
from wire.ids import is_stream_id, is_wire_id

ROOT = "lab/v1"
AGENT_ITSELF = "_"


class Channel(StrEnum):
    """What a topic below an agent carries."""

    STATE = "state"
    BIRTH = "birth"
    USAGE = "rec"
    TELEMETRY = "tel"
    LIVE = "live"
    REPLY = "reply"
    ACK = "ack"
    COMMAND = "cmd"
    CONFIG = "cfg"
    REFUSED = "refused"


_UP_PLAIN = {Channel.STATE, Channel.BIRTH}
_UP_WITH_TAIL = {Channel.USAGE, Channel.TELEMETRY, Channel.LIVE, Channel.REPLY}
_DOWN = {Channel.ACK, Channel.COMMAND, Channel.CONFIG, Channel.REFUSED}


@dataclass(frozen=True)
class UpTopic:
    """A parsed upward topic. `tail` is the instrument (or command id), `_` for the agent itself, "" if none."""

    agent: str
    channel: Channel
    tail: str = ""


def up(agent: str, channel: Channel, tail: str = "") -> str:
    """Build an upward topic; the counterpart of `parse_up`. Raises BadTopic for ids no topic can carry."""
    topic = f"{ROOT}/up/{agent}/{channel}" + (f"/{tail}" if tail else "")
    parse_up(topic)
    return topic


def down(agent: str, channel: Channel) -> str:
    """Build a downward topic (ack, cmd, cfg, refused). Raises BadTopic for anything else."""
    if channel not in _DOWN or not is_wire_id(agent):
        raise BadTopic(f"there is no downward topic {channel!r} for agent {agent!r}")
    return f"{ROOT}/down/{agent}/{channel}"


def all_down(agent: str) -> str:
    """Return the subscription for everything that is sent to one agent. Raises BadTopic for a name no topic carries."""
    return down(agent, Channel.ACK).removesuffix(Channel.ACK) + "+"


def server_state(gateway: str) -> str:
    """Build the topic on which one gateway says that it is there; agents look at all of them."""
    if not is_wire_id(gateway):
        raise BadTopic(f"{gateway!r} cannot name a gateway")
    return f"{ROOT}/srv/{gateway}/state"


SERVER_STATES = f"{ROOT}/srv/+/state"


def all_up(channel: Channel) -> str:
    """Return the subscription for one upward channel of every agent."""
    return f"{ROOT}/up/+/{channel}" + ("/+" if channel in _UP_WITH_TAIL else "")


def shared(group: str, subscription: str) -> str:
    """Return the subscription by which several gateways share a channel (Mosquitto, EMQX; not NATS)."""
    return f"$share/{group}/{subscription}"


@lru_cache(maxsize=10_000)  # a county's topics are few, and each is parsed with every message
def parse_up(topic: str) -> UpTopic:
    """Split an upward topic. Raises BadTopic, saying which level is wrong."""
    levels = topic.split("/")
    if levels[:3] != ["lab", "v1", "up"] or len(levels) not in (5, 6):
        raise BadTopic(f"{topic!r} is not lab/v1/up/{{agent}}/{{channel}}[/{{instrument}}]")
    agent, name, tail = levels[3], levels[4], levels[5] if len(levels) == 6 else ""
    if not is_wire_id(agent):
        raise BadTopic(f"{topic!r}: {agent!r} is not a wire id")
    try:
        channel = Channel(name)
    except ValueError:
        raise BadTopic(f"{topic!r}: no channel is called {name!r}") from None
    if channel in _UP_PLAIN and not tail:
        return UpTopic(agent, channel)
    if channel in _UP_WITH_TAIL and (
        tail == AGENT_ITSELF or is_wire_id(tail) or (channel is Channel.REPLY and is_stream_id(tail))
    ):
        return UpTopic(agent, channel, tail)
    raise BadTopic(f"{topic!r}: channel {name!r} does not go upward with the tail {tail!r}")
