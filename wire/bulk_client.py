"""paho's client, reading and acknowledging in bulk: a gateway gets thousands of small messages a second.

paho asks the system four times for every message it reads and twice for every acknowledgement it sends. Here a read
takes whatever has come, and any number of acknowledgements are one write. What lies whole in such a read and is a
plain message of QoS 1 is taken out of it at once; everything else (the first packet of a read, one that is cut in two,
any other kind, anything odd) is paho's. Used by wire.client alone; what is overridden of paho is checked by
tests/wire/test_bulk_client.py.
"""

import ssl
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode

READ_BYTES = 65_536
_PUBACK = struct.Struct("!BBH")
_KIND_AND_QOS, _PUBLISH_QOS_1, _DUP, _RETAIN = 0xF6, 0x32, 0x08, 0x01
_MOST_LENGTH_BYTES = 4


class Arrived(NamedTuple):
    """A message of QoS 1 as it was sent."""

    topic: bytes
    payload: bytes
    mid: int
    dup: bool
    retain: bool


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

    def take_messages(self) -> list[Arrived]:
        """Take out the messages of QoS 1 that come next and are here whole; end before anything else. Only between
        two packets."""
        found: list[Arrived] = []
        data, at, size = self._ahead, self._at, len(self._ahead)
        while at + 1 < size and data[at] & _KIND_AND_QOS == _PUBLISH_QOS_1:
            length, begin = data[at + 1], at + 2
            if length > 127:
                length &= 127
                for shift in range(7, 7 * _MOST_LENGTH_BYTES, 7):
                    if begin == size:
                        return found
                    byte, begin = data[begin], begin + 1
                    length |= (byte & 127) << shift
                    if byte < 128:
                        break
                else:
                    return found
            end = begin + length
            if end > size or length < 2:
                return found
            number = begin + 2 + (data[begin] << 8 | data[begin + 1])
            if number == begin + 2 or number + 2 > end:
                return found
            mid = data[number] << 8 | data[number + 1]
            head = data[at]
            topic, payload = data[begin + 2 : number], data[number + 2 : end]
            found.append(Arrived(topic, payload, mid, head & _DUP != 0, head & _RETAIN != 0))
            self._at = at = end
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class BulkClient(paho.Client):
    """A `paho.Client` that makes few system calls. Its promises are paho's.

    `on_untrusted` is told why where the other end's certificate is not accepted: to paho that is like nobody there.
    `why_unreachable` is why the last attempt to connect failed.
    `on_arrived` gets most messages of QoS 1, on the network thread and in their order; `on_message` gets the others.
    """

    on_untrusted: Callable[[str], None] | None = None
    why_unreachable = ""
    on_arrived: Callable[[Arrived], None] | None = None

    def reconnect(self) -> MQTTErrorCode:
        """Connect anew. Raises OSError where that fails; the network thread goes on trying."""
        try:
            return super().reconnect()
        except ssl.SSLError as error:
            self.why_unreachable = str(error)
            if self.on_untrusted is not None:
                self.on_untrusted(getattr(error, "verify_message", "") or error.reason or str(error))
            raise
        except OSError as error:
            self.why_unreachable = str(error)
            raise
        except UnicodeError as error:
            # What a name that cannot be one makes of the resolver; to paho it would be the end of its thread.
            self.why_unreachable = str(error)
            raise OSError(f"{self._host!r} cannot be a host: {error}") from error

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Handle everything that one read brought, not one message of it."""
        sock = self._sock
        if not isinstance(sock, ReadAhead):
            return super().loop_read(max_packets)
        while True:
            result = self._packet_read()
            if result > 0:
                return self._loop_rc_handle(result)
            if result == paho.MQTT_ERR_AGAIN:
                return MQTTErrorCode.MQTT_ERR_SUCCESS
            if self.on_arrived is not None and self._reads_from(sock):
                for message in sock.take_messages():
                    self.on_arrived(message)
            if not self._reads_from(sock) or not sock.ahead:
                return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _reads_from(self, sock: object) -> bool:
        return self._sock is sock

    def ack_all(self, mids: Sequence[int]) -> None:
        """Acknowledge messages of QoS 1, in this order, in one write."""
        if mids:
            packets = b"".join(_PUBACK.pack(paho.PUBACK, 2, mid) for mid in mids)
            self._packet_queue(paho.PUBACK, packets, mids[-1], 1)

    def _create_socket(self) -> Any:
        return ReadAhead(super()._create_socket())
