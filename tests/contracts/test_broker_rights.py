"""Who may do what must hold on every supported broker: the table of `wire.broker_access` under attack."""

import pytest

from tests.support.brokers import AGENT, GATEWAY, LOGINS, OTHER_AGENT, AnyBroker, NatsBroker
from tests.support.cable import Cable
from tests.support.mqtt import Station
from tests.support.waiting import wait_until
from wire.broker_access import Login
from wire.client import BrokerAddress, BrokerRefused, MqttClient, Publication
from wire.topics import SERVER_STATES, Channel, down, server_state, up

USAGE = up(AGENT, Channel.USAGE, AGENT)


def agent(broker: AnyBroker) -> Station:
    return Station(broker.url_for(AGENT), AGENT, [f"lab/v1/down/{AGENT}/#", SERVER_STATES])


FORBIDDEN_TO_WRITE = [
    up(OTHER_AGENT, Channel.USAGE, OTHER_AGENT),
    up(OTHER_AGENT, Channel.STATE),
    f"lab/v1/up/{AGENT}-2/rec/_",
    f"lab/v1/up/{AGENT}x/rec/_",
    down(OTHER_AGENT, Channel.ACK),
    down(OTHER_AGENT, Channel.COMMAND),
    down(AGENT, Channel.ACK),
    server_state(GATEWAY),
    f"$MQTT/msgs/lab/v1/up/{OTHER_AGENT}/rec/_",
    f"$MQTT/rmsgs/lab/v1/srv/{GATEWAY}/state",
    "elsewhere",
]


@pytest.mark.parametrize("retain", [False, True])
def test_an_agent_cannot_publish_outside_its_own_branch(broker: AnyBroker, retain: bool) -> None:
    everything_up_and_srv = ["lab/v1/up/#", SERVER_STATES]
    with (
        Station(broker.url_for(GATEWAY), f"{GATEWAY}-all", everything_up_and_srv) as reader,
        Station(broker.url_for(OTHER_AGENT), OTHER_AGENT, [f"lab/v1/down/{OTHER_AGENT}/#", SERVER_STATES]) as victim,
        agent(broker) as forger,
    ):
        for topic in FORBIDDEN_TO_WRITE:
            forger.send(topic, b"forged", retain=retain)  # confirmed by the broker like any other, and dropped
        forger.send(USAGE, b"honest")
        reader.send(down(OTHER_AGENT, Channel.ACK), b"honest")
        assert [d.topic for d in reader.wait_heard(1)] == [USAGE]
        assert victim.wait_heard(1)[0].payload == b"honest"
        assert b"forged" not in reader.payloads + victim.payloads + forger.payloads
    with Station(broker.url_for(GATEWAY), f"{GATEWAY}-late", everything_up_and_srv) as late, agent(broker) as writer:
        writer.send(USAGE, b"marker")
        wait_until(lambda: b"marker" in late.payloads, "the marker")
        assert b"forged" not in late.payloads


def test_an_agent_cannot_leave_a_last_will_outside_its_own_branch(broker: AnyBroker) -> None:
    def forged() -> Publication:
        return Publication(up(OTHER_AGENT, Channel.STATE), b"forged", 1, True)

    with (
        Station(broker.url_for(GATEWAY), f"{GATEWAY}-all", ["lab/v1/up/#"]) as reader,
        Cable(broker.port) as cable,
        Station(cable.url(broker.url_for(AGENT)), AGENT, will=forged) as forger,
    ):
        cable.cut()
        wait_until(lambda: not forger.client.connected, "the client to notice")
        cable.mend()
        forger.wait_ready()  # under the same client id: the broker is done with the old connection
        forger.send(USAGE, b"honest")
        wait_until(lambda: b"honest" in reader.payloads, "the honest record")
        assert reader.payloads == [b"honest"]


FORBIDDEN_TO_READ = [
    "#",
    "lab/#",
    "lab/v1/up/#",
    "lab/v1/+/+/#",
    "lab/v1/down/#",
    "lab/v1/down/+/ack",
    f"lab/v1/down/{OTHER_AGENT}/#",
    f"lab/v1/up/{OTHER_AGENT}/state",
    "$share/thieves/lab/v1/up/#",
    "$MQTT/#",
    "$MQTT/msgs/#",
    "$MQTT/rmsgs/#",
    "$MQTT/sub/#",
    "$SYS/#",
    "$JS/#",
]


def test_an_agent_cannot_read_outside_its_own_branch(broker: AnyBroker) -> None:
    with Station(broker.url_for(OTHER_AGENT), OTHER_AGENT, [f"lab/v1/down/{OTHER_AGENT}/#"]) as victim:
        victim.send(up(OTHER_AGENT, Channel.STATE), b"secret", retain=True)
        with (
            Station(broker.url_for(AGENT), "thief", [*FORBIDDEN_TO_READ, down(AGENT, Channel.ACK)]) as thief,
            Station(broker.url_for(GATEWAY), f"{GATEWAY}-down") as sender,
        ):
            victim.send(up(OTHER_AGENT, Channel.USAGE, OTHER_AGENT), b"secret")
            sender.send(down(OTHER_AGENT, Channel.ACK), b"secret")
            sender.send(down(AGENT, Channel.ACK), b"for the thief itself")
            victim.wait_heard(1)
            wait_until(lambda: b"for the thief itself" in thief.payloads, "its own message")
            # Mosquitto may deliver its own message once for each filter that matches it; nothing else may come.
            assert set(thief.payloads) == {b"for the thief itself"}


def test_another_agents_session_name_does_not_open_its_messages(broker: AnyBroker) -> None:
    with Station(broker.url_for(OTHER_AGENT), OTHER_AGENT, [f"lab/v1/down/{OTHER_AGENT}/#"]):
        pass
    with Station(broker.url_for(GATEWAY), f"{GATEWAY}-down") as sender:
        sender.send(down(OTHER_AGENT, Channel.ACK), b"secret")
        with Station(broker.url_for(AGENT), OTHER_AGENT, [down(AGENT, Channel.ACK)]) as thief:
            sender.send(down(OTHER_AGENT, Channel.ACK), b"secret")
            sender.send(down(AGENT, Channel.ACK), b"for the thief itself")
            wait_until(lambda: b"for the thief itself" in thief.payloads, "its own message")
            assert set(thief.payloads) == {b"for the thief itself"}


@pytest.mark.parametrize(
    ("credential", "what"),
    [(f"{AGENT}:wrong-password", "wrong"), ("xc-h99-99:token-of-nobody", "unknown"), ("", "none")],
    ids=["a wrong password", "an unknown name", "no credential"],
)
def test_a_bad_credential_is_refused_in_a_sentence_that_says_so(broker: AnyBroker, credential: str, what: str) -> None:
    at = f"{credential}@" if credential else ""
    client = MqttClient(BrokerAddress.parse(f"mqtt://{at}127.0.0.1:{broker.port}"), f"{AGENT}-{what}")
    client.start()
    try:
        with pytest.raises(
            BrokerRefused, match=rf"the broker at 127\.0\.0\.1:{broker.port} refused the connection: Not auth"
        ):
            client.wait_connected(10)
        assert not client.connected
        assert client.publish(Publication(USAGE, b"x")) is None
    finally:
        client.stop()


def test_logins_change_while_the_broker_runs(broker: AnyBroker) -> None:
    new = Login("xc-h03-01", "token-of-a-new-agent")
    with agent(broker) as staying:
        connection = staying.client.connection
        broker.set_logins([*LOGINS, new])
        with Station(broker.url_for(new.username), new.username) as added:
            assert added.client.connected
            broker.set_logins(LOGINS)
            wait_until(lambda: not added.client.connected, "the removed one to be disconnected")
            wait_until(lambda: added.client.refusal, "the removed one to be refused")
        staying.send(USAGE, b"undisturbed")
        assert staying.client.connection == connection


def test_denied_subscriptions_are_named_where_the_broker_says_so(nats_broker: NatsBroker) -> None:
    with Station(nats_broker.url_for(AGENT), AGENT, ["lab/v1/up/#", SERVER_STATES]) as nosy:
        assert nosy.client.denied == ("lab/v1/up/#",)
