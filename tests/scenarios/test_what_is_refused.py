"""Bad input at each door: a clear error that says what to do next, and nothing is lost."""

from dataclasses import replace

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from store.tables.usage import Alert, Quarantine
from tests.scenarios.lab import AGENT, INSTRUMENT, Lab, publish_price
from tests.scenarios.people import PASSWORD
from tests.support.mqtt import Station
from tests.support.waiting import wait_until
from wire.client import BrokerAddress, BrokerRefused, MqttClient
from wire.topics import Channel, up

pytestmark = pytest.mark.slow_on_postgresql


def test_each_door_refuses_with_a_code_and_a_sentence_and_keeps_what_came(lab: Lab):
    publish_price(lab)
    firm, finance = lab.someone("sme001"), lab.someone("finance-1")

    unknown = firm.asks("/instruments/xc-h99-99")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    assert "xc-h99-99" in unknown.json()["detail"]
    slot = {"slot_from": "2026-03-03T09:00:00+08:00", "slot_to": "2026-03-03T10:00:00+08:00"}
    assert firm.tries("/bookings", instrument_id="xc-h99-99", **slot).status_code == 404

    firm.does("/bookings", instrument_id=INSTRUMENT, **slot)
    taken = firm.tries("/bookings", instrument_id=INSTRUMENT, **slot)
    assert (taken.status_code, taken.json()["code"]) == (409, "slot_taken")
    assert taken.json()["facts"]["alternatives"]

    no_run = finance.asks("/reward-exports/FLAT10/2025.csv")
    assert (no_run.status_code, no_run.json()["code"]) == (404, "no_run")
    by_command = lab.openlab("export", "period", "FLAT10", "2025", "--as", "finance-1")
    assert (by_command.returncode, "openlab rewards prepare" in by_command.stderr) == (1, True)

    with pytest.raises(BrokerRefused, match="refused the connection"):
        connect_with_the_wrong_password(lab)
    assert anonymous_sign_in(lab) == 401

    nonsense = b"{ this is not a record"
    with Station(lab.broker.url_for(AGENT), AGENT) as agent:
        agent.send(up(AGENT, Channel.USAGE, INSTRUMENT), nonsense)

        def kept() -> Quarantine | None:
            with lab.database.read() as session:
                return session.scalars(select(Quarantine)).first()

        row = wait_until(kept, "the message in quarantine")
    assert (row.payload, row.reason) == (nonsense, "not_json")
    with lab.database.read() as session:
        assert "quarantine_not_json" in session.scalars(select(Alert.rule)).all()


def connect_with_the_wrong_password(lab: Lab) -> None:
    address = replace(BrokerAddress.parse(lab.broker.url_for(AGENT)), password="not-the-password")
    client = MqttClient(address, AGENT)
    client.start()
    try:
        client.wait_connected(10)
    finally:
        client.stop()


def anonymous_sign_in(lab: Lab) -> int:

    browser = TestClient(lab.app, base_url="http://127.0.0.1")
    answer = browser.post("/api/v1/sessions", json={"login": "sme001", "password": PASSWORD + "?"})
    assert answer.json()["code"]
    return answer.status_code
