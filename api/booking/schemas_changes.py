"""What the endpoints of changes take and give: proposals, reservations, codes, and use that nobody booked."""

from typing import Annotated

from pydantic import Field

from api.schemas import Answer, Fen, Instant, Question
from store.tables.booking_rules import ClaimState, ProposalKind, ProposalState
from store.tables.calendar import CalendarKind, UsePurpose

Id = Annotated[str, Field(min_length=1, max_length=64)]
Reason = Annotated[str, Field(min_length=1, max_length=2000)]
Hash = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]


class SlotAsked(Question):
    """Another slot for a booking, and why. A customer names the hash of its price where that differs."""

    slot_from: Instant
    slot_to: Instant
    reason: Reason
    quote_sha256: Hash = ""


class AnswerAsked(Question):
    """The other side's answer. `quote_sha256` names the price that is agreed to, where it differs."""

    accept: bool
    note: Annotated[str, Field(max_length=2000)] = ""
    quote_sha256: Hash = ""


class ProposalAnswer(Answer):
    """A proposal: the slot, its price, and how that differs from what the booking holds. Open until `expires_at`."""

    proposal_id: str
    booking_id: str
    kind: ProposalKind
    state: ProposalState
    by_party: str
    proposed_by: str
    slot_from: Instant
    slot_to: Instant
    tariff_version: int
    quote_sha256: str
    total_fen: Fen
    difference_fen: Fen
    reason: str
    created_at: Instant
    expires_at: Instant
    answered_by: str | None
    answered_at: Instant | None
    answer_note: str
    row_version: int


class ReservationAsked(Question):
    """Time that the host keeps for itself, and what for."""

    from_at: Instant
    to_at: Instant
    note: Reason


class EndAsked(Question):
    """Why it ends now."""

    reason: Reason


class ClosureAnswer(Answer):
    """An outage or a reservation. `active` false: it ended before it began."""

    row_id: str
    instrument_id: str
    kind: CalendarKind
    from_at: Instant
    to_at: Instant
    active: bool
    note: str
    created_by: str
    created_at: Instant


class CodeAsked(Question):
    """Which kind of code: for one check-in within 10 minutes, or one to post beside the instrument."""

    one_time: bool = True


class CodeAnswer(Answer):
    """A fresh code. It is shown this once; a repeat of the request shows null."""

    code_id: str
    code: str | None
    expires_at: Instant | None


class CodeGiven(Question):
    """The code that is at the instrument."""

    code: Annotated[str, Field(min_length=1, max_length=20)]


class UnbookedUseAnswer(Answer):
    """Use that no booking claims; name it by its session and `from_at`."""

    session_id: str
    instrument_id: str
    from_at: Instant
    to_at: Instant
    running_ms: int
    unknown_ms: int
    found_at: Instant
    purpose: UsePurpose | None
    classified_by: str | None
    classified_at: Instant | None


class UseNamed(Question):
    """Which use: its session and the start of the part that nobody booked."""

    session_id: Id
    from_at: Instant


class ClassifyAsked(UseNamed):
    """The host's own use, or maintenance; and what is known of it."""

    purpose: UsePurpose
    note: Reason


class ClaimAsked(UseNamed):
    """The firm whose use it was, and what is known of it."""

    payer_org: Id
    note: Reason


class ClaimAnswered(Question):
    """The firm's answer: confirmed with the hash of its price, or refused with a reason."""

    confirm: bool
    quote_sha256: Hash = ""
    reason: Annotated[str, Field(max_length=2000)] = ""


class ClaimAnswer(Answer):
    """Use that was put to a firm. `total_fen` is the price by what was metered; `booking_id` once it is confirmed."""

    claim_id: str
    session_id: str
    from_at: Instant
    instrument_id: str
    host_id: str
    payer_org: str
    state: ClaimState
    tariff_version: int
    quote_sha256: str
    total_fen: Fen
    note: str
    proposed_by: str
    proposed_at: Instant
    answered_by: str | None
    answered_at: Instant | None
    answer_note: str
    booking_id: str | None
    row_version: int
