"""An MQTT client of a test: the product's own client, with what it heard kept in a list."""

import threading
from collections.abc import Callable, Sequence
from types import TracebackType

from tests.support.waiting import wait_until
from wire.client import BrokerAddress, Delivery, MqttClient, Publication


class Station:
    """One connection. As a context manager it is connected, with its subscriptions answered, and stopped at the end."""

    def __init__(
        self,
        url: str,
        client_id: str,
        subscriptions: Sequence[str] = (),
        *,
        ack: bool = True,
        will: Callable[[], Publication] | None = None,
    ) -> None:
        self._lock = threading.Lock()
        self._heard: list[Delivery] = []
        self._ack = ack
        self._wants_answer = bool(subscriptions)
        self.client = MqttClient(
            BrokerAddress.parse(url), client_id, subscriptions=subscriptions, will=will, on_delivery=self._hear
        )

    def __enter__(self) -> "Station":
        self.client.start()
        try:
            self.client.wait_connected(10)
            self.wait_ready()
        except BaseException:
            self.client.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.stop()

    @property
    def heard(self) -> list[Delivery]:
        with self._lock:
            return list(self._heard)

    @property
    def payloads(self) -> list[bytes]:
        return [delivery.payload for delivery in self.heard]

    def send(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish at QoS 1 and wait for the broker's PUBACK."""
        assert self.client.publish_and_wait(Publication(topic, payload, 1, retain), 10), f"no PUBACK for {topic}"

    def hand_over(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 1 without waiting for the PUBACK; waits only for room in the client's queue."""
        wait_until(lambda: self.client.publish(Publication(topic, payload)) is not None, "room to send")

    def wait_ready(self) -> None:
        """Wait until connected and subscribed (again)."""
        wait_until(
            lambda: self.client.connected and (self.client.subscribed or not self._wants_answer),
            "the connection and its subscriptions",
        )

    def wait_heard(self, count: int) -> list[Delivery]:
        """Wait until at least `count` messages were delivered, repeats included."""
        wait_until(lambda: len(self.heard) >= count, f"{count} deliveries")
        return self.heard

    def forget(self) -> None:
        """Empty the list of what was heard."""
        with self._lock:
            self._heard.clear()

    def _hear(self, delivery: Delivery) -> None:
        with self._lock:
            self._heard.append(delivery)
        if self._ack:
            delivery.ack()
