"""Where somebody is signed in: sessions of browsers and tokens of programs, seen and ended by oneself or an admin."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from api.accounts import repository, schemas, service, tokens
from api.accounts.views import token_shown
from api.deps import AppParts, Once, own_affairs, reads, writes
from api.pagination import WantedPage
from api.problems import problems
from api.schemas import Page
from api.work import Work
from store.tables.accounts import Role

router = APIRouter()
Admin = Annotated[Work, writes(Role.ADMIN)]


@router.get("/sessions", summary="Where one is signed in")
def list_sessions(page: WantedPage, work: Annotated[Work, reads()]) -> Page[schemas.TokenAnswer]:
    """Browser sessions, the newest first, ended ones too; with when and from where each was last used."""
    rows, next_cursor = repository.tokens_of(work.session, work.actor.person_id, "session", page)
    return Page(items=[token_shown(row) for row in rows], next_cursor=next_cursor)


@router.delete("/sessions/{token_id}", summary="End one of one's own sessions", responses=problems(404))
def end_session(token_id: str, parts: AppParts, work: Annotated[Work, own_affairs()]) -> schemas.TokenAnswer:
    """Repeating it changes nothing."""
    return token_shown(tokens.revoke_token(work, token_id, parts.real_now()))


@router.post(
    "/sessions/revocation",
    status_code=201,
    summary="End all of one's own sessions, tokens, or both",
    response_model=schemas.RevocationAnswer,
)
def end_own(
    asked: schemas.RevocationAsked,
    request: Request,
    parts: AppParts,
    once: Once,
    work: Annotated[Work, own_affairs()],
) -> Response:
    """For a lost telephone: everywhere, or everywhere but here."""
    but = request.state.token_id if asked.keep_current else None
    return once(lambda: _end(work, work.actor.person_id, asked, parts, but))


@router.get("/people/{person_id}/sign-ins", summary="Where a person is signed in", responses=problems(404))
def list_of_person(
    person_id: str,
    page: WantedPage,
    work: Annotated[Work, reads(Role.ADMIN)],
    kind: Annotated[Literal["session", "bearer"] | None, Query(description="Only of this kind")] = None,
) -> Page[schemas.TokenAnswer]:
    """Sessions and tokens, the newest first, ended ones too."""
    service.find_person(work, person_id)
    rows, next_cursor = repository.tokens_of(work.session, person_id, kind, page)
    return Page(items=[token_shown(row) for row in rows], next_cursor=next_cursor)


@router.delete(
    "/people/{person_id}/sign-ins/{token_id}", summary="End a session or token of a person", responses=problems(404)
)
def end_of_person(person_id: str, token_id: str, parts: AppParts, work: Admin) -> schemas.TokenAnswer:
    """Repeating it changes nothing."""
    return token_shown(tokens.revoke_token(work, token_id, parts.real_now(), person_id))


@router.post(
    "/people/{person_id}/sign-ins/revocation",
    status_code=201,
    summary="End all sessions, tokens, or both, of a person",
    response_model=schemas.RevocationAnswer,
    responses=problems(404),
)
def end_all_of_person(
    person_id: str, asked: schemas.RevocationAsked, request: Request, parts: AppParts, once: Once, work: Admin
) -> Response:
    """They may sign in again; to keep them out deactivate them."""
    service.find_person(work, person_id)
    but = request.state.token_id if asked.keep_current else None
    return once(lambda: _end(work, person_id, asked, parts, but))


def _end(
    work: Work, person_id: str, asked: schemas.RevocationAsked, parts: AppParts, but: str | None
) -> schemas.RevocationAnswer:
    kinds = [kind for kind, wanted in (("session", asked.sessions), ("bearer", asked.tokens)) if wanted]
    ended = [tokens.revoke_all(work, person_id, parts.real_now(), kind=kind, but=but) for kind in kinds]
    return schemas.RevocationAnswer(ended=sum(ended))
