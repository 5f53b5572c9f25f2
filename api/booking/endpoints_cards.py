"""HTTP of cards that people check in with. Each endpoint calls one service function."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.booking import cards
from api.booking import schemas_cards as s
from api.deps import Once, reads, writes
from api.pagination import WantedPage, paginate
from api.problems import problems
from api.schemas import Page
from api.work import Work
from store.tables.accounts import Role
from store.tables.cards import AccessCard, CardReading

router = APIRouter(tags=["cards"])

_READERS = (Role.LAB_MANAGER, Role.COUNTY_OFFICER, Role.AUDITOR, Role.ADMIN)
_ISSUERS = (Role.LAB_MANAGER, Role.COUNTY_OFFICER)


@router.get("/access-cards", summary="Cards that were issued, newest first")
def list_cards(
    work: Annotated[Work, reads(*_READERS)],
    page: WantedPage,
    person_id: Annotated[str | None, Query(max_length=64)] = None,
) -> Page[s.CardAnswer]:
    """A lab manager sees its host's, the county all; those that are over say so."""
    rows, cursor = paginate(
        work.session, cards.seen_by(work.actor, person_id), (AccessCard.card_id,), page, descending=True
    )
    return Page[s.CardAnswer](items=[_shown(work, row) for row in rows], next_cursor=cursor)


@router.post(
    "/access-cards",
    status_code=201,
    response_model=s.CardAnswer,
    summary="Give a card to a person",
    responses=problems(404),
)
def issue_card(asked: s.CardAsked, work: Annotated[Work, writes(*_ISSUERS)], once: Once) -> Response:
    """Hold the card to a reader: it appears among the readings as unknown, with the hash to name here."""
    return once(
        lambda: _shown(
            work,
            cards.issue(work, asked.card_sha256, asked.person_id, asked.host_id, asked.label, asked.valid_to),
        )
    )


@router.post(
    "/access-cards/{card_id}/revoke",
    status_code=201,
    response_model=s.CardAnswer,
    summary="Take a card back",
    responses=problems(404),
)
def revoke_card(
    card_id: str, asked: s.CardRevokeAsked, work: Annotated[Work, writes(*_ISSUERS)], once: Once
) -> Response:
    """From now on. Check-ins that were made with it stand."""
    return once(lambda: _shown(work, cards.revoke(work, card_id, asked.reason)))


@router.get("/card-readings", summary="Cards that were held to readers, newest first")
def list_readings(
    work: Annotated[Work, reads(*_READERS)],
    page: WantedPage,
    instrument_id: Annotated[str | None, Query(max_length=64)] = None,
) -> Page[s.ReadingAnswer]:
    """What became of each: checked in, checked out, or why nothing was done."""
    keys = (CardReading.judged_at, CardReading.agent_id, CardReading.stream, CardReading.seq)
    found = cards.readings_seen_by(work.actor, instrument_id)
    rows, cursor = paginate(work.session, found, keys, page, descending=True)
    return Page[s.ReadingAnswer](items=[s.ReadingAnswer.model_validate(row) for row in rows], next_cursor=cursor)


def _shown(work: Work, card: AccessCard) -> s.CardAnswer:
    shown = s.CardAnswer.model_validate(card)
    return shown.model_copy(update={"valid": cards.is_valid(work.session, card, work.now)})
