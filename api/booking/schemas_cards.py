"""What the endpoints of cards and readings take and give."""

from typing import Annotated

from pydantic import Field

from api.schemas import Answer, Instant, Question
from store.tables.cards import ReadingOutcome

Id = Annotated[str, Field(min_length=1, max_length=64)]
CardHash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="The keyed hash a reader makes of the number")]


class CardAsked(Question):
    """A card, and whose it is. `host_id` null: for the whole county, by a county officer only."""

    card_sha256: CardHash
    person_id: Id
    host_id: Id | None = None
    label: Annotated[str, Field(max_length=200, description="What is printed on it")] = ""
    valid_to: Instant | None = Field(None, description="Until when it counts; null: until it is taken back")


class CardRevokeAsked(Question):
    """Why a card is taken back."""

    reason: Annotated[str, Field(min_length=1, max_length=2000)]


class CardAnswer(Answer):
    """A card as it was issued. `valid`: whether it counts now. `host_scope` empty: in the whole county."""

    card_id: str
    card_sha256: str
    host_scope: str
    person_id: str
    label: str
    valid_from: Instant
    valid_to: Instant | None
    issued_by: str
    issued_at: Instant
    valid: bool = False


class ReadingAnswer(Answer):
    """A card that was held to a reader, and what became of it."""

    agent_id: str
    stream: str
    seq: int
    instrument_id: str | None
    host_id: str
    card_sha256: str
    card_id: str | None
    said: str
    at: Instant
    outcome: ReadingOutcome
    booking_id: str | None
    detail: str
    judged_at: Instant
