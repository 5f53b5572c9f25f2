"""Fill an empty demo: registry, people, prices, policies, and a working week of bookings and use before it starts.

Everything goes through the services, and the use through the same simulated instruments, detector, sessions and
ledger as the live agents': only faster, with a sample every 10 s around runs and seldom in between.
"""

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.embedded.fleet_files import SAMPLE_PERIOD_MS, levels_of
from api.embedded.folder import DemoFolder, DemoLogin
from api.embedded.seeding import seed_county, switch_to_live_metering
from api.embedded.visitors import DAYS_AHEAD, approve_requests, book_day, check_in_arrivals, is_working_day, midnight
from edge_agents.detector import profile_from_catalogue
from edge_agents.drivers.base import Reading
from edge_agents.drivers.habits import Habits, local_day, runs_of_day
from edge_agents.drivers.simulated import Levels, SimulatedDriver
from edge_agents.session_state import Labels
from edge_agents.watch import Watch, Watched
from store.database import Database
from store.ledger import Arrival, commit_usage
from store.series import STATE_CODES, Sample, SeriesStore, open_series
from store.tables.calendar import Booking, BookingState
from store.tables.registry import Instrument, Metering
from wire.clock import ManualClock, to_ms
from wire.ids import new_ulid
from wire.messages import ClockQuality, UsageRecord, encode

OPENS_AT_HOUR = 9
DEMO_LIES_BACK = timedelta(days=7)
PAST_WORKING_DAYS = 5
ASKED_BEFORE = timedelta(hours=6)
FINE_MS, COARSE_MS, MARGIN_MS = 10_000, 3_600_000, 60_000
TICK_MS = 3_600_000
HOLE_MS = 2 * COARSE_MS


def first_day(real_now: datetime) -> datetime:
    """Return 09:00 (Asia/Shanghai) of the last working day that lies at least a week back."""
    day = midnight(real_now - DEMO_LIES_BACK)
    while not is_working_day(day):
        day -= timedelta(days=1)
    return day.replace(hour=OPENS_AT_HOUR)


def prepare(database: Database, folder: DemoFolder, origin: datetime, say: Callable[[str], None]) -> list[DemoLogin]:
    """Make everything a demo that starts at `origin` finds; return the logins to show. One transaction a step.

    A step that was interrupted is made again from the beginning at the next start: nothing is committed in halves.
    """
    passwords = {role: secrets.token_urlsafe(9) for role in ("demo",)}
    days = past_days(origin)
    series = open_series(folder.series_url)
    try:
        with database.write() as session:
            logins = seed_county(session, days[0] - timedelta(days=30), FINE_MS, passwords["demo"])
            say("  bookings of the past week ...")
            for day in days:
                book_day(session, day, day - ASKED_BEFORE)
                approve_requests(session, day - ASKED_BEFORE)
            say("  use of the past week ...")
            _use_instruments(session, series, days[0], origin)
            switch_to_live_metering(session, origin, SAMPLE_PERIOD_MS)
            for ahead in range(DAYS_AHEAD + 1):
                book_day(session, midnight(origin) + timedelta(days=ahead), midnight(origin) - ASKED_BEFORE)
            approve_requests(session, midnight(origin) - ASKED_BEFORE)
    finally:
        series.close()
    return logins


def past_days(origin: datetime) -> list[datetime]:
    """Return the last working days before the one the demo starts on, oldest first, each at midnight."""
    days: list[datetime] = []
    day = midnight(origin)
    while len(days) < PAST_WORKING_DAYS:
        day -= timedelta(days=1)
        if is_working_day(day):
            days.append(day)
    return days[::-1]


@dataclass(frozen=True)
class _Past:
    """What one instrument did: its records and the samples around its runs."""

    records: list[UsageRecord]
    samples: list[Sample]


def _use_instruments(session: Session, series: SeriesStore, start: datetime, origin: datetime) -> None:
    booked: dict[str, list[tuple[int, int]]] = {}
    for row in session.execute(
        select(Booking.instrument_id, Booking.slot_from, Booking.slot_to).where(
            Booking.state == BookingState.CONFIRMED.value
        )
    ):
        booked.setdefault(row.instrument_id, []).append((to_ms(row.slot_from), to_ms(row.slot_to)))
    _check_in_all(session, start, origin)
    meters = session.execute(
        select(Instrument, Metering.agent_id).join(Metering, Metering.instrument_id == Instrument.instrument_id)
    ).all()
    samples: list[Sample] = []
    for instrument, agent_id in meters:
        past = _live_through(instrument, sorted(booked.get(instrument.instrument_id, [])), start, origin)
        samples += past.samples
        arrivals = [Arrival(agent_id, r.stream, r.seq, encode(r), r) for r in past.records]
        commit_usage(session, arrivals, to_ms(origin), "seed")
    series.write(samples)


def _check_in_all(session: Session, start: datetime, origin: datetime) -> None:
    """Let the visitors of the past check in, slot by slot."""
    slots = session.scalars(
        select(Booking.slot_from).where(Booking.slot_from >= start, Booking.slot_to <= origin).distinct()
    )
    for slot_from in sorted(slots):
        check_in_arrivals(session, slot_from)


def _live_through(
    instrument: Instrument, booked: Sequence[tuple[int, int]], start: datetime, origin: datetime
) -> _Past:
    name = instrument.instrument_id
    levels = levels_of(instrument)
    start_ms, end_ms = to_ms(start), to_ms(origin)
    driver = SimulatedDriver(
        Levels(rated_w=instrument.power_rated_w, **levels), ManualClock(start_ms), name, period_ms=FINE_MS
    )
    driver.plan_for(booked)
    profile = replace(profile_from_catalogue(**levels), max_hole_ms=HOLE_MS)
    watch = Watch(Watched(name, driver, profile, TICK_MS))
    labels = Labels("history", start_ms, ClockQuality.NTP)
    stream = new_ulid()
    records = watch.begin(None, labels, 0, stream, 1)
    samples: list[Sample] = []
    for wall_ms, fine in _instants(name, booked, start_ms, end_ms):
        power_w = round(driver.power_at(wall_ms), 3)
        records += watch.take(Reading(wall_ms - start_ms, power_w), labels, stream, len(records) + 1)
        if fine:
            code = STATE_CODES[watch.detector.shown]
            samples.append(Sample(name, wall_ms, round(power_w * 1000), code))
    records += watch.settle(labels, stream, len(records) + 1)
    return _Past(records, samples)


def _instants(name: str, booked: Sequence[tuple[int, int]], start_ms: int, end_ms: int) -> Iterator[tuple[int, bool]]:
    """Yield when to look at an instrument: closely around its runs (True), seldom in between (False)."""
    habits = Habits()
    runs = sorted(
        {
            run
            for day in range(local_day(start_ms), local_day(end_ms) + 1)
            for run in runs_of_day(name, day, booked, habits)
        }
    )
    at, closest = start_ms, 0
    while at < end_ms:
        while closest < len(runs) and runs[closest][1] + MARGIN_MS < at:
            closest += 1
        near = closest < len(runs) and runs[closest][0] - MARGIN_MS <= at
        yield at, near
        if near:
            at += FINE_MS
        elif closest < len(runs):
            at = min(at + COARSE_MS, max(at + FINE_MS, runs[closest][0] - MARGIN_MS))
        else:
            at += COARSE_MS
