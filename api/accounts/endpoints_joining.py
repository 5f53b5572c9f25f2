"""How firms and people come in, over HTTP: registrations, invitations, the standing of an organisation."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api.accounts import invitations, registrations, repository, service
from api.accounts import schemas_joining as schemas
from api.accounts.registrations import Firm
from api.deps import (
    AppParts,
    IfMatch,
    Once,
    PublicParts,
    address_of,
    own_affairs,
    public_reads,
    reads,
    tagged,
    writes,
)
from api.errors import not_found
from api.pagination import WantedPage
from api.problems import problems
from api.registry.schemas import OrgAnswer
from api.schemas import Page
from api.security import PUBLIC_ACTOR, hash_password
from api.work import Work
from store.tables.accounts import Person, Registration, RegistrationState, Role
from store.tables.registry import Org

router = APIRouter()
COUNTY = registrations.DECIDERS
INVITERS = (Role.SME, Role.LAB_MANAGER, *COUNTY)


@router.post(
    "/registrations",
    status_code=201,
    summary="Register a firm",
    response_model=schemas.RegistrationReceived,
)
def register(asked: schemas.RegistrationAsked, request: Request, parts: PublicParts, once: Once) -> Response:
    """Open to everybody. The first person may sign in at once and read; booking waits for the county's approval.

    A code that is registered already gets the same answer: the county sorts that out with the person.
    """
    parts.limiter.count_registration(address_of(request))
    # Made outside of any transaction: it is slow on purpose.
    password_hash = hash_password(asked.password.get_secret_value())
    with parts.database.write() as session:
        work = request.state.work = Work(session, PUBLIC_ACTOR, parts.now())

        def produce() -> schemas.RegistrationReceived:
            registration, person = registrations.submit(
                work,
                _firm(asked),
                login=asked.login,
                name=asked.name,
                email=asked.email,
                language=asked.language,
                password_hash=password_hash,
            )
            return schemas.RegistrationReceived.of(registration, person.login)

        return once(produce)


@router.get(
    "/me/registration",
    summary="How far one's own registration is",
    response_model=schemas.RegistrationAnswer,
    responses=problems(404),
)
def own_registration(work: Annotated[Work, reads()]) -> Response:
    """The last one of one's organisation, with the reason where it was rejected."""
    found = registrations.latest(work.session, work.actor.org_id)
    if found is None:
        raise not_found("注册申请", "registration of", work.actor.org_id)
    return tagged(schemas.RegistrationAnswer.model_validate(found))


@router.post(
    "/me/registration",
    status_code=201,
    summary="Register again after a rejection",
    response_model=schemas.RegistrationAnswer,
)
def register_again(asked: schemas.FirmAsked, once: Once, work: Annotated[Work, own_affairs()]) -> Response:
    """With what was wrong put right."""
    return once(lambda: schemas.RegistrationAnswer.model_validate(registrations.submit_again(work, _firm(asked))))


@router.get("/registrations", summary="Registrations of firms")
def list_registrations(
    page: WantedPage,
    work: Annotated[Work, reads(*COUNTY)],
    state: Annotated[RegistrationState | None, Query(description="Only in this state")] = None,
) -> Page[schemas.RegistrationSeen]:
    """The oldest first."""
    rows, next_cursor = registrations.listed(work.session, state, page)
    return Page(items=[_seen(work, row) for row in rows], next_cursor=next_cursor)


@router.get(
    "/registrations/{registration_id}",
    summary="One registration",
    response_model=schemas.RegistrationSeen,
    responses=problems(404),
)
def get_registration(registration_id: str, work: Annotated[Work, reads(*COUNTY)]) -> Response:
    """With how many others ask for the same code, and who has it already."""
    return tagged(_seen(work, registrations.find(work, registration_id)))


@router.post(
    "/registrations/{registration_id}/decision",
    summary="Approve a registration, reject it, or join the person to the known organisation",
    response_model=schemas.RegistrationSeen,
    responses=problems(404, 409),
)
def decide_registration(
    registration_id: str, asked: schemas.VerdictAsked, version: IfMatch, work: Annotated[Work, writes(*COUNTY)]
) -> Response:
    """From an approval on the firm may book. A rejection says why; the firm may correct and ask again."""
    return tagged(_seen(work, registrations.decide(work, registration_id, asked.verdict, asked.reason, version)))


@router.patch(
    "/orgs/{org_id}/standing",
    summary="Suspend an organisation, or let it act again",
    response_model=OrgAnswer,
    responses=problems(404, 409),
)
def set_standing(
    org_id: str, asked: schemas.StandingAsked, version: IfMatch, work: Annotated[Work, writes(*COUNTY)]
) -> Response:
    """People of a suspended organisation sign in and read; what is running or owed goes on."""
    return tagged(
        OrgAnswer.model_validate(registrations.set_standing(work, org_id, asked.active, asked.reason, version))
    )


@router.post(
    "/orgs/{org_id}/invitations",
    status_code=201,
    summary="Invite somebody into an organisation",
    response_model=schemas.InvitationCreated,
    responses=problems(404),
)
def invite(
    org_id: str,
    asked: schemas.InvitationAsked,
    parts: AppParts,
    once: Once,
    work: Annotated[Work, writes(*INVITERS)],
) -> Response:
    """By e-mail (a new person) or login name (somebody of the organisation who is to get another role). The token is
    in this answer only, and in the letter; for who is to be a lab manager, invited by e-mail, in the letter only.
    Whom a lab manager invites to be another one is proposed so: an officer appoints them (`POST /people/{id}/roles`).
    Who may give which role is one table (docs/accounts.md)."""

    def produce() -> schemas.InvitationCreated:
        offered = invitations.invite(
            work,
            org_id,
            asked.role,
            host_id=asked.host_id,
            email=asked.email,
            login=asked.login,
            language=asked.language,
            real_now=parts.real_now(),
            good_for=timedelta(days=parts.settings.invitation_days),
        )
        shown = schemas.InvitationAnswer.of(offered.invitation)
        return schemas.InvitationCreated(**dict(shown), token=offered.secret)

    return once(produce, kept=lambda made: made.model_copy(update={"token": None}))


@router.get("/orgs/{org_id}/invitations", summary="Invitations into an organisation", responses=problems(403))
def list_invitations(
    org_id: str, page: WantedPage, work: Annotated[Work, reads(*INVITERS, Role.FINANCE)]
) -> Page[schemas.InvitationAnswer]:
    """The newest first, also those accepted, withdrawn or expired. One's own organisation; county roles see any."""
    service.require_may_list(work, org_id)
    rows, next_cursor = invitations.listed(work.session, org_id, page)
    return Page(items=[schemas.InvitationAnswer.of(row) for row in rows], next_cursor=next_cursor)


@router.delete("/invitations/{invitation_id}", summary="Take an invitation back", responses=problems(404, 409))
def withdraw_invitation(
    invitation_id: str, parts: AppParts, work: Annotated[Work, writes(*INVITERS)]
) -> schemas.InvitationAnswer:
    """Its token is worth nothing from now on. Repeating it changes nothing."""
    return schemas.InvitationAnswer.of(invitations.withdraw(work, invitation_id, parts.real_now()))


@router.post("/invitations/look", summary="What an invitation offers")
def look_at_invitation(
    asked: schemas.TokenGiven, parts: AppParts, work: Annotated[Work, public_reads()]
) -> schemas.InvitationShown:
    """For whoever holds its token, without spending it."""
    offer = invitations.look(work.session, asked.token.get_secret_value(), parts.real_now())
    org = work.session.get_one(Org, offer.org_id)
    return schemas.InvitationShown(
        org_zh=org.name_zh,
        org_en=org.name_en,
        role=Role(offer.role),
        host_id=offer.host_scope,
        for_login=offer.login is not None,
        expires_at=offer.expires_at,
    )


@router.post(
    "/invitations/acceptance",
    status_code=201,
    summary="Accept an invitation as a new person",
    responses=problems(409),
)
def accept_as_new(asked: schemas.AcceptanceAsked, request: Request, parts: PublicParts) -> schemas.AcceptanceAnswer:
    """Makes the account, with the role or (`waits_for_county`) proposed for it. The token works once."""
    parts.limiter.count_address(address_of(request))
    secret = asked.token.get_secret_value()
    with parts.database.read() as session:
        invitations.look(session, secret, parts.real_now())
    password_hash = hash_password(asked.password.get_secret_value())
    with parts.database.write() as session:
        accepted = invitations.accept_as_new(
            Work(session, PUBLIC_ACTOR, parts.now()),
            secret,
            login=asked.login,
            name=asked.name,
            password_hash=password_hash,
            real_now=parts.real_now(),
        )
        return schemas.AcceptanceAnswer.of(accepted)


@router.post(
    "/me/invitations",
    status_code=201,
    summary="Accept an invitation with the account one has",
    response_model=schemas.AcceptanceAnswer,
)
def accept_as_self(asked: schemas.TokenGiven, parts: AppParts, once: Once, work: Annotated[Work, writes()]) -> Response:
    """Adds the role to the caller's, or (`waits_for_county`) asks the county for it. The token works once."""

    def produce() -> schemas.AcceptanceAnswer:
        return schemas.AcceptanceAnswer.of(
            invitations.accept_as_self(work, asked.token.get_secret_value(), parts.real_now())
        )

    return once(produce)


def _firm(asked: schemas.FirmAsked) -> Firm:
    return Firm(asked.uscc, asked.kind, asked.name_zh, asked.name_en, asked.note)


def _seen(work: Work, found: Registration) -> schemas.RegistrationSeen:
    person = work.session.get_one(Person, found.person_id)
    owner = repository.org_with_code(work.session, found.uscc)
    return schemas.RegistrationSeen(
        **dict(schemas.RegistrationAnswer.model_validate(found)),
        decided_by=found.decided_by,
        contact_name=person.name,
        contact_email=person.email,
        rivals=registrations.rivals(work.session, found),
        known_org_id=None if owner is None or owner.org_id == found.org_id else owner.org_id,
    )
