"""People and their roles. Called by the endpoints and the seed; every function runs in the caller's transaction.

Who may give which role, and keep whom out, is the table of granting.py.
"""

import secrets

from api.accounts import granting, repository
from api.errors import Refused, conflict, forbidden, invalid, not_found, stale
from api.security import hash_password
from api.work import Actor, Work
from store.tables.accounts import Person, Role, RoleGrant
from store.tables.registry import Host, Org
from store.upsert import insert_if_absent
from wire.ids import new_ulid

_LOGIN_TAIL = "23456789abcdefghjkmnpqrstuvwxyz"  # without what is mistaken for something else


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
    email: str | None = None,
) -> Person:
    """Let somebody sign in as `login` (kept in lower case). Without password nor hash they cannot until one is set.
    `email` (kept in lower case) is where letters go.

    Raises 404 for an unknown organisation, 409 `login_taken`.
    """
    if work.session.get(Org, org_id) is None:
        raise not_found("单位", "organisation", org_id)
    if repository.person_by_login(work.session, login.lower()) is not None:
        raise conflict(
            "login_taken",
            f"登录名 {login} 已被使用;请换一个。",
            f"The login name {login} is taken; choose another.",
            login=login.lower(),
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
        email=email.lower() if email else None,
    )
    work.session.add(person)
    work.session.flush()
    after = {"login": person.login, "name": name, "org_id": org_id}
    work.audit("person_created", f"person:{person.person_id}", host_id=None, after=after)
    return person


def find_person(work: Work, person_id: str) -> Person:
    """Return a person. Raises 404, also for people the caller may not see."""
    person = work.session.get(Person, person_id)
    if person is None or not may_see(work, person.org_id):
        raise not_found("人员", "person", person_id)
    return person


def login_from(work: Work, wish: str) -> str:
    """Return a login name that is free: the one wished for with four characters behind it. Always, so that nobody
    can find out by asking which names exist."""
    while True:
        login = f"{wish.lower()}-{''.join(secrets.choice(_LOGIN_TAIL) for _ in range(4))}"
        if repository.person_by_login(work.session, login) is None:
            return login


def grant_role(work: Work, person_id: str, role: Role, host_id: str = "") -> bool:
    """Give a person a role (a lab manager's is bound to a host); return whether it is new.

    Raises 403 unless the caller may give it (also `knows_password`, see there), 404, and 422 `role_needs_host` where
    role and host do not fit together.
    """
    person = work.session.get(Person, person_id)
    require_may_grant(work, role, host_id, None if person is None else person.org_id)
    if person is None:
        raise not_found("人员", "person", person_id)
    if knows_password(work, work.actor, role, person_id):
        raise forbidden(
            "您曾见过该账号的密码、重置口令或邀请口令,不能再授予其实验室管理员角色;请由另一位县级人员或系统管理员办理。",
            "You were shown a password, a reset or the invitation of this account, so you do not make it a lab"
            " manager; ask another officer or an admin.",
        )
    return record_grant(work, person_id, role, host_id)


def require_may_grant(work: Work, role: Role, host_id: str, org_id: str | None, *, or_propose: bool = False) -> None:
    """Raise 403 unless the caller may give a role to people of an organisation (or propose them for it), 422 and 404
    for a wrong host."""
    actor, whom = work.actor, (role, org_id or "", host_id)
    proposes = or_propose and granting.may_propose(actor, *whom)
    if not (actor.is_system or proposes or granting.may_grant(actor, *whom)):
        listed = ", ".join(granting.who_may_grant(role))
        raise forbidden(
            f"您没有权限授予角色 {role};需要角色:{listed}(单位角色仅限本单位);请联系其中一人办理。",
            f"You may not grant the role {role} here; it takes {listed} (firms and hosts: in their own only);"
            " ask one of them.",
            roles=listed,
        )
    if (role is Role.LAB_MANAGER) != (host_id != ""):
        raise invalid(
            "role_needs_host",
            "实验室管理员须绑定一个单位,其他角色不绑定;请更正 host_id。",
            "A lab manager is bound to a host, other roles are not; correct host_id.",
            field="host_id",
        )
    if host_id and work.session.get(Host, host_id) is None:
        raise not_found("依托单位", "host", host_id)


def knows_password(work: Work, giver: Actor, role: Role, person_id: str) -> bool:
    """Whether `giver` could sign in as the person whom they give a role beyond a firm's: they were shown its first
    password, a reset, or the invitation that it was made with. A lab manager signs beside others as the second person,
    and has to be one."""
    if role is Role.SME or giver.is_system or giver.has(Role.ADMIN):
        return False
    return repository.was_shown_password(work.session, giver.person_id, person_id)


def record_grant(work: Work, person_id: str, role: Role, host_id: str = "", *, promised_by: str = "") -> bool:
    """Give a role by rule: what an invitation (of `promised_by`) or a registration promised. The caller has checked
    that it may. Managers and officers are told of each lab manager whom a person appointed."""
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
        if role is Role.LAB_MANAGER and not work.actor.is_system:
            after["appointed_by"] = promised_by or work.actor.person_id
        work.audit("role_granted", f"person:{person_id}", host_id=host_id or None, after=after)
    return granted


def take_role(work: Work, person_id: str, role: Role, host_id: str = "") -> Person:
    """Take a role back, at once; harmless if it is not held. Raises 403 for oneself, unless the caller may (see
    granting.may_take), and as `grant_role`; 404."""
    person = repository.locked_person(work.session, person_id)
    if person is None:
        raise not_found("人员", "person", person_id)
    if person_id == work.actor.person_id:
        raise forbidden(
            "不能收回自己的角色;请由其他有权人员办理。",
            "Nobody takes back a role of their own; ask somebody else who may.",
        )
    require_may_grant(work, role, host_id, person.org_id, or_propose=True)
    is_contact = repository.contact_of(work.session, person.org_id) == work.actor.person_id
    if not work.actor.is_system and not granting.may_take(work.actor, role, person.org_id, host_id, is_contact):
        raise forbidden(
            "企业内只有单位联系人可以收回同事的角色;请联系本单位联系人或县科技局。",
            "Within a firm its contact takes roles back; ask the contact of the firm or the county office.",
        )
    if repository.remove_role(work.session, person_id, role, host_id):
        before = {"role": role.value, "host_id": host_id}
        work.audit("role_taken", f"person:{person_id}", host_id=host_id or None, before=before)
    return person


def set_active(work: Work, person_id: str, active: bool, version: int) -> Person:
    """Keep a person out (their sessions and tokens end with the call, see the endpoint) or let them in again.

    Raises 403 for oneself and unless the caller may keep them out (see granting.may_keep_out); 404; 412.
    """
    person = repository.locked_person(work.session, person_id)
    if person is None or not may_see(work, person.org_id):
        raise not_found("人员", "person", person_id)
    if person_id == work.actor.person_id:
        raise forbidden(
            "不能停用自己的账号;请由其他有权人员办理。", "Nobody deactivates themselves; ask somebody else who may."
        )
    held = repository.roles_of(work.session, [person_id])[person_id]
    is_contact = repository.contact_of(work.session, person.org_id) == work.actor.person_id
    if not work.actor.is_system and not granting.may_keep_out(work.actor, person.org_id, held, is_contact=is_contact):
        raise forbidden(
            "您没有权限停用该人员;请联系本单位联系人、县科技局或系统管理员。",
            "You may not deactivate this person; ask the contact of the firm, the county office or an admin.",
        )
    if person.row_version != version:
        raise stale(person.row_version, version)
    before = {"active": int(person.active)}
    person.active = active
    person.row_version += 1
    work.session.flush()
    work.audit("person_edited", f"person:{person_id}", host_id=None, before=before, after={"active": int(active)})
    return person


def may_see(work: Work, org_id: str) -> bool:
    """Whether the caller may see the people of an organisation: their own, or any for county roles."""
    county = (Role.COUNTY_OFFICER, Role.FINANCE, Role.AUDITOR, Role.ADMIN)
    return work.actor.is_system or org_id == work.actor.org_id or work.actor.has(*county)


def require_may_list(work: Work, org_id: str) -> None:
    """Raise 403 unless the caller may see the people of this organisation."""
    if not may_see(work, org_id):
        raise forbidden(
            "只能查看本单位人员;查看其他单位请联系县科技局。",
            "You may see the people of your own organisation only; ask the county office about others.",
            org_id=org_id,
        )


def wrong_login() -> Refused:
    """401 for any failed sign-in; never says which part was wrong."""
    return Refused(
        401,
        "wrong_login",
        "登录名或密码不正确,或账号已停用;请核对后重试,忘记密码可申请重置(POST /password-resets)。",
        "The login name or the password is wrong, or the account is deactivated; check both and try again, or ask for a"
        " new password (POST /password-resets).",
    )
