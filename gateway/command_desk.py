"""Sends commands and configurations to agents, and hears their answers: a connection of its own, with a clean session.

Used by the gateway (replays of holes) and by `openlab-gateway command` and `configure`. It decides nothing and keeps
nothing: who ordered what is written down by the caller before it is sent.
"""

import threading
from collections.abc import Callable, Mapping

import structlog
from pydantic import JsonValue

from wire.client import BrokerAddress, Delivery, MqttClient, Publication
from wire.clock import Clock
from wire.commands import DEFAULT_LIFETIME_S, Command, Config, Op, Reply
from wire.errors import WireError
from wire.ids import new_ulid
from wire.messages import decode, encode, timestamp
from wire.topics import Channel, all_up, down, parse_up

log = structlog.get_logger(__name__)


class CommandDesk:
    """`start` connects; `stop` disconnects. `on_reply` is called on the network thread and must not block."""

    def __init__(
        self, address: BrokerAddress, name: str, clock: Clock, on_reply: Callable[[str, Reply], None] | None = None
    ) -> None:
        self._clock = clock
        self._on_reply = on_reply
        self._lock = threading.Lock()
        self._waiting: dict[str, tuple[threading.Event, list[Reply]]] = {}
        self._client = MqttClient(
            address,
            name,
            subscriptions=[all_up(Channel.REPLY)],
            clean_session=True,
            on_delivery=self._take,
            tells_outages=False,
        )

    def start(self) -> None:
        """Begin connecting in the background."""
        self._client.start()

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until connected. Raises BrokerRefused, TimeoutError."""
        self._client.wait_connected(timeout_s)

    def stop(self) -> None:
        """Disconnect; safe to call twice."""
        self._client.stop()

    @property
    def connected(self) -> bool:
        """Whether there is a connection, with its subscription answered."""
        return self._client.connected and self._client.subscribed

    def command(
        self, op: Op, args: Mapping[str, JsonValue], by: str, lifetime_s: float = DEFAULT_LIFETIME_S
    ) -> Command:
        """Return a fresh command that is good for so many real seconds. Raises pydantic.ValidationError."""
        until_ms = self._clock.now_ms() + round(lifetime_s * 1000 * self._clock.speed)
        return Command(id=new_ulid(), op=op, args=dict(args), not_after=timestamp(until_ms), by=by)

    def send(self, agent: str, command: Command) -> bool:
        """Publish a command; False where there is no connection. Whoever sends it twice sends the same id."""
        publication = Publication(down(agent, Channel.COMMAND), encode(command), qos=1)
        return self._client.publish(publication) is not None

    def ask(self, agent: str, command: Command, timeout_s: float) -> Reply | None:
        """Publish a command and wait for the answer; None where none came in time. Not for the network thread."""
        arrived, replies = threading.Event(), list[Reply]()
        with self._lock:
            self._waiting[agent + "/" + command.id] = (arrived, replies)
        try:
            if not self.send(agent, command):
                return None
            arrived.wait(timeout_s)
            return replies[0] if replies else None
        finally:
            with self._lock:
                del self._waiting[agent + "/" + command.id]

    def configure(self, config: Config, timeout_s: float) -> bool:
        """Publish a configuration, retained; whether the broker has it."""
        publication = Publication(down(config.agent, Channel.CONFIG), encode(config), qos=1, retain=True)
        return self._client.publish_and_wait(publication, timeout_s)

    def _take(self, delivery: Delivery) -> None:
        delivery.ack()
        try:
            where = parse_up(delivery.topic)
            reply = decode(Reply, delivery.payload)
        except WireError as error:
            log.warning("an answer was not understood", topic=delivery.topic, error=str(error))
            return
        if reply.id != where.tail:
            log.warning("an answer under another command's topic", topic=delivery.topic, id=reply.id)
            return
        with self._lock:
            found = self._waiting.get(where.agent + "/" + reply.id)
        if reply.code == "retained":
            # Somebody published a command retained: the agent refused it, and it is taken off the broker.
            self._client.publish(Publication(down(where.agent, Channel.COMMAND), b"", qos=1, retain=True))
        if found is not None:
            found[1].append(reply)
            found[0].set()
        if self._on_reply is not None:
            self._on_reply(where.agent, reply)
