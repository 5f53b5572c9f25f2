"""A furnace heats at a steady load, its agent is killed and comes back, and the charge says what of it nobody saw.

Once for some seconds: the energy fits, the hole is billed and flagged. Once for a quarter of an hour: it is not, and
the manager is told what can be done about it.
"""

from datetime import datetime, timedelta

import pytest

from edge_agents.agent import Agent
from edge_agents.drivers.base import Reading
from store.periods import SHANGHAI
from tests.scenarios.lab import INSTRUMENT, Lab, publish_price

TUESDAY = datetime(2026, 3, 3, tzinfo=SHANGHAI)
HEATS_W = 2_000.0


class Furnace:
    """Draws 2 kW for an hour from `start_ms` on (the agent's time), read every 10 s. Its register goes on whether or
    not anybody asks."""

    name = "furnace"
    period_ms = 10_000

    def __init__(self, start_ms: int) -> None:
        self.start_ms, self.end_ms = start_ms, start_ms + 3_600_000

    def next_due(self, after_ms: int) -> int:
        return after_ms - after_ms % self.period_ms + self.period_ms

    def read(self, due_ms: int) -> Reading:
        heats = self.start_ms <= due_ms < self.end_ms
        heated_ms = min(max(due_ms, self.start_ms), self.end_ms) - self.start_ms
        return Reading(due_ms, HEATS_W if heats else 0.5, round(80_000 + heated_ms * HEATS_W / 3_600_000, 2))

    def close(self) -> None:
        """Nothing is held."""


def pass_time(lab: Lab, agent: Agent, seconds: int) -> None:
    for left in range(seconds, 0, -60):
        lab.clock.advance(min(left, 60) * 1_000)
        agent.step()


def killed(agent: Agent) -> None:
    """End without a last word: nothing is settled or saved."""
    agent._sender._client.stop()
    agent._journal.abandon()


def heated(lab: Lab, hour: int, away_s: int) -> None:
    """An hour of heating from `hour` on, in which the agent was away for some seconds."""
    lab.wait_until(TUESDAY.replace(hour=hour))
    start_ms = lab.clock.mono_ms() + 120_000
    agent = lab.agent_beside(Furnace(start_ms))
    pass_time(lab, agent, 120 + 20 * 60)
    killed(agent)
    lab.clock.advance(away_s * 1_000)
    agent = lab.agent_beside(Furnace(start_ms))
    pass_time(lab, agent, 45 * 60)
    lab.bring_home(agent)


@pytest.mark.slow_on_postgresql
def test_what_a_killed_agent_missed_is_billed_by_the_energy_or_waits_for_two_people(lab: Lab) -> None:
    publish_price(lab)
    firm, manager = lab.someone("sme001"), lab.someone("h01-manager")
    for hour in (9, 13):
        slot = [TUESDAY.replace(hour=at).isoformat() for at in (hour, hour + 2)]
        firm.does("/bookings", instrument_id=INSTRUMENT, slot_from=slot[0], slot_to=slot[1])
    heated(lab, 9, away_s=4)
    heated(lab, 13, away_s=15 * 60)
    lab.wait_until(TUESDAY.replace(hour=16) + timedelta(days=1))
    lab.work()
    short, long = sorted(firm.sees("/charges")["items"], key=lambda charge: charge["service_at"])

    # Four seconds, and what its last checkpoint did not know yet: billed, flagged, explained with its record.
    assert 4_000 <= short["bridged_ms"] <= 80_000
    assert short["metered_ms"] == pytest.approx(3_600_000, abs=20_000), "a sample period at each edge"
    [hole] = firm.sees(f"/charges/{short['charge_id']}/explain")["holes"]
    assert (hole["billed_ms"], hole["why_not"]) == (short["bridged_ms"], "")
    window = {"from": TUESDAY.isoformat(), "to": lab.now.isoformat()}
    seen = manager.sees(f"/instruments/{INSTRUMENT}/sessions", **window)["items"]
    session = next(one for one in seen if one["session_id"] == hole["session_id"])
    assert session["bridged_ms"] == session["unknown_ms"] == short["bridged_ms"]
    assert "bridged" in session["flags"]
    assert session["running_ms"] + short["bridged_ms"] == short["metered_ms"]

    # A quarter of an hour: not billed, and the manager is told.
    assert long["bridged_ms"] == 0
    assert long["metered_ms"] <= 45 * 60_000
    [anomaly] = manager.sees("/anomalies", rule="hole_not_bridged")["items"]
    assert (anomaly["subject_id"], anomaly["blocks_reward"]) == (long["charge_id"], False)
    [hole] = manager.sees(f"/charges/{long['charge_id']}/explain")["holes"]
    assert hole["record"] in anomaly["detail"]
    assert "too_long" in anomaly["detail"]

    # What the manager proposes the firm sees, and another person decides.
    wanted = {"kind": "metered", "session_id": hole["session_id"], "metered_ms": 3_600_000}
    said = {"reason": "仪器日志显示一直在加热", "evidence": "日志 17 号"}
    correction = manager.does(f"/charges/{long['charge_id']}/corrections", **wanted, **said)
    read = firm.sees(f"/corrections/{correction['correction_id']}")
    decision = {"approved": True, "note": "已核对", "body_sha256": read["body_sha256"]}
    path = f"/corrections/{correction['correction_id']}/decision"
    assert manager.tries(path, **decision).json()["code"] == "same_person"
    lab.someone("h01-deputy").does(path, **decision)
    live = max(firm.sees("/charges")["items"], key=lambda charge: charge["revision"])
    assert (live["revision"], live["metered_ms"], live["bridged_ms"]) == (3, 3_600_000, 0)
    everything = lab.openlab("verify", "all")
    assert everything.returncode == 0, everything.stdout + everything.stderr
