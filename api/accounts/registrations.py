"""Registration of a firm by its unified social credit code: anybody asks, a county officer decides.

What the public gets to know is the same whether the code, the login name or the e-mail is known to us or not. So a code
belongs to nobody until an officer has looked: the organisation made for a request carries a placeholder, several
requests for one code may wait side by side, and the one that is approved gets it. The requester signs in meanwhile,
and reads what the public reads; every change is refused (`organisation_not_active`).
"""

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from api.accounts import letters, repository, service
from api.accounts.uscc import read_uscc
from api.errors import conflict, forbidden, invalid, not_found, stale
from api.pagination import PageAsked, paginate
from api.work import Work
from store.tables.accounts import LetterKind, Person, Registration, RegistrationState, Role
from store.tables.registry import Org, OrgKind, OrgState
from wire.ids import new_ulid

DECIDERS = (Role.COUNTY_OFFICER, Role.ADMIN)
PLACEHOLDER = "unproven-"


class Verdict(StrEnum):
    """What an officer decides. `join`: the code's organisation is known; the requester becomes a member of it."""

    APPROVE = "approve"
    JOIN = "join"
    REJECT = "reject"


@dataclass(frozen=True)
class Firm:
    """What a firm says about itself. `uscc` is checked when it is recorded."""

    uscc: str
    kind: OrgKind
    name_zh: str
    name_en: str
    note: str


def submit(
    work: Work, firm: Firm, *, login: str, name: str, email: str | None, language: str, password_hash: str
) -> tuple[Registration, Person]:
    """Record a firm that wants to take part, with its first person, who may sign in at once under the login returned.

    Raises 422 `uscc_invalid`, and `kind_not_open` for a kind that the county records itself.
    """
    code = read_uscc(firm.uscc)
    if firm.kind not in (OrgKind.SME, OrgKind.ACADEMIC):
        raise invalid(
            "kind_not_open",
            "企业和科研院校可自行注册;依托单位和政府部门请联系县科技局登记。",
            "Firms and academic institutions register themselves; for a host or an office, ask the county"
            " office to record it; choose another kind here.",
            field="kind",
        )
    registration_id = new_ulid()
    org = Org(
        org_id=new_ulid().lower(),
        uscc=PLACEHOLDER + registration_id,
        kind=firm.kind.value,
        state=OrgState.PENDING.value,
        name_zh=firm.name_zh,
        name_en=firm.name_en,
        created_at=work.now,
        row_version=1,
    )
    work.session.add(org)
    work.session.flush()
    person = service.create_person(
        work,
        login=service.login_from(work, login),
        name=name,
        org_id=org.org_id,
        password_hash=password_hash,
        language=language,
        email=email,
    )
    service.record_grant(work, person.person_id, Role.SME)
    return _record(work, registration_id, org, person.person_id, code, firm), person


def submit_again(work: Work, firm: Firm) -> Registration:
    """Ask once more, after a rejection, with corrected facts. Raises 409 `registration_not_rejected`, 422."""
    code = read_uscc(firm.uscc)
    org = work.session.get(Org, work.actor.org_id, with_for_update=True)
    last = latest(work.session, work.actor.org_id)
    if org is None or last is None or last.state != RegistrationState.REJECTED.value or firm.kind.value != org.kind:
        raise conflict(
            "registration_not_rejected",
            "只有被退回的注册申请才能重新提交(单位类别不变)。",
            "Only a registration that was rejected can be submitted again, for the same kind of organisation;"
            " read its state first.",
        )
    org.name_zh, org.name_en = firm.name_zh, firm.name_en
    org.row_version += 1
    work.session.flush()
    return _record(work, new_ulid(), org, work.actor.person_id, code, firm)


def decide(work: Work, registration_id: str, verdict: Verdict, reason: str, version: int) -> Registration:
    """Approve, reject, or make the requester a member of the known organisation with that code; tell them by letter.

    Raises 403, 404, 409 `registration_decided`, `uscc_taken` (approve: join instead) or `no_firm_to_join`,
    412, 422 `reason_missing` for a rejection that says nothing.
    """
    work.require(DECIDERS, "审核注册", "decide on registrations")
    found = work.session.get(Registration, registration_id, with_for_update=True)
    if found is None:
        raise not_found("注册申请", "registration", registration_id)
    if found.state != RegistrationState.PENDING.value:
        raise conflict(
            "registration_decided",
            "该注册申请已处理;请刷新查看结果,需要变更时请更改单位状态。",
            "This registration has been decided; read it again, and change the standing of the organisation if"
            " it was wrong.",
            state=found.state,
        )
    if found.row_version != version:
        raise stale(found.row_version, version)
    if found.person_id == work.actor.person_id:
        raise forbidden(
            "不能审核自己的注册申请;请由其他经办人审核。",
            "Nobody decides on their own registration; ask another officer.",
        )
    if verdict is Verdict.REJECT and not reason:
        raise invalid(
            "reason_missing", "退回注册申请须说明理由。", "Say why the registration is rejected.", field="reason"
        )
    owner = repository.org_with_code(work.session, found.uscc)
    if verdict is Verdict.APPROVE:
        _approve(work, found, owner)
    elif verdict is Verdict.JOIN:
        _join(work, found, owner)
    states = {Verdict.APPROVE: "approved", Verdict.JOIN: "joined", Verdict.REJECT: "rejected"}
    found.state, found.reason = RegistrationState(states[verdict]).value, reason
    found.decided_by, found.decided_at = work.actor.person_id, work.now
    found.row_version += 1
    work.session.flush()
    after = {"state": found.state, "uscc": found.uscc, "reason": reason}
    work.audit("registration_decided", f"org:{found.org_id}", host_id=None, after=after)
    person = work.session.get_one(Person, found.person_id)
    letters.write(
        work,
        LetterKind.REGISTRATION_DECIDED,
        registration_id,
        person_id=person.person_id,
        address=person.email or "",
        language=person.language,
        facts={"state": found.state, "reason": reason, "name_zh": found.name_zh},
    )
    return found


def find(work: Work, registration_id: str) -> Registration:
    """Return a registration. Raises 404."""
    found = work.session.get(Registration, registration_id)
    if found is None:
        raise not_found("注册申请", "registration", registration_id)
    return found


def latest(session: Session, org_id: str) -> Registration | None:
    """Return the newest registration that an organisation made."""
    wanted = select(Registration).where(Registration.org_id == org_id)
    return session.scalars(wanted.order_by(Registration.registration_id.desc()).limit(1)).one_or_none()


def listed(session: Session, state: RegistrationState | None, page: PageAsked) -> tuple[list[Registration], str | None]:
    """Return a page of the registrations, the oldest first."""
    wanted = select(Registration) if state is None else select(Registration).where(Registration.state == state.value)
    return paginate(session, wanted, (Registration.registration_id,), page)


def rivals(session: Session, found: Registration) -> int:
    """Return how many other registrations of the same code wait: an officer looks at all before approving one."""
    wanted = select(Registration.registration_id).where(
        Registration.uscc == found.uscc,
        Registration.state == RegistrationState.PENDING.value,
        Registration.registration_id != found.registration_id,
    )
    return len(session.scalars(wanted).all())


def set_standing(work: Work, org_id: str, active: bool, reason: str, version: int) -> Org:
    """Suspend an organisation (its people read only) or let it act again. Raises 403, 404, 409 `org_pending`, 412."""
    work.require(DECIDERS, "停用或启用单位", "suspend organisations")
    org = work.session.get(Org, org_id, with_for_update=True)
    if org is None:
        raise not_found("单位", "organisation", org_id)
    if org_id == work.actor.org_id:
        raise forbidden(
            "不能停用本单位;请由其他单位的管理员办理。",
            "Nobody suspends their own organisation; ask an admin of another one.",
        )
    if org.uscc.startswith(PLACEHOLDER):
        raise conflict(
            "org_pending",
            "该单位的注册申请尚未通过;请先审核注册申请。",
            "The registration of this organisation is not approved; decide on it first.",
        )
    if org.row_version != version:
        raise stale(org.row_version, version)
    before, state = {"state": org.state}, OrgState.ACTIVE if active else OrgState.SUSPENDED
    org.state = state.value
    org.row_version += 1
    work.session.flush()
    after = {"state": state.value, "reason": reason}
    work.audit("org_standing_changed", f"org:{org_id}", host_id=None, before=before, after=after)
    return org


def _record(work: Work, registration_id: str, org: Org, person_id: str, code: str, firm: Firm) -> Registration:
    registration = Registration(
        registration_id=registration_id,
        org_id=org.org_id,
        person_id=person_id,
        uscc=code,
        kind=firm.kind.value,
        name_zh=firm.name_zh,
        name_en=firm.name_en,
        note=firm.note,
        submitted_at=work.now,
        state=RegistrationState.PENDING.value,
        reason="",
        decided_by=None,
        decided_at=None,
        row_version=1,
    )
    work.session.add(registration)
    work.session.flush()
    after = {"registration_id": registration_id, "uscc": code, "name_zh": firm.name_zh}
    work.audit("registration_submitted", f"org:{org.org_id}", host_id=None, after=after)
    return registration


def _approve(work: Work, found: Registration, owner: Org | None) -> None:
    if owner is not None:
        raise conflict(
            "uscc_taken",
            f"代码 {found.uscc} 的单位已登记;请核实申请人后选择“并入”(join)或退回。",
            f"An organisation with the code {found.uscc} exists; verify the person, then join them to it, or reject.",
            uscc=found.uscc,
            org_id=owner.org_id,
        )
    org = work.session.get_one(Org, found.org_id, with_for_update=True)
    org.uscc, org.state = found.uscc, OrgState.ACTIVE.value
    org.row_version += 1


def _join(work: Work, found: Registration, owner: Org | None) -> None:
    if owner is None:
        raise conflict(
            "no_firm_to_join",
            f"代码 {found.uscc} 尚无已登记的单位;请核实后通过申请。",
            f"No organisation has the code {found.uscc} yet; approve the registration instead.",
            uscc=found.uscc,
        )
    work.session.execute(update(Person).where(Person.org_id == found.org_id).values(org_id=owner.org_id))
    org = work.session.get_one(Org, found.org_id, with_for_update=True)
    org.state = OrgState.SUSPENDED.value
    org.row_version += 1
