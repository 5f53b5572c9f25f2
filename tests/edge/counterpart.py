"""The server's side of the wire, as small as a test needs it: keeps what arrives and acknowledges it."""

import threading
from types import TracebackType

from wire.client import BrokerAddress, Delivery, MqttClient, Publication
from wire.messages import (
    Ack,
    AgentState,
    Birth,
    ServerState,
    StreamKind,
    Telemetry,
    UsageRecord,
    decode,
    encode,
    timestamp,
)
from wire.topics import Channel, all_up, down, parse_up, server_state


class Counterpart:
    """Speaks for one gateway. `acks = False` makes it silent; `forget_above` is a database that was restored."""

    def __init__(self, url: str, name: str = "gw-1") -> None:
        self.acks = True
        self.refuses: set[int] = set()
        self.repeats = 0
        self.conflicts: list[tuple[str, int]] = []
        self.births: list[Birth] = []
        self.states: list[AgentState] = []
        self.order: list[tuple[str, int]] = []
        self.live: list[bytes] = []
        self._name = name
        self._lock = threading.Lock()
        self._usage: dict[tuple[str, int], bytes] = {}
        self._telemetry: dict[tuple[str, int], bytes] = {}
        topics = [all_up(c) for c in (Channel.USAGE, Channel.TELEMETRY, Channel.BIRTH, Channel.STATE, Channel.LIVE)]
        self.client = MqttClient(BrokerAddress.parse(url), name, subscriptions=topics, on_delivery=self._take)

    def __enter__(self) -> "Counterpart":
        self.client.start()
        self.client.wait_connected(10)
        self.say(online=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.stop()

    def say(self, *, online: bool) -> None:
        state = ServerState(online=online, gateway=self._name, ts=timestamp(1_750_000_000_000))
        assert self.client.publish_and_wait(Publication(server_state(self._name), encode(state), 1, True), 10)

    def usage(self, stream: str | None = None) -> list[UsageRecord]:
        """What arrived, each record once, by stream and number."""
        with self._lock:
            rows = sorted(self._usage.items())
        return [decode(UsageRecord, payload) for key, payload in rows if stream in (None, key[0])]

    def telemetry(self) -> list[Telemetry]:
        with self._lock:
            return [decode(Telemetry, payload) for _, payload in sorted(self._telemetry.items())]

    def forget_above(self, agent: str, stream: str, seq: int) -> None:
        """Lose what came after `seq`, and say so."""
        with self._lock:
            self._usage = {key: p for key, p in self._usage.items() if key[0] != stream or key[1] <= seq}
        self.acknowledge(agent, stream)

    def acknowledge(self, agent: str, stream: str) -> None:
        with self._lock:
            has = {seq for rows in (self._usage, self._telemetry) for s, seq in rows if s == stream}
        upto = max(has, default=0)
        holes = tuple((n, n) for n in range(1, upto + 1) if n not in has)
        ack = Ack(stream=stream, upto=upto, holes=holes)
        self.client.publish(Publication(down(agent, Channel.ACK), encode(ack)))

    def _take(self, delivery: Delivery) -> None:
        topic = parse_up(delivery.topic)
        if topic.channel is Channel.BIRTH:
            birth = decode(Birth, delivery.payload)
            self.births.append(birth)
            for position in birth.streams if self.acks else ():
                self.acknowledge(topic.agent, position.stream)
        elif topic.channel is Channel.STATE:
            self.states.append(decode(AgentState, delivery.payload))
        elif topic.channel is Channel.LIVE:
            self.live.append(delivery.payload)
        else:
            self._keep(topic.agent, topic.channel, delivery.payload)
        delivery.ack()

    def _keep(self, agent: str, channel: Channel, payload: bytes) -> None:
        kind = StreamKind.USAGE if channel is Channel.USAGE else StreamKind.TELEMETRY
        message: UsageRecord | Telemetry
        message = decode(UsageRecord, payload) if kind is StreamKind.USAGE else decode(Telemetry, payload)
        key = (message.stream, message.seq)
        if kind is StreamKind.USAGE and key[1] in self.refuses:
            return
        with self._lock:
            rows = self._usage if kind is StreamKind.USAGE else self._telemetry
            self.order.append((kind.value, key[1]))
            if key in rows:
                self.repeats += 1
                if rows[key] != payload:
                    self.conflicts.append(key)
            rows.setdefault(key, payload)
        if self.acks:
            self.acknowledge(agent, key[0])
