"""Cards that people check in with at a reader: whose card it is, since when and until when, and what each reading did.

A number never comes here, only its keyed hash as the reader made it. All three tables are append-only: a card is taken
back by a later row, and a reading is judged once.
"""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, UniqueConstraint
from sqlalchemy.orm import Mapped

from store.database import Base
from store.tables.columns import IntegerKey, TextKey, one_of, refers_to


class ReadingOutcome(StrEnum):
    """What became of a reading. From the third on nothing was done, and somebody is told."""

    CHECKED_IN = "checked_in"
    CHECKED_OUT = "checked_out"
    UNKNOWN_CARD = "unknown_card"
    CARD_NOT_VALID = "card_not_valid"
    CLOCK_NOT_TRUSTED = "clock_not_trusted"
    NO_BOOKING = "no_booking"
    BAD_RECORD = "bad_record"


class AccessCard(Base):
    """A card is a person's at the instruments of one host, or ('') of the whole county. `issue_no` counts how often a
    card was issued there: two that issue it at once cannot both succeed."""

    __tablename__ = "access_card"
    card_id: Mapped[TextKey]
    card_sha256: Mapped[str]
    host_scope: Mapped[str]
    issue_no: Mapped[int]
    person_id: Mapped[str] = refers_to("person.person_id", index=True)
    label: Mapped[str]
    valid_from: Mapped[datetime]
    valid_to: Mapped[datetime | None]
    issued_by: Mapped[str] = refers_to("person.person_id")
    issued_at: Mapped[datetime]
    __table_args__ = (
        UniqueConstraint("card_sha256", "host_scope", "issue_no"),
        CheckConstraint("issue_no >= 1", name="issue_no_from_one"),
        CheckConstraint("valid_to IS NULL OR valid_to > valid_from", name="runs_forward"),
    )


class CardRevocation(Base):
    """A card was taken back, and why: it counts no more from then on."""

    __tablename__ = "card_revocation"
    card_id: Mapped[str] = refers_to("access_card.card_id", primary_key=True)
    reason: Mapped[str]
    revoked_by: Mapped[str] = refers_to("person.person_id")
    revoked_at: Mapped[datetime]
    __table_args__ = (CheckConstraint("reason <> ''", name="says_why"),)


class CardReading(Base):
    """What a `checkin` record of the ledger came to. `at` is when the card was held to the reader, by its clock."""

    __tablename__ = "card_reading"
    agent_id: Mapped[TextKey]
    stream: Mapped[TextKey]
    seq: Mapped[IntegerKey]
    instrument_id: Mapped[str | None] = refers_to("instrument.instrument_id")
    host_id: Mapped[str] = refers_to("host.host_id")
    card_sha256: Mapped[str]
    card_id: Mapped[str | None] = refers_to("access_card.card_id")
    said: Mapped[str]
    at: Mapped[datetime]
    outcome: Mapped[str]
    booking_id: Mapped[str | None] = refers_to("booking.booking_id")
    detail: Mapped[str]
    judged_at: Mapped[datetime]
    __table_args__ = (
        ForeignKeyConstraint(
            ["agent_id", "stream", "seq"],
            ["usage_record.agent_id", "usage_record.stream", "usage_record.seq"],
            ondelete="RESTRICT",
        ),
        one_of("outcome", ReadingOutcome),
        CheckConstraint("(booking_id IS NOT NULL) = (outcome IN ('checked_in', 'checked_out'))", name="says_which"),
        Index(None, "host_id", "judged_at"),
    )
