"""Write the settings files of the simulated agents: what a technician would write beside each instrument."""

import json
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.embedded.broker import write_secret
from api.embedded.folder import DemoFolder
from store.tables.registry import Agent, Instrument, Metering

SAMPLE_PERIOD_MS = 5_000


def write_fleet(session: Session, folder: DemoFolder, broker_port: int, passwords: dict[str, str]) -> int:
    """Write one file an agent, with the broker's address of this start; return how many there are."""
    rows = session.execute(
        select(Metering.agent_id, Instrument)
        .join(Instrument, Instrument.instrument_id == Metering.instrument_id)
        .join(Agent, Agent.agent_id == Metering.agent_id)
        .where(Agent.revoked_at.is_(None))
        .order_by(Metering.agent_id, Instrument.instrument_id)
        .distinct()
    )
    instruments: dict[str, dict[str, Instrument]] = {}
    for agent_id, instrument in rows:
        instruments.setdefault(agent_id, {})[instrument.instrument_id] = instrument
    for agent_id, own in instruments.items():
        credential = folder.agent_configs / f"{agent_id}.password"
        write_secret(credential, passwords[agent_id])
        settings = {
            "agent": agent_id,
            "broker": f"mqtt://127.0.0.1:{broker_port}",
            "credential_file": str(credential),
            "data_dir": str(folder.agents / agent_id),
            "clock_file": str(folder.clock_file),
            "instruments": [_instrument(own[name], folder.plans) for name in sorted(own)],
        }
        (folder.agent_configs / f"{agent_id}.json").write_text(json.dumps(settings, indent=1))
    return len(instruments)


def levels_of(instrument: Instrument) -> dict[str, int]:
    """Return the power levels of the catalogue, watts, by the names that profile and simulator use."""
    return {
        "standby_w": instrument.power_standby_w,
        "idle_w": instrument.power_idle_w,
        "running_w": instrument.power_running_w,
        "run_threshold_w": instrument.run_threshold_w,
    }


def _instrument(instrument: Instrument, plans: Path) -> dict[str, object]:
    levels = levels_of(instrument)
    return {
        "id": instrument.instrument_id,
        "driver": "simulated",
        "period_ms": SAMPLE_PERIOD_MS,
        "params": {
            **levels,
            "rated_w": instrument.power_rated_w,
            "seed": instrument.instrument_id,
            "plan": str(plans / f"{instrument.instrument_id}.json"),
        },
        "catalogue": levels,
    }
