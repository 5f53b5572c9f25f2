"""Let the simulated instruments follow their bookings: one plan file an instrument, kept in step with the calendar.

The only thread from the ledger back to the simulation, and only because there are no people in a demo.
"""

import json
import os
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.tables.calendar import Booking, BookingState
from wire.clock import to_ms

_RUNS = (
    BookingState.CONFIRMED,
    BookingState.CHECKED_IN,
    BookingState.SCHEDULED,
    BookingState.IN_USE,
    BookingState.COMPLETED,
    BookingState.CLOSED,
)


def planned_runs(session: Session, now: datetime) -> dict[str, list[tuple[int, int]]]:
    """Return the slots of each instrument's live bookings around now, as UTC milliseconds [from, to]."""
    rows = session.execute(
        select(Booking.instrument_id, Booking.slot_from, Booking.slot_to)
        .where(
            Booking.state.in_([state.value for state in _RUNS]),
            Booking.slot_to > now - timedelta(days=1),
            Booking.slot_from < now + timedelta(days=3),
        )
        .order_by(Booking.instrument_id, Booking.slot_from)
    )
    plans: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for row in rows:
        plans[row.instrument_id].append((to_ms(row.slot_from), to_ms(row.slot_to)))
    return plans


class PlanWriter:
    """Writes the plan files that changed since it last looked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: dict[str, list[tuple[int, int]]] = {}

    def path(self, instrument_id: str) -> Path:
        """Return where an instrument's plan lies."""
        return self._folder / f"{instrument_id}.json"

    def write(self, plans: dict[str, list[tuple[int, int]]]) -> None:
        """Bring the files in step; a reader sees the old plan or the new one."""
        for instrument_id in set(plans) | set(self._written):
            plan = plans.get(instrument_id, [])
            if self._written.get(instrument_id) == plan:
                continue
            draft = self.path(instrument_id).with_suffix(".tmp")
            draft.write_text(json.dumps(plan))
            os.replace(draft, self.path(instrument_id))
            self._written[instrument_id] = plan
