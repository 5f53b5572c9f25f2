"""Who may see and do what in charging. Checked in the services, so that every door has the same rules."""

from typing import Any

from sqlalchemy import ColumnElement, or_, true

from api.errors import forbidden
from api.work import Actor, Work
from store.tables.accounts import Role

SEE_ALL = (Role.COUNTY_OFFICER, Role.FINANCE, Role.AUDITOR, Role.ADMIN)


def is_system(actor: Actor) -> bool:
    """Whether the actor is a part of the system that acts by rule."""
    return actor.person_id.startswith("system:")


def require_host_role(work: Work, host_id: str, also: tuple[Role, ...], what_zh: str, what_en: str) -> None:
    """Raise 403 unless the actor is a lab manager of that host, holds a role of `also`, or is the system."""
    if is_system(work.actor) or work.actor.manages(host_id) or work.actor.has(*also):
        return
    who = ", ".join(["lab_manager", *sorted(also)])
    raise forbidden(
        f"您没有权限{what_zh};须由依托单位 {host_id} 的实验室管理员或以下角色办理:{who};请联系其中一人。",
        f"You may not {what_en}; it takes a lab manager of host {host_id} or one of: {who}; ask one of them.",
        host_id=host_id,
    )


def may_see(actor: Actor, host_id: str, payer_org: str) -> bool:
    """Whether the actor may see what this payer owes this host: the payer, the host's managers, the county."""
    return is_system(actor) or actor.has(*SEE_ALL) or actor.manages(host_id) or _is_payer(actor, payer_org)


def visible_to(actor: Actor, host_id: ColumnElement[str], payer_org: ColumnElement[Any]) -> ColumnElement[bool]:
    """Return the SQL condition that says the same as `may_see`."""
    if is_system(actor) or actor.has(*SEE_ALL):
        return true()
    conditions: list[ColumnElement[bool]] = [host_id.in_(sorted(actor.host_ids))] if actor.has(Role.LAB_MANAGER) else []
    if actor.has(Role.SME):
        conditions.append(payer_org == actor.org_id)
    return or_(*conditions) if conditions else ~true()


def _is_payer(actor: Actor, payer_org: str) -> bool:
    return actor.has(Role.SME) and actor.org_id == payer_org
