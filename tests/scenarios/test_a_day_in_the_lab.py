"""One instrument's day, from the power of a real device to a reward that can be recomputed, and then a forgery.

Monday: the lab publishes a price, a firm books for Tuesday. Tuesday: the device runs for 80 min 40 s. The use is
matched, charged by the half hour, stated, invoiced and paid; the county rewards the host; finance exports. Anyone
can verify it. Then somebody changes one byte.
"""

import csv
import io
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from store.periods import SHANGHAI
from tests.scenarios.lab import AGENT, INSTRUMENT, Lab, publish_price
from tests.support import traces

TUESDAY = datetime(2026, 3, 3, tzinfo=SHANGHAI)


def at(hour: int, minute: int = 0) -> str:
    return TUESDAY.replace(hour=hour, minute=minute).isoformat()


def live_the_day(lab: Lab, tmp_path) -> dict[str, str]:
    """Everything up to the exported reward; returns what the last chapter needs."""
    publish_price(lab)
    firm, rival = lab.someone("sme001"), lab.someone("sme002")

    # Monday: the firm looks at the price and books; the rival is too late and is told when else.
    slot = {"instrument_id": INSTRUMENT, "slot_from": at(9), "slot_to": at(11)}
    assert firm.does("/quotes", **slot)["total_fen"] == 80_000
    booking = firm.does("/bookings", **slot)
    assert booking["state"] == "confirmed"
    refused = rival.tries("/bookings", instrument_id=INSTRUMENT, slot_from=at(10), slot_to=at(12))
    assert (refused.status_code, refused.json()["code"]) == (409, "slot_taken")
    assert len(refused.json()["facts"]["alternatives"]) == 3
    assert "org" not in refused.text.replace("organ", "")

    # Tuesday: the device is switched on at 08:45, runs its programme of 80 min 40 s, and stands still again.
    lab.wait_until(TUESDAY.replace(hour=8, minute=45))
    device = traces.dishwasher(tmp_path)
    lab.play(device, timedelta(seconds=traces.DISHWASHER_LASTS_S))
    assert lab.running_seconds() == pytest.approx(traces.DISHWASHER_RUN_S, abs=4)
    lab.work()
    assert firm.sees(f"/bookings/{booking['booking_id']}")["state"] == "completed"

    # The charge: 80 min 40 s by the half hour are 1.5 hours, 600 yuan, and it explains itself.
    [charge] = firm.sees("/charges")["items"]
    assert charge["total_fen"] == 60_000
    explained = firm.sees(f"/charges/{charge['charge_id']}/explain")
    assert explained["lines"][0]["en"] == (
        "metered time 80 min 40 s, rounded up to steps of 30 min: 1 h 30 min at 400.00 per hour = 600.00"
    )
    [curve] = [e["curve"] for e in explained["evidence"] if e["curve"]]
    assert curve["samples"] == pytest.approx(traces.samples_of_the_run(device), abs=4)
    assert rival.asks(f"/charges/{charge['charge_id']}").status_code == 404

    # The manager bills; the firm pays.
    manager = lab.someone("h01-manager")
    statement = manager.does("/statements", host_id="h01", payer_org=charge["payer_org"], month=202603)
    statement = manager.does(f"/statements/{statement['statement_id']}/finalization")
    assert statement["number"] == "H01-2026-0001"
    manager.does(
        f"/statements/{statement['statement_id']}/invoices",
        invoice_no="26332000000000000017",
        kind="blue",
        issued_at=lab.now.isoformat(),
    )
    manager.does(
        f"/statements/{statement['statement_id']}/payments",
        tender="cash",
        amount_fen=60_000,
        external_ref="BANK-0001",
        received_at=lab.now.isoformat(),
    )
    assert firm.sees(f"/bookings/{booking['booking_id']}")["state"] == "closed"

    # The county rewards ten per cent of it: one officer prepares and announces, another signs, a week passes.
    officer, second, finance = lab.someone("officer-1"), lab.someone("officer-2"), lab.someone("finance-1")
    missing = finance.asks("/reward-exports/FLAT10/2026.csv")
    assert (missing.status_code, missing.json()["code"]) == (404, "no_run")
    run = officer.does("/reward-runs", policy_id="FLAT10", period="2026")
    assert run["payable_fen"] == 6_000
    path, read = f"/reward-runs/{run['run_id']}", run["result_sha256"]
    assert officer.tries(f"{path}/check", result_sha256=read).json()["code"] == "same_person"
    second.does(f"{path}/check", result_sha256=read)
    officer.does(f"{path}/notice")
    assert second.tries(f"{path}/approval", result_sha256=read).json()["code"] == "notice_not_over"
    lab.wait_until(lab.now + timedelta(days=8))
    second.does(f"{path}/approval", result_sha256=read)
    second.does(f"{path}/lock", result_sha256=read)
    exported = finance.asks(f"/reward-runs/{run['run_id']}/export.csv")
    assert exported.status_code == 200
    file = tmp_path / "reward.csv"
    file.write_bytes(exported.content)
    return {"file": str(file), "run": run["run_id"], "statement": statement["statement_id"]}


def test_a_day_in_the_lab_ends_in_a_reward_that_anyone_can_recompute(lab: Lab, tmp_path):
    left = live_the_day(lab, tmp_path)
    rows = list(csv.reader(io.StringIO(Path(left["file"]).read_text(encoding="utf-8-sig"))))
    assert any("60.00" in row for row in rows)

    everything = lab.openlab("verify", "all")
    assert everything.returncode == 0, everything.stdout + everything.stderr
    assert lab.openlab("verify", "export", left["file"]).returncode == 0
    assert lab.openlab("verify", "run", left["run"]).returncode == 0

    # Somebody with the keys of the database turns one byte of one record.
    tamper(lab, seq=40)
    found = lab.openlab("verify", "all")
    assert found.returncode == 1
    assert "usage_record" in found.stdout
    assert AGENT in found.stdout
    assert "/40" in found.stdout


def tamper(lab: Lab, seq: int) -> None:
    """Change one byte of one record of the ledger, as only an administrator of the database can."""
    with lab.database.engine.begin() as connection:
        stop_guard = {
            "sqlite": "DROP TRIGGER openlab_usage_record_no_update",
            "postgresql": "ALTER TABLE usage_record DISABLE TRIGGER ALL",
        }
        connection.execute(text(stop_guard[lab.database.engine.dialect.name]))
        row = connection.execute(
            text("SELECT payload, stream FROM usage_record WHERE agent_id = :a AND seq = :s"), {"a": AGENT, "s": seq}
        ).one()
        payload = bytearray(bytes(row.payload))
        payload[payload.index(b'"running":') + 10] ^= 1
        connection.execute(
            text("UPDATE usage_record SET payload = :p WHERE agent_id = :a AND stream = :t AND seq = :s"),
            {"p": bytes(payload), "a": AGENT, "t": row.stream, "s": seq},
        )
