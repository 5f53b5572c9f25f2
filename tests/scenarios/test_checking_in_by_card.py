"""A card at the reader, from the line it writes to what is billed: presence by the card, use by the power, both real.

The firm's person holds a card that nobody knows yet; the manager finds it among the readings and gives it to her. She
checks in when a run of 80 minutes has begun, and out 25 minutes later: that is what her firm pays for.
"""

import os
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from edge_agents.agent import Agent
from edge_agents.drivers.cards import CardReader, card_hash
from store.periods import SHANGHAI
from store.tables.registry import Instrument
from tests.scenarios.lab import INSTRUMENT, Lab, publish_price
from tests.support import traces
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow_on_postgresql

EIGHT_45 = datetime(2026, 3, 3, 8, 45, tzinfo=SHANGHAI)
KEY, NUMBER = b"a key that the county keeps", "0012345678"


def test_a_card_at_the_reader_decides_what_of_a_run_is_billed(lab: Lab, tmp_path: Path) -> None:
    publish_price(lab)
    with lab.database.write() as session:
        session.execute(update(Instrument).values(use_detection="power+checkin"))
    firm, manager = lab.someone("sme001"), lab.someone("h01-manager")
    slot = {"slot_from": (EIGHT_45 + timedelta(minutes=15)).isoformat(), "slot_to": "2026-03-03T11:00:00+08:00"}
    booking = firm.does("/bookings", instrument_id=INSTRUMENT, **slot)
    lab.wait_until(EIGHT_45)

    line = tmp_path / "reader"
    os.mkfifo(line)
    reader = CardReader(INSTRUMENT, line, KEY, lab.clock)

    def readings(agent: Agent, count: int) -> list[dict[str, str]]:
        def judged() -> list[dict[str, str]]:
            agent.pump()
            lab.work()
            found: list[dict[str, str]] = manager.sees("/card-readings")["items"]
            return found if len(found) >= count else []

        return wait_until(judged, "the reading to be judged")

    def meanwhile(agent: Agent, minute: int) -> None:
        if minute in (5, 60, 85):
            line.write_bytes(f"{NUMBER}\n".encode())
        if minute == 6:
            [unknown] = readings(agent, 1)
            assert (unknown["outcome"], unknown["card_sha256"]) == ("unknown_card", card_hash(KEY, NUMBER))
            person = firm.sees("/me")["person_id"]
            manager.does("/access-cards", card_sha256=unknown["card_sha256"], person_id=person, host_id="h01")
        if minute == 61:
            assert readings(agent, 2)[0]["outcome"] == "checked_in"
            assert firm.sees(f"/bookings/{booking['booking_id']}")["state"] == "checked_in"
        if minute == 86:
            assert readings(agent, 3)[0]["outcome"] == "checked_out"

    # Power alone would bill the whole run; so far nothing says that the firm is there.
    device = traces.dishwasher(tmp_path)
    lab.play(device, timedelta(seconds=traces.DISHWASHER_LASTS_S), [reader], meanwhile)
    assert lab.running_seconds() > 55 * 60
    lab.work()
    lab.wait_until(EIGHT_45 + timedelta(hours=4))
    lab.work()

    came, left = EIGHT_45 + timedelta(minutes=60), EIGHT_45 + timedelta(minutes=85)
    stored = firm.sees(f"/bookings/{booking['booking_id']}")
    assert (stored["state"], stored["checked_in_at"]) == ("completed", came.isoformat())
    assert stored["checked_out_at"] == left.isoformat()
    [charge] = firm.sees("/charges")["items"]
    explained = firm.sees(f"/charges/{charge['charge_id']}/explain")
    assert explained["lines"][0]["en"].startswith("metered time 25 min 0 s,")
    assert charge["total_fen"] == 20_000
    assert [row["outcome"] for row in manager.sees("/card-readings")["items"]] == [
        "checked_out",
        "checked_in",
        "unknown_card",
    ]
