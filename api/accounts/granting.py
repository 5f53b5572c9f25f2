"""Who may give which role to whom: one table and the questions it answers. Pure.

What somebody may give they may also take away (in a firm its contact only), and who holds only such roles they may keep
out. Read by the services of this folder; the system's own parts (seed, command line) are let through there.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum

from api.work import Actor
from store.tables.accounts import Role
from store.tables.registry import OrgKind


class Reach(StrEnum):
    """For whom a role may be given: anybody, people of the giver's own organisation, or of a host they manage."""

    ANYWHERE = "anywhere"
    OWN_ORG = "own_org"
    OWN_HOST = "own_host"


GRANTS: Mapping[Role, Mapping[Role, Reach]] = {
    Role.ADMIN: dict.fromkeys(Role, Reach.ANYWHERE),
    Role.COUNTY_OFFICER: {Role.SME: Reach.ANYWHERE, Role.LAB_MANAGER: Reach.ANYWHERE},
    Role.LAB_MANAGER: {Role.SME: Reach.OWN_ORG},
    Role.SME: {Role.SME: Reach.OWN_ORG},
    Role.FINANCE: {},
    Role.AUDITOR: {},
}
"""Giver's role -> role given -> for whom."""

PROPOSES: Mapping[Role, Mapping[Role, Reach]] = {Role.LAB_MANAGER: {Role.LAB_MANAGER: Reach.OWN_HOST}}
"""Whom somebody may propose for a role, for the county to appoint, and may take it back from. Two managers of a host
sign for each other: whoever could make the second one alone could be both."""

FITS: Mapping[Role, frozenset[OrgKind]] = {
    Role.SME: frozenset({OrgKind.SME, OrgKind.ACADEMIC, OrgKind.HOST}),
    Role.LAB_MANAGER: frozenset({OrgKind.HOST}),
    Role.COUNTY_OFFICER: frozenset({OrgKind.GOV}),
    Role.FINANCE: frozenset({OrgKind.GOV}),
    Role.AUDITOR: frozenset({OrgKind.GOV}),
    Role.ADMIN: frozenset({OrgKind.GOV}),
}
"""In which kinds of organisation somebody may be invited to a role."""


def may_grant(actor: Actor, role: Role, org_id: str, host_id: str) -> bool:
    """Whether `actor` may give `role` (at `host_id`, for a lab manager) to a person of `org_id`."""
    return _reaches(GRANTS, actor, role, org_id, host_id)


def may_propose(actor: Actor, role: Role, org_id: str, host_id: str) -> bool:
    """Whether `actor` may propose a person of `org_id` for `role` at `host_id`, for somebody who may give it."""
    return _reaches(PROPOSES, actor, role, org_id, host_id)


def who_may_grant(role: Role) -> list[Role]:
    """Return the roles whose holders may give `role` to somebody, sorted."""
    return sorted(held for held, given in GRANTS.items() if role in given)


def may_take(actor: Actor, role: Role, org_id: str, host_id: str, is_contact: bool) -> bool:
    """Whether `actor` may take `role` back from a person of `org_id`: what they may give or propose, but among the
    people of a firm its contact (`is_contact`) only, or any member could strip all colleagues."""
    return (_is_above(actor, org_id) or is_contact) and _gives_or_proposes(actor, role, org_id, host_id)


def may_keep_out(actor: Actor, org_id: str, held: Collection[tuple[Role, str]], *, is_contact: bool) -> bool:
    """Whether `actor` may deactivate a person of `org_id` who holds these (role, host) pairs, or let them in again.

    They may give or propose every one of those roles. Among the people of a firm only its contact (`is_contact`) does.
    """
    if not _is_above(actor, org_id) and not (is_contact and actor.org_id == org_id):
        return False
    return all(_gives_or_proposes(actor, role, org_id, host_id) for role, host_id in held)


def may_reset(actor: Actor, held: Collection[Role]) -> bool:
    """Whether `actor` may make a password reset for somebody with these roles and see it.

    Whoever sees it could sign in as that person, so an officer may for firms' people only: never for a lab manager,
    who signs beside the officer as the second person.
    """
    return actor.has(Role.ADMIN) or (actor.has(Role.COUNTY_OFFICER) and set(held) <= {Role.SME})


def _is_above(actor: Actor, org_id: str) -> bool:
    return actor.has(Role.ADMIN, Role.COUNTY_OFFICER) or (actor.has(Role.LAB_MANAGER) and actor.org_id == org_id)


def _gives_or_proposes(actor: Actor, role: Role, org_id: str, host_id: str) -> bool:
    return may_grant(actor, role, org_id, host_id) or may_propose(actor, role, org_id, host_id)


def _reaches(table: Mapping[Role, Mapping[Role, Reach]], actor: Actor, role: Role, org_id: str, host_id: str) -> bool:
    for held in actor.roles:
        reach = table.get(held, {}).get(role)
        if reach is Reach.ANYWHERE:
            return True
        if reach is not None and org_id == actor.org_id and (reach is Reach.OWN_ORG or host_id in actor.host_ids):
            return True
    return False
