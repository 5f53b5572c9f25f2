"""People and their roles. Called by the endpoints and the seed; every function runs in the caller's transaction."""

from api.accounts import repository
from api.errors import Refused, conflict, forbidden, invalid, not_found, stale
from api.security import hash_password
from api.work import Work
from store.tables.accounts import Person, Role, RoleGrant
from store.tables.registry import Host, Org
from store.upsert import insert_if_absent
from wire.ids import new_ulid

_GRANTED_BY_OFFICERS = frozenset({Role.SME, Role.LAB_MANAGER})


def create_person(
    work: Work,
    *,
    login: str,
    name: str,
    org_id: str,
    password: str | None = None,
    password_hash: str | None = None,
    language: str = "zh",
    person_id: str | None = None,
) -> Person:
    """Let somebody sign in as `login` (kept in lower case). Without password nor hash they cannot until one is set.

    Raises 404 for an unknown organisation, 409 `login_taken`.
    """
    if work.session.get(Org, org_id) is None:
        raise not_found("单位", "organisation", org_id)
    if repository.person_by_login(work.session, login.lower()) is not None:
        raise conflict(
            "login_taken", f"登录名 {login} 已被使用。", f"The login name {login} is taken.", login=login.lower()
        )
    person = Person(
        person_id=person_id or new_ulid().lower(),
        login=login.lower(),
        name=name,
        org_id=org_id,
        password_hash=hash_password(password) if password is not None else password_hash,
        language=language,
        active=True,
        created_at=work.now,
        row_version=1,
    )
    work.session.add(person)
    work.session.flush()
    after = {"login": person.login, "name": name, "org_id": org_id}
    work.audit("person_created", f"person:{person.person_id}", host_id=None, after=after)
    return person


def grant_role(work: Work, person_id: str, role: Role, host_id: str = "") -> bool:
    """Give a person a role (a lab manager's is bound to a host); return whether it is new.

    Officers grant `sme` and `lab_manager`; only an admin grants the others. Raises 403, 404, and 422
    `role_needs_host` where role and host do not fit together.
    """
    if role not in _GRANTED_BY_OFFICERS:
        work.require((Role.ADMIN,), f"授予角色 {role}", f"grant the role {role}")
    if (role is Role.LAB_MANAGER) != (host_id != ""):
        raise invalid(
            "role_needs_host",
            "实验室管理员须绑定一个单位,其他角色不绑定。",
            "A lab manager is bound to a host; other roles are not.",
            field="host_id",
        )
    if work.session.get(Person, person_id) is None:
        raise not_found("人员", "person", person_id)
    if host_id and work.session.get(Host, host_id) is None:
        raise not_found("依托单位", "host", host_id)
    granted = insert_if_absent(
        work.session,
        RoleGrant,
        {
            "person_id": person_id,
            "role": role.value,
            "host_scope": host_id,
            "granted_by": work.actor.person_id,
            "granted_at": work.now,
        },
    )
    if granted:
        after = {"role": role.value, "host_id": host_id}
        work.audit("role_granted", f"person:{person_id}", host_id=host_id or None, after=after)
    return granted


def set_active(work: Work, person_id: str, active: bool, version: int) -> Person:
    """Keep a person out (their sessions and tokens end with the call, see the endpoint) or let them in again.

    Raises 403 for oneself and, unless by an admin, for people with more than an officer may grant; 404; 412.
    """
    person = repository.locked_person(work.session, person_id)
    if person is None:
        raise not_found("人员", "person", person_id)
    if person_id == work.actor.person_id:
        raise forbidden("不能停用自己的账号。", "Nobody deactivates themselves.")
    roles = {role for role, _ in repository.roles_of(work.session, [person_id])[person_id]}
    if not roles <= _GRANTED_BY_OFFICERS:
        work.require((Role.ADMIN,), "停用该人员", "deactivate this person")
    if person.row_version != version:
        raise stale(person.row_version, version)
    before = {"active": int(person.active)}
    person.active = active
    person.row_version += 1
    work.session.flush()
    work.audit("person_edited", f"person:{person_id}", host_id=None, before=before, after={"active": int(active)})
    return person


def require_may_list(work: Work, org_id: str) -> None:
    """Raise 403 unless the caller may see the people of this organisation: their own, or any for county roles."""
    county = (Role.COUNTY_OFFICER, Role.FINANCE, Role.AUDITOR, Role.ADMIN)
    if org_id != work.actor.org_id and not work.actor.has(*county):
        raise forbidden("只能查看本单位人员。", "You may see the people of your own organisation only.", org_id=org_id)


def wrong_login() -> Refused:
    """401 for any failed sign-in; never says which part was wrong."""
    return Refused(
        401,
        "wrong_login",
        "登录名或密码不正确,或账号已停用。",
        "The login name or the password is wrong, or the account is deactivated.",
    )
