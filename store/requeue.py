"""Give quarantined messages another try, after what was wrong with them has been put right.

Called by `openlab quarantine replay`, what `together` puts into one group in one transaction. Decoded again, judged by
the same rights as on the day they came. A usage record then takes its place in its stream: an ordinary arrival where
the ledger never had it, the parked record's own place where it held one (store.ledger.replay says what that means and
what is refused). What telemetry tells is written into the time series; its place in its stream was kept.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.alerts import clear_alert
from store.ledger import Arrival, ReplayRefused, Unparked, commit_usage, load_registry, unpark
from store.ledger.refolding import PARKED
from store.ledger.streams import StreamKey
from store.series import Reading, ReadingsRefused, Sample, SeriesRefused, SeriesStore
from store.tables.usage import Quarantine, UsageRecordRow
from store.telemetry import ClockUnset, boot_offset, clocks_told, offset_since_told, readings_of, samples_of
from wire.clock import from_ms
from wire.errors import BadPayload, BadTopic
from wire.messages import ClockQuality, Telemetry, UsageRecord, decode
from wire.topics import Channel, parse_up

_NOTHING = Unparked((), ())
_AT_ONCE = 1000


@dataclass(frozen=True)
class Replayed:
    """How it went: `new`: nobody had ever taken it in. `changed`: what taking it in changed; of a group the first one
    tells it of all."""

    quarantine_id: str
    new: bool
    changed: Unparked


def together(session: Session, quarantine_ids: Iterable[str]) -> list[list[str]]:
    """Put ids into groups, each for one call of `replay_quarantined`: the parked records of one stream, for that is
    folded from its start; everything else alone, and before them, for they may wait for it."""
    alone: list[list[str]] = []
    parked: dict[StreamKey, list[str]] = {}
    for quarantine_id in quarantine_ids:
        row = session.get_one(Quarantine, quarantine_id)
        try:
            arrival = _arrival(session, row)
            is_parked = _stored_kind(session, arrival) == PARKED
        except ReplayRefused:
            is_parked = False
        session.expunge(row)
        if is_parked:
            parked.setdefault((arrival.agent_id, arrival.stream), []).append(quarantine_id)
        else:
            alone.append([quarantine_id])
    return alone + [ids[at : at + _AT_ONCE] for ids in parked.values() for at in range(0, len(ids), _AT_ONCE)]


def replay_quarantined(
    session: Session, series: SeriesStore, quarantine_ids: Sequence[str], now_ms: int, by: str
) -> list[Replayed]:
    """Take quarantined messages in, all or none. Those done before are left alone and not returned.

    Raises LookupError for an unknown id, SeriesUnavailable, and ReplayRefused, with the reason, where one stays: still
    not understood, neither usage nor telemetry, not allowed, or in the way of use that was given to somebody.
    """
    done: list[Replayed] = []
    parked: dict[StreamKey, dict[int, UsageRecord]] = {}
    rows = [session.get(Quarantine, one) for one in quarantine_ids]
    for quarantine_id, row in zip(quarantine_ids, rows, strict=True):
        if row is None:
            raise LookupError(f"nothing in quarantine is called {quarantine_id}")
        if row.replayed_at is not None:
            continue
        if (points := _points(session, row)) is not None:
            _write(series, *points)
            done.append(Replayed(quarantine_id, True, _NOTHING))
            continue
        arrival = _arrival(session, row)
        kind = _stored_kind(session, arrival)
        assert arrival.record is not None
        if kind is None and commit_usage(session, [arrival], now_ms, by).wrong_kind:
            raise ReplayRefused(f"stream {arrival.agent_id}/{arrival.stream} is one of telemetry")
        if kind == PARKED:
            parked.setdefault((arrival.agent_id, arrival.stream), {})[arrival.seq] = arrival.record
        done.append(Replayed(quarantine_id, kind is None, _NOTHING))
    changes = [unpark(session, key, records, now_ms, by) for key, records in parked.items()]
    if changes:
        new = tuple(name for change in changes for name in change.new)
        changed = tuple(name for change in changes for name in change.changed)
        done[0] = Replayed(done[0].quarantine_id, done[0].new, Unparked(new, changed))
    for one in done:
        session.get_one(Quarantine, one.quarantine_id, populate_existing=True).replayed_at = from_ms(now_ms)
    session.flush()
    for topic, reason in sorted({(row.topic, row.reason) for row in rows if row is not None}):
        _clear(session, topic, reason, now_ms, by)
    return done


def _points(session: Session, row: Quarantine) -> tuple[list[Sample], list[Reading]] | None:
    """Return what telemetry in a row tells, None where its topic is another one. Raises ReplayRefused."""
    try:
        topic = parse_up(row.topic)
        if topic.channel is not Channel.TELEMETRY:
            return None
        message = decode(Telemetry, row.payload)
    except BadTopic:
        return None
    except BadPayload as error:
        raise _not_understood(error) from None
    _judge(session, topic.agent, topic.tail, message.inst)
    try:
        if message.ts_q is ClockQuality.UNSET:
            offset_ms: int | None = boot_offset(session, topic.agent, message.boot)
        else:
            offset_ms = offset_since_told(message, clocks_told(session, topic.agent))
        return samples_of(message, offset_ms), readings_of(message, offset_ms)
    except (ClockUnset, OverflowError) as error:
        raise ReplayRefused(str(error)) from None


def _write(series: SeriesStore, samples: list[Sample], readings: list[Reading]) -> None:
    try:
        try:
            series.write(samples)
        finally:  # where some samples are refused, the readings are kept like the other samples
            series.write_readings(readings)
    except (SeriesRefused, ReadingsRefused) as refused:
        raise ReplayRefused(f"the time series takes the others, not all of it: {refused}") from None


def _arrival(session: Session, row: Quarantine) -> Arrival:
    """Return a quarantined usage record as it would arrive now. Raises ReplayRefused."""
    try:
        topic = parse_up(row.topic)
        if topic.channel is not Channel.USAGE:
            raise ReplayRefused(f"{row.topic} carries no record; what it told is told again by the agent itself")
        record = decode(UsageRecord, row.payload)
    except (BadTopic, BadPayload) as error:
        raise _not_understood(error) from None
    _judge(session, topic.agent, topic.tail, record.inst)
    return Arrival(topic.agent, record.stream, record.seq, row.payload, record)


def _judge(session: Session, agent: str, tail: str | None, inst: str) -> None:
    if inst != tail:
        raise ReplayRefused(f"the topic is about {tail}, the payload about {inst}")
    refusal = load_registry(session, {agent}, {inst}).refusal(agent, inst)
    if refusal is not None:
        raise ReplayRefused(f"agent {agent} may still not report about {inst}: {refusal.value}")


def _stored_kind(session: Session, arrival: Arrival) -> str | None:
    """Return the kind of the record that the ledger has in this place, None where it has none.

    Raises ReplayRefused where it has another content.
    """
    stored = session.execute(
        select(UsageRecordRow.kind, UsageRecordRow.payload_sha256).where(
            UsageRecordRow.agent_id == arrival.agent_id,
            UsageRecordRow.stream == arrival.stream,
            UsageRecordRow.seq == arrival.seq,
        )
    ).one_or_none()
    if stored is None:
        return None
    if stored.payload_sha256 != arrival.sha256:
        raise ReplayRefused("the ledger has another content under its number; that is a conflict, for a person")
    return str(stored.kind)


def _clear(session: Session, topic: str, reason: str, now_ms: int, by: str) -> None:
    """Take the alert of a topic and reason back where nothing of it is left."""
    others = select(Quarantine.quarantine_id).where(
        Quarantine.topic == topic, Quarantine.reason == reason, Quarantine.replayed_at.is_(None)
    )
    if session.scalars(others.limit(1)).first() is None:
        clear_alert(session, f"quarantine_{reason}", topic, now_ms, by)


def _not_understood(error: Exception) -> ReplayRefused:
    return ReplayRefused(f"it is still not understood: {error}")
