"""The MQTT 3.1.1 client both ends use: persistent session, QoS 1, acknowledgement when the caller says so.

A PUBACK from the broker is a hint that a row may leave the sending window, never a receipt (docs/messages.md).
Callbacks run on paho's network thread: they may queue, count and publish, but must not block. No caller
may hold a lock of its own around `publish` that a callback takes too: paho calls back with its lock held.
A callback that raises is logged and counted, and the connection lives on: otherwise the thread would end and the
client would seem connected for ever. A delivery whose callback raised is not acknowledged.
"""

import random
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import paho.mqtt.client as paho
import structlog
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from wire.broker_address import BrokerAddress
from wire.bulk_client import Arrived, BulkClient
from wire.errors import WireError

__all__ = [
    "BrokerAddress",
    "BrokerRefused",
    "Delivery",
    "MqttClient",
    "Publication",
    "SubscriptionDenied",
    "acknowledge",
]

log = structlog.get_logger(__name__)


class BrokerRefused(WireError):
    """The broker answered and said no: wrong credential, or a client id it will not have."""


class SubscriptionDenied(BrokerRefused):
    """We are let in, and may not read what we came for."""


@dataclass(frozen=True)
class Publication:
    """Something to publish: on connecting (birth) or by the broker in our name (last will)."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


@dataclass(frozen=True)
class Delivery:
    """A message that arrived. Nothing is acknowledged to the broker until `ack` is called.

    `repeated` says that the broker may have delivered it before: newer messages may have come since.
    """

    topic: str
    payload: bytes
    retained: bool
    _ack: Callable[[], None] = field(repr=False)
    repeated: bool = False

    def ack(self) -> None:
        """Send the PUBACK. Does nothing if the connection it came on is gone: the broker delivers again."""
        self._ack()


class _Receipt:
    """The acknowledgement of one message of QoS 1, as it was received on one connection."""

    __slots__ = ("client", "connection", "mid")

    def __init__(self, client: "MqttClient", connection: int, mid: int) -> None:
        self.client, self.connection, self.mid = client, connection, mid

    def __call__(self) -> None:
        self.client.send_pubacks([self])


def acknowledge(deliveries: Sequence[Delivery]) -> None:
    """Acknowledge many deliveries as `Delivery.ack` does each, in their order, with one write a connection."""
    by_client: dict[MqttClient, list[_Receipt]] = {}
    for delivery in deliveries:
        if isinstance(delivery._ack, _Receipt):
            by_client.setdefault(delivery._ack.client, []).append(delivery._ack)
        else:
            delivery.ack()
    for client, receipts in by_client.items():
        client.send_pubacks(receipts)


class MqttClient:
    """One connection that keeps itself up. Construct, set the callbacks, `start`; `stop` says good-bye properly."""

    def __init__(
        self,
        address: BrokerAddress,
        client_id: str,
        *,
        subscriptions: Sequence[str] = (),
        clean_session: bool = False,
        will: Callable[[], Publication] | None = None,
        keepalive_s: int = 15,
        on_connect: Callable[[], None] | None = None,
        on_disconnect: Callable[[], None] | None = None,
        on_unreachable: Callable[[], None] | None = None,
        on_subscribed: Callable[[], None] | None = None,
        on_delivery: Callable[[Delivery], None] | None = None,
        on_puback: Callable[[int], None] | None = None,
        once_in_hand: bool = False,
        tells_outages: bool = True,
    ) -> None:
        """`once_in_hand`: a message that was not acknowledged yet and comes again on the same connection is not handed
        over a second time. Some brokers repeat it every half minute, and it would fill the memory of who is waiting.
        `tells_outages`: log once an outage that there is no broker; not for the further connections of a process.
        `on_subscribed` is called when the broker has answered the subscriptions: `denied` names those it refused.
        """
        self._address = address
        self._subscriptions = list(subscriptions)
        self._keepalive_s = keepalive_s
        self._will = will
        self._on_connect = on_connect
        self._on_disconnect = on_disconnect
        self._on_unreachable = on_unreachable
        self._on_subscribed = on_subscribed
        self._on_delivery = on_delivery
        self._on_puback = on_puback
        self._once_in_hand = once_in_hand
        self._tells_outage = self._tells_outages = tells_outages
        self._in_hand: set[int] = set()
        self._connection = 0
        self._connected = threading.Event()
        self._settled = threading.Event()
        self._subscribed = threading.Event()
        self.refusal: str | None = None
        self.denied: tuple[str, ...] = ()
        self.callback_errors = 0
        self._paho = BulkClient(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=clean_session,
            protocol=MQTTProtocolVersion.MQTTv311,
            manual_ack=True,
        )
        if address.username is not None:
            self._paho.username_pw_set(address.username, address.password)
        if address.tls:
            self._paho.tls_set_context(ssl.create_default_context())
        # Full jitter, so that a county of agents does not come back in one second after a power cut.
        self._paho.reconnect_delay_set(min_delay=1 + random.random(), max_delay=60)  # type: ignore[arg-type]  # any number
        self._paho.max_queued_messages_set(2000)
        self._paho.max_inflight_messages_set(100)
        self._paho.on_connect = self._connect_done
        self._paho.on_disconnect = self._disconnected
        self._paho.on_connect_fail = self._unreachable
        self._paho.on_untrusted = self._untrusted
        self._paho.on_message = self._message
        self._paho.on_arrived = self._arrived
        self._paho.on_publish = self._published
        self._paho.on_subscribe = self._subscribe_done

    @property
    def connected(self) -> bool:
        return self._connected.is_set()

    @property
    def subscribed(self) -> bool:
        """Whether the broker has answered our subscriptions on this connection; `denied` names those it refused."""
        return self._subscribed.is_set()

    @property
    def connection(self) -> int:
        """Counts connections: message ids of one connection mean nothing on the next."""
        return self._connection

    def start(self) -> None:
        """Begin connecting in the background, and keep at it until `stop`."""
        self._renew_will()
        self._paho.connect_async(self._address.host, self._address.port, keepalive=self._keepalive_s)
        self._paho.loop_start()

    def wait_connected(self, timeout_s: float) -> None:
        """Wait until connected. Raises BrokerRefused on a no, TimeoutError where nobody answers.

        The client goes on trying after either error; `stop` ends that.
        """
        self._settled.wait(timeout_s)
        if self._connected.is_set():
            return
        where = self._address.where
        if self.refusal is not None:
            raise BrokerRefused(f"the broker at {where} refused the connection: {self.refusal}")
        raise TimeoutError(f"no broker answered at {where} within {timeout_s:g} s")

    def wait_subscribed(self, timeout_s: float) -> None:
        """Wait until connected and subscribed. Raises what `wait_connected` does, and SubscriptionDenied."""
        until = time.monotonic() + timeout_s
        self.wait_connected(timeout_s)
        if not self._subscribed.wait(max(until - time.monotonic(), 0)):
            where = self._address.where
            raise TimeoutError(f"the broker at {where} did not answer the subscriptions within {timeout_s:g} s")
        if self.denied:
            raise SubscriptionDenied(f"the broker refuses the subscriptions {', '.join(self.denied)}")

    def publish(self, publication: Publication) -> int | None:
        """Hand a message to the connection; return its message id, or None where it was not taken.

        None means: not connected, or the queue is full. The caller keeps what it has and tries later. What was taken
        and not confirmed is sent again by the client itself after a reconnect, so it may arrive more than once.
        """
        if not self._connected.is_set():
            return None
        info = self._paho.publish(publication.topic, publication.payload, publication.qos, publication.retain)
        return info.mid if info.rc == paho.MQTT_ERR_SUCCESS else None

    def publish_and_wait(self, publication: Publication, timeout_s: float) -> bool:
        """Publish and wait until the broker has it; False where that did not happen in time.

        Not to be called from a callback: the confirmation arrives on the thread that would be waiting.
        """
        if not self._connected.is_set():
            return False
        info = self._paho.publish(publication.topic, publication.payload, publication.qos, publication.retain)
        if info.rc != paho.MQTT_ERR_SUCCESS:
            return False
        info.wait_for_publish(timeout_s)
        return info.is_published()

    def send_pubacks(self, receipts: Sequence[_Receipt]) -> None:
        """Send the PUBACKs of messages of this client; those of a connection that is gone are left out."""
        mids = [receipt.mid for receipt in receipts if receipt.connection == self._connection]
        # First: the broker may use a number again as soon as it is acknowledged.
        self._in_hand.difference_update(mids)
        self._paho.ack_all(mids)

    def stop(self) -> None:
        """Disconnect in an orderly way (no last will is sent) and end the network thread."""
        self._paho.disconnect()
        self._paho.loop_stop()
        self._connected.clear()

    def _renew_will(self) -> None:
        if self._will is not None:
            will = self._will()
            self._paho.will_set(will.topic, will.payload, will.qos, will.retain)

    def _connect_done(self, client: paho.Client, userdata: object, flags: object, reason, properties) -> None:  # type: ignore[no-untyped-def]
        if reason.is_failure:
            self.refusal = str(reason)
            self._settled.set()
            return
        self.refusal = None
        self._tells_outage = self._tells_outages
        self._in_hand.clear()
        self._connection += 1
        # On every connect: a broker that lost its database has forgotten what we subscribed to.
        if self._subscriptions:
            client.subscribe([(topic, 1) for topic in self._subscriptions])
        self._connected.set()
        self._settled.set()
        if self._on_connect is not None:
            self._call("on_connect", self._on_connect)

    def _disconnected(
        self, client: paho.Client, userdata: object, flags: object, reason: object, properties: object
    ) -> None:
        self._connected.clear()
        self._subscribed.clear()
        if self.refusal is None:
            # So that the next wait_connected waits again; a refusal stands until the broker answers otherwise.
            self._settled.clear()
        self._connection += 1
        if self._will is not None:
            self._call("will", self._renew_will)
        if self._on_disconnect is not None:
            self._call("on_disconnect", self._on_disconnect)

    def _untrusted(self, why: str) -> None:
        self.refusal = f"its certificate is not accepted: {why}"
        self._settled.set()

    def _unreachable(self, client: paho.Client, userdata: object) -> None:
        if self._tells_outage and self.refusal is None:
            self._tells_outage = False
            said = f"no broker at {self._address.where}; trying again until there is one"
            log.warning(said, why=self._paho.why_unreachable, username=self._address.username)
        if self._on_unreachable is not None:
            self._call("on_unreachable", self._on_unreachable)

    def _message(self, client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        sent = Arrived(message._topic, bytes(message.payload), message.mid, message.dup, message.retain)
        if message.qos:
            self._arrived(sent)
        else:
            self._hand_over(sent, _nothing)

    def _arrived(self, sent: Arrived) -> None:
        if self._once_in_hand:
            if sent.dup and sent.mid in self._in_hand:
                return
            self._in_hand.add(sent.mid)
        if not self._hand_over(sent, _Receipt(self, self._connection, sent.mid)):
            self._in_hand.discard(sent.mid)

    def _hand_over(self, sent: Arrived, ack: Callable[[], None]) -> bool:
        """Whether somebody has the message now."""
        try:
            topic = sent.topic.decode()
        except UnicodeDecodeError:
            log.warning("a message under a topic that is not UTF-8 was acknowledged unread", bytes=len(sent.payload))
            ack()
            return True
        if self._on_delivery is None:
            ack()
            return True
        return self._call("on_delivery", self._on_delivery, Delivery(topic, sent.payload, sent.retain, ack, sent.dup))

    def _published(self, client: paho.Client, userdata: object, mid: int, reason: object, properties: object) -> None:
        if self._on_puback is not None:
            self._call("on_puback", self._on_puback, mid)

    def _subscribe_done(self, client: paho.Client, userdata: object, mid: int, reasons, properties: object) -> None:  # type: ignore[no-untyped-def]
        """Keep what the broker denied. An empty list proves nothing: Mosquitto says yes and delivers nothing."""
        self.denied = tuple(t for t, reason in zip(self._subscriptions, reasons, strict=False) if reason.is_failure)
        if self.denied:
            log.warning("the broker denied subscriptions", denied=self.denied, username=self._address.username)
        self._subscribed.set()
        if self._on_subscribed is not None:
            self._call("on_subscribed", self._on_subscribed)

    def _call(self, name: str, callback: Callable[..., None], *arguments: object) -> bool:
        """Call back; whether it came through."""
        try:
            callback(*arguments)
        except Exception:
            self.callback_errors += 1
            log.exception("a callback of the MQTT client failed", callback=name)
            return False
        return True


def _nothing() -> None:
    """What there is to acknowledge of a message of QoS 0."""
