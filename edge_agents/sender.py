"""Sends what the spools hold, in order, and lets go of a row only on the gateway's own acknowledgement.

State and birth first, then usage by sequence, then telemetry; never more than a window of rows that are not
acknowledged. All of it happens in `pump`, on the agent's stepping thread; the MQTT client's callbacks only put
events into a queue. Times here are the machine's own (`time.monotonic`), never the instruments' clock.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import structlog

from edge_agents.outbox import AckOutcome, Outbox, Row
from wire.client import BrokerAddress, Delivery, MqttClient, Publication
from wire.errors import WireError
from wire.messages import Ack, ServerState, StreamKind, decode
from wire.topics import SERVER_STATES, Channel, down, up

log = structlog.get_logger(__name__)

WINDOW = 100
RESEND_AFTER_S = 30.0
RESEND_AT_MOST_EVERY_S = 300.0
NOT_ACCEPTED_AFTER_S = 300.0
HOLE_RESEND_AFTER_S = 2.0


@dataclass(frozen=True)
class Greetings:
    """What the agent says of itself when asked: the retained messages and its last will."""

    state: Callable[[], bytes]
    birth: Callable[[], bytes]
    will: Callable[[], bytes]
    now_ms: Callable[[], int]


@dataclass
class _Flight:
    """A row on its way. `first` is when it was first sent since a gateway was last known to be there."""

    first: float
    sent: float
    due: float
    tries: int


class _Lane:
    """One stream's window: which rows were sent and not acknowledged, and when to send them again."""

    def __init__(self, outbox: Outbox, channel: Channel) -> None:
        self.outbox = outbox
        self.channel = channel
        self.cursor = outbox.upto
        self.flights: dict[int, _Flight] = {}
        self.complained = False

    def rewind(self) -> None:
        """Start again from the first row that is not acknowledged."""
        self.cursor = self.outbox.upto
        self.flights.clear()

    def acknowledged(self, ack: Ack, now: float, now_ms: int) -> AckOutcome:
        before = self.outbox.upto
        outcome = self.outbox.acknowledge(ack, now_ms)
        if outcome is AckOutcome.REWOUND:
            self.rewind()
        elif outcome is AckOutcome.TAKEN:
            self.flights = {seq: f for seq, f in self.flights.items() if not self.outbox.is_acknowledged(seq)}
            self.cursor = max(self.cursor, self.outbox.upto)
            for start, end in ack.holes:
                for seq in range(max(start, self.outbox.first_kept), min(end, self.cursor, start + WINDOW) + 1):
                    # Asked for again. Not at once: it may be what we sent a moment ago.
                    flight = self.flights.setdefault(seq, _Flight(now, now, now, 0))
                    flight.due = min(flight.due, flight.sent + HOLE_RESEND_AFTER_S)
            if self.outbox.upto > before:
                self.complained = False
        return outcome

    def due(self, now: float) -> Iterator[Row]:
        """Rows to send now: those to be repeated first, then new ones as far as the window allows."""
        for seq in sorted(seq for seq, flight in self.flights.items() if flight.due <= now):
            row = self.outbox.row(seq)
            if row is None:
                del self.flights[seq]
            else:
                yield row
        room = WINDOW - len(self.flights)
        if room > 0 and self.cursor < self.outbox.last_seq:
            for row in self.outbox.rows(self.cursor, room):
                if self.outbox.is_acknowledged(row.seq):
                    self.cursor = row.seq
                else:
                    yield row

    def sent(self, seq: int, now: float) -> None:
        flight = self.flights.get(seq)
        if flight is None:
            self.flights[seq] = _Flight(now, now, now + RESEND_AFTER_S, 1)
            self.cursor = max(self.cursor, seq)
        else:
            flight.tries += 1
            flight.sent = now
            flight.due = now + min(RESEND_AFTER_S * 2 ** (flight.tries - 1), RESEND_AT_MOST_EVERY_S)

    def not_accepted(self, now: float) -> int | None:
        """The first row that was sent again and again in vain; told once until something is acknowledged."""
        if self.complained:
            return None
        late = [seq for seq, flight in self.flights.items() if now - flight.first >= NOT_ACCEPTED_AFTER_S]
        if not late:
            return None
        self.complained = True
        return min(late)


@dataclass(frozen=True)
class NotAccepted:
    """A gateway is there, and a row that was sent to it again and again is not acknowledged."""

    stream: str
    kind: StreamKind
    seq: int


class Sender:
    """One agent's connection. `pump` from one thread."""

    def __init__(
        self,
        agent: str,
        address: BrokerAddress,
        usage: Outbox,
        telemetry: Outbox,
        greetings: Greetings,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._agent = agent
        self._greetings = greetings
        self._monotonic = monotonic
        self._events: deque[str | Delivery] = deque()
        self._usage = _Lane(usage, Channel.USAGE)
        self._telemetry = _Lane(telemetry, Channel.TELEMETRY)
        self._servers: dict[str, bool] = {}
        self._birth_due = False
        self._refusal: str | None = None
        self.bad_deliveries = 0
        self._client = MqttClient(
            address,
            agent,
            subscriptions=[down(agent, Channel.ACK), SERVER_STATES],
            will=lambda: Publication(up(agent, Channel.STATE), greetings.will(), 1, True),
            on_connect=lambda: self._events.append("connected"),
            on_delivery=self._events.append,
        )

    @property
    def connected(self) -> bool:
        return self._client.connected

    @property
    def server_online(self) -> bool:
        """Whether at least one gateway says that it is there. While none does, nothing is sent."""
        return any(self._servers.values())

    def start(self) -> None:
        """Begin connecting in the background, and keep at it."""
        self._client.start()

    def stop(self, last_state: bytes, timeout_s: float = 2.0) -> None:
        """Say good-bye with `last_state` (retained) where there is a connection, and disconnect."""
        if self._client.connected:
            self._client.publish_and_wait(self._state(last_state), timeout_s)
        self._client.stop()

    def pump(self) -> list[NotAccepted]:
        """Take what arrived, send what is due, return at once. Returns complaints that deserve a fault record."""
        now = self._monotonic()
        self._take_events(now)
        if not self._client.connected:
            self._tell_refusal()
            return []
        if self._usage.outbox.position_changed or self._telemetry.outbox.position_changed:
            self._birth_due = True
        if self._birth_due and not self._greet():
            return []
        if not self.server_online:
            return []
        if self._send(self._usage, now) and self._usage.cursor >= self._usage.outbox.last_seq:
            self._send(self._telemetry, now)
        found = [(lane, lane.not_accepted(now)) for lane in (self._usage, self._telemetry)]
        return [NotAccepted(lane.outbox.stream, lane.outbox.kind, seq) for lane, seq in found if seq is not None]

    def live(self, inst: str, payload: bytes) -> None:
        """Show the newest sample, if there is a connection: at most once, never repeated."""
        self._client.publish(Publication(up(self._agent, Channel.LIVE, inst), payload, 0, True))

    def _send(self, lane: _Lane, now: float) -> bool:
        for row in lane.due(now):
            if self._client.publish(Publication(up(self._agent, lane.channel, row.inst), row.payload)) is None:
                return False
            lane.sent(row.seq, now)
        return True

    def _greet(self) -> bool:
        for outbox in (self._usage.outbox, self._telemetry.outbox):
            outbox.position_changed = False
        birth = Publication(up(self._agent, Channel.BIRTH), self._greetings.birth(), 1, True)
        said = self._client.publish(self._state(self._greetings.state())) is not None
        self._birth_due = not (said and self._client.publish(birth) is not None)
        return not self._birth_due

    def _state(self, payload: bytes) -> Publication:
        return Publication(up(self._agent, Channel.STATE), payload, 1, True)

    def _take_events(self, now: float) -> None:
        while self._events:
            event = self._events.popleft()
            if isinstance(event, Delivery):
                self._take_delivery(event, now)
            else:
                # A broker that lost its data says nothing about gateways: what was heard before counts no more.
                self._servers.clear()
                self._rewind()
                self._birth_due = True

    def _rewind(self) -> None:
        self._usage.rewind()
        self._telemetry.rewind()

    def _take_delivery(self, delivery: Delivery, now: float) -> None:
        delivery.ack()
        try:
            if delivery.topic == down(self._agent, Channel.ACK):
                self._take_ack(decode(Ack, delivery.payload), now)
            elif delivery.payload:
                self._take_server_state(delivery.topic, decode(ServerState, delivery.payload), now)
            else:
                self._servers.pop(delivery.topic, None)
        except WireError as error:
            self.bad_deliveries += 1
            log.warning("a message to this agent was not understood", topic=delivery.topic, error=str(error))

    def _take_ack(self, ack: Ack, now: float) -> None:
        is_telemetry = ack.stream == self._telemetry.outbox.stream
        lane = self._telemetry if is_telemetry else self._usage
        if lane.acknowledged(ack, now, self._greetings.now_ms()) is AckOutcome.REWOUND:
            log.warning("the gateway has less than it had: sending again", stream=ack.stream, upto=ack.upto)
            self._birth_due = True

    def _take_server_state(self, topic: str, state: ServerState, now: float) -> None:
        was_online = self.server_online
        came = state.online and not self._servers.get(topic, False)
        self._servers[topic] = state.online
        if came:
            self._birth_due = True
        if self.server_online and not was_online:
            # Patience starts anew: nobody was there to answer.
            for lane in (self._usage, self._telemetry):
                for flight in lane.flights.values():
                    flight.first, flight.tries, flight.due = now, 1, now + RESEND_AFTER_S

    def _tell_refusal(self) -> None:
        if self._client.refusal != self._refusal:
            self._refusal = self._client.refusal
            if self._refusal is not None:
                log.error("the broker refuses this agent", agent=self._agent, reason=self._refusal)
