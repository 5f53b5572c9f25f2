"""Firms and people of the demonstration county: neutral names, valid codes of a region that nobody is assigned.

Each person that is created gets a password that the caller chooses or that is made at random; nothing is built in.
"""

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from sqlalchemy import select

from api.accounts.service import create_person, grant_role
from api.accounts.uscc import make, organisation_code
from api.registry.service import create_org
from api.security import hash_password
from api.work import Work
from store.tables.accounts import Person, Role
from store.tables.registry import Org, OrgKind

UNASSIGNED_REGION = "990000"
COUNTY_ORG = "o-county"
FINANCE_ORG = "o-finance"
SME_COUNT = 40


@dataclass(frozen=True)
class DemoLogin:
    """Somebody who was just created, with the only copy of their password."""

    login: str
    password: str = field(repr=False)
    role: Role
    name: str
    org_id: str
    host_id: str = ""


@dataclass(frozen=True)
class Seat:
    """Somebody the demonstration needs."""

    login: str
    name: str
    org_id: str
    role: Role
    host_id: str = ""

    @property
    def person_id(self) -> str:
        """The id under which the seat is seeded, so that other seeds can name it."""
        return f"p-{self.login}"


def demo_uscc(number: int, *, enterprise: bool = True) -> str:
    """Return a valid social credit code that belongs to nobody: `number` counts organisations, up to 8 digits."""
    return make(("91" if enterprise else "11") + UNASSIGNED_REGION + organisation_code(f"{number:08d}"))


def host_manager(host_id: str) -> str:
    """Return the person id of a host's first lab manager; `host_deputy` is the second person of every signature."""
    return f"p-{host_id}-manager"


def host_deputy(host_id: str) -> str:
    """Return the person id of a host's second lab manager."""
    return f"p-{host_id}-deputy"


def seats(host_ids: Iterable[str]) -> list[Seat]:
    """Return everybody: two for each host and each county and finance role, an auditor, an admin, the firms' people."""
    listed = [
        Seat("officer-1", "县科技局 经办人(示例)", COUNTY_ORG, Role.COUNTY_OFFICER),
        Seat("officer-2", "县科技局 审核人(示例)", COUNTY_ORG, Role.COUNTY_OFFICER),
        Seat("finance-1", "县财政局 经办人(示例)", FINANCE_ORG, Role.FINANCE),
        Seat("finance-2", "县财政局 审核人(示例)", FINANCE_ORG, Role.FINANCE),
        Seat("auditor-1", "审计人员(示例)", COUNTY_ORG, Role.AUDITOR),
        Seat("admin-1", "系统管理员(示例)", COUNTY_ORG, Role.ADMIN),
    ]
    for host in host_ids:
        code = host.upper()
        listed.append(Seat(f"{host}-manager", f"{code} 实验室负责人", host_org(host), Role.LAB_MANAGER, host))
        listed.append(Seat(f"{host}-deputy", f"{code} 实验室副负责人", host_org(host), Role.LAB_MANAGER, host))
    for number in range(1, SME_COUNT + 1):
        listed.append(Seat(f"sme{number:03d}", f"企业 {number:03d} 联系人", sme_org(number), Role.SME))
        if number % 4 == 1:
            listed.append(Seat(f"sme{number:03d}-b", f"企业 {number:03d} 试验员", sme_org(number), Role.SME))
    return listed


def host_org(host_id: str) -> str:
    """Return the organisation id of a host."""
    return f"o-{host_id}"


def sme_org(number: int) -> str:
    """Return the organisation id of a demonstration firm."""
    return f"o-sme{number:03d}"


def seed_orgs(work: Work) -> int:
    """Record the county's offices and the firms that are not there yet; return how many were."""
    wanted = [
        (COUNTY_ORG, OrgKind.GOV, "县科技局(示例)", "County science bureau (demo)", demo_uscc(1, enterprise=False)),
        (FINANCE_ORG, OrgKind.GOV, "县财政局(示例)", "County finance bureau (demo)", demo_uscc(2, enterprise=False)),
    ]
    for number in range(1, SME_COUNT + 1):
        names = (f"示例中小企业 {number:03d}", f"Demo SME {number:03d}")
        wanted.append((sme_org(number), OrgKind.SME, *names, demo_uscc(1000 + number)))
    present = set(work.session.scalars(select(Org.org_id)))
    missing = [row for row in wanted if row[0] not in present]
    for org_id, kind, name_zh, name_en, uscc in missing:
        create_org(work, uscc=uscc, kind=kind, name_zh=name_zh, name_en=name_en, org_id=org_id)
    return len(missing)


def seed_people(
    work: Work, wanted: Iterable[Seat], password_for: Callable[[str], str] | None = None
) -> tuple[DemoLogin, ...]:
    """Create the people that are not there yet; return them with their passwords, which are kept nowhere else.

    `password_for(login)` chooses one (the demo gives one it prints); without it each is made at random.
    """
    present = set(work.session.scalars(select(Person.login)))
    hashes: dict[str, str] = {}
    created = []
    for seat in wanted:
        if seat.login in present:
            continue
        password = secrets.token_urlsafe(12) if password_for is None else password_for(seat.login)
        if password not in hashes:  # slow on purpose; a demo that gives everybody one password pays for it once
            hashes[password] = hash_password(password)
        person = create_person(
            work,
            login=seat.login,
            name=seat.name,
            org_id=seat.org_id,
            password_hash=hashes[password],
            person_id=seat.person_id,
        )
        grant_role(work, person.person_id, seat.role, seat.host_id)
        created.append(DemoLogin(seat.login, password, seat.role, seat.name, seat.org_id, seat.host_id))
    return tuple(created)
