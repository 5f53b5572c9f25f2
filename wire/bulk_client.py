"""paho's client, reading and acknowledging in bulk: a gateway gets thousands of small messages a second.

paho asks the system four times for every message it reads and twice for every acknowledgement it sends. Here a read
takes whatever has come, and any number of acknowledgements are one write. Used by wire.client alone; what is
overridden of paho is checked by tests/wire/test_bulk_client.py.
"""

import ssl
import struct
from collections.abc import Callable, Sequence
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode

READ_BYTES = 65_536
_PUBACK = struct.Struct("!BBH")


class ReadAhead:
    """A socket that reads ahead. Everything but `recv` and `pending` is the socket's own."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._ahead = b""
        self._at = 0

    def recv(self, size: int) -> bytes:
        """Return up to `size` bytes, from the system only where none are left. Raises what the socket raises."""
        if self._at == len(self._ahead):
            self._ahead, self._at = self._sock.recv(READ_BYTES), 0
        piece = self._ahead[self._at : self._at + size]
        self._at += len(piece)
        return piece

    @property
    def ahead(self) -> int:
        """How many bytes were read and not yet asked for."""
        return len(self._ahead) - self._at

    def pending(self) -> int:
        """How many bytes can be had without waiting: a select would not know of them."""
        inner = getattr(self._sock, "pending", None)
        return self.ahead + (inner() if inner is not None else 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class BulkClient(paho.Client):
    """A `paho.Client` that makes few system calls. Its promises are paho's.

    `on_untrusted` is told why where the other end's certificate is not accepted: to paho that is like nobody there.
    """

    on_untrusted: Callable[[str], None] | None = None

    def reconnect(self) -> MQTTErrorCode:
        """Connect anew. Raises OSError where that fails; the network thread goes on trying."""
        try:
            return super().reconnect()
        except ssl.SSLError as error:
            if self.on_untrusted is not None:
                self.on_untrusted(getattr(error, "verify_message", "") or error.reason or str(error))
            raise

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Handle everything that one read brought, not one message of it."""
        result = super().loop_read(max_packets)
        while result == paho.MQTT_ERR_SUCCESS and isinstance(self._sock, ReadAhead) and self._sock.ahead:
            result = super().loop_read(max_packets)
        return result

    def ack_all(self, mids: Sequence[int]) -> None:
        """Acknowledge messages of QoS 1, in this order, in one write."""
        if mids:
            packets = b"".join(_PUBACK.pack(paho.PUBACK, 2, mid) for mid in mids)
            self._packet_queue(paho.PUBACK, packets, mids[-1], 1)

    def _create_socket(self) -> Any:
        return ReadAhead(super()._create_socket())
