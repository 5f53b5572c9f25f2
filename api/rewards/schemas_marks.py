"""What the endpoints of marks take and give."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from api.rewards.marks import MarkSeen
from api.schemas import Answer, Instant, Question
from store.tables.rewards import MarkCode

Evidence = Annotated[str, Field(min_length=1, max_length=2000)]
FileHash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="sha256 of a file that shows it")]
Id = Annotated[str, Field(min_length=1, max_length=64)]


class MarkAsked(Question):
    """What keeps the fees of a booking out, and what it rests on. Name the booking, or one of its charges."""

    code: MarkCode
    evidence: Evidence
    evidence_sha256: FileHash | None = None
    booking_id: Id | None = None
    charge_id: Id | None = None

    @model_validator(mode="after")
    def _one_booking(self) -> Self:
        if (self.booking_id is None) == (self.charge_id is None):
            raise ValueError("give either booking_id or charge_id")
        return self


class MarkWithdrawalAsked(Question):
    """What shows that a mark does not hold."""

    evidence: Evidence
    evidence_sha256: FileHash | None = None


class MarkAnswer(Answer):
    """A mark, or the withdrawal of one (`withdraws`). `approved` is null while nobody has decided; `stands`: it was
    approved and is not withdrawn."""

    mark_id: str
    booking_id: str
    code: MarkCode
    withdraws: str | None
    evidence: str
    evidence_sha256: str | None
    prepared_by: str
    prepared_at: Instant
    approved: bool | None
    note: str
    decided_by: str | None
    decided_at: Instant | None
    stands: bool

    @staticmethod
    def of(seen: MarkSeen) -> "MarkAnswer":
        """A mark as it stands."""
        row, decided = seen.mark, seen.decision
        own = {key: getattr(row, key) for key in MarkAnswer.model_fields if hasattr(row, key)}
        if decided is None:
            return MarkAnswer(**own, approved=None, note="", decided_by=None, decided_at=None, stands=seen.stands)
        given = {key: getattr(decided, key) for key in ("approved", "note", "decided_by", "decided_at")}
        return MarkAnswer(**own, **given, stands=seen.stands)
