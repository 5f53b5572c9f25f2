"""Lost passwords, and the letters that wait to be sent, over HTTP."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api.accounts import letters, resets
from api.accounts import schemas_joining as schemas
from api.deps import AppParts, Once, PublicParts, address_of, public_writes, reads, writes
from api.pagination import WantedPage
from api.problems import problems
from api.schemas import Page
from api.work import Work
from store.tables.accounts import Role

router = APIRouter()
COUNTY = (Role.COUNTY_OFFICER, Role.ADMIN)

ASKED = schemas.ResetAnswer(
    zh="如有此账号,重置口令将按其登记的邮箱发送;未登记邮箱的请联系县科技局当面办理。",
    en="If there is such an account, a reset goes to its e-mail address; without one, ask the county office in person.",
)


@router.post(
    "/password-resets",
    status_code=202,
    summary="Ask for a new password",
    response_model=schemas.ResetAnswer,
)
def ask_for_reset(
    asked: schemas.ResetAsked, parts: AppParts, once: Once, work: Annotated[Work, public_writes()]
) -> Response:
    """The answer is the same whether the account exists or not."""

    def produce() -> schemas.ResetAnswer:
        resets.ask(work, asked.login, parts.real_now())
        return ASKED

    return once(produce, status=202)


@router.post("/password-resets/completion", status_code=204, summary="Set a new password with a one-time token")
def complete_reset(asked: schemas.ResetDone, request: Request, parts: PublicParts) -> Response:
    """The token works once. All sessions and tokens of the person end, and a lock of the login name is lifted."""
    resets.complete(parts, asked.token.get_secret_value(), asked.password.get_secret_value(), address_of(request))
    return Response(status_code=204)


@router.post(
    "/people/{person_id}/password-reset",
    status_code=201,
    summary="Make a password reset to hand over in person",
    response_model=schemas.ResetMade,
    responses=problems(404),
)
def make_reset(person_id: str, parts: AppParts, once: Once, work: Annotated[Work, writes(*COUNTY)]) -> Response:
    """An admin for anybody; an officer for people of firms. Look at their identity card first: it opens the account."""

    def produce() -> schemas.ResetMade:
        good_for = timedelta(hours=parts.settings.reset_hours)
        person, secret, expires_at = resets.issue_by_hand(work, person_id, parts.real_now(), good_for)
        return schemas.ResetMade(person_id=person_id, login=person.login, expires_at=expires_at, token=secret)

    return once(produce, kept=lambda made: made.model_copy(update={"token": None}))


@router.get("/letters", summary="Letters to people: resets asked for, invitations, decisions")
def list_letters(
    page: WantedPage,
    work: Annotated[Work, reads(*COUNTY)],
    waiting: Annotated[bool, Query(description="Only those that nobody has sent or said yet")] = True,
) -> Page[schemas.LetterAnswer]:
    """The oldest first, without any secret. One without an address waits to be said in person."""
    rows, next_cursor = letters.listed(work.session, waiting, page)
    return Page(items=[schemas.LetterAnswer.model_validate(row) for row in rows], next_cursor=next_cursor)
