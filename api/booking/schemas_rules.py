"""What the endpoints of booking rules take and give: approval, strikes, and who is trained."""

from typing import Annotated, Self

from pydantic import Field

from api.booking.approval import ApprovalRule
from api.booking.strikes import Probation, StrikeRule
from api.schemas import Answer, Instant, Question
from store.tables.booking_rules import QualificationState, Strike, StrikeEffect, StrikeLift
from store.tables.registry import Approval

Id = Annotated[str, Field(min_length=1, max_length=64)]
Reason = Annotated[str, Field(min_length=1, max_length=2000)]
Days = Annotated[int, Field(ge=1, le=3660)]


class ApprovalAsked(Question):
    """How an instrument's bookings are approved. With `approval` manager, what fits the rule still confirms itself."""

    approval: Approval
    auto_qualified: bool = Field(False, description="Bookings of qualified people confirm themselves")
    auto_up_to_minutes: Annotated[int, Field(ge=0, le=132_480)] = Field(
        0, description="Slots up to this length confirm themselves; 0: not by length"
    )
    auto_needs_both: bool = Field(False, description="Only slots that are short and of a qualified person")
    needs_qualification: bool = Field(False, description="Only qualified people book it for themselves")
    needs_code: bool = Field(False, description="Customers check in with the code at the instrument")

    def rule(self) -> ApprovalRule:
        """Return it as the service takes it."""
        return ApprovalRule(**self.model_dump())


class ApprovalAnswer(Answer):
    """The rule that holds. `row_version` 0: nobody has set one yet."""

    instrument_id: str
    approval: Approval
    auto_qualified: bool
    auto_up_to_minutes: int
    auto_needs_both: bool
    needs_qualification: bool
    needs_code: bool
    row_version: int

    @classmethod
    def of(cls, instrument_id: str, rule: ApprovalRule) -> Self:
        """Show a rule."""
        return cls(instrument_id=instrument_id, **vars(rule))


class StrikeRuleAsked(Question):
    """So many no-shows within so many days have an effect for so many days."""

    strikes: Annotated[int, Field(ge=1, le=1000)]
    window_days: Days
    effect: StrikeEffect
    effect_days: Days

    def rule(self) -> StrikeRule:
        """Return it as the service takes it."""
        return StrikeRule(**self.model_dump())


class StrikeRuleAnswer(Answer):
    """The rule that holds at a host. `row_version` 0: the default."""

    host_id: str
    strikes: int
    window_days: int
    effect: StrikeEffect
    effect_days: int
    row_version: int

    @classmethod
    def of(cls, host_id: str, rule: StrikeRule) -> Self:
        """Show a rule."""
        return cls(host_id=host_id, **vars(rule))


class StrikeAnswer(Answer):
    """A no-show that counts, unless it was lifted."""

    booking_id: str
    host_id: str
    org_id: str
    at: Instant
    lifted_by: str | None = None
    lifted_at: Instant | None = None
    lift_reason: str = ""

    @classmethod
    def of(cls, strike: Strike, lift: StrikeLift | None) -> Self:
        """Show a strike with its lift."""
        return cls(
            booking_id=strike.booking_id,
            host_id=strike.host_id,
            org_id=strike.org_id,
            at=strike.at,
            lifted_by=None if lift is None else lift.lifted_by,
            lifted_at=None if lift is None else lift.lifted_at,
            lift_reason="" if lift is None else lift.reason,
        )


class LiftAsked(Question):
    """Why a strike does not count."""

    reason: Reason


class ProbationAnswer(Answer):
    """What a firm's strikes mean at a host now; `effect` null: nothing."""

    host_id: str
    org_id: str
    effect: StrikeEffect | None
    until: Instant | None
    strikes: int

    @classmethod
    def of(cls, host_id: str, org_id: str, found: Probation | None) -> Self:
        """Show it."""
        if found is None:
            return cls(host_id=host_id, org_id=org_id, effect=None, until=None, strikes=0)
        return cls(host_id=host_id, org_id=org_id, effect=found.effect, until=found.until, strikes=found.strikes)


class GrantAsked(Question):
    """Which training it rests on, and until when it counts (null: without end)."""

    training: Reason
    expires_at: Instant | None = None


class RevokeAsked(Question):
    """Why it is taken back."""

    reason: Reason


class QualificationAnswer(Answer):
    """The newest fact about a person on an instrument. `qualified`: whether it counts now."""

    event_id: str
    instrument_id: str
    person_id: str
    state: QualificationState
    training: str
    expires_at: Instant | None
    recorded_by: str
    recorded_at: Instant
    qualified: bool = False
