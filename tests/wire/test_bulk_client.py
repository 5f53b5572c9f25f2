"""Reading ahead and acknowledging in bulk: the same bytes, the same promises, few system calls."""

import socket

import paho.mqtt.client as paho
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion

from tests.support.brokers import AGENT, GATEWAY, AnyBroker, NatsBroker
from tests.support.mqtt import Station
from tests.support.waiting import wait_until
from wire.bulk_client import Arrived, BulkClient, ReadAhead
from wire.client import BrokerAddress, Delivery, MqttClient, acknowledge
from wire.topics import Channel, all_up, down, up

MESSAGES = 300


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=2_000), st.lists(st.integers(1, 300), min_size=1, max_size=50))
def test_bytes_are_read_in_their_order_whatever_the_portions(sent: bytes, portions: list[int]) -> None:
    near, far = socket.socketpair()
    with near, far:
        far.sendall(sent)
        far.shutdown(socket.SHUT_WR)
        reading, got = ReadAhead(near), b""
        while len(got) < len(sent):
            piece = reading.recv(portions[len(got) % len(portions)])
            assert piece
            got += piece
            assert reading.pending() == len(sent) - len(got)
        assert got == sent
        assert reading.recv(10) == b""


def test_a_socket_with_nothing_to_read_says_so() -> None:
    near, far = socket.socketpair()
    with near, far:
        reading = ReadAhead(near)
        reading.setblocking(False)
        with pytest.raises(BlockingIOError):
            reading.recv(1)
        far.sendall(b"ab")
        assert (reading.recv(1), reading.ahead, reading.recv(5), reading.ahead) == (b"a", 1, b"b", 0)


def packet(message: Arrived, qos: int) -> bytes:
    number = message.mid.to_bytes(2, "big") if qos else b""
    body = len(message.topic).to_bytes(2, "big") + message.topic + number + message.payload
    length, left = bytearray(), len(body)
    while True:
        left, digit = divmod(left, 128)
        length.append(digit | (128 if left else 0))
        if not left:
            break
    return bytes([0x30 | message.dup << 3 | qos << 1 | message.retain]) + bytes(length) + body


SENT = st.builds(
    Arrived,
    st.text("ab/é", min_size=1, max_size=40).map(str.encode),
    st.one_of(st.binary(max_size=40), st.integers(100, 20_000).map(bytes)),
    st.integers(1, 65_535),
    st.booleans(),
    st.booleans(),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(SENT, st.sampled_from([1, 1, 1, 0])), min_size=1, max_size=12), st.integers(1, 30_000))
def test_messages_come_whole_and_in_order_however_they_are_cut(sent: list[tuple[Arrived, int]], portion: int) -> None:
    got: list[Arrived] = []
    client = BulkClient(CallbackAPIVersion.VERSION2, manual_ack=True)
    client.on_arrived = got.append
    client.on_message = lambda _client, _data, m: got.append(
        Arrived(m._topic, bytes(m.payload), m.mid, m.dup, m.retain)
    )
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        client._sock = ReadAhead(near)  # type: ignore[assignment]
        data = b"\xd0\x00".join(packet(message, qos) for message, qos in sent)
        for start in range(0, len(data), portion):
            far.sendall(data[start : start + portion])
            assert client.loop_read() == paho.MQTT_ERR_SUCCESS
        client._sock = None
    assert got == [message if qos else message._replace(mid=0) for message, qos in sent]


@pytest.mark.parametrize("odd", [b"\x32\x04\x00\x00\x00\x01", b"\x32\x03\x00\x09a", b"\x32\xff\xff\xff\xff\x01"])
def test_what_is_malformed_is_left_to_paho_which_ends_the_connection(odd: bytes) -> None:
    good = packet(Arrived(b"a", b"b", 1, False, False), 1)
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        reading = ReadAhead(near)
        far.sendall(b"+" + good + odd)
        assert reading.recv(1) == b"+"
        assert [message.payload for message in reading.take_messages()] == [b"b"]
        assert reading.take_messages() == []
        assert reading.recv(100) == odd


def test_what_is_overridden_is_still_there() -> None:
    for name in ("_create_socket", "_packet_queue", "_packet_read", "_loop_rc_handle", "loop_read", "reconnect"):
        assert callable(getattr(paho.Client, name))


def test_what_was_acknowledged_in_bulk_does_not_come_again_and_the_rest_does(broker: AnyBroker) -> None:
    topic = up(AGENT, Channel.USAGE, AGENT)
    with Station(broker.url_for(GATEWAY), GATEWAY, [all_up(Channel.USAGE)], ack=False) as gateway:
        with Station(broker.url_for(AGENT), AGENT) as agent:
            for number in range(MESSAGES - 1):
                agent.hand_over(topic, b"%d" % number)
            agent.send(topic, b"%d" % (MESSAGES - 1))
        # A slow machine hears some of them twice.
        wait_until(lambda: len(set(gateway.payloads)) == MESSAGES, "all of them")
        acknowledge([delivery for delivery in gateway.heard if int(delivery.payload) < MESSAGES - 10])
        # Answered after what went before it on this connection.
        gateway.send(down(AGENT, Channel.ACK), b"{}")
    with Station(broker.url_for(GATEWAY), GATEWAY, [all_up(Channel.USAGE)]) as gateway:
        last = {b"%d" % number for number in range(MESSAGES - 10, MESSAGES)}
        wait_until(lambda: set(gateway.payloads) >= last, "the last ten again")
        assert set(gateway.payloads) == last


def test_a_message_in_hand_does_not_come_a_second_time_until_the_connection_is_new(nats_broker: NatsBroker) -> None:
    held: list[Delivery] = []
    address = BrokerAddress.parse(nats_broker.url_for(GATEWAY))
    topic = up(AGENT, Channel.USAGE, AGENT)

    def holding() -> MqttClient:
        return MqttClient(
            address, "holds", subscriptions=[all_up(Channel.USAGE)], on_delivery=held.append, once_in_hand=True
        )

    first = holding()
    first.start()
    wait_until(lambda: first.subscribed, "the subscription")
    with Station(nats_broker.url_for(GATEWAY), "forgets", [all_up(Channel.USAGE)], ack=False) as forgetful:
        with Station(nats_broker.url_for(AGENT), AGENT) as agent:
            agent.send(topic, b"one")
        # It repeats to both what nobody acknowledges; twice, so that the first repeat is through for the other.
        forgetful.wait_heard(3)
        acknowledge(forgetful.heard)
        assert [delivery.payload for delivery in held] == [b"one"]
        first.stop()
        again = holding()
        again.start()
        wait_until(lambda: len(held) == 2, "the message on a new connection", 90)
        acknowledge(held[1:])
        again.stop()


def test_a_host_that_cannot_be_one_is_a_failed_attempt_and_not_the_end_of_the_client() -> None:
    client = BulkClient(CallbackAPIVersion.VERSION2, client_id="x")
    client.connect_async("broker..example.org")
    with pytest.raises(OSError, match=r"'broker\.\.example\.org' cannot be a host"):
        client.reconnect()
    assert client.why_unreachable
