"""Who may do what with rewards. Checked in the services, so that every door has the same rules."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.charging.access import is_system
from api.errors import Refused, conflict, forbidden
from api.work import Work
from store.tables.accounts import Person, Role, RoleGrant

PREPARERS = (Role.COUNTY_OFFICER,)
APPROVERS = (Role.COUNTY_OFFICER, Role.FINANCE)
READERS = (Role.COUNTY_OFFICER, Role.FINANCE, Role.ADMIN)


def require_person(work: Work, roles: tuple[Role, ...], what_zh: str, what_en: str) -> None:
    """Raise 403 unless a person with one of these roles acts: people sign, the system never does."""
    if is_system(work.actor):
        raise forbidden(f"系统不能{what_zh};请由有权人员办理。", f"The system cannot {what_en}; ask a person who may.")
    work.require(roles, what_zh, what_en)


def require_two_people(work: Work, prepared_by: str, approved_by: str) -> None:
    """Raise 409 unless two different, active people sign who may: an officer prepares, an officer or finance approves.

    A person who acts here acts as the approver; the system (which seeds) may name both.
    """
    if prepared_by == approved_by or (not is_system(work.actor) and work.actor.person_id != approved_by):
        raise same_person(prepared_by)
    for person_id, roles in ((prepared_by, PREPARERS), (approved_by, APPROVERS)):
        if not holds_role(work.session, person_id, roles):
            raise conflict(
                "signer_not_entitled",
                f"{person_id} 无权签署;请联系有此角色的人员:{', '.join(roles)}。",
                f"{person_id} may not sign this; ask somebody with the role {' or '.join(roles)}.",
                person_id=person_id,
            )


def holds_role(session: Session, person_id: str, roles: tuple[Role, ...]) -> bool:
    """Whether an active person holds one of these roles."""
    grant = (
        select(RoleGrant.role)
        .join(Person, Person.person_id == RoleGrant.person_id)
        .where(RoleGrant.person_id == person_id, RoleGrant.role.in_([role.value for role in roles]), Person.active)
    )
    return session.execute(grant.limit(1)).first() is not None


def same_person(prepared_by: str) -> Refused:
    """409: what one person prepared, another one approves."""
    return conflict(
        "same_person",
        "须由一人编制、另一人批准;请由另一位有权限的人员批准。",
        "What one person prepared, another one approves; ask a colleague with the role to do it.",
        prepared_by=prepared_by,
    )
