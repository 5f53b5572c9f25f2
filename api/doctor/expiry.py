"""What `openlab expire` and the worker's nights do: ticks of settled use, one stream a transaction and verified in it;
raw samples.

Samples that a charge still waits for stay: the series is expired no further than the oldest use that is not settled.
"""

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from api.booking.sources import undecided
from api.verify.usage import stream_holds
from store.database import Database
from store.ledger import CannotFold, drop_ticks, streams_with_old_ticks
from store.ledger.retention import TicksDropped
from store.ledger.streams import StreamKey
from store.series import HOUR_MS, SeriesStore
from store.tables.calendar import Booking, BookingUse, Due, DueKind, UnbookedUse, UsePurpose
from store.tables.charging import Charge, ChargePurpose
from store.tables.usage import UsageSession
from wire.clock import to_ms


@dataclass
class TicksExpired:
    """What went of all streams; `refused`: streams that keep all they have, and why."""

    streams: int = 0
    dropped: int = 0
    dropped_bytes: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)


class _OnlyLooking(Exception):
    """Takes a trial back."""


def expire_ticks(database: Database, before: datetime, now_ms: int, *, do_it: bool) -> TicksExpired:
    """Drop ticks older than `before`; without `do_it` everything is tried and taken back."""
    done = TicksExpired()
    with database.read() as session:
        keys = streams_with_old_ticks(session, before)
    for key in keys:
        try:
            with database.write() as session:
                gone = expire_stream(session, key, before, now_ms)
                if gone is None:
                    continue
                done.streams += 1
                done.dropped += gone.dropped
                done.dropped_bytes += gone.dropped_bytes
                if not do_it:
                    raise _OnlyLooking
        except _OnlyLooking:
            continue
        except CannotFold as refused:
            done.refused.append(("/".join(key), str(refused)))
    return done


def expire_stream(session: Session, key: StreamKey, before: datetime, now_ms: int) -> TicksDropped | None:
    """Drop the old ticks of one stream; None where there are none to drop. Raises CannotFold where the stream would
    not verify without them; the caller takes the transaction back."""
    gone = drop_ticks(session, key, before, now_ms, "system:expire")
    if gone is None:
        return None
    fault = next(stream_holds(session, *key), None)
    if fault is not None:
        raise CannotFold(f"{fault.table} {fault.key}: {fault.what}")
    return gone


def expire_samples(session: Session, series: SeriesStore, before_ms: int, *, do_it: bool) -> int:
    """Delete raw samples before the full hour at or below `before_ms`, or below what is still needed; return it."""
    charged = select(Charge.charge_id).where(
        Charge.booking_id == Booking.booking_id, Charge.purpose == ChargePurpose.USE.value
    )
    uncharged = session.scalar(
        select(func.min(BookingUse.from_at))
        .join(Booking, Booking.booking_id == BookingUse.booking_id)
        .where(Booking.purpose == UsePurpose.CUSTOMER.value, ~charged.exists())
    )
    unclassified = session.scalar(select(func.min(UnbookedUse.from_at)).where(UnbookedUse.purpose.is_(None)))
    unmatched = session.scalar(
        select(func.min(UsageSession.started_at)).where(
            or_(
                UsageSession.open_slot == 1,
                undecided(UsageSession.session_id),
                UsageSession.session_id.in_(select(Due.subject_id).where(Due.kind == DueKind.MATCH_SESSION.value)),
            )
        )
    )
    needed = [to_ms(at) for at in (uncharged, unclassified, unmatched) if at is not None]
    until = min([before_ms, *needed])
    return series.expire(until) if do_it else until // HOUR_MS * HOUR_MS
