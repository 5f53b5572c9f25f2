"""Builders for bookings: a host with instruments and prices, two firms, their people, and units of work for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.booking.rules import BookingRequest
from api.booking.service import create_booking
from api.booking.slots import Interval
from api.booking.states import BookingAction
from api.booking.steps import StepInput, perform
from api.charging.tariff_body import CountUnit, Prices, TariffBody, TimePrice, TimeUnit, UnitPrice, canonical_body
from api.work import Actor, Work, system_actor
from store.canonical import sha256_hex
from store.database import Database
from store.ledger import commit_usage
from store.tables.accounts import Person, Role, RoleGrant
from store.tables.calendar import Booking, BookingMode, CalendarRow, Due
from store.tables.charging import Tariff, TariffVersion
from store.tables.registry import Certificate, Instrument, Metering, Org
from tests.support.usage import LONG_AGO, StreamWriter, add_registry
from wire.clock import ManualClock, from_ms

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)

BY_THE_HALF_HOUR = TariffBody(
    default=Prices(time=TimePrice(per=TimeUnit.HOUR, unit_fen=40_000, step_s=1800), setup_fen=5_000)
)
BY_THE_SAMPLE = TariffBody(default=Prices(unit=UnitPrice(per=CountUnit.SAMPLE, unit_fen=26_000)))


@dataclass
class Office:
    """A small county over a test's database: host `h01`, its manager, firms `org-a` and `org-b` with a person each."""

    database: Database
    clock: ManualClock
    instruments: list[str] = field(default_factory=list)

    @property
    def instrument(self) -> str:
        return self.instruments[0]

    @property
    def now(self) -> datetime:
        return from_ms(self.clock.now_ms())

    @contextmanager
    def work(self, actor: Actor) -> Iterator[Work]:
        """One unit of work of somebody, committed at the end."""
        with self.database.write() as session:
            yield Work(session, actor, self.now)

    def slot(self, start_h: float = 1.0, hours: float = 1.0) -> Interval:
        """A slot that starts so many hours from now."""
        return Interval(self.now + start_h * HOUR, self.now + (start_h + hours) * HOUR)

    def book(self, actor: Actor, slot: Interval | None = None, **changes: Any) -> str:
        """Book as somebody; return the booking's id."""
        asked: dict[str, Any] = {
            "instrument_id": self.instrument,
            "mode": BookingMode.SELF_OPERATED,
            "slot": slot or self.slot(),
        }
        with self.work(actor) as work:
            booking, _ = create_booking(work, BookingRequest(**(asked | changes)))
            return booking.booking_id

    def do(self, actor: Actor, booking_id: str, action: BookingAction, **said: Any) -> Booking:
        """Take a step as somebody."""
        with self.work(actor) as work:
            return perform(work, booking_id, action, StepInput(**said), None)

    def booking(self, booking_id: str) -> Booking:
        """Return the booking as it is stored."""
        with self.database.read() as session:
            return session.get_one(Booking, booking_id)

    def all_of(self, table: Any) -> list[Any]:
        """Return every row of a table."""
        with self.database.read() as session:
            return list(session.scalars(select(table)))

    def all_of_due(self) -> list[Due]:
        """Return what waits for the worker."""
        return self.all_of(Due)

    def active_rows(self) -> list[CalendarRow]:
        """Return the calendar rows that hold time."""
        return sorted((row for row in self.all_of(CalendarRow) if row.active), key=lambda row: row.from_at)

    def change_instrument(self, **columns: Any) -> None:
        """Set columns of the first instrument."""
        with self.database.write() as session:
            row = session.get_one(Instrument, self.instrument)
            for name, value in columns.items():
                setattr(row, name, value)

    def moved(self) -> str:
        """From now on the second instrument's agent speaks for the first one; return that agent."""
        agent = f"a-{self.instruments[1]}"
        with self.database.write() as session:
            before = session.get_one(Metering, (self.instrument, LONG_AGO))
            values = {column.key: getattr(before, column.key) for column in Metering.__table__.columns}
            session.add(Metering(**(values | {"agent_id": agent, "effective_at": self.now})))
        return agent

    def record(self, writer: StreamWriter, received_ms: int | None = None) -> None:
        """Let the ledger take what a meter wrote: now, or (of a meter that wrote into the future) at another time."""
        with self.database.write() as session:
            commit_usage(session, writer.arrivals(), received_ms or self.clock.now_ms(), "test")

    def advance(self, moment: timedelta) -> None:
        """Let time pass."""
        self.clock.advance(moment // timedelta(milliseconds=1))


def firm(letter: str) -> Actor:
    """The person of firm `org-a`, `org-b`."""
    return Actor(f"p-{letter}", f"Person {letter}", f"org-{letter}", frozenset({Role.SME}), frozenset())


MANAGER = Actor("p-m", "Manager", "org-h01", frozenset({Role.LAB_MANAGER}), frozenset({"h01"}))
OTHER_MANAGER = Actor("p-o", "Other manager", "org-h02", frozenset({Role.LAB_MANAGER}), frozenset({"h02"}))
OFFICER = Actor("p-c", "Officer", "org-h01", frozenset({Role.COUNTY_OFFICER}), frozenset())
WORKER = system_actor("worker")
GRANTS = (
    ("p-a", Role.SME, ""),
    ("p-b", Role.SME, ""),
    ("p-m", Role.LAB_MANAGER, "h01"),
    ("p-c", Role.COUNTY_OFFICER, ""),
)
FIRM_A, FIRM_B = firm("a"), firm("b")


def open_office(database: Database, clock: ManualClock, tariff: TariffBody = BY_THE_HALF_HOUR) -> Office:
    """Fill a database with the office."""
    office = Office(database, clock)
    with database.write() as session:
        office.instruments = add_registry(session)
        for number, letter in enumerate(("a", "b"), start=1):
            session.add(_org(f"org-{letter}", f"91990000FIRM0000{number:02d}", "sme"))
        session.flush()
        for person, org in (("p-a", "org-a"), ("p-b", "org-b"), ("p-m", "org-h01"), ("p-c", "org-h01")):
            session.add(_person(person, org))
        session.flush()
        for person, role, host in GRANTS:
            grant = {"person_id": person, "role": role.value, "host_scope": host}
            session.add(RoleGrant(**grant, granted_by="system:test", granted_at=LONG_AGO))
        for instrument in office.instruments:
            add_tariff(session, instrument, tariff)
            session.add(_certificate(instrument))
    return office


def add_tariff(session: Session, instrument_id: str, body: TariffBody, valid_from: datetime = LONG_AGO) -> None:
    """Publish a tariff for an instrument, in force since long ago where nothing else is said."""
    document = canonical_body(body)
    session.add(Tariff(tariff_id=f"t-{instrument_id}", instrument_id=instrument_id, host_id="h01", created_at=LONG_AGO))
    session.flush()
    session.add(
        TariffVersion(
            tariff_id=f"t-{instrument_id}",
            version=1,
            valid_from=valid_from,
            body=document.decode(),
            body_sha256=sha256_hex(document),
            prepared_by="p-m",
            approved_by="p-c",
            published_at=LONG_AGO,
        )
    )
    session.flush()


def _org(org_id: str, uscc: str, kind: str) -> Org:
    return Org(
        org_id=org_id,
        uscc=uscc,
        kind=kind,
        state="active",
        name_zh="示例企业",
        name_en="Example firm",
        created_at=LONG_AGO,
        row_version=1,
    )


def _person(person_id: str, org_id: str) -> Person:
    return Person(
        person_id=person_id,
        login=person_id,
        name=person_id,
        org_id=org_id,
        password_hash=None,
        language="zh",
        active=True,
        created_at=LONG_AGO,
        row_version=1,
    )


def _certificate(instrument_id: str) -> Certificate:
    return Certificate(
        certificate_id=f"c-{instrument_id}",
        instrument_id=instrument_id,
        kind="calibration",
        number="C-1",
        body="Example institute",
        valid_from=LONG_AGO,
        valid_to=LONG_AGO + timedelta(days=730),
        recorded_by="test",
        recorded_at=LONG_AGO,
    )
