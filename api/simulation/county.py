"""The county of a simulated year: the seed's hosts and instruments, as many firms as asked for, prices, certificates.

Everything through the services; nobody gets a password, since nobody signs in.
"""

import secrets
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, select

from api.accounts.service import create_person, grant_role
from api.charging.seed import seed_tariffs
from api.charging.statements_window import set_dispute_days
from api.registry.papers import record_certificate
from api.registry.service import create_org
from api.seeding import agent_of, instrument_rows, load_registry
from api.seeding.people import SME_COUNT, demo_uscc, host_deputy, host_manager, sme_org
from api.simulation.meter import SAMPLE_MS, Meter
from api.simulation.plan import Machine
from api.work import Actor, Work
from store.tables.accounts import Role
from store.tables.registry import Host, Instrument, OrgKind, TraceabilityKind
from wire.clock import to_ms
from wire.ids import wire_id

DISPUTE_DAYS = 2
_COUNTED = ("sample", "piece", "item")


@dataclass(frozen=True)
class County:
    """What the year is played with."""

    machines: tuple[Machine, ...]
    meters: dict[str, Meter]
    needs_check_in: frozenset[str]
    host_ids: tuple[str, ...]

    @staticmethod
    def firm(number: int) -> Actor:
        """The person of a firm; firms count from 0."""
        person = f"p-sme{number + 1:03d}"
        return Actor(person, person, sme_org(number + 1), frozenset({Role.SME}), frozenset())

    @staticmethod
    def manager(host_id: str) -> Actor:
        """The first lab manager of a host."""
        return Actor(host_manager(host_id), "manager", "", frozenset({Role.LAB_MANAGER}), frozenset({host_id}))

    @staticmethod
    def deputy(host_id: str) -> Actor:
        """The second person of a host."""
        return Actor(host_deputy(host_id), "deputy", "", frozenset({Role.LAB_MANAGER}), frozenset({host_id}))

    @staticmethod
    def officer() -> Actor:
        """A county officer."""
        return Actor("p-officer-1", "officer", "", frozenset({Role.COUNTY_OFFICER}), frozenset())

    @staticmethod
    def finance() -> Actor:
        """Somebody of the finance bureau."""
        return Actor("p-finance-1", "finance", "", frozenset({Role.FINANCE}), frozenset())


def is_empty(work: Work) -> bool:
    """Whether a database has no county in it yet."""
    return int(work.session.execute(select(func.count()).select_from(Host)).scalar_one()) == 0


def seed_year(work: Work, firms: int) -> County:
    """Record the county as it stands at `work.now`, with at least the seed's 40 firms; return its parts."""
    nobody_knows = secrets.token_urlsafe(24)
    load_registry(work, password_for=lambda login: nobody_knows, sample_period_ms=SAMPLE_MS)
    for number in range(SME_COUNT + 1, firms + 1):
        names = (f"示例中小企业 {number:03d}", f"Demo SME {number:03d}")
        create_org(
            work,
            uscc=demo_uscc(1000 + number),
            kind=OrgKind.SME,
            name_zh=names[0],
            name_en=names[1],
            org_id=sme_org(number),
        )
        login = f"sme{number:03d}"
        create_person(work, login=login, name=login, org_id=sme_org(number), person_id=f"p-{login}")
        grant_role(work, f"p-{login}", Role.SME)
    rows = instrument_rows()
    seed_tariffs(work, rows, work.now, lambda host_id: (host_manager(host_id), host_deputy(host_id)))
    instruments = work.session.scalars(select(Instrument).order_by(Instrument.instrument_id)).all()
    by_id = {wire_id(row["instrument_code"]): row for row in rows}
    for place, instrument in enumerate(instruments):
        # One certificate lapses in summer: somebody has to decide the anomalies that follow.
        days = 180 if place == len(instruments) - 1 else 500
        record_certificate(
            work,
            instrument_id=instrument.instrument_id,
            kind=TraceabilityKind.CALIBRATION,
            number=f"SIM-{instrument.code}",
            body="示例计量技术机构",
            valid_from=work.now - timedelta(days=1),
            valid_to=work.now + timedelta(days=days),
        )
    host_ids = tuple(work.session.scalars(select(Host.host_id).order_by(Host.host_id)).all())
    for host_id in host_ids:
        terms = Work(work.session, County.officer(), work.now)
        set_dispute_days(terms, host_id, DISPUTE_DAYS, work.now)
    return County(
        tuple(
            Machine(
                one.instrument_id,
                one.host_id,
                int(by_id[one.instrument_id]["typical_session_min"]),
                by_id[one.instrument_id]["fee_unit"] in _COUNTED,
                one.use_detection == "power",
            )
            for one in instruments
        ),
        {
            one.instrument_id: Meter(
                one.instrument_id, agent_of(one.instrument_id), to_ms(work.now), one.power_running_w
            )
            for one in instruments
        },
        frozenset(one.instrument_id for one in instruments if one.use_detection != "power"),
        host_ids,
    )
