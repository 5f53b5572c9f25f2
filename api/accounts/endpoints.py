"""Signing in and out, oneself, tokens, and the people of an organisation, over HTTP."""

import secrets
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api.accounts import (
    endpoints_affiliations,
    endpoints_joining,
    endpoints_resets,
    endpoints_sign_ins,
    repository,
    schemas,
    service,
    tokens,
)
from api.accounts.views import people_shown, token_shown
from api.deps import AppParts, IfMatch, Once, PublicParts, address_of, own_affairs, reads, tagged, writes
from api.pagination import WantedPage
from api.problems import problems
from api.schemas import Page
from api.security import COOKIE
from api.work import Work
from store.tables.accounts import Role

router = APIRouter(tags=["accounts"])

COUNTY = (Role.COUNTY_OFFICER, Role.ADMIN)
MEMBERS = (Role.SME, Role.LAB_MANAGER, *COUNTY)


@router.post("/sessions", status_code=201, summary="Sign in with a password", responses=problems(401))
def sign_in(
    asked: schemas.SignInAsked, request: Request, response: Response, parts: PublicParts
) -> schemas.SignedInAnswer:
    """Sets the session cookie. After five failures a login name is locked for a while, whether it exists or not."""
    opened = tokens.sign_in_with_password(parts, asked.login, asked.password.get_secret_value(), address_of(request))
    response.set_cookie(
        COOKIE,
        opened.token,
        max_age=parts.settings.session_hours * 3600,
        httponly=True,  # no script can read it
        samesite="lax",  # no other site's form or script sends it with a changing request
        secure=parts.settings.cookie_secure,
    )
    return schemas.SignedInAnswer(person_id=opened.person_id, name=opened.name, expires_at=opened.expires_at)


@router.delete("/sessions/current", status_code=204, summary="Sign out: end the session or token of this request")
def sign_out(request: Request, parts: AppParts, work: Annotated[Work, own_affairs()]) -> Response:
    """The cookie is taken back and the token is worth nothing from now on."""
    tokens.revoke_token(work, request.state.token_id, parts.real_now())
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, httponly=True, samesite="lax", secure=parts.settings.cookie_secure)
    return response


@router.get("/me", summary="Who is signed in, and what they may do")
def me(work: Annotated[Work, reads()]) -> schemas.Me:
    """The caller as the server sees them."""
    actor = work.actor
    return schemas.Me(
        person_id=actor.person_id,
        name=actor.name,
        org_id=actor.org_id,
        roles=sorted(actor.roles),
        host_ids=sorted(actor.host_ids),
        scopes=sorted(actor.scopes),
        language=actor.language,
    )


@router.post("/me/password", status_code=204, summary="Change one's own password")
def change_password(
    asked: schemas.PasswordChange, request: Request, parts: AppParts, work: Annotated[Work, own_affairs(apart=True)]
) -> Response:
    """Ends all sessions and tokens of the caller, this one included: sign in again with the new password. A wrong old
    one counts like a failed sign-in."""
    old, new = asked.old.get_secret_value(), asked.new.get_secret_value()
    tokens.change_password(parts, work.actor, old, new, address_of(request))
    return Response(status_code=204)


@router.put("/me/email", status_code=204, summary="Say where one's own letters go")
def change_email(
    asked: schemas.EmailEdit, request: Request, parts: AppParts, work: Annotated[Work, own_affairs(apart=True)]
) -> Response:
    """Takes the password: a password reset goes to this address. A wrong one (401 `wrong_login`) counts like a failed
    sign-in. Resets that were on their way to the old address are worth nothing."""
    tokens.set_email(parts, work.actor, asked.password.get_secret_value(), asked.email, address_of(request))
    return Response(status_code=204)


@router.post("/tokens", status_code=201, summary="Make a token for a program", response_model=schemas.TokenCreated)
def create_token(
    asked: schemas.TokenAsked, request: Request, parts: AppParts, once: Once, work: Annotated[Work, writes()]
) -> Response:
    """The secret is shown in this answer only. It acts as the caller, within its scopes, until it expires. Made with a
    token it ends with that token."""

    def produce() -> schemas.TokenCreated:
        token, secret = tokens.create_token(
            work,
            name=asked.name,
            scopes=list(asked.scopes),
            days=asked.days,
            days_max=parts.settings.token_days_max,
            real_now=parts.real_now(),
            made_with=request.state.token_id,
        )
        return schemas.TokenCreated(**dict(token_shown(token)), token=secret)

    return once(produce, kept=lambda created: created.model_copy(update={"token": None}))


@router.get("/tokens", summary="One's own tokens, without their secrets")
def list_tokens(page: WantedPage, work: Annotated[Work, reads()]) -> Page[schemas.TokenAnswer]:
    """The newest first; revoked and expired ones are listed too."""
    rows, next_cursor = repository.tokens_of(work.session, work.actor.person_id, "bearer", page)
    return Page(items=[token_shown(row) for row in rows], next_cursor=next_cursor)


@router.delete("/tokens/{token_id}", summary="Revoke one of one's own tokens", responses=problems(404))
def revoke_token(token_id: str, parts: AppParts, work: Annotated[Work, own_affairs()]) -> schemas.TokenAnswer:
    """Repeating it changes nothing."""
    return token_shown(tokens.revoke_token(work, token_id, parts.real_now()))


@router.post(
    "/people",
    status_code=201,
    summary="Let somebody sign in",
    response_model=schemas.PersonCreated,
    responses=problems(404),
)
def create_person(asked: schemas.PersonAsked, once: Once, work: Annotated[Work, writes(*COUNTY)]) -> Response:
    """Officers grant the role sme here; a lab manager is invited by e-mail, because whoever is shown the first password
    could sign beside themselves. The county's own roles take an admin."""

    first_password = secrets.token_urlsafe(12)

    def produce() -> schemas.PersonCreated:
        person = service.create_person(
            work,
            login=asked.login,
            name=asked.name,
            org_id=asked.org_id,
            password=first_password,
            language=asked.language,
            email=asked.email,
        )
        for role in asked.roles:
            service.grant_role(work, person.person_id, role.role, role.host_id)
        return schemas.PersonCreated(**dict(people_shown(work, [person])[0]), first_password=first_password)

    return once(produce, kept=lambda created: created.model_copy(update={"first_password": None}))


@router.patch(
    "/people/{person_id}",
    summary="Keep a person out, or let them in again",
    response_model=schemas.PersonAnswer,
    responses=problems(404),
)
def edit_person(
    person_id: str,
    asked: schemas.PersonEdit,
    version: IfMatch,
    parts: AppParts,
    work: Annotated[Work, writes(*MEMBERS)],
) -> Response:
    """Whoever is kept out loses all sessions and tokens at once. A host's managers keep out people of their host; of
    a firm its contact does (who has been there longest); the county anybody whose roles it may give."""
    person = service.set_active(work, person_id, asked.active, version)
    if not person.active:
        tokens.revoke_all(work, person_id, parts.real_now())
    return tagged(people_shown(work, [person])[0])


@router.post(
    "/people/{person_id}/roles",
    status_code=201,
    summary="Give a person a role",
    response_model=schemas.PersonAnswer,
    responses=problems(404),
)
def grant_role(
    person_id: str, asked: schemas.RoleAsked, once: Once, work: Annotated[Work, writes(*MEMBERS)]
) -> Response:
    """Who may give which role is one table (docs/accounts.md). Harmless if it is held already."""

    def produce() -> schemas.PersonAnswer:
        service.grant_role(work, person_id, asked.role, asked.host_id)
        return people_shown(work, [service.find_person(work, person_id)])[0]

    return once(produce)


@router.delete("/people/{person_id}/roles/{role}", summary="Take a role back", responses=problems(404))
def take_role(
    person_id: str,
    role: Role,
    work: Annotated[Work, writes(*MEMBERS)],
    host_id: Annotated[str, Query(description="Of a lab manager's role, the host")] = "",
) -> schemas.PersonAnswer:
    """At once, also for who is signed in. Whoever may give a role may take it, in a firm its contact only; nobody takes
    one of their own."""
    return people_shown(work, [service.take_role(work, person_id, role, host_id)])[0]


@router.get("/orgs/{org_id}/people", summary="The people of an organisation")
def list_people(
    org_id: str,
    page: WantedPage,
    work: Annotated[Work, reads(Role.SME, Role.LAB_MANAGER, Role.COUNTY_OFFICER, Role.FINANCE, Role.ADMIN)],
) -> Page[schemas.PersonAnswer]:
    """One's own organisation; county roles see any."""
    service.require_may_list(work, org_id)
    rows, next_cursor = repository.people_of(work.session, org_id, page)
    return Page(items=people_shown(work, rows), next_cursor=next_cursor)


router.include_router(endpoints_sign_ins.router)
router.include_router(endpoints_joining.router)
router.include_router(endpoints_resets.router)
router.include_router(endpoints_affiliations.router)
