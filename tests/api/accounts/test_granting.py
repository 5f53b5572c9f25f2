"""Who may give which role: the table, asked about everybody."""

import pytest

from api.accounts.granting import (
    FITS,
    GRANTS,
    Reach,
    may_grant,
    may_keep_out,
    may_propose,
    may_reset,
    may_take,
    who_may_grant,
)
from api.work import Actor
from store.tables.accounts import Role
from store.tables.registry import OrgKind


def actor(*roles: Role, org: str = "o-1", hosts: tuple[str, ...] = ()) -> Actor:
    return Actor("p-1", "somebody", org, frozenset(roles), frozenset(hosts))


def test_the_table_knows_every_role_on_both_sides() -> None:
    assert set(GRANTS) == set(Role) == set(FITS)
    assert all(who_may_grant(role) for role in Role)


@pytest.mark.parametrize("role", [Role.COUNTY_OFFICER, Role.FINANCE, Role.AUDITOR, Role.ADMIN])
def test_the_countys_roles_take_an_admin(role: Role) -> None:
    assert who_may_grant(role) == [Role.ADMIN]


@pytest.mark.parametrize("giver", [Role.FINANCE, Role.AUDITOR])
@pytest.mark.parametrize("role", list(Role))
def test_finance_and_auditors_give_nothing(giver: Role, role: Role) -> None:
    assert not may_grant(actor(giver), role, "o-1", "h01")


def test_a_host_gives_its_own_roles_and_a_firm_its_own() -> None:
    manager = actor(Role.LAB_MANAGER, hosts=("h01",))
    assert may_grant(manager, Role.SME, "o-1", "")
    assert not may_grant(manager, Role.SME, "o-2", "")
    firm = actor(Role.SME)
    assert may_grant(firm, Role.SME, "o-1", "")
    assert not may_grant(firm, Role.SME, "o-2", "")
    assert not may_grant(firm, Role.LAB_MANAGER, "o-1", "h01")


def test_a_lab_manager_proposes_another_of_the_own_host_and_only_the_county_appoints_one() -> None:
    manager = actor(Role.LAB_MANAGER, hosts=("h01",))
    assert who_may_grant(Role.LAB_MANAGER) == [Role.ADMIN, Role.COUNTY_OFFICER]
    assert not may_grant(manager, Role.LAB_MANAGER, "o-1", "h01")
    assert may_propose(manager, Role.LAB_MANAGER, "o-1", "h01")
    assert not may_propose(manager, Role.LAB_MANAGER, "o-1", "h02")
    assert not may_propose(manager, Role.LAB_MANAGER, "o-2", "h01")
    assert not any(may_propose(actor(role), Role.LAB_MANAGER, "o-1", "h01") for role in set(Role) - {Role.LAB_MANAGER})


def test_nobody_gives_more_than_their_own_reach() -> None:
    """No role can be handed on to become more than the giver: only admins make admins or officers."""
    for giver, given in GRANTS.items():
        for role, reach in given.items():
            if giver not in (Role.ADMIN, Role.COUNTY_OFFICER):
                assert reach is not Reach.ANYWHERE
                assert set(GRANTS[role]) <= set(given)


def test_keeping_out_takes_every_role_of_the_person_and_in_a_firm_the_contact() -> None:
    officer, admin = actor(Role.COUNTY_OFFICER, org="o-c"), actor(Role.ADMIN, org="o-c")
    assert may_keep_out(officer, "o-1", [(Role.SME, ""), (Role.LAB_MANAGER, "h01")], is_contact=False)
    assert not may_keep_out(officer, "o-c", [(Role.SME, ""), (Role.FINANCE, "")], is_contact=False)
    assert may_keep_out(admin, "o-c", [(Role.ADMIN, "")], is_contact=False)
    manager = actor(Role.LAB_MANAGER, hosts=("h01",))
    assert may_keep_out(manager, "o-1", [(Role.LAB_MANAGER, "h01")], is_contact=False)
    assert not may_keep_out(manager, "o-2", [(Role.SME, "")], is_contact=False)
    assert not may_keep_out(actor(Role.SME), "o-1", [(Role.SME, "")], is_contact=False)
    assert may_keep_out(actor(Role.SME), "o-1", [(Role.SME, "")], is_contact=True)
    assert not may_keep_out(actor(Role.SME), "o-1", [(Role.LAB_MANAGER, "h01")], is_contact=True)


def test_an_officer_cannot_become_the_second_person_by_a_reset() -> None:
    officer = actor(Role.COUNTY_OFFICER)
    assert may_reset(officer, [Role.SME])
    for role in set(Role) - {Role.SME}:
        assert not may_reset(officer, [Role.SME, role])
        assert may_reset(actor(Role.ADMIN), [role])


def test_hosts_staff_belongs_to_hosts_and_county_roles_to_offices() -> None:
    assert FITS[Role.LAB_MANAGER] == {OrgKind.HOST}
    assert OrgKind.GOV not in FITS[Role.SME]


def test_in_a_firm_its_contact_alone_takes_roles_back() -> None:
    member = actor(Role.SME)
    assert not may_take(member, Role.SME, "o-1", "", is_contact=False)
    assert may_take(member, Role.SME, "o-1", "", is_contact=True)
    assert not may_take(member, Role.SME, "o-2", "", is_contact=True)
    assert may_take(actor(Role.COUNTY_OFFICER, org="o-c"), Role.SME, "o-1", "", is_contact=False)
    assert may_take(actor(Role.LAB_MANAGER, hosts=("h01",)), Role.LAB_MANAGER, "o-1", "h01", is_contact=False)
    assert not may_take(actor(Role.LAB_MANAGER, hosts=("h01",)), Role.LAB_MANAGER, "o-1", "h02", is_contact=False)
