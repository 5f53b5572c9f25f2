"""Bookings and the calendar they stand in, what the worker still has to do, and whose use was whose."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from store.database import Base
from store.tables.columns import IntegerKey, TextKey, one_of, refers_to


class CalendarKind(StrEnum):
    """Why an instrument is taken."""

    BOOKING = "booking"
    OUTAGE = "outage"
    RESERVATION = "reservation"


class BookingMode(StrEnum):
    """Self-operated: the client comes to the instrument. Samples: the client sends samples, the lab schedules them."""

    SELF_OPERATED = "self_operated"
    SAMPLES = "samples"


class BookingState(StrEnum):
    """Where a booking stands; the transitions are in api/booking/states.py."""

    REQUESTED = "requested"
    CONFIRMED = "confirmed"
    CHECKED_IN = "checked_in"
    SAMPLES_RECEIVED = "samples_received"
    SCHEDULED = "scheduled"
    IN_USE = "in_use"
    COMPLETED = "completed"
    RESULTS_CONFIRMED = "results_confirmed"
    REPORTED = "reported"
    CLOSED = "closed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    NO_SHOW = "no_show"


class UsePurpose(StrEnum):
    """For whom an instrument ran; only a customer's use is charged."""

    CUSTOMER = "customer"
    INTERNAL = "internal"
    MAINTENANCE = "maintenance"


class DueKind(StrEnum):
    """What the worker has to do about one subject; repeating it is harmless."""

    MATCH_SESSION = "match_session"
    COMPLETE_BOOKING = "complete_booking"
    CHARGE_BOOKING = "charge_booking"
    EXPIRE_BOOKING = "expire_booking"
    EXPIRE_PROPOSAL = "expire_proposal"
    CHECKIN = "checkin"
    CHORE = "chore"


class CalendarRow(Base):
    """An instrument is taken in [from_at, to_at), buffer included. No two active rows of one instrument overlap:
    an exclusion constraint (PostgreSQL) or a trigger (SQLite) refuses the second one."""

    __tablename__ = "calendar_row"
    row_id: Mapped[TextKey]
    instrument_id: Mapped[str] = refers_to("instrument.instrument_id")
    kind: Mapped[str]
    from_at: Mapped[datetime]
    to_at: Mapped[datetime]
    active: Mapped[bool]
    note: Mapped[str]
    created_by: Mapped[str]
    created_at: Mapped[datetime]
    __table_args__ = (
        one_of("kind", CalendarKind),
        CheckConstraint("to_at > from_at", name="runs_forward"),
        # By its end: what lies ahead is found without a look at the years behind.
        Index(None, "instrument_id", "to_at"),
        # Who is taken at an instant, over all instruments: past rows, however many, are not looked at.
        Index(
            "ix_calendar_row_busy",
            *("to_at", "from_at", "instrument_id"),
            sqlite_where=text("active = 1"),
            postgresql_where=text("active"),
        ),
    )


class Booking(Base):
    """The unit of charge. The slot is what was promised; the tariff version and the quote are frozen with it."""

    __tablename__ = "booking"
    booking_id: Mapped[TextKey]
    instrument_id: Mapped[str] = refers_to("instrument.instrument_id")
    host_id: Mapped[str] = refers_to("host.host_id", index=True)
    mode: Mapped[str]
    purpose: Mapped[str]
    payer_org: Mapped[str] = refers_to("org.org_id", index=True)
    person_id: Mapped[str] = refers_to("person.person_id")
    state: Mapped[str]
    slot_from: Mapped[datetime]
    slot_to: Mapped[datetime]
    calendar_row_id: Mapped[str | None] = refers_to("calendar_row.row_id", unique=True)
    tariff_id: Mapped[str] = refers_to("tariff.tariff_id")
    tariff_version: Mapped[int]
    category: Mapped[str]
    quantity: Mapped[int]
    confirmed_quantity: Mapped[int | None]
    quote: Mapped[str]
    quote_sha256: Mapped[str]
    checked_in_at: Mapped[datetime | None]
    checked_out_at: Mapped[datetime | None]
    held_until: Mapped[datetime | None]
    note: Mapped[str]
    created_at: Mapped[datetime]
    row_version: Mapped[int]
    needed_by: Mapped[datetime | None]
    __table_args__ = (
        one_of("mode", BookingMode),
        one_of("purpose", UsePurpose),
        one_of("state", BookingState),
        CheckConstraint("slot_to > slot_from", name="slot_runs_forward"),
        CheckConstraint("quantity >= 0", name="quantity_not_negative"),
        Index(None, "instrument_id", "slot_from"),
        Index("ix_booking_state_slot_to", "state", "slot_to"),
    )


class BookingEvent(Base):
    """One transition of a booking: who, when, from which state to which, and why. `facts` is canonical JSON of what was
    said with it: samples received, quantity confirmed, number, date and file hash of the report."""

    __tablename__ = "booking_event"
    booking_id: Mapped[str] = refers_to("booking.booking_id", primary_key=True)
    event_no: Mapped[IntegerKey]
    at: Mapped[datetime]
    actor: Mapped[str]
    from_state: Mapped[str]
    to_state: Mapped[str]
    reason: Mapped[str]
    facts: Mapped[str] = mapped_column(default="{}")


class BookingUse(Base):
    """The part of a session that was used under a booking, split by the odometers at the boundary, never by guess."""

    __tablename__ = "booking_use"
    session_id: Mapped[str] = refers_to("usage_session.session_id", primary_key=True)
    booking_id: Mapped[str] = refers_to("booking.booking_id", primary_key=True, index=True)
    from_at: Mapped[datetime]
    to_at: Mapped[datetime]
    running_ms: Mapped[int]
    unknown_ms: Mapped[int]
    matched_at: Mapped[datetime]
    __table_args__ = (
        CheckConstraint("to_at >= from_at", name="runs_forward"),
        CheckConstraint("running_ms >= 0 AND unknown_ms >= 0", name="not_negative"),
    )


class UnbookedUse(Base):
    """The part of a session that no booking claims; waits until the lab manager says whose it was."""

    __tablename__ = "unbooked_use"
    session_id: Mapped[str] = refers_to("usage_session.session_id", primary_key=True)
    from_at: Mapped[datetime] = mapped_column(primary_key=True)
    instrument_id: Mapped[str] = refers_to("instrument.instrument_id", index=True)
    to_at: Mapped[datetime]
    running_ms: Mapped[int]
    unknown_ms: Mapped[int]
    found_at: Mapped[datetime]
    purpose: Mapped[str | None]
    classified_by: Mapped[str | None]
    classified_at: Mapped[datetime | None]
    __table_args__ = (one_of("purpose", UsePurpose), CheckConstraint("to_at >= from_at", name="runs_forward"))


class Due(Base):
    """Work waiting for the worker. A row leaves in the transaction that did the work; of a chore it is put off.

    The kinds are not listed by the database: a worker that does not know one says so and leaves it to a newer one.
    """

    __tablename__ = "due"
    kind: Mapped[TextKey]
    subject_id: Mapped[TextKey]
    due_at: Mapped[datetime]
    attempts: Mapped[int]
    last_error: Mapped[str]
    __table_args__ = (Index(None, "due_at"),)
