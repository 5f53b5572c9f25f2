"""What the endpoints around prices take and give: changes of price lists, discounts, manual charges."""

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import Field

from api.charging.rating_types import ManualItem
from api.charging.tariff_diff import FieldChange
from api.charging.tariff_parts import MAX_FEN
from api.schemas import Answer, Fen, Instant, Question

Reason = Annotated[str, Field(min_length=1, max_length=1000)]


class FieldChangeAnswer(Answer):
    """A field by its path; what stands by a code is `list[code].field`. Null: that version does not have the field."""

    field: str
    old: Any
    new: Any


def changes(found: Iterable[FieldChange]) -> list[FieldChangeAnswer]:
    """Return changes as they are shown."""
    return [FieldChangeAnswer.model_validate(each) for each in found]


class DiscountAsked(Question):
    """A share in 1/100 % or an amount in fen, one of the two; neither takes an earlier discount back."""

    bp: Annotated[int, Field(ge=0, le=10_000)] = 0
    fen: Annotated[int, Field(ge=0, le=MAX_FEN)] = 0
    reason: Reason


class ManualItemAsked(Question):
    """One item: what, how many, at which price each (VAT included)."""

    code: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,29}$")]
    text: Annotated[str, Field(min_length=1, max_length=200)]
    quantity: Annotated[int, Field(ge=1, le=1_000_000)]
    unit_fen: Annotated[int, Field(ge=1, le=MAX_FEN)]

    def item(self) -> ManualItem:
        """Return it as the service takes it."""
        return ManualItem(self.code, self.text, self.quantity, self.unit_fen)


class ManualAsked(Question):
    """Items to charge on a booking by hand, and why."""

    booking_id: Annotated[str, Field(min_length=1, max_length=64)]
    items: Annotated[list[ManualItemAsked], Field(min_length=1, max_length=100)]
    reason: Reason


class ManualItemAnswer(Answer):
    """One item of a manual charge."""

    code: str
    text: str
    quantity: int
    unit_fen: Fen


class ManualProposalAnswer(Answer):
    """A manual charge that is proposed; `decided`: it has been approved and posted."""

    proposal_id: str
    booking_id: str
    host_id: str
    items: list[ManualItemAnswer]
    total_fen: Fen
    reason: str
    prepared_by: str
    prepared_at: Instant
    decided: bool
