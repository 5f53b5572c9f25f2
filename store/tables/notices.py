"""What people are told, what is sent to them by e-mail, what they want of it, and their private calendar addresses."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from store.database import Base
from store.tables.columns import TextKey, one_of, refers_to


class NoticeParty(StrEnum):
    """As what somebody is told: member of the firm that books and pays, manager of a host concerned, county officer, or
    because it is about themselves or what they asked for. The text differs, and only host and county read a firm's
    name. Of bookings the first two hear."""

    CUSTOMER = "customer"
    MANAGER = "manager"
    COUNTY = "county"
    PERSON = "person"


class MailSource(StrEnum):
    """What an e-mail is made of: a row of `notice`, or of `letter`."""

    NOTICE = "notice"
    LETTER = "letter"


class MailState(StrEnum):
    """How far an e-mail is. `dropped`: it is about nothing any more, or nobody is there; `given_up`: see last_error."""

    WAITING = "waiting"
    SENT = "sent"
    DROPPED = "dropped"
    GIVEN_UP = "given_up"


class Notice(Base):
    """One event for one person: of a booking, or (another matter) of an audit chain. `facts` are what the text of a
    booking's event is made of when it is read; what a matter says is read from its audit event. It holds no text."""

    __tablename__ = "notice"
    notice_id: Mapped[TextKey]
    person_id: Mapped[str] = refers_to("person.person_id")
    party: Mapped[str]
    kind: Mapped[str]
    booking_id: Mapped[str | None] = refers_to("booking.booking_id")
    event_no: Mapped[int | None]
    chain_id: Mapped[str | None]
    seq: Mapped[int | None]
    facts: Mapped[str]
    at: Mapped[datetime]
    read_at: Mapped[datetime | None]
    __table_args__ = (
        one_of("party", NoticeParty),
        CheckConstraint(
            "(booking_id IS NULL) = (event_no IS NULL) AND (chain_id IS NULL) = (seq IS NULL)"
            " AND (booking_id IS NULL) <> (chain_id IS NULL)",
            name="of_one_event",
        ),
        UniqueConstraint("booking_id", "event_no", "person_id"),
        Index(
            "uq_notice_matter",
            *("chain_id", "seq", "person_id"),
            unique=True,
            sqlite_where=text("chain_id IS NOT NULL"),
            postgresql_where=text("chain_id IS NOT NULL"),
        ),
        Index(None, "person_id", "notice_id"),
        # The number on the bell: what was read, however much, is not looked at.
        Index(
            "ix_notice_unread",
            *("person_id", "notice_id"),
            sqlite_where=text("read_at IS NULL"),
            postgresql_where=text("read_at IS NULL"),
        ),
    )


class Mail(Base):
    """The outbox: one row an e-mail, written with its cause, taken by a sender for a while (`next_at`), then marked.

    Holds no address, text or secret: those are made when it is sent. `written_at` is the clock of its cause, the other
    times are real time.
    """

    __tablename__ = "mail"
    source: Mapped[TextKey]
    source_id: Mapped[TextKey]
    state: Mapped[str]
    written_at: Mapped[datetime]
    next_at: Mapped[datetime]
    attempts: Mapped[int]
    last_error: Mapped[str]
    ended_at: Mapped[datetime | None]
    __table_args__ = (
        one_of("source", MailSource),
        one_of("state", MailState),
        CheckConstraint("(state = 'waiting') = (ended_at IS NULL)", name="ended_at_an_instant"),
        Index(
            "ix_mail_waiting",
            "next_at",
            sqlite_where=text("state = 'waiting'"),
            postgresql_where=text("state = 'waiting'"),
        ),
    )


class NoticePreference(Base):
    """What a person wants to hear. `without_email`: kinds that are not mailed, as a JSON list; no row means all are.

    `firm_bookings`: also of bookings that somebody else of the firm made.
    """

    __tablename__ = "notice_preference"
    person_id: Mapped[str] = refers_to("person.person_id", primary_key=True)
    without_email: Mapped[str]
    firm_bookings: Mapped[bool]
    row_version: Mapped[int]


class CalendarFeed(Base):
    """A private calendar address of a person: their own bookings, or one instrument as they may see it."""

    __tablename__ = "calendar_feed"
    feed_id: Mapped[TextKey]
    person_id: Mapped[str] = refers_to("person.person_id", index=True)
    instrument_id: Mapped[str | None] = refers_to("instrument.instrument_id", index=True)
    name: Mapped[str]
    token_sha256: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    row_version: Mapped[int]
