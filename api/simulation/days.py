"""The days of a simulated year: firms book, come or do not come, meters report, and the worker's work is done.

Each step is one transaction of the same service functions that requests and the worker call, with the instant of the
simulation. A day's work is done in one piece instead of a row a transaction: nobody else is there to wait.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.booking.rules import BookingRequest
from api.booking.service import create_booking
from api.booking.slots import Interval
from api.booking.states import BookingAction
from api.booking.steps import StepInput, perform
from api.simulation.county import County
from api.simulation.plan import Fate, Order, Plan, last_working_day
from api.work import Actor, Work, system_actor
from api.worker import due_handlers
from store.canonical import sha256_hex
from store.database import Database
from store.ledger import commit_usage
from store.periods import SHANGHAI, month_bounds
from store.series import SeriesStore
from store.tables.calendar import BookingMode, BookingState, Due, DueKind
from wire.clock import from_ms, to_ms

_KINDS = (DueKind.MATCH_SESSION, DueKind.COMPLETE_BOOKING, DueKind.CHARGE_BOOKING, DueKind.EXPIRE_BOOKING)
REPAIRED_AFTER = timedelta(days=5, hours=12)
"""An outage ends this long after the month has: after its close, so that what it held back is posted late."""
WORKER = system_actor("worker")


class Days:
    """Plays the days of a plan, in order. `booked`: order number -> booking id, for what comes later."""

    def __init__(self, database: Database, series: SeriesStore, county: County, plan: Plan) -> None:
        self._database, self._series, self._county = database, series, county
        self._handlers = due_handlers(series)
        self.booked: dict[int, str] = {}
        self._starting: dict[datetime, list[Order]] = defaultdict(list)
        self._ending: dict[datetime, list[Order]] = defaultdict(list)
        self._run_starts: dict[str, list[int]] = defaultdict(list)
        for order in plan.orders:
            self._starting[midnight_of(order.slot_from_ms)].append(order)
            self._ending[midnight_of(order.slot_to_ms)].append(order)
            self._run_starts[order.machine.instrument_id].append(order.run_from_ms)
        self._strays: dict[datetime, list[tuple[str, int, int]]] = defaultdict(list)
        for stray in plan.stray_runs:
            self._strays[midnight_of(stray[1])].append(stray)
        self._cut_off: dict[str, list[tuple[datetime, datetime]]] = defaultdict(list)
        for instrument_id, month in sorted(plan.outages):
            self._cut_off[instrument_id].append((last_working_day(month), month_bounds(month)[1] + REPAIRED_AFTER))

    def book(self, day: datetime) -> int:
        """The day's orders are made at 07:00, approved, and some are called off; return how many."""
        orders = self._starting.pop(day, [])
        if orders:
            with self._database.write() as session:
                for order in orders:
                    self._book_one(session, order, day + timedelta(hours=7))
        return len(orders)

    def use(self, day: datetime) -> int:
        """Who has a slot that ends today comes and uses the instrument; meters report at 23:00; return the records."""
        orders = [order for order in self._ending.pop(day, []) if order.number in self.booked]
        evening = day + timedelta(hours=23)
        runs = [(order.run_from_ms, order.machine.instrument_id, order.run_ms) for order in orders if order.run_ms]
        runs += [(from_ms_, instrument_id, length) for instrument_id, from_ms_, length in self._strays.pop(day, [])]
        touched = {order.machine.instrument_id for order in orders} | {run[1] for run in runs}
        for start_ms, instrument_id, length_ms in sorted(runs):
            self._county.meters[instrument_id].run(start_ms, length_ms)
        for instrument_id in sorted(touched):
            meter = self._county.meters[instrument_id]
            # A run of several days that begins this evening is told when it has ended: the meter waits at its start.
            begins = [start for start in self._run_starts[instrument_id] if start >= meter.at_ms]
            meter.idle_until(min([to_ms(evening), *begins]))
        ready = [
            (instrument_id, meter)
            for instrument_id, meter in self._county.meters.items()
            if (meter.pending or meter.samples) and not self._is_cut_off(instrument_id, evening)
        ]
        if not orders and not ready:
            return 0
        with self._database.write() as session:
            for order in orders:
                self._be_there(session, order)
            arrivals, samples = [], []
            for _, meter in ready:
                records, curve = meter.take()
                arrivals += records
                samples += curve
            if arrivals:
                commit_usage(session, arrivals, to_ms(evening), "gateway:simulated")
                self._series.write(samples)
            for order in orders:
                if order.by_samples and order.run_ms:
                    self._report(session, order, evening)
        return len(arrivals)

    def work(self, day: datetime) -> int:
        """What is due at 23:30 is done, by kind and subject; return how many rows that were."""
        now = day + timedelta(hours=23, minutes=30)
        with self._database.read() as session:
            if session.execute(select(Due.subject_id).where(Due.due_at <= now).limit(1)).first() is None:
                return 0
        with self._database.write() as session:
            return sum(_do_due(session, kind, self._handlers[kind], now) for kind in _KINDS)

    def _book_one(self, session: Session, order: Order, now: datetime) -> None:
        firm, manager = self._county.firm(order.firm), self._county.manager(order.machine.host_id)
        slot = Interval(from_ms(order.slot_from_ms), from_ms(order.slot_to_ms))
        mode = BookingMode.SAMPLES if order.by_samples else BookingMode.SELF_OPERATED
        quantity = max(order.quantity, 1) if order.by_samples else order.quantity
        request = BookingRequest(order.machine.instrument_id, mode, slot, quantity)
        booking, _ = create_booking(Work(session, firm, now), request)
        booking_id = booking.booking_id
        if booking.state == BookingState.REQUESTED.value:
            _step(session, manager, now, booking_id, BookingAction.CONFIRM)
        if order.fate is Fate.CANCELLED:
            _step(session, firm, now + timedelta(minutes=30), booking_id, BookingAction.CANCEL, StepInput("not needed"))
            return
        self.booked[order.number] = booking_id
        if order.by_samples:
            received = StepInput(samples=tuple(f"S{order.number}-{i}" for i in range(1, quantity + 1)))
            _step(session, manager, now, booking_id, BookingAction.RECEIVE, received)
            _step(session, manager, now, booking_id, BookingAction.SCHEDULE, StepInput(slot=slot))

    def _be_there(self, session: Session, order: Order) -> None:
        """Check in and out where use is not proven by power alone."""
        if order.by_samples or not order.run_ms or order.machine.instrument_id not in self._county.needs_check_in:
            return
        firm, booking_id = self._county.firm(order.firm), self.booked[order.number]
        _step(session, firm, from_ms(order.slot_from_ms), booking_id, BookingAction.CHECK_IN)
        leaves = from_ms(min(order.run_from_ms + order.run_ms + 60_000, order.slot_to_ms))
        _step(session, firm, leaves, booking_id, BookingAction.CHECK_OUT)

    def _report(self, session: Session, order: Order, now: datetime) -> None:
        manager, booking_id = self._county.manager(order.machine.host_id), self.booked[order.number]
        _step(session, manager, now, booking_id, BookingAction.START)
        counted = StepInput(quantity=max(order.quantity, 1))
        _step(session, manager, now, booking_id, BookingAction.CONFIRM_RESULTS, counted)
        number = f"R-{order.number:06d}"
        report = StepInput(
            report_number=number,
            report_date=now.astimezone(SHANGHAI).date().isoformat(),
            report_sha256=sha256_hex(number.encode()),
        )
        _step(session, manager, now, booking_id, BookingAction.REPORT, report)

    def _is_cut_off(self, instrument_id: str, at: datetime) -> bool:
        return any(since <= at < until for since, until in self._cut_off.get(instrument_id, ()))


def midnight_of(at_ms: int) -> datetime:
    """Return the beginning of the Asia/Shanghai day of an instant."""
    return from_ms(at_ms).astimezone(SHANGHAI).replace(hour=0, minute=0, second=0, microsecond=0)


def _step(
    session: Session,
    actor: Actor,
    now: datetime,
    booking_id: str,
    action: BookingAction,
    said: StepInput | None = None,
) -> None:
    perform(Work(session, actor, now), booking_id, action, said or StepInput(), None)


def _do_due(session: Session, kind: DueKind, handler: Callable[[Work, str], datetime | None], now: datetime) -> int:
    rows: Sequence[Due] = session.scalars(
        select(Due).where(Due.kind == kind.value, Due.due_at <= now).order_by(Due.subject_id)
    ).all()
    for row in rows:
        again = handler(Work(session, WORKER, now), row.subject_id)
        if again is None:
            session.delete(row)
        else:
            row.due_at = again
    session.flush()
    return len(rows)
