"""Fills a database for the benchmark of booking: 82 instruments with every rule set, firms, bookings by the batch."""

import itertools
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from store.canonical import canonical_json, sha256_hex
from store.database import Database, insert_many
from store.periods import SHANGHAI
from store.tables.accounts import Person, Role
from store.tables.booking_rules import BookingPolicy, QualificationEvent
from store.tables.calendar import Booking, CalendarRow
from store.tables.registry import Certificate, Instrument, SpecialDay
from tests.support.api_workers import sign_in_people
from tests.support.builders_booking import BY_THE_HALF_HOUR, add_tariff, open_office
from tests.support.usage import add_registry
from wire.clock import ManualClock, to_ms

INSTRUMENTS, HOSTS, OPENS, CLOSES = 82, 20, 6, 22
SLOT, BUFFER_MINUTES = timedelta(minutes=30), 10
FREE_FROM_DAY = 40
"""From this day on the calendars are empty; the bookings to come, four a day, lie before it."""
AHEAD_A_DAY, BEHIND_A_DAY, AT_ONCE = 4, 16, 20_000


def host_of(number: int) -> str:
    """The host of an instrument: there are 20."""
    return f"h{number % HOSTS + 1:02d}"


def name(number: int) -> str:
    """The id of an instrument."""
    return f"xc-{host_of(number)}-{number // HOSTS + 1:02d}"


def midnight(moment: datetime) -> datetime:
    """The start of the day in Xinchang."""
    return moment.astimezone(SHANGHAI).replace(hour=0, minute=0, second=0, microsecond=0)


def fill(database: Database, now: datetime, stored: int, people: int) -> tuple[list[str], str]:
    """Put everything in; return the tokens of the firms' people and of a county officer."""
    open_office(database, ManualClock(to_ms(now)), BY_THE_HALF_HOUR)
    tokens = sign_in_people(database, people)
    (officer,) = sign_in_people(database, 1, ("org-h01",), role=Role.COUNTY_OFFICER)
    with database.write() as session:
        _more_instruments(session)
        _rules(session, now)
    slots = itertools.islice(_slots(now), stored)
    while batch := list(itertools.islice(slots, AT_ONCE)):
        with database.write() as session:
            insert_many(session, CalendarRow, [_row(number, *slot) for number, slot in batch])
            insert_many(session, Booking, [_booking(number, *slot, now) for number, slot in batch])
    return tokens, officer


def free_slots(now: datetime) -> Iterator[tuple[str, datetime]]:
    """Slots that nothing holds, spread over the instruments."""
    first = midnight(now) + timedelta(days=FREE_FROM_DAY)
    for day, hour, number in itertools.product(range(300), range(OPENS, CLOSES), range(INSTRUMENTS)):
        yield name(number), first + timedelta(days=day, hours=hour)


def _slots(now: datetime) -> Iterator[tuple[int, tuple[str, datetime, bool]]]:
    today, number = midnight(now), itertools.count()
    for day, hour, place in itertools.product(range(1, FREE_FROM_DAY - 5), range(4), range(INSTRUMENTS)):
        yield next(number), (name(place), today + timedelta(days=day, hours=8 + 3 * hour), True)
    for day in itertools.count(1):
        for hour, place in itertools.product(range(OPENS, CLOSES), range(INSTRUMENTS)):
            yield next(number), (name(place), today - timedelta(days=day) + timedelta(hours=hour), False)


def _row(number: int, instrument: str, start: datetime, ahead: bool) -> dict[str, Any]:
    return {
        "row_id": f"row-{number:08d}",
        "instrument_id": instrument,
        "kind": "booking",
        "from_at": start,
        "to_at": start + SLOT + timedelta(minutes=BUFFER_MINUTES),
        "active": True,
        "note": "",
        "created_by": "bench",
        "created_at": start,
    }


_LINES = [
    {
        "component": part,
        "item_code": "",
        "quantity": 1,
        "per_quantity": 1,
        "unit_fen": 5000,
        "amount_fen": 5000,
        "rule": "-",
    }
    for part in ("setup", "time")
]
_QUOTE = canonical_json(
    {"schema": "openlab.quote/1", "lines": _LINES, "total_fen": 10_000, "input": {"slot_ms": 1_800_000}}
)
_QUOTE_TEXT, _QUOTE_HASH = _QUOTE.decode(), sha256_hex(_QUOTE)


def _booking(number: int, instrument: str, start: datetime, ahead: bool, now: datetime) -> dict[str, Any]:
    return {
        "booking_id": f"b-{number:08d}",
        "instrument_id": instrument,
        "host_id": instrument.split("-")[1],
        "mode": "self_operated",
        "purpose": "customer",
        "payer_org": ("org-a", "org-b")[number % 2],
        "person_id": ("p-a", "p-b")[number % 2],
        "state": "confirmed" if ahead else "closed",
        "slot_from": start,
        "slot_to": start + SLOT,
        "calendar_row_id": f"row-{number:08d}",
        "tariff_id": f"t-{instrument}",
        "tariff_version": 1,
        "category": "sme",
        "quantity": 0,
        "confirmed_quantity": None,
        "quote": _QUOTE_TEXT,
        "quote_sha256": _QUOTE_HASH,
        "checked_in_at": None,
        "checked_out_at": None,
        "held_until": None,
        "note": "",
        "created_at": now,
        "row_version": 2,
        "needed_by": None,
    }


def _more_instruments(session: Session) -> None:
    """The first host has two already; add the others, each with the first one's registry, price list and paper."""
    paper = session.scalars(select(Certificate)).first()
    assert paper is not None
    papers = {column.key: getattr(paper, column.key) for column in Certificate.__table__.columns}
    for host in range(1, HOSTS):
        add_registry(session, sum(number % HOSTS == host for number in range(INSTRUMENTS)), host_of(host))
    first = session.get_one(Instrument, name(0))
    columns = {column.key: getattr(first, column.key) for column in Instrument.__table__.columns}
    for number in (HOSTS * 2, HOSTS * 3, HOSTS * 4):
        one = name(number)
        session.execute(insert(Instrument).values(columns | {"instrument_id": one, "code": one.upper()}))
    for number in range(INSTRUMENTS):
        one = name(number)
        if one not in ("xc-h01-01", "xc-h01-02"):
            session.execute(insert(Certificate).values(papers | {"certificate_id": f"c-{one}", "instrument_id": one}))
            add_tariff(session, one, BY_THE_HALF_HOUR)


def _rules(session: Session, now: datetime) -> None:
    for paper in session.scalars(select(Certificate)):
        paper.valid_to = now + timedelta(days=400)
    people = session.scalars(select(Person.person_id)).all()
    for number in range(30):
        day = (midnight(now) + timedelta(days=5 + 11 * number)).date().isoformat()
        session.add(_special_day(f"s-{number}", day, now))
    for instrument in session.scalars(select(Instrument)):
        instrument.open_hours = f"1-7 {OPENS:02d}:00-{CLOSES}:00"
        instrument.lead_minutes, instrument.min_slot_minutes, instrument.step_minutes = 60, 30, 30
        instrument.buffer_minutes, instrument.approval = BUFFER_MINUTES, "manager"
        session.add(_policy(instrument.instrument_id, now))
    session.flush()
    rows = [_trained(number, *pair, now) for number, pair in enumerate(itertools.product(_ids(), people))]
    insert_many(session, QualificationEvent, rows)


def _ids() -> Sequence[str]:
    return [name(number) for number in range(INSTRUMENTS)]


def _policy(instrument: str, now: datetime) -> BookingPolicy:
    return BookingPolicy(
        instrument_id=instrument,
        auto_qualified=True,
        auto_up_to_minutes=0,
        auto_needs_both=False,
        needs_qualification=True,
        needs_code=False,
        set_by="bench",
        set_at=now,
        row_version=1,
    )


def _special_day(key: str, day: str, now: datetime) -> SpecialDay:
    return SpecialDay(
        special_day_id=key,
        host_id=None,
        day=day,
        like_weekday=1,
        name_zh="调休",
        name_en="Exchanged working day",
        recorded_by="bench",
        recorded_at=now,
        row_version=1,
    )


def _trained(number: int, instrument: str, person: str, now: datetime) -> dict[str, Any]:
    return {
        "event_id": f"q-{number:06d}",
        "instrument_id": instrument,
        "person_id": person,
        "state": "granted",
        "training": "bench",
        "expires_at": now + timedelta(days=400),
        "recorded_by": "p-m",
        "recorded_at": now,
    }
