"""Invitations: an offer of a role in an organisation, accepted with a token that works once.

To an e-mail address: whoever holds the token makes an account. To a login name: only that person, signed in, accepts;
whether the name exists is not said. An offer is worth what its author may still grant when it is accepted; one who may
only propose (granting.py) has made a proposal then, and the county appoints.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.accounts import granting, letters, one_time, repository, service
from api.errors import conflict, forbidden, invalid, not_found
from api.pagination import PageAsked, paginate
from api.security import actor_of
from api.work import Actor, Work
from store.tables.accounts import Invitation, LetterKind, Person, Role, TokenPurpose
from store.tables.registry import Host, Org, OrgKind
from wire.ids import new_ulid


@dataclass(frozen=True)
class Offered:
    """An invitation that was just made. `secret` is the only copy of its token; None where only a letter may bring
    one."""

    invitation: Invitation
    secret: str | None = field(repr=False)


@dataclass(frozen=True)
class Accepted:
    """Who accepted. `waits_for_county`: they were proposed, and have no role from it until an officer appoints them."""

    person: Person
    waits_for_county: bool


def invite(
    work: Work,
    org_id: str,
    role: Role,
    *,
    host_id: str = "",
    email: str | None,
    login: str | None,
    language: str,
    real_now: datetime,
    good_for: timedelta,
) -> Offered:
    """Offer a role in an organisation and write a letter about it.

    Raises 403 unless the caller may grant it there, or propose somebody for it, 404, 422 `one_addressee`,
    `role_does_not_fit`, `role_needs_host` or `host_of_another_org`.
    """
    org = work.session.get(Org, org_id)
    if org is None or not service.may_see(work, org_id):
        raise not_found("单位", "organisation", org_id)
    service.require_may_grant(work, role, host_id, org_id, or_propose=True)
    if (email is None) == (login is None):
        raise invalid(
            "one_addressee",
            "请填写电子邮箱(新用户)或登录名(已有用户)之一。",
            "Give either an e-mail address (a new person) or a login name (somebody who signs in already).",
            field="email",
        )
    if OrgKind(org.kind) not in granting.FITS[role]:
        raise invalid(
            "role_does_not_fit",
            f"角色 {role} 不适用于该类单位;请换一个角色。",
            f"The role {role} does not fit an organisation of the kind {org.kind}; choose another.",
            field="role",
        )
    if host_id and work.session.get_one(Host, host_id).org_id != org_id:
        raise invalid(
            "host_of_another_org",
            "该依托单位不属于此单位;请核对 host_id。",
            "That host belongs to another organisation; check host_id.",
            field="host_id",
        )
    invitation = Invitation(
        invitation_id=new_ulid(),
        org_id=org_id,
        role=role.value,
        host_scope=host_id,
        email=email.lower() if email else None,
        login=login,
        language=language,
        invited_by=work.actor.person_id,
        invited_at=real_now,
        expires_at=real_now + good_for,
        accepted_by=None,
        accepted_at=None,
        withdrawn_at=None,
    )
    work.session.add(invitation)
    work.session.flush()
    secret, _ = one_time.issue(
        work.session,
        TokenPurpose.INVITATION,
        invitation.invitation_id,
        by=work.actor.person_id,
        real_now=real_now,
        good_for=good_for,
    )
    after = {"role": role.value, "host_id": host_id, "email": invitation.email, "login": login}
    work.audit("invited", f"org:{org_id}", host_id=host_id or None, after=after)
    person = None if login is None else repository.person_by_login(work.session, login)
    letters.write(
        work,
        LetterKind.INVITATION,
        invitation.invitation_id,
        person_id=None if person is None else person.person_id,
        address=(invitation.email if person is None else person.email) or "",
        language=language,
        facts={"org_zh": org.name_zh, "org_en": org.name_en, "role": role.value, "from": work.actor.name},
    )
    # Whoever held the token of a new lab manager could be the second person beside themselves.
    by_letter_only = login is None and role is not Role.SME and not work.actor.has(Role.ADMIN)
    return Offered(invitation, None if by_letter_only else secret)


def listed(session: Session, org_id: str, page: PageAsked) -> tuple[list[Invitation], str | None]:
    """Return a page of the invitations of an organisation, the newest first."""
    wanted = select(Invitation).where(Invitation.org_id == org_id)
    return paginate(session, wanted, (Invitation.invitation_id,), page, descending=True)


def withdraw(work: Work, invitation_id: str, real_now: datetime) -> Invitation:
    """Take an offer back; harmless if it was. Raises 403, 404, 409 `invitation_accepted`."""
    found = work.session.get(Invitation, invitation_id, with_for_update=True)
    if found is None or not service.may_see(work, found.org_id):
        raise not_found("邀请", "invitation", invitation_id)
    service.require_may_grant(work, Role(found.role), found.host_scope, found.org_id, or_propose=True)
    if found.accepted_at is not None:
        raise conflict(
            "invitation_accepted",
            "该邀请已被接受;可停用该人员。",
            "This invitation was accepted; to keep the person out, change their account to inactive.",
        )
    if found.withdrawn_at is None:
        found.withdrawn_at = real_now
        one_time.void(work.session, TokenPurpose.INVITATION, invitation_id, real_now)
        work.audit("invitation_withdrawn", f"org:{found.org_id}", host_id=found.host_scope or None)
    return found


def look(session: Session, secret: str, real_now: datetime) -> Invitation:
    """Return what a token offers, without spending it. Raises 422 `token_not_valid`."""
    return session.get_one(Invitation, one_time.look(session, TokenPurpose.INVITATION, secret, real_now))


def accept_as_new(
    work: Work, secret: str, *, login: str, name: str, password_hash: str, real_now: datetime
) -> Accepted:
    """Make an account with the offered role. Raises 422 `token_not_valid`, 409 `for_an_account` (sign in first)."""
    offer, author = _spend(work, secret, real_now)
    if offer.login is not None:
        raise conflict(
            "for_an_account",
            "该邀请发给已有账号;请先登录再接受。",
            "This invitation is for somebody who has an account; sign in, then accept it.",
        )
    person = service.create_person(
        work,
        login=service.login_from(work, login),
        name=name,
        org_id=offer.org_id,
        password_hash=password_hash,
        language=offer.language,
        email=offer.email,
    )
    return _accept(work, offer, author, person, real_now)


def accept_as_self(work: Work, secret: str, real_now: datetime) -> Accepted:
    """Give the caller the offered role. Raises 422 `token_not_valid`, 403 where it is for somebody else, 409
    `member_elsewhere` where the caller belongs to another organisation."""
    offer, author = _spend(work, secret, real_now)
    person = work.session.get_one(Person, work.actor.person_id)
    if offer.login != person.login and (offer.email is None or offer.email != person.email):
        raise forbidden(
            "该邀请发给其他人;请用受邀账号登录,或请对方重新邀请您。",
            "This invitation is for somebody else; sign in with the account that was invited, or ask for one"
            " of your own.",
        )
    if _gives(author, offer) and service.knows_password(work, author, Role(offer.role), person.person_id):
        raise one_time.not_valid()
    if person.org_id != offer.org_id:
        raise conflict(
            "member_elsewhere",
            "一个账号只属于一个单位;请用新邮箱接受邀请并另建账号。",
            "An account belongs to one organisation; have the invitation sent to an e-mail address and make another.",
        )
    return _accept(work, offer, author, person, real_now)


def _spend(work: Work, secret: str, real_now: datetime) -> tuple[Invitation, Actor]:
    """Return what is offered, and its author with the roles they have now."""
    invitation_id = one_time.spend(work.session, TokenPurpose.INVITATION, secret, real_now)
    offer = work.session.get_one(Invitation, invitation_id, with_for_update=True)
    person = work.session.get_one(Person, offer.invited_by)
    author = actor_of(work.session, person, frozenset())
    proposes = granting.may_propose(author, Role(offer.role), offer.org_id, offer.host_scope)
    if not person.active or not (proposes or _gives(author, offer)):
        raise one_time.not_valid()
    return offer, author


def _gives(author: Actor, offer: Invitation) -> bool:
    return granting.may_grant(author, Role(offer.role), offer.org_id, offer.host_scope)


def _accept(work: Work, offer: Invitation, author: Actor, person: Person, real_now: datetime) -> Accepted:
    offer.accepted_by, offer.accepted_at = person.person_id, real_now
    work.session.flush()
    host_id = offer.host_scope or None
    after = {"invitation_id": offer.invitation_id, "person_id": person.person_id, "invited_by": offer.invited_by}
    work.audit("invitation_accepted", f"org:{offer.org_id}", host_id=host_id, after=after)
    if _gives(author, offer):
        service.record_grant(work, person.person_id, Role(offer.role), offer.host_scope, promised_by=offer.invited_by)
        return Accepted(person, False)
    after = {"role": offer.role, "host_id": offer.host_scope, "proposed_by": offer.invited_by}
    work.audit("role_proposed", f"person:{person.person_id}", host_id=host_id, after=after)
    return Accepted(person, True)
