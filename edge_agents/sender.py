"""Sends what the spools hold, in order, and lets go of a row only on the gateway's own acknowledgement.

State and birth first, then usage by sequence, then telemetry; never more than a window of rows that are not
acknowledged. All of it happens in `pump`, on the agent's stepping thread; the MQTT client's callbacks only put
events into a queue. Times here are the machine's own (`time.monotonic`), never the instruments' clock.
"""

import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from edge_agents.lane import NOT_ACCEPTED_AFTER_S, RESEND_AFTER_S, Lane, Replay
from edge_agents.outbox import AckOutcome, Outbox
from edge_agents.records import Detail
from edge_agents.trouble import REST_S, Trouble
from wire.client import BrokerAddress, Delivery, MqttClient, Publication
from wire.commands import Refused
from wire.connection_losses import LOSSES, ConnectionLosses
from wire.errors import WireError
from wire.messages import Ack, ServerState, decode
from wire.topics import SERVER_STATES, Channel, all_down, down, up

log = structlog.get_logger(__name__)

MAX_ANSWERS_WAITING = 100
STATE_EVERY_S = 60.0
"""How often state is said again: an agent that ends together with its broker leaves no last will behind."""
__all__ = ["NOT_ACCEPTED_AFTER_S", "RESEND_AFTER_S", "STATE_EVERY_S", "Greetings", "Sender"]


@dataclass(frozen=True)
class Greetings:
    """What the agent says of itself when asked: the retained messages and its last will."""

    state: Callable[[], bytes]
    birth: Callable[[], bytes]
    will: Callable[[], bytes]
    now_ms: Callable[[], int]
    is_dated: Callable[[], bool] = lambda: True
    """Whether the wall clock is set. Samples without a date are kept until it is, and until that is acknowledged."""


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
        # What happened to the connection, each with when: pump may come to it much later.
        self._events: deque[tuple[str, float] | Delivery] = deque()
        self._losses = ConnectionLosses()
        self._rests_until: float | None = None
        self._troubles: list[Trouble] = []
        # Commands and configurations that arrived, for whoever executes them (edge_agents.orders).
        self.orders: deque[Delivery] = deque()
        self._answers: deque[Publication] = deque(maxlen=MAX_ANSWERS_WAITING)
        self._usage = Lane(usage, Channel.USAGE)
        self._telemetry = Lane(telemetry, Channel.TELEMETRY)
        self._servers: dict[str, bool] = {}
        self._birth_due = False
        self._state_at = -1e9
        # The usage record that has to be acknowledged before samples are sent; None while the clock is not set.
        self._dated_by: int | None = usage.last_seq
        self._refusal: str | None = None
        self.bad_deliveries = 0
        self._client = MqttClient(
            address,
            agent,
            subscriptions=[all_down(agent), SERVER_STATES],
            will=lambda: Publication(up(agent, Channel.STATE), greetings.will(), 1, True),
            on_connect=lambda: self._events.append(("connected", monotonic())),
            on_disconnect=lambda: self._events.append(("lost", monotonic())),
            on_unreachable=lambda: self._events.append(("unreachable", monotonic())),
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
            self._send_answers()
            self._client.publish_and_wait(self._state(last_state), timeout_s)
        self._client.stop()

    def pump(self) -> list[Trouble]:
        """Take what arrived, send what is due, return at once. Returns what deserves a fault record."""
        now = self._monotonic()
        self._take_events(now)
        if self._rests_until is not None and now >= self._rests_until:
            self._rests_until = None
            self._client.start()
        if not self._client.connected:
            self._tell_refusal()
        elif self._greeted(now):
            self._send_answers()
            if self.server_online:
                self._send_due(now)
        troubles, self._troubles = self._troubles, []
        return troubles

    def live(self, inst: str, payload: bytes) -> None:
        """Show the newest sample, if there is a connection: at most once, never repeated."""
        self._client.publish(Publication(up(self._agent, Channel.LIVE, inst), payload, 0, True))

    def answer(self, command_id: str, payload: bytes) -> None:
        """Answer a command, now or when there is a connection again."""
        self._answers.append(Publication(up(self._agent, Channel.REPLY, command_id), payload))

    def replay(self, stream: str, ranges: Sequence[tuple[int, int]]) -> Replay | None:
        """Take up a wish to send rows again; None where the stream is not (or no longer) one of ours."""
        for lane in (self._usage, self._telemetry):
            if lane.outbox.stream == stream:
                return lane.replay(ranges)
        return None

    def greet_again(self) -> None:
        """Say state and birth again at the next pump: something in them changed."""
        self._birth_due = True

    def _send_answers(self) -> None:
        while self._answers and self._client.publish(self._answers[0]) is not None:
            self._answers.popleft()

    def _send_due(self, now: float) -> None:
        usage_is_sent = self._send(self._usage, now) and self._usage.cursor >= self._usage.outbox.last_seq
        if usage_is_sent and self._samples_have_dates():
            self._send(self._telemetry, now)
        for lane in (self._usage, self._telemetry):
            if (seq := lane.not_accepted(now)) is not None:
                log.error("the gateway does not accept a row", agent=self._agent, stream=lane.outbox.stream, seq=seq)
                detail: Detail = {"stream": lane.outbox.stream, "kind": lane.outbox.kind.value, "seq": seq}
                self._troubles.append(
                    Trouble("not_accepted", detail | ({"said": lane.refused} if lane.refused else {}))
                )

    def _samples_have_dates(self) -> bool:
        """The record that dates what was sampled before the clock was set is usage: it has to be committed first."""
        if not self._greetings.is_dated():
            self._dated_by = None
            return False
        if self._dated_by is None:
            self._dated_by = self._usage.outbox.last_seq
        return self._usage.outbox.upto >= self._dated_by

    def _send(self, lane: Lane, now: float) -> bool:
        for row in lane.due(now):
            if self._client.publish(Publication(up(self._agent, lane.channel, row.inst), row.payload)) is None:
                return False
            lane.sent(row, now)
        return True

    def _greeted(self, now: float) -> bool:
        if self._usage.outbox.position_changed or self._telemetry.outbox.position_changed:
            self._birth_due = True
        if self._birth_due:
            return self._greet(now)
        if now - self._state_at >= STATE_EVERY_S:
            self._say_state(now)
        return True

    def _greet(self, now: float) -> bool:
        for outbox in (self._usage.outbox, self._telemetry.outbox):
            outbox.position_changed = False
        birth = Publication(up(self._agent, Channel.BIRTH), self._greetings.birth(), 1, True)
        self._birth_due = not (self._say_state(now) and self._client.publish(birth) is not None)
        return not self._birth_due

    def _say_state(self, now: float) -> bool:
        if self._client.publish(self._state(self._greetings.state())) is None:
            return False
        self._state_at = now
        return True

    def _state(self, payload: bytes) -> Publication:
        return Publication(up(self._agent, Channel.STATE), payload, 1, True)

    def _take_events(self, now: float) -> None:
        while self._events:
            event = self._events.popleft()
            if isinstance(event, Delivery):
                self._take_delivery(event, now)
                continue
            happened, at = event
            if happened == "unreachable":
                self._losses.unreachable()
            elif happened == "lost":
                if self._losses.lost(at):
                    self._rest(now)
            else:
                self._losses.connected(at)
                # A broker that lost its data says nothing about gateways: what was heard before counts no more.
                self._servers.clear()
                self._rewind()
                self._birth_due = True

    def _rest(self, now: float) -> None:
        """Somebody else connects in our name: two that fight for it get nothing done, and load the broker."""
        # Not for exactly as long as the other one, or the fight would go on where it stopped.
        rest_s = REST_S * (1 + 0.2 * random.random())
        log.error("the connection is taken away again and again; is there a second agent?", agent=self._agent)
        self._troubles.append(Trouble("connection_taken", {"losses": LOSSES, "rests_s": round(rest_s)}))
        self._rests_until = now + rest_s
        self._client.stop()
        # What the end of this connection put into the queue says nothing new.
        self._losses = ConnectionLosses()

    def _rewind(self) -> None:
        self._usage.rewind()
        self._telemetry.rewind()

    def _take_delivery(self, delivery: Delivery, now: float) -> None:
        delivery.ack()
        try:
            if delivery.topic == down(self._agent, Channel.ACK):
                self._take_ack(decode(Ack, delivery.payload), now, repeated=delivery.repeated)
            elif delivery.topic == down(self._agent, Channel.REFUSED):
                self._take_refused(decode(Refused, delivery.payload))
            elif delivery.topic in (down(self._agent, Channel.COMMAND), down(self._agent, Channel.CONFIG)):
                self.orders.append(delivery)
            elif delivery.payload:
                self._take_server_state(delivery.topic, decode(ServerState, delivery.payload), now)
            else:
                self._servers.pop(delivery.topic, None)
        except WireError as error:
            self.bad_deliveries += 1
            log.warning("a message to this agent was not understood", topic=delivery.topic, error=str(error))

    def _take_ack(self, ack: Ack, now: float, *, repeated: bool) -> None:
        is_telemetry = ack.stream == self._telemetry.outbox.stream
        lane = self._telemetry if is_telemetry else self._usage
        if repeated and lane.outbox.falls_back(ack):
            # Overtaken by newer words. Of a database that was restored, each commit and each birth says so afresh.
            return
        outcome = lane.acknowledged(ack, now, self._greetings.now_ms())
        if outcome is AckOutcome.BEYOND_LAST and not lane.doubted:
            lane.doubted = True
            detail: Detail = {"stream": ack.stream, "upto": ack.upto, "last_seq": lane.outbox.last_seq}
            self._troubles.append(Trouble("ack_beyond_last", detail))
        if outcome is AckOutcome.DOUBTED:
            # The birth is answered with where the stream stands now.
            self._birth_due = True
        if outcome is AckOutcome.REWOUND:
            log.warning("the gateway has less than it had: sending again", stream=ack.stream, upto=ack.upto)
            self._birth_due = True

    def _take_refused(self, refused: Refused) -> None:
        """The rows stay here: a person has to act, and may. They are repeated as what nobody answers is."""
        for lane in (self._usage, self._telemetry):
            if lane.outbox.stream == refused.stream and lane.refused != refused.reason:
                lane.refused = refused.reason
                said = {"stream": refused.stream, "seq": refused.seq, "reason": refused.reason, "said": refused.text}
                log.error("the gateway refuses rows", agent=self._agent, **said)

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
                self._troubles.append(Trouble("broker_refused", {"said": self._refusal[:200]}))
