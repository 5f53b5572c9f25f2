"""A small county for charging tests: one host, its people and prices, customers, bookings and metered use.

Use is real: records as an agent writes them, committed to the usage ledger, with samples in a real series store.
Only the matching is done by hand here, because these tests say themselves whose use it was.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import delete
from sqlalchemy.orm import Session

from api.charging.documents import quote_document
from api.charging.rating import quote_input, rate
from api.charging.service import ChargeOutcome, charge_booking
from api.charging.tariff_body import Prices, TariffBody, TimePrice, TimeUnit, UserCategory
from api.charging.tariffs import publish_tariff, tariff_in_force
from api.work import Actor, Work, system_actor
from store.canonical import sha256_hex
from store.database import Database
from store.ledger import commit_usage
from store.series import Sample, SeriesStore, open_series
from store.series_sqlite import create_schema
from store.tables.accounts import Person, Role, RoleGrant
from store.tables.calendar import Booking, BookingMode, BookingState, BookingUse, Due, UsePurpose
from store.tables.registry import Certificate, Org
from store.tables.usage import UsageSession
from tests.support.usage import LONG_AGO, NINE, StreamWriter, add_registry
from wire.clock import from_ms
from wire.ids import new_ulid
from wire.messages import PowerState

HOST, INSTRUMENT, FIRM, OTHER_FIRM = "h01", "xc-h01-01", "org-firm", "org-other"
MINUTE = 60_000
HOURLY_400 = TariffBody(default=Prices(time=TimePrice(per=TimeUnit.HOUR, unit_fen=40_000, step_s=1800)))


def actor(name: str, *roles: Role, host: str = "", org: str = "org-h01") -> Actor:
    """Somebody of the little county."""
    return Actor(name, name, org, frozenset(roles), frozenset({host} if host else ()))


MANAGER = actor("manager", Role.LAB_MANAGER, host=HOST)
SECOND = actor("second", Role.LAB_MANAGER, host=HOST)
STRANGER = actor("stranger", Role.LAB_MANAGER, host="h02")
OFFICER = actor("officer", Role.COUNTY_OFFICER)
FINANCE = actor("finance", Role.FINANCE)
CUSTOMER = actor("customer", Role.SME, org=FIRM)
RIVAL = actor("rival", Role.SME, org=OTHER_FIRM)
WORKER = system_actor("worker")


@dataclass
class County:
    """The database and series of one test, with what the tests do over and over."""

    database: Database
    series: SeriesStore
    now: datetime = from_ms(NINE) + timedelta(days=1)

    def work(self, session: Session, who: Actor = WORKER, now: datetime | None = None) -> Work:
        """A unit of work of somebody, at the test's instant unless another is given."""
        return Work(session, who, now or self.now)

    def do(self, step: Callable[..., object], *args: object, who: Actor = WORKER, now: datetime | None = None):  # type: ignore[no-untyped-def]
        """Carry out one service function in a transaction of its own."""
        with self.database.write() as session:
            return step(self.work(session, who, now), *args)

    def charge(self, booking_id: str, now: datetime | None = None) -> ChargeOutcome:
        """What the worker does."""
        outcome: ChargeOutcome = self.do(charge_booking, booking_id, self.series, now=now)
        return outcome

    def book(
        self,
        start_ms: int = NINE,
        minutes: int = 120,
        *,
        payer: str = FIRM,
        purpose: UsePurpose = UsePurpose.CUSTOMER,
        state: BookingState = BookingState.COMPLETED,
        category: UserCategory = UserCategory.SME,
        mode: BookingMode = BookingMode.SELF_OPERATED,
        instrument: str = INSTRUMENT,
        quantity: int = 0,
    ) -> str:
        """A booking with its price frozen, in the state it has when it is charged."""
        booking_id = new_ulid()
        with self.database.write() as session:
            tariff = tariff_in_force(session, instrument, from_ms(start_ms))
            given = quote_input(tariff.body, category, mode, start_ms, minutes * MINUTE, quantity)
            document = quote_document(given, rate(given), "1")
            session.add(
                Booking(
                    booking_id=booking_id,
                    instrument_id=instrument,
                    host_id=HOST,
                    mode=mode.value,
                    purpose=purpose.value,
                    payer_org=payer,
                    person_id="customer",
                    state=state.value,
                    slot_from=from_ms(start_ms),
                    slot_to=from_ms(start_ms + minutes * MINUTE),
                    calendar_row_id=None,
                    tariff_id=tariff.tariff_id,
                    tariff_version=tariff.version,
                    category=category.value,
                    quantity=quantity,
                    confirmed_quantity=None,
                    quote=document.decode(),
                    quote_sha256=sha256_hex(document),
                    checked_in_at=None,
                    checked_out_at=None,
                    held_until=None,
                    note="",
                    created_at=from_ms(start_ms - 1),
                    row_version=1,
                )
            )
        return booking_id

    def use(
        self,
        booking_id: str,
        minutes: float,
        start_ms: int = NINE,
        *,
        every_ms: int = 1000,
        share: float = 1.0,
        instrument: str = INSTRUMENT,
    ) -> str:
        """One run of the instrument, matched to the booking. `share`: how much of it has samples."""
        writer = StreamWriter(instrument, start_ms=start_ms)
        writer.open(0)
        name, left_s = writer.session, minutes * 60
        assert name is not None
        while left_s > 600:
            writer.tick(PowerState.RUNNING, 600)
            left_s -= 600
        writer.close(left_s)
        with self.database.write() as session:
            commit_usage(session, writer.arrivals(), writer.now_ms + MINUTE, "gateway:test")
            session.execute(delete(Due).where(Due.subject_id == name))
            row = session.get_one(UsageSession, name)
            assert row.ended_at is not None
            session.add(
                BookingUse(
                    session_id=name,
                    booking_id=booking_id,
                    from_at=row.started_at,
                    to_at=row.ended_at,
                    running_ms=row.odo_running_last_ms - row.odo_running_first_ms,
                    unknown_ms=0,
                    matched_at=row.ended_at,
                )
            )
        self.sample(start_ms, round(start_ms + minutes * MINUTE * share), every_ms, instrument)
        return name

    def sample(self, from_ms_: int, to_ms_: int, every_ms: int = 1000, instrument: str = INSTRUMENT) -> None:
        """Power samples of a running instrument."""
        self.series.write([Sample(instrument, at, 750_000 + at % 7, 2) for at in range(from_ms_, to_ms_, every_ms)])

    def charged(self, minutes: float = 80, start_ms: int = NINE, payer: str = FIRM) -> str:
        """A booking that was used and charged; return the charge's id."""
        booking_id = self.book(start_ms, 120, payer=payer)
        self.use(booking_id, minutes, start_ms, every_ms=5_000)
        # Samples every 5 s under a period of 1 s cover a fifth: fine for tests that are not about coverage.
        outcome = self.charge(booking_id, now=from_ms(start_ms) + timedelta(days=2))
        assert outcome.charge_id is not None, outcome
        return outcome.charge_id


def build(database: Database, folder: Path) -> County:
    """Put the little county into an empty database."""
    create_schema(folder / "series.db")
    county = County(database, open_series(f"sqlite:///{folder / 'series.db'}"))
    with database.write() as session:
        add_registry(session)
        for number, org in enumerate((FIRM, OTHER_FIRM)):
            session.add(
                Org(
                    org_id=org,
                    uscc=f"91990000SME{number:07}",
                    kind="sme",
                    state="active",
                    name_zh="示例小微企业",
                    name_en="Example SME",
                    created_at=LONG_AGO,
                    row_version=1,
                )
            )
        session.flush()
        for who in (MANAGER, SECOND, OFFICER, FINANCE, CUSTOMER, RIVAL):
            _add_person(session, who)
        session.add(
            Certificate(
                certificate_id="cert-1",
                instrument_id=INSTRUMENT,
                kind="calibration",
                number="C-1",
                body="Institute",
                valid_from=LONG_AGO,
                valid_to=LONG_AGO + timedelta(days=1000),
                recorded_by="test",
                recorded_at=LONG_AGO,
            )
        )
    county.do(publish_tariff, INSTRUMENT, HOURLY_400, LONG_AGO, "manager", "second")
    return county


def _add_person(session: Session, who: Actor) -> None:
    session.add(
        Person(
            person_id=who.person_id,
            login=who.person_id,
            name=who.name,
            org_id=who.org_id,
            password_hash=None,
            language="zh",
            active=True,
            created_at=LONG_AGO,
            row_version=1,
        )
    )
    session.flush()
    for role in who.roles:
        session.add(
            RoleGrant(
                person_id=who.person_id,
                role=role.value,
                host_scope=next(iter(who.host_ids), ""),
                granted_by="test",
                granted_at=LONG_AGO,
            )
        )
