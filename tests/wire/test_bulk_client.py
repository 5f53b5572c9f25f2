"""Reading ahead and acknowledging in bulk: the same bytes, the same promises, few system calls."""

import socket

import paho.mqtt.client as paho
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.brokers import AGENT, GATEWAY, AnyBroker, NatsBroker
from tests.support.mqtt import Station
from tests.support.waiting import wait_until
from wire.bulk_client import ReadAhead
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


def test_what_is_overridden_is_still_there() -> None:
    for name in ("_create_socket", "_packet_queue", "loop_read", "reconnect"):
        assert callable(getattr(paho.Client, name))


def test_what_was_acknowledged_in_bulk_does_not_come_again_and_the_rest_does(broker: AnyBroker) -> None:
    topic = up(AGENT, Channel.USAGE, AGENT)
    with Station(broker.url_for(GATEWAY), GATEWAY, [all_up(Channel.USAGE)], ack=False) as gateway:
        with Station(broker.url_for(AGENT), AGENT) as agent:
            for number in range(MESSAGES - 1):
                agent.hand_over(topic, b"%d" % number)
            agent.send(topic, b"%d" % (MESSAGES - 1))
        heard = gateway.wait_heard(MESSAGES)
        acknowledge(heard[: MESSAGES - 10])
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
