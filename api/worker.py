"""The worker: does what is due, each row in a transaction of its own, and leaves it when the work is committed.

Composed by `openlab worker` and the demo; any number may run at once. A row is locked while it is worked on (others
skip it) and deleted in the transaction that did the work, so every fact is made exactly once however often a worker
dies. What fails is tried again later, never at once; after five times somebody is told.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge
from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError

from api.booking.card_readings import judge_reading
from api.booking.completion import LOOK_AGAIN, complete_booking, expire_booking
from api.booking.matching_service import match_session
from api.booking.proposals import expire_proposal
from api.charging.service import Charged, charge_booking
from api.chores import CHORES, Chore, do_chore, plan_chores
from api.work import Work, system_actor
from store.alerts import raise_alert
from store.database import Database
from store.errors import StoreError
from store.series import SeriesStore
from store.tables.calendar import Due, DueKind
from wire.clock import Clock, from_ms

_log = structlog.get_logger("openlab.worker")

Handler = Callable[[Work, str], datetime | None]
"""Does the work of one subject; returns when to do it again, None where it is done. Raises where it failed."""

BATCH = 100
BACK_OFF_FIRST = timedelta(seconds=5)
BACK_OFF_MOST = timedelta(minutes=15)
ALERT_AFTER = 5
ALERT_RULE = "worker_failing"
_ERROR_LENGTH = 500


@dataclass(frozen=True)
class _Key:
    kind: DueKind
    subject_id: str


class WorkerMetrics:
    """What is counted about the worker. One registry a worker, so that tests may build many."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.done = Counter("openlab_worker_done", "Rows done", ["kind"], registry=self.registry)
        self.waiting = Counter("openlab_worker_put_off", "Rows put off until later", ["kind"], registry=self.registry)
        self.failed = Counter("openlab_worker_failed", "Attempts that failed", ["kind"], registry=self.registry)
        self.lag = Gauge("openlab_worker_lag_seconds", "Age of the oldest row that is due", registry=self.registry)


class Worker:
    """Works through the `due` table. `clock` judges what is due; waiting between looks is real time."""

    def __init__(
        self,
        database: Database,
        series: SeriesStore,
        clock: Clock,
        *,
        name: str = "worker",
        poll_s: float = 0.5,
        handlers: Mapping[DueKind, Handler] | None = None,
        chores: Sequence[Chore] = CHORES,
    ) -> None:
        self._database, self._clock, self._poll_s = database, clock, poll_s
        self._actor = system_actor(name)
        self._handlers = dict(handlers if handlers is not None else due_handlers(series, chores))
        self._chores = chores
        self.metrics = WorkerMetrics()

    def run(self, until: threading.Event) -> None:
        """Work until the event is set; finishes the row in hand. Survives a database that goes away for a while."""
        failures, planned = 0, False
        while not until.is_set():
            try:
                planned = planned or self.plan()
                done = self.run_once(until)
                failures = 0
            except (SQLAlchemyError, StoreError) as error:
                failures += 1
                done = 0
                _log.warning("the database did not answer; trying again", error=str(error), failures=failures)
            if not done:
                until.wait(min(self._poll_s * 2 ** min(failures, 6), 30.0))

    def plan(self) -> bool:
        """Put the chores on the list. `run` does so before its first look."""
        with self._database.write() as session:
            plan_chores(session, from_ms(self._clock.now_ms()), self._chores)
        return True

    def run_once(self, until: threading.Event | None = None) -> int:
        """Do everything that is due now, each row at most once; return how many rows were done or put off."""
        seen: set[_Key] = set()
        done = 0
        while True:
            fresh = [key for key in self._due_keys(BATCH + len(seen)) if key not in seen]
            if not fresh:
                return done
            for key in fresh:
                if until is not None and until.is_set():
                    return done
                seen.add(key)
                done += self._attempt(key)

    def _due_keys(self, limit: int) -> list[_Key]:
        now = from_ms(self._clock.now_ms())
        with self._database.read() as session:
            rows = session.execute(
                select(Due.kind, Due.subject_id, Due.due_at)
                .where(Due.due_at <= now)
                .order_by(Due.due_at, Due.kind, Due.subject_id)
                .limit(limit)
            ).all()
        self.metrics.lag.set((now - rows[0].due_at).total_seconds() if rows else 0)
        return [_Key(DueKind(row.kind), row.subject_id) for row in rows]

    def _attempt(self, key: _Key) -> int:
        try:
            return self._do(key)
        except Exception as error:  # noqa: BLE001 - whatever went wrong is recorded, shown and tried again
            self._put_back(key, error)
            return 0

    def _do(self, key: _Key) -> int:
        with self._database.write() as session:
            now = from_ms(self._clock.now_ms())
            row = session.execute(
                select(Due)
                .where(Due.kind == key.kind.value, Due.subject_id == key.subject_id, Due.due_at <= now)
                .with_for_update(skip_locked=True)
            ).scalar_one_or_none()
            if row is None:
                return 0
            again = self._handlers[key.kind](Work(session, self._actor, now), key.subject_id)
            if again is None:
                session.delete(row)
            else:
                row.due_at, row.attempts, row.last_error = again, 0, ""
        (self.metrics.done if again is None else self.metrics.waiting).labels(key.kind.value).inc()
        return 1

    def _put_back(self, key: _Key, error: Exception) -> None:
        """Record a failure in a transaction of its own; the row is due again after a pause that doubles."""
        self.metrics.failed.labels(key.kind.value).inc()
        said = f"{type(error).__name__}: {error}"[:_ERROR_LENGTH]
        with self._database.write() as session:
            now_ms = self._clock.now_ms()
            attempts = session.scalars(
                select(Due.attempts).where(Due.kind == key.kind.value, Due.subject_id == key.subject_id)
            ).one_or_none()
            if attempts is None:
                return
            attempts += 1
            pause = min(BACK_OFF_FIRST * 2 ** min(attempts - 1, 20), BACK_OFF_MOST)
            session.execute(
                update(Due)
                .where(Due.kind == key.kind.value, Due.subject_id == key.subject_id)
                .values(attempts=attempts, last_error=said, due_at=from_ms(now_ms) + pause)
            )
            if attempts >= ALERT_AFTER:
                raise_alert(session, ALERT_RULE, f"{key.kind.value}:{key.subject_id}", said, now_ms)
        _log.error("failed; tried again later", kind=key.kind.value, subject=key.subject_id, exc_info=error)


def due_handlers(series: SeriesStore, chores: Sequence[Chore] = CHORES) -> dict[DueKind, Handler]:
    """Return what is done for each kind of due row: the worker's own work, also for who does it in larger steps."""

    def charge(work: Work, booking_id: str) -> datetime | None:
        outcome = charge_booking(work, booking_id, series)
        # A booking that is not done yet leaves this work anew when it is completed.
        waits = outcome.result is Charged.WAITS and outcome.reason != "booking_not_done"
        return work.now + LOOK_AGAIN if waits else None

    return {
        DueKind.MATCH_SESSION: match_session,
        DueKind.COMPLETE_BOOKING: complete_booking,
        DueKind.CHARGE_BOOKING: charge,
        DueKind.EXPIRE_BOOKING: expire_booking,
        DueKind.EXPIRE_PROPOSAL: expire_proposal,
        DueKind.CHECKIN: judge_reading,
        DueKind.CHORE: partial(do_chore, chores=chores),
    }
