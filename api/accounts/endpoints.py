"""Signing in and out, oneself, tokens, and the people of an organisation, over HTTP."""

import secrets
from typing import Annotated

from fastapi import APIRouter, Request, Response

from api.accounts import repository, schemas, service, tokens
from api.deps import AppParts, IfMatch, Once, PublicParts, reads, tagged, writes
from api.pagination import WantedPage
from api.problems import problems
from api.schemas import Page
from api.security import COOKIE
from api.work import Work
from store.tables.accounts import AccessToken, Person, Role

router = APIRouter(tags=["accounts"])

COUNTY = (Role.COUNTY_OFFICER, Role.ADMIN)


@router.post("/sessions", status_code=201, summary="Sign in with a password", responses=problems(401))
def sign_in(
    asked: schemas.SignInAsked, request: Request, response: Response, parts: PublicParts
) -> schemas.SignedInAnswer:
    """Sets the session cookie. After five failures a login name is locked for a while, whether it exists or not."""
    address = request.client.host if request.client else ""
    opened = tokens.sign_in_with_password(parts, asked.login, asked.password.get_secret_value(), address)
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
def sign_out(request: Request, parts: AppParts, work: Annotated[Work, writes()]) -> Response:
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
def change_password(asked: schemas.PasswordChange, parts: AppParts, work: Annotated[Work, writes()]) -> Response:
    """Ends all sessions and tokens of the caller, this one included: sign in again with the new password."""
    tokens.change_password(work, asked.old.get_secret_value(), asked.new.get_secret_value(), parts.real_now())
    return Response(status_code=204)


@router.post("/tokens", status_code=201, summary="Make a token for a program", response_model=schemas.TokenCreated)
def create_token(asked: schemas.TokenAsked, parts: AppParts, once: Once, work: Annotated[Work, writes()]) -> Response:
    """The secret is shown in this answer only. It acts as the caller, within its scopes, until it expires."""

    def produce() -> schemas.TokenCreated:
        token, secret = tokens.create_token(
            work,
            name=asked.name,
            scopes=list(asked.scopes),
            days=asked.days,
            days_max=parts.settings.token_days_max,
            real_now=parts.real_now(),
        )
        return schemas.TokenCreated(**dict(_token(token)), token=secret)

    return once(produce, kept=lambda created: created.model_copy(update={"token": None}))


@router.get("/tokens", summary="One's own tokens, without their secrets")
def list_tokens(page: WantedPage, work: Annotated[Work, reads()]) -> Page[schemas.TokenAnswer]:
    """Revoked and expired ones are listed too."""
    rows, next_cursor = repository.tokens_of(work.session, work.actor.person_id, page)
    return Page(items=[_token(row) for row in rows], next_cursor=next_cursor)


@router.delete("/tokens/{token_id}", summary="Revoke one of one's own tokens", responses=problems(404))
def revoke_token(token_id: str, parts: AppParts, work: Annotated[Work, writes()]) -> schemas.TokenAnswer:
    """Repeating it changes nothing."""
    return _token(tokens.revoke_token(work, token_id, parts.real_now()))


@router.post(
    "/people",
    status_code=201,
    summary="Let somebody sign in",
    response_model=schemas.PersonCreated,
    responses=problems(404),
)
def create_person(asked: schemas.PersonAsked, once: Once, work: Annotated[Work, writes(*COUNTY)]) -> Response:
    """Officers grant the roles sme and lab_manager; the county's own roles take an admin."""

    first_password = secrets.token_urlsafe(12)

    def produce() -> schemas.PersonCreated:
        person = service.create_person(
            work,
            login=asked.login,
            name=asked.name,
            org_id=asked.org_id,
            password=first_password,
            language=asked.language,
        )
        for role in asked.roles:
            service.grant_role(work, person.person_id, role.role, role.host_id)
        return schemas.PersonCreated(**dict(_people(work, [person])[0]), first_password=first_password)

    return once(produce, kept=lambda created: created.model_copy(update={"first_password": None}))


@router.patch(
    "/people/{person_id}",
    summary="Keep a person out, or let them in again",
    response_model=schemas.PersonAnswer,
    responses=problems(404),
)
def edit_person(
    person_id: str, asked: schemas.PersonEdit, version: IfMatch, parts: AppParts, work: Annotated[Work, writes(*COUNTY)]
) -> Response:
    """Whoever is kept out loses all sessions and tokens at once."""
    person = service.set_active(work, person_id, asked.active, version)
    if not person.active:
        tokens.revoke_all(work, person_id, parts.real_now())
    return tagged(_people(work, [person])[0])


@router.get("/orgs/{org_id}/people", summary="The people of an organisation")
def list_people(
    org_id: str,
    page: WantedPage,
    work: Annotated[Work, reads(Role.SME, Role.LAB_MANAGER, Role.COUNTY_OFFICER, Role.FINANCE, Role.ADMIN)],
) -> Page[schemas.PersonAnswer]:
    """One's own organisation; county roles see any."""
    service.require_may_list(work, org_id)
    rows, next_cursor = repository.people_of(work.session, org_id, page)
    return Page(items=_people(work, rows), next_cursor=next_cursor)


def _people(work: Work, people: list[Person]) -> list[schemas.PersonAnswer]:
    roles = repository.roles_of(work.session, [person.person_id for person in people])
    return [
        schemas.PersonAnswer(
            person_id=person.person_id,
            login=person.login,
            name=person.name,
            org_id=person.org_id,
            language=person.language,
            active=person.active,
            roles=[schemas.RoleGranted(role=r, host_id=host or None) for r, host in roles.get(person.person_id, [])],
            created_at=person.created_at,
            row_version=person.row_version,
        )
        for person in people
    ]


def _token(token: AccessToken) -> schemas.TokenAnswer:
    return schemas.TokenAnswer(
        token_id=token.token_id,
        name=token.name,
        scopes=token.scopes.split(),
        created_at=token.created_at,
        expires_at=token.expires_at,
        revoked_at=token.revoked_at,
    )
