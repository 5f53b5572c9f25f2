"""Seed the demo's county through the services of each domain: registry and people, prices, reward policies."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.charging.seed import seed_tariffs
from api.embedded.folder import DemoLogin
from api.registry.service import record_metering
from api.rewards.policies import seed_policies
from api.seeding.catalogue_files import Row, instrument_rows
from api.seeding.people import host_deputy, host_manager
from api.seeding.registry import load_registry
from api.work import Work, system_actor
from edge_agents.detector import profile_from_catalogue
from store.tables.registry import Metering

SHOWN_LOGINS = ("sme001", "h01-manager", "officer-1", "officer-2", "finance-1", "auditor-1", "admin-1")


def seed_county(session: Session, now: datetime, sample_period_ms: int, password: str) -> list[DemoLogin]:
    """Record the county as it stood at `now`; return the logins to show. Everybody gets the same password."""
    work = Work(session, system_actor("seed"), now)
    seeded = load_registry(
        work, password_for=lambda login: password, profile_of=_profile_of, sample_period_ms=sample_period_ms
    )
    seed_tariffs(work, instrument_rows(), now, lambda host_id: (host_manager(host_id), host_deputy(host_id)))
    seed_policies(work, "p-officer-1", "p-officer-2")
    by_login = {login.login: login for login in seeded.logins}
    return [
        DemoLogin(role=str(by_login[name].role), login=name, password=password, name=by_login[name].name)
        for name in SHOWN_LOGINS
    ]


def switch_to_live_metering(session: Session, at: datetime, sample_period_ms: int) -> None:
    """Record that from `at` on the live agents read the meters, with their own sample period."""
    work = Work(session, system_actor("seed"), at)
    for metering in session.scalars(select(Metering).order_by(Metering.instrument_id)).all():
        record_metering(
            work,
            instrument_id=metering.instrument_id,
            agent_id=metering.agent_id,
            effective_at=at,
            meter_serial=metering.meter_serial,
            ct_ratio_milli=metering.ct_ratio_milli,
            profile=metering.profile,
            sample_period_ms=sample_period_ms,
            installed_by=metering.installed_by,
        )


def _profile_of(row: Row) -> str:
    """Return the profile that the agents derive from the catalogue, so that its hash is the one they report."""
    return profile_from_catalogue(
        standby_w=int(row["power_standby_w"]),
        idle_w=int(row["power_idle_w"]),
        running_w=int(row["power_running_w"]),
        run_threshold_w=int(row["run_threshold_w"]),
    ).canonical()
