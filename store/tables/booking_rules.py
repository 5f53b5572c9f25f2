"""What decides about bookings beside the calendar: approval, qualification, strikes, consent, codes at the instrument.

Grants, strikes and wrong codes are facts and append-only; what is taken back is taken back by a later row. Proposals
and claims are answered once.
"""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, Index
from sqlalchemy.orm import Mapped

from store.database import Base
from store.tables.columns import TextKey, one_of, refers_to


class QualificationState(StrEnum):
    """What a fact about a person's training says from its instant on."""

    GRANTED = "granted"
    REVOKED = "revoked"


class StrikeEffect(StrEnum):
    """What follows from too many strikes: every booking waits for the manager, or none is taken."""

    APPROVAL = "approval"
    BLOCKED = "blocked"


class ProposalKind(StrEnum):
    """Why somebody has to agree: another slot, a slot after an outage, a booking made on the payer's behalf."""

    RESCHEDULE = "reschedule"
    DISPLACED = "displaced"
    ON_BEHALF = "on_behalf"


class ProposalState(StrEnum):
    """A proposal is answered once, or its time runs out."""

    OPEN = "open"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


class ClaimState(StrEnum):
    """A manager says whose use it was; that firm answers once."""

    OPEN = "open"
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"


class BookingPolicy(Base):
    """How bookings of one instrument are approved where its manager approves them. Without a row: never by itself.

    `auto_up_to_minutes` 0: length alone confirms nothing. `auto_needs_both`: qualified and short, not one of them.
    """

    __tablename__ = "booking_policy"
    instrument_id: Mapped[str] = refers_to("instrument.instrument_id", primary_key=True)
    auto_qualified: Mapped[bool]
    auto_up_to_minutes: Mapped[int]
    auto_needs_both: Mapped[bool]
    needs_qualification: Mapped[bool]
    needs_code: Mapped[bool]
    set_by: Mapped[str]
    set_at: Mapped[datetime]
    row_version: Mapped[int]
    __table_args__ = (CheckConstraint("auto_up_to_minutes >= 0", name="minutes_not_negative"),)


class StrikePolicy(Base):
    """How many no-shows in how many days a host puts up with, and what follows for how long."""

    __tablename__ = "strike_policy"
    host_id: Mapped[str] = refers_to("host.host_id", primary_key=True)
    strikes: Mapped[int]
    window_days: Mapped[int]
    effect: Mapped[str]
    effect_days: Mapped[int]
    set_by: Mapped[str]
    set_at: Mapped[datetime]
    row_version: Mapped[int]
    __table_args__ = (
        one_of("effect", StrikeEffect),
        CheckConstraint("strikes >= 1 AND window_days >= 1 AND effect_days >= 1", name="counts_positive"),
    )


class QualificationEvent(Base):
    """A person was trained on an instrument, or is no longer taken as trained. The newest row speaks."""

    __tablename__ = "qualification_event"
    event_id: Mapped[TextKey]
    instrument_id: Mapped[str] = refers_to("instrument.instrument_id")
    person_id: Mapped[str] = refers_to("person.person_id", index=True)
    state: Mapped[str]
    training: Mapped[str]
    expires_at: Mapped[datetime | None]
    recorded_by: Mapped[str] = refers_to("person.person_id")
    recorded_at: Mapped[datetime]
    __table_args__ = (one_of("state", QualificationState), Index(None, "instrument_id", "person_id"))


class Strike(Base):
    """A firm did not come to a booking, witnessed by the meter or the missing check-in."""

    __tablename__ = "strike"
    booking_id: Mapped[str] = refers_to("booking.booking_id", primary_key=True)
    host_id: Mapped[str] = refers_to("host.host_id")
    org_id: Mapped[str] = refers_to("org.org_id", index=True)
    at: Mapped[datetime]
    __table_args__ = (Index(None, "host_id", "org_id"),)


class StrikeLift(Base):
    """A strike does not count any more, and why."""

    __tablename__ = "strike_lift"
    booking_id: Mapped[str] = refers_to("strike.booking_id", primary_key=True)
    reason: Mapped[str]
    lifted_by: Mapped[str]
    lifted_at: Mapped[datetime]
    __table_args__ = (CheckConstraint("reason <> ''", name="says_why"),)


class BookingItem(Base):
    """A test item that was ordered with a booking, and on how many samples."""

    __tablename__ = "booking_item"
    booking_id: Mapped[str] = refers_to("booking.booking_id", primary_key=True)
    test_item_id: Mapped[str] = refers_to("test_item.test_item_id", primary_key=True, index=True)
    samples: Mapped[int]
    __table_args__ = (CheckConstraint("samples >= 0", name="samples_not_negative"),)


class BookingProposal(Base):
    """One side proposes a slot (with its price, frozen like a booking's); the other answers before it expires."""

    __tablename__ = "booking_proposal"
    proposal_id: Mapped[TextKey]
    booking_id: Mapped[str] = refers_to("booking.booking_id", index=True)
    kind: Mapped[str]
    state: Mapped[str]
    by_party: Mapped[str]
    proposed_by: Mapped[str]
    slot_from: Mapped[datetime]
    slot_to: Mapped[datetime]
    tariff_id: Mapped[str]
    tariff_version: Mapped[int]
    category: Mapped[str]
    quote: Mapped[str]
    quote_sha256: Mapped[str]
    total_fen: Mapped[int]
    difference_fen: Mapped[int]
    reason: Mapped[str]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    answered_by: Mapped[str | None]
    answered_at: Mapped[datetime | None]
    answer_note: Mapped[str]
    row_version: Mapped[int]
    __table_args__ = (
        one_of("kind", ProposalKind),
        one_of("state", ProposalState),
        CheckConstraint("slot_to > slot_from", name="slot_runs_forward"),
        CheckConstraint("(state = 'open') = (answered_at IS NULL)", name="answered_once"),
    )


class CheckInCode(Base):
    """A code that proves presence at an instrument: the one posted there, or a short one for a single use."""

    __tablename__ = "check_in_code"
    code_id: Mapped[TextKey]
    instrument_id: Mapped[str] = refers_to("instrument.instrument_id", index=True)
    one_time: Mapped[bool]
    code_sha256: Mapped[str]
    issued_by: Mapped[str] = refers_to("person.person_id")
    issued_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    used_for: Mapped[str | None] = refers_to("booking.booking_id")


class WrongCode(Base):
    """Somebody gave a code that is not the instrument's."""

    __tablename__ = "wrong_code"
    attempt_id: Mapped[TextKey]
    booking_id: Mapped[str] = refers_to("booking.booking_id", index=True)
    person_id: Mapped[str] = refers_to("person.person_id")
    at: Mapped[datetime]


class UseClaim(Base):
    """A manager says that use without a booking was a firm's; nothing is billed before that firm confirms it.

    The use is named by its session and start, as `unbooked_use` has it.
    """

    __tablename__ = "use_claim"
    claim_id: Mapped[TextKey]
    session_id: Mapped[str] = refers_to("usage_session.session_id", index=True)
    from_at: Mapped[datetime]
    instrument_id: Mapped[str] = refers_to("instrument.instrument_id")
    host_id: Mapped[str] = refers_to("host.host_id", index=True)
    payer_org: Mapped[str] = refers_to("org.org_id", index=True)
    state: Mapped[str]
    tariff_id: Mapped[str]
    tariff_version: Mapped[int]
    category: Mapped[str]
    quote: Mapped[str]
    quote_sha256: Mapped[str]
    total_fen: Mapped[int]
    note: Mapped[str]
    proposed_by: Mapped[str] = refers_to("person.person_id")
    proposed_at: Mapped[datetime]
    answered_by: Mapped[str | None]
    answered_at: Mapped[datetime | None]
    answer_note: Mapped[str]
    booking_id: Mapped[str | None] = refers_to("booking.booking_id")
    row_version: Mapped[int]
    __table_args__ = (
        one_of("state", ClaimState),
        CheckConstraint("(state = 'open') = (answered_at IS NULL)", name="answered_once"),
        CheckConstraint("(state = 'confirmed') = (booking_id IS NOT NULL)", name="confirmed_makes_a_booking"),
    )
