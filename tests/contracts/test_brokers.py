"""What every supported broker must do for the contract to hold, asked through the product's own client."""

import pytest

from tests.support.brokers import AGENT, GATEWAY, OTHER_AGENT, AnyBroker, NatsBroker
from tests.support.cable import Cable
from tests.support.mqtt import Station
from tests.support.ports import free_port
from tests.support.waiting import wait_until
from wire.client import BrokerAddress, MqttClient, Publication
from wire.messages import MAX_TELEMETRY_BYTES
from wire.topics import SERVER_STATES, Channel, all_up, down, up

USAGE = up(AGENT, Channel.USAGE, AGENT)
TELEMETRY = up(AGENT, Channel.TELEMETRY, AGENT)
STATE = up(AGENT, Channel.STATE)


def agent(broker: AnyBroker) -> Station:
    return Station(broker.url_for(AGENT), AGENT, [f"lab/v1/down/{AGENT}/#", SERVER_STATES])


def gateway(broker: AnyBroker, *, ack: bool = True, cable: Cable | None = None) -> Station:
    url = broker.url_for(GATEWAY)
    return Station(cable.url(url) if cable else url, f"{GATEWAY}-usage", [all_up(Channel.USAGE)], ack=ack)


def numbered(count: int) -> list[bytes]:
    return [f"record {n}".encode() for n in range(count)]


def test_what_was_not_acknowledged_comes_again_after_the_connection_broke(broker: AnyBroker) -> None:
    with Cable(broker.port) as cable, gateway(broker, ack=False, cable=cable) as reader, agent(broker) as writer:
        for payload in numbered(3):
            writer.send(USAGE, payload)
        first = reader.wait_heard(3)
        first[0].ack()
        reader.send(down(AGENT, Channel.ACK), b"a round trip, so that the broker has our PUBACK")
        reader.forget()
        cable.cut()
        wait_until(lambda: not reader.client.connected, "the client to notice")
        cable.mend()
        reader.wait_heard(2)
        assert set(reader.payloads) == {b"record 1", b"record 2"}


def test_an_acknowledgement_after_a_reconnect_is_harmless(broker: AnyBroker) -> None:
    with Cable(broker.port) as cable, gateway(broker, ack=False, cable=cable) as reader, agent(broker) as writer:
        writer.send(USAGE, b"kept")
        stale = reader.wait_heard(1)[0]
        for _ in range(2):
            reader.forget()
            cable.cut()
            wait_until(lambda: not reader.client.connected, "the client to notice")
            stale.ack()
            cable.mend()
            reader.wait_ready()
            assert reader.wait_heard(1)[0].payload == b"kept"
            stale.ack()
            reader.send(down(AGENT, Channel.ACK), b"a round trip, so that the broker would have our PUBACK")
        reader.heard[-1].ack()
        writer.send(USAGE, b"and the session goes on")
        wait_until(lambda: b"and the session goes on" in reader.payloads, "the next record")


def test_what_one_process_did_not_acknowledge_goes_to_the_next_one_of_the_same_name(broker: AnyBroker) -> None:
    with gateway(broker, ack=False) as reader, agent(broker) as writer:
        for payload in numbered(20):
            writer.send(USAGE, payload)
        wait_until(lambda: set(reader.payloads) == set(numbered(20)), "all twenty")
    with gateway(broker) as successor:
        wait_until(lambda: set(successor.payloads) == set(numbered(20)), "all twenty again")


def test_messages_wait_in_order_for_a_session_that_is_away(broker: AnyBroker) -> None:
    with gateway(broker):
        pass
    with agent(broker) as writer:
        for payload in numbered(200):
            writer.send(USAGE, payload)
    with gateway(broker) as reader:
        reader.wait_heard(200)
        assert reader.payloads == numbered(200)


def test_waiting_messages_and_retained_states_survive_an_orderly_restart_of_the_broker(broker: AnyBroker) -> None:
    with gateway(broker):
        pass
    with agent(broker) as writer:
        writer.send(STATE, b"here", retain=True)
        for payload in numbered(50):
            writer.send(USAGE, payload)
    broker.restart()
    with (
        gateway(broker) as reader,
        Station(broker.url_for(GATEWAY), f"{GATEWAY}-watch", [all_up(Channel.STATE)]) as watcher,
    ):
        reader.wait_heard(50)
        assert reader.payloads == numbered(50)
        assert watcher.wait_heard(1)[0].retained


def test_after_a_kill_of_the_broker_everything_arrives_because_the_sender_still_has_it(broker: AnyBroker) -> None:
    with gateway(broker, ack=False) as reader, agent(broker) as writer:
        for payload in numbered(100):
            writer.send(USAGE, payload)
        wait_until(lambda: set(reader.payloads) == set(numbered(100)), "every record")
        reader.forget()
        broker.kill()
        wait_until(lambda: not (reader.client.connected or writer.client.connected), "both to notice")
        assert writer.client.publish(Publication(USAGE, b"x")) is None
        broker.start()
        reader.wait_ready()
        writer.wait_ready()
        if broker.keeps_acknowledged_over_kill:
            wait_until(lambda: set(reader.payloads) == set(numbered(100)), "every message the broker had acknowledged")
        # Mosquitto may have forgotten them and the session with them, PUBACK or not: this is why a sender
        # deletes on the gateway's own acknowledgement only, and why the client subscribes on every connect.
        for payload in numbered(100):
            writer.send(USAGE, payload)
        wait_until(lambda: set(reader.payloads) == set(numbered(100)), "every message, sent again")


def test_a_batch_may_wait_for_its_commit_without_any_acknowledgement(broker: AnyBroker) -> None:
    with gateway(broker, ack=False) as reader, agent(broker) as writer:
        for payload in numbered(900):
            writer.hand_over(USAGE, payload)
        # NATS repeats what is unacknowledged for half a minute, so 900 deliveries need not be 900 records.
        wait_until(lambda: set(reader.payloads) == set(numbered(900)), "every record")


def test_the_largest_message_of_the_contract_passes(broker: AnyBroker) -> None:
    with (
        Station(broker.url_for(GATEWAY), f"{GATEWAY}-tel", [all_up(Channel.TELEMETRY)]) as reader,
        agent(broker) as writer,
    ):
        writer.send(TELEMETRY, b"x" * MAX_TELEMETRY_BYTES)
        assert reader.wait_heard(1)[0].payload == b"x" * MAX_TELEMETRY_BYTES


def test_a_broken_connection_leaves_the_last_will_and_an_orderly_stop_does_not(broker: AnyBroker) -> None:
    def lost() -> Publication:
        return Publication(STATE, b"lost", 1, True)

    watching = [all_up(Channel.STATE)]
    with Station(broker.url_for(GATEWAY), f"{GATEWAY}-watch", watching) as watcher:
        with Cable(broker.port) as cable:
            dying = Station(cable.url(broker.url_for(AGENT)), AGENT, will=lost)
            with dying:
                dying.send(STATE, b"here", retain=True)
                watcher.wait_heard(1)
                cable.cut()
                watcher.wait_heard(2)
        assert [(d.payload, d.retained) for d in watcher.heard] == [(b"here", False), (b"lost", False)]
        with Station(broker.url_for(GATEWAY), f"{GATEWAY}-late-1", watching) as late:
            assert [(d.payload, d.retained) for d in late.wait_heard(1)] == [(b"lost", True)]

        watcher.forget()
        with Station(broker.url_for(AGENT), AGENT, will=lost) as leaving:
            leaving.send(STATE, b"bye", retain=True)
        with Station(broker.url_for(OTHER_AGENT), OTHER_AGENT) as other:
            other.send(up(OTHER_AGENT, Channel.STATE), b"marker")
        watcher.wait_heard(2)
        assert watcher.payloads == [b"bye", b"marker"]


def test_telemetry_that_nobody_commits_does_not_hold_up_usage(broker: AnyBroker) -> None:
    url = broker.url_for(GATEWAY)
    with (
        Station(url, f"{GATEWAY}-tel", [all_up(Channel.TELEMETRY)], ack=False) as stuck,
        Station(url, f"{GATEWAY}-usage", [all_up(Channel.USAGE)]) as flowing,
        agent(broker) as writer,
    ):
        for n in range(1200):  # more than the broker hands out without an acknowledgement
            writer.hand_over(TELEMETRY, b"%d" % n)
        for payload in numbered(100):
            writer.send(USAGE, payload)
        flowing.wait_heard(100)
        assert flowing.payloads == numbered(100)
        assert all(d.topic == TELEMETRY for d in stuck.heard)


def test_the_client_publishes_nothing_unless_it_is_connected(nats_broker: NatsBroker) -> None:
    client = MqttClient(BrokerAddress.parse(nats_broker.url_for(AGENT)), AGENT)
    assert client.publish(Publication(USAGE, b"x")) is None
    client.start()
    client.wait_connected(10)
    assert client.publish(Publication(USAGE, b"x")) is not None
    client.stop()
    assert not client.connected
    assert client.publish(Publication(USAGE, b"x")) is None
    assert not client.publish_and_wait(Publication(USAGE, b"x"), 1)


def test_a_callback_that_fails_does_not_end_the_connection(nats_broker: NatsBroker) -> None:
    seen: list[bytes] = []

    def stumble(delivery) -> None:  # type: ignore[no-untyped-def]
        seen.append(delivery.payload)
        if delivery.payload == b"bad":
            raise ValueError("cannot read this one")
        delivery.ack()

    address = BrokerAddress.parse(nats_broker.url_for(GATEWAY))
    client = MqttClient(address, f"{GATEWAY}-usage", subscriptions=[all_up(Channel.USAGE)], on_delivery=stumble)
    client.start()
    try:
        wait_until(lambda: client.subscribed, "the subscription")
        with agent(nats_broker) as writer:
            writer.send(USAGE, b"bad")
            writer.send(USAGE, b"good")
        wait_until(lambda: b"good" in seen, "the record after the failure")
        assert client.connected
        assert client.callback_errors >= 1
        wait_until(lambda: seen.count(b"bad") >= 2, "the failed one again, because nobody acknowledged it")
    finally:
        client.stop()


def test_nobody_at_the_address_is_a_timeout_that_names_it() -> None:
    port = free_port()
    client = MqttClient(BrokerAddress.parse(f"mqtt://127.0.0.1:{port}"), AGENT)
    client.start()
    try:
        with pytest.raises(TimeoutError, match=f"no broker answered at 127.0.0.1:{port} within 0.2 s"):
            client.wait_connected(0.2)
    finally:
        client.stop()
