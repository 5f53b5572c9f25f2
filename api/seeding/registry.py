"""Load the demonstration county into the registry, through the services. A second run changes nothing.

Called by `openlab seed` and by the demo, with a work of the system. Prices come afterwards, from api.charging.seed.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import select

from api.registry import changes
from api.registry.papers import record_certificate
from api.registry.records import HostRecord, InstrumentRecord, LabRecord, TestItemRecord
from api.registry.service import create_org, record_metering, register_agent
from api.seeding.catalogue_files import Row, host_rows, instrument_rows
from api.seeding.people import DemoLogin, demo_uscc, host_org, seats, seed_orgs, seed_people
from api.work import Work
from store.periods import SHANGHAI
from store.tables.registry import (
    ALWAYS_OPEN,
    Approval,
    Host,
    Instrument,
    Lab,
    OrgKind,
    ReportType,
    TraceabilityKind,
    UseDetection,
)
from wire.ids import wire_id

METERED_BEFORE = timedelta(days=30)
"""The meters were installed this long before the seed, so that a demo can have some past."""
BUFFER_MINUTES = 15
_SHORT_MINUTES = 240
_TRACEABILITY = {"检定": TraceabilityKind.VERIFICATION, "校准": TraceabilityKind.CALIBRATION}


@dataclass(frozen=True)
class Seeded:
    """What a seed added. `logins` hold the only copy of the passwords that were made."""

    orgs: int
    hosts: int
    labs: int
    instruments: int
    logins: tuple[DemoLogin, ...]


def agent_of(instrument_id: str) -> str:
    """Return the agent beside an instrument: `xc-h01-01` -> `a-h01-01`."""
    return "a-" + instrument_id.partition("-")[2]


def catalogue_profile(row: Row) -> str:
    """Return the power levels of the catalogue as a profile text, until an instrument is taught its own."""
    levels = {name: int(row[f"power_{name}_w"]) for name in ("standby", "idle", "running")}
    levels["run_threshold"] = int(row["run_threshold_w"])
    return json.dumps({"catalogue_w": levels}, sort_keys=True, separators=(",", ":"))


def load_registry(
    work: Work,
    *,
    password_for: Callable[[str], str] | None = None,
    profile_of: Callable[[Row], str] = catalogue_profile,
    sample_period_ms: int = 1000,
) -> Seeded:
    """Record what is missing of: 20 hosts, 82 labs and instruments with tests, certificates valid now, one agent
    and metering each, the county's offices, 40 firms, and the people of all of them.

    `profile_of(row)` gives the detector profile's text that the agents use (the demo passes theirs).
    """
    orgs = seed_orgs(work)
    new_hosts = [row for row in host_rows() if _add_host(work, row)]
    rows = instrument_rows()
    new_labs = [row for row in rows if _add_lab(work, row)]
    new_instruments = [
        row for place, row in enumerate(rows) if _add_instrument(work, row, place, profile_of, sample_period_ms)
    ]
    host_ids = work.session.scalars(select(Host.host_id).order_by(Host.host_id)).all()
    logins = seed_people(work, seats(host_ids), password_for)
    return Seeded(orgs + len(new_hosts), len(new_hosts), len(new_labs), len(new_instruments), logins)


def _add_host(work: Work, row: Row) -> bool:
    host_id = row["host_code"].lower()
    if work.session.get(Host, host_id) is not None:
        return False
    uscc = demo_uscc(100 + int(host_id[1:]), enterprise=row["host_type"] == "enterprise")
    name_zh, name_en = row["name_zh"], row["name_en"]
    create_org(work, uscc=uscc, kind=OrgKind.HOST, name_zh=name_zh, name_en=name_en, org_id=host_org(host_id))
    changes.create(
        work,
        HostRecord(
            host_id=host_id,
            uscc=uscc,
            name_zh=name_zh,
            name_en=name_en,
            host_type=row["host_type"],
            cluster_zh=row["cluster_zh"],
            cluster_en=row["cluster_en"],
            town_zh=row["town_zh"],
            town_en=row["town_en"],
            latitude_e6=int(Decimal(row["lat"]) * 1_000_000),
            longitude_e6=int(Decimal(row["lon"]) * 1_000_000),
            contact_name="示例联系人",
            contact_phone="0575-00000000",
        ),
    )
    return True


def _add_lab(work: Work, row: Row) -> bool:
    lab_id = row["lab_code"].lower()
    if work.session.get(Lab, lab_id) is not None:
        return False
    lab = LabRecord(
        lab_id=lab_id,
        host_id=row["host_code"].lower(),
        name_zh=row["lab_name_zh"],
        name_en=f"Open lab {row['lab_code']}: {row['category_en']}",
    )
    changes.create(work, lab)
    return True


def _add_instrument(work: Work, row: Row, place: int, profile_of: Callable[[Row], str], sample_period_ms: int) -> bool:
    instrument_id = wire_id(row["instrument_code"])
    if work.session.get(Instrument, instrument_id) is not None:
        return False
    changes.create(work, _instrument(row, instrument_id))
    changes.create(work, _test_item(row, instrument_id, place))
    valid_from, valid_to = certificate_validity(work.now, place, int(row["traceability_interval_months"]))
    record_certificate(
        work,
        instrument_id=instrument_id,
        kind=_TRACEABILITY[row["traceability_kind_zh"]],
        number=f"DEMO-{row['instrument_code']}-1",
        body="示例计量技术机构",
        valid_from=valid_from,
        valid_to=valid_to,
    )
    agent = register_agent(work, agent_of(instrument_id), row["host_code"].lower())
    record_metering(
        work,
        instrument_id=instrument_id,
        agent_id=agent.agent_id,
        effective_at=_midnight(work.now) - METERED_BEFORE,
        meter_serial=f"DEMO-M-{place + 1:03d}",
        ct_ratio_milli=1000,
        profile=profile_of(row),
        sample_period_ms=sample_period_ms,
        installed_by="示例安装人员",
    )
    return True


def _instrument(row: Row, instrument_id: str) -> InstrumentRecord:
    minutes = int(row["typical_session_min"])
    detection = UseDetection(row["use_detection"])
    by_itself = detection is UseDetection.POWER and minutes <= _SHORT_MINUTES
    return InstrumentRecord(
        instrument_id=instrument_id,
        code=row["instrument_code"],
        lab_id=row["lab_code"].lower(),
        name_zh=row["name_zh"],
        name_en=row["name_en"],
        category_code=row["category_code"],
        category_zh=row["category_zh"],
        category_en=row["category_en"],
        model=row["model_class"],
        supply=row["supply"],
        power_rated_w=int(row["power_rated_w"]),
        power_standby_w=int(row["power_standby_w"]),
        power_idle_w=int(row["power_idle_w"]),
        power_running_w=int(row["power_running_w"]),
        run_threshold_w=int(row["run_threshold_w"]),
        use_detection=detection,
        original_value_fen=int(Decimal(row["original_value_cny"]) * 100),
        approval=Approval.AUTOMATIC if by_itself else Approval.MANAGER,
        buffer_minutes=BUFFER_MINUTES,
        max_slot_minutes=max(480, 2 * minutes),
        traceability_months=int(row["traceability_interval_months"]),
        open_hours=ALWAYS_OPEN,
        function=row["test_item_zh"],
    )


def _test_item(row: Row, instrument_id: str, place: int) -> TestItemRecord:
    """Every fourth is accredited, the county centre's as public proof; the others report for research and control."""
    report = ReportType.CNAS if place % 4 == 0 else ReportType.INTERNAL
    if row["host_code"] == "H01":
        report = ReportType.CMA
    return TestItemRecord(
        test_item_id=f"{instrument_id}-t1",
        instrument_id=instrument_id,
        name_zh=row["test_item_zh"],
        name_en=row["test_item_en"],
        parameter_zh=row["test_item_zh"],
        parameter_en=row["test_item_en"],
        standard=row["test_standard"],
        turnaround_days=5,
        report_type=report,
        typical_session_minutes=int(row["typical_session_min"]),
    )


def certificate_validity(now: datetime, place: int, months: int) -> tuple[datetime, datetime]:
    """Return a validity that began 30 to 120 days ago (spread by `place`) and covers now and at least a month more.

    Whole days of Asia/Shanghai; `months` of 30 days, so the shortest (6) still has 60 days to go.
    """
    valid_from = _midnight(now) - timedelta(days=30 + place * 7 % 91)
    return valid_from, valid_from + timedelta(days=30 * months)


def _midnight(moment: datetime) -> datetime:
    return moment.astimezone(SHANGHAI).replace(hour=0, minute=0, second=0, microsecond=0)
