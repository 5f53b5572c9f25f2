"""Drop old ticks: the one thing of the usage ledger that goes. Called by `openlab expire`, one stream a transaction.

Only ticks go, only below a link that covers them, only outside sessions or in sessions that are settled: closed,
matched, and charged where they are a customer's, so that their evidence is frozen. Kept are every open, close, gap
and event, ticks with flags, later than their receipt or of a session of which an edge was lost, the newest record of
each instrument, also before each clock that was set, and the two records around each instant at which a session was
divided. Before anything is deleted the stream is folded with and
without what would go: if one session or position came out differently, nothing goes. A link of the chain then states up
to where ticks were dropped and the digest of what is left, so that what is left can be checked as strictly as before.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from sqlalchemy import and_, delete, exists, func, or_, select
from sqlalchemy.orm import Session

from store.database import insert_many
from store.errors import StoreError
from store.ledger.chain import ChainBuilder, Statement
from store.ledger.dating import relabelled
from store.ledger.flags import DATED_AGAIN, EDGES_LOST
from store.ledger.labels import end_label
from store.ledger.refolding import (
    STORED,
    FoldedTicks,
    Refold,
    StoredRecord,
    clocks_set,
    clocks_that_date,
    dates_stay,
    stored_records,
    understood,
    unparked_seqs,
)
from store.ledger.streams import StreamHead, StreamKey, lock_streams, save_heads
from store.tables.calendar import Booking, BookingUse, UnbookedUse, UsePurpose
from store.tables.charging import Charge, ChargePurpose
from store.tables.usage import EntryKind, UsageEntry, UsageRecordRow, UsageSession
from wire.clock import to_ms
from wire.messages import RecordKind, StreamKind, UsageRecord, timestamp_ms

_TICK = RecordKind.TICK.value
_AT_ONCE = 500


class CannotFold(StoreError):
    """Without its ticks a stream would not give the same sessions: they stay, and somebody should know why."""


@dataclass(frozen=True)
class TicksDropped:
    """What went from one stream, and up to which seq it was looked through."""

    agent_id: str
    stream: str
    upto: int
    dropped: int
    dropped_bytes: int
    kept: int


@dataclass(frozen=True)
class _Span:
    """A session's place in its stream. `needed`: its ticks must stay. `cuts`: instants at which it was divided, by the
    dates it has: `dated_again` where its records do not say them."""

    session_id: str
    instrument_id: str
    open_seq: int
    last_seq: int
    needed: bool
    cuts: tuple[int, ...]
    dated_again: bool


def streams_with_old_ticks(session: Session, before: datetime) -> list[StreamKey]:
    """Return the streams that have ticks older than `before`, by name."""
    rows = session.execute(
        select(UsageRecordRow.agent_id, UsageRecordRow.stream)
        .where(UsageRecordRow.kind == _TICK, UsageRecordRow.at < before)
        .distinct()
        .order_by(UsageRecordRow.agent_id, UsageRecordRow.stream)
    )
    return [(row[0], row[1]) for row in rows]


def drop_ticks(session: Session, key: StreamKey, before: datetime, now_ms: int, by: str) -> TicksDropped | None:
    """Drop the ticks of one stream that are older than `before` and not needed. None where there is nothing to drop.

    Takes the stream's row lock. Raises CannotFold, having changed nothing.
    """
    head = lock_streams(session, [key], StreamKind.USAGE, now_ms)[key]
    upto = _upto(session, head, before)
    if upto == 0:
        return None
    spans = _spans(session, key, upto)
    last_of_each = _last_of_each(session, key, upto)
    unparked, stay = unparked_seqs(session, key), dates_stay(session, key)
    around_cuts = _around_cuts(session, head, spans, unparked, stay)
    whole, left = Refold(stay), Refold(stay)
    going: list[int] = []
    digest, kept, size = sha256(), 0, 0
    for row in stored_records(session, key, upto):
        record = understood(row, unparked)
        if record is not None:
            whole.take(record, row.received_ms)
        if record is not None and row.seq not in last_of_each | around_cuts and _may_go(row, record, spans):
            going.append(row.seq)
            size += len(row.payload)
            continue
        digest.update(row.payload_sha256.encode())
        kept += 1
        if record is not None:
            left.take(record, row.received_ms)
    if whole != left:
        raise CannotFold(f"stream {key[0]}/{key[1]} gives other sessions without its ticks up to {upto}; they stay")
    if not going:
        return None
    _delete(session, key, going)
    chain = ChainBuilder(head, by, now_ms)
    said = FoldedTicks(upto, kept, digest.hexdigest()).reason()
    chain.link(head.chained_upto, Statement(EntryKind.FOLD, None, None, None, 0, now_ms, now_ms, said))
    insert_many(session, UsageEntry, chain.rows)
    save_heads(session, [head], now_ms)
    return TicksDropped(key[0], key[1], upto, len(going), size, kept)


def _last_of_each(session: Session, key: StreamKey, upto: int) -> set[int]:
    """The newest record of each instrument up to a seq, and up to each clock that was set before it: where it stood."""
    rows = session.execute(
        select(UsageRecordRow.seq, UsageRecordRow.instrument_id)
        .where(UsageRecordRow.agent_id == key[0], UsageRecordRow.stream == key[1], UsageRecordRow.seq <= upto)
        .order_by(UsageRecordRow.seq)
        .execution_options(yield_per=1000)
    )
    clocks = {clock.seq for clock in clocks_set(session, key, 0, upto)}
    newest: dict[str | None, int] = {}
    found: set[int] = set()
    for seq, instrument_id in rows:
        newest[instrument_id] = seq
        if seq in clocks:
            found |= set(newest.values())
    return found | set(newest.values())


def _upto(session: Session, head: StreamHead, before: datetime) -> int:
    """The newest link below which every record is older than `before`."""
    mine = (UsageRecordRow.agent_id == head.agent_id, UsageRecordRow.stream == head.stream)
    first_young = session.scalar(select(func.min(UsageRecordRow.seq)).where(*mine, UsageRecordRow.at >= before))
    limit = head.chained_upto if first_young is None else min(head.chained_upto, first_young - 1)
    link = select(func.max(UsageEntry.last_seq)).where(
        UsageEntry.agent_id == head.agent_id, UsageEntry.stream == head.stream, UsageEntry.last_seq <= limit
    )
    return session.scalar(link) or 0


def _spans(session: Session, key: StreamKey, upto: int) -> dict[str, list[_Span]]:
    """The sessions that began up to `upto`, by instrument, in order."""
    cuts: dict[str, set[int]] = defaultdict(set)
    inside = and_(UsageSession.agent_id == key[0], UsageSession.stream == key[1], UsageSession.open_seq <= upto)
    matched, unsettled = set(), set()
    charged = exists().where(Charge.booking_id == Booking.booking_id, Charge.purpose == ChargePurpose.USE.value)
    booked = session.execute(
        select(
            BookingUse.session_id,
            BookingUse.from_at,
            BookingUse.to_at,
            or_(Booking.purpose != UsePurpose.CUSTOMER.value, charged),
        )
        .join(UsageSession, UsageSession.session_id == BookingUse.session_id)
        .join(Booking, Booking.booking_id == BookingUse.booking_id)
        .where(inside)
    )
    unbooked = session.execute(
        select(UnbookedUse.session_id, UnbookedUse.from_at, UnbookedUse.to_at, UnbookedUse.purpose.is_not(None))
        .join(UsageSession, UsageSession.session_id == UnbookedUse.session_id)
        .where(inside)
    )
    for session_id, from_at, to_at, is_settled in [*booked, *unbooked]:
        matched.add(session_id)
        cuts[session_id] |= {to_ms(from_at), to_ms(to_at)}
        if not is_settled:
            unsettled.add(session_id)
    spans: dict[str, list[_Span]] = defaultdict(list)
    rows = session.execute(
        select(
            UsageSession.session_id,
            UsageSession.instrument_id,
            UsageSession.open_seq,
            UsageSession.last_seq,
            UsageSession.close_seq,
            UsageSession.started_at,
            UsageSession.ended_at,
            UsageSession.flags,
        )
        .where(inside)
        .order_by(UsageSession.instrument_id, UsageSession.open_seq)
    )
    for row in rows:
        name = row.session_id
        ended = row.ended_at is not None and row.close_seq is not None and row.close_seq <= upto
        flags = row.flags.split()
        needed = not ended or name not in matched or name in unsettled or not EDGES_LOST.isdisjoint(flags)
        edges = {to_ms(row.started_at), to_ms(row.ended_at)} if row.ended_at is not None else set()
        spans[row.instrument_id].append(
            _Span(
                name,
                row.instrument_id,
                row.open_seq,
                row.last_seq,
                needed,
                tuple(sorted(cuts[name] - edges)),
                DATED_AGAIN in flags,
            )
        )
    return spans


def _around_cuts(
    session: Session,
    head: StreamHead,
    spans: dict[str, list[_Span]],
    unparked: frozenset[int],
    stay: Mapping[str, int],
) -> frozenset[int]:
    """The record whose interval holds each cut and the one before it, by the labels that the cuts were made by."""
    keep: set[int] = set()
    key = head.key
    for span in (span for of_one in spans.values() for span in of_one if span.cuts and not span.needed):
        rows = session.execute(
            select(*STORED)
            .where(
                UsageRecordRow.agent_id == key[0],
                UsageRecordRow.stream == key[1],
                UsageRecordRow.seq >= span.open_seq,
                UsageRecordRow.seq <= span.last_seq,
            )
            .order_by(UsageRecordRow.seq)
        )
        stored = [StoredRecord(*row) for row in rows]
        records = ((understood(row, unparked), row.received_ms) for row in stored)
        mine = [(record, at) for record, at in records if record is not None and record.inst == span.instrument_id]
        asked = (span.session_id, span.open_seq, head.upto, stay)
        clocks = clocks_that_date(session, key, *asked) if span.dated_again else []
        labels = [(timestamp_ms(r.ts), r.seq) for r in relabelled(mine, clocks, span.last_seq)]
        for cut in span.cuts:
            at = next((index for index, (label, _) in enumerate(labels) if label > cut), len(labels) - 1)
            keep |= {seq for _, seq in labels[max(0, at - 2) : at + 2]}
    return frozenset(keep)


def _may_go(row: StoredRecord, record: UsageRecord, spans: dict[str, list[_Span]]) -> bool:
    if row.kind != _TICK or record.flags or end_label(record, row.received_ms).is_ahead:
        return False
    of_instrument = spans.get(record.inst, [])
    index = bisect_right(of_instrument, row.seq, key=lambda span: span.open_seq) - 1
    return index < 0 or row.seq > of_instrument[index].last_seq or not of_instrument[index].needed


def _delete(session: Session, key: StreamKey, seqs: list[int]) -> None:
    for start in range(0, len(seqs), _AT_ONCE):
        session.execute(
            delete(UsageRecordRow).where(
                UsageRecordRow.agent_id == key[0],
                UsageRecordRow.stream == key[1],
                UsageRecordRow.seq.in_(seqs[start : start + _AT_ONCE]),
            ),
            execution_options={"synchronize_session": False},
        )
