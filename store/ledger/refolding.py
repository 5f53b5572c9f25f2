"""Fold a stream again from its stored bytes. Used by reading (to check), retention and replay (to try before doing).

What the chain says about the stored records counts: a parked record that was taken in later is folded in its place,
and below the mark to which ticks were folded, ticks may be absent.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.canonical import canonical_json
from store.ledger.dating import HoleLength, date_closed, date_open, length_of, length_told, step_of
from store.ledger.fold import Position, SessionClosed, fold, is_about_an_instrument
from store.ledger.streams import StreamKey
from store.tables.usage import EntryKind, UsageEntry, UsageRecordRow
from wire.messages import UsageRecord

PARKED = "parked"
_UNPARKED = "unparked "
_DATES_STAY = "dates stay "


@dataclass(frozen=True)
class StoredRecord:
    """A row of the ledger's records, as it came."""

    seq: int
    kind: str
    payload: bytes
    payload_sha256: str


@dataclass(frozen=True)
class FoldedTicks:
    """A statement of the chain: up to `upto` ticks were dropped; `kept` records are left and have this digest."""

    upto: int
    kept: int
    kept_sha256: str

    def reason(self) -> str:
        """The text by which a link of kind `fold` says so."""
        fields = {"ticks_folded_upto": self.upto, "kept": self.kept, "kept_sha256": self.kept_sha256}
        return canonical_json(fields).decode()


@dataclass
class Refold:
    """Where a stream stands, built record by record in the order of seq. `dates_stay` are sessions that had been
    matched when the clock was set, and kept their dates: the chain says which."""

    dates_stay: frozenset[str] = frozenset()
    positions: dict[str, Position] = field(default_factory=dict)
    closed: dict[str, SessionClosed] = field(default_factory=dict)

    def take(self, record: UsageRecord) -> None:
        """Fold the next record."""
        if is_about_an_instrument(record):
            self.positions[record.inst], effects = fold(self.positions.get(record.inst), record)
            for effect in effects:
                if isinstance(effect, SessionClosed):
                    self.closed[effect.session.session_id] = effect
        elif (step_ms := step_of(record)) is not None:
            for inst, position in self.positions.items():
                self.positions[inst] = date_open(position, record, step_ms) or position
            for name in self.closed.keys() - self.dates_stay:
                self.closed[name] = date_closed(self.closed[name], record, step_ms) or self.closed[name]
        elif (hole := length_of(record)) is not None:
            self._tell_length(hole)

    def _tell_length(self, hole: HoleLength) -> None:
        stands = self.positions.get(hole.instrument_id)
        if stands is not None and stands.open is not None:
            opened = length_told(stands.open, None, hole) or stands.open
            self.positions[hole.instrument_id] = replace(stands, open=opened)
        for name, closed in self.closed.items():
            told = length_told(closed.session, closed.close_seq, hole)
            if told is not None and name.partition(".")[0] == hole.instrument_id:
                self.closed[name] = replace(closed, session=told)


def stored_records(session: Session, key: StreamKey, upto: int) -> Iterator[StoredRecord]:
    """Yield the rows of a stream up to a seq, in its order, some at a time."""
    rows = session.execute(
        select(UsageRecordRow.seq, UsageRecordRow.kind, UsageRecordRow.payload, UsageRecordRow.payload_sha256)
        .where(UsageRecordRow.agent_id == key[0], UsageRecordRow.stream == key[1], UsageRecordRow.seq <= upto)
        .order_by(UsageRecordRow.seq)
        .execution_options(yield_per=1000)
    )
    for row in rows:
        yield StoredRecord(row[0], row[1], row[2], row[3])


def understood(row: StoredRecord, unparked: frozenset[int]) -> UsageRecord | None:
    """Return the record in a row; None for one that is parked and was not taken in since."""
    return None if row.kind == PARKED and row.seq not in unparked else UsageRecord.model_validate_json(row.payload)


def unparked_seqs(session: Session, key: StreamKey) -> frozenset[int]:
    """Return which parked records of a stream were taken in later: the chain says so."""
    return frozenset(int(seq) for seq in _said(session, key, _UNPARKED))


def unparked_reason(seq: int) -> str:
    """Return the text by which a link of kind `event` says that a parked record was taken in."""
    return f"{_UNPARKED}{seq}"


def dates_stay(session: Session, key: StreamKey) -> frozenset[str]:
    """Return the sessions of a stream that kept their dates when the clock was set: the chain says so."""
    return frozenset(_said(session, key, _DATES_STAY))


def dates_stay_reason(session_id: str) -> str:
    """Return the text by which a link of kind `event` says that a session kept its dates."""
    return f"{_DATES_STAY}{session_id}"


def _said(session: Session, key: StreamKey, what: str) -> list[str]:
    reasons = session.scalars(
        select(UsageEntry.reason).where(
            UsageEntry.agent_id == key[0],
            UsageEntry.stream == key[1],
            UsageEntry.kind == EntryKind.EVENT.value,
            UsageEntry.reason.startswith(what),
        )
    )
    return [reason.removeprefix(what) for reason in reasons]


def folded_ticks(session: Session, key: StreamKey) -> FoldedTicks | None:
    """Return up to where ticks of a stream were dropped; the newest statement counts. None where all are there."""
    reason = session.scalars(
        select(UsageEntry.reason)
        .where(
            UsageEntry.agent_id == key[0],
            UsageEntry.stream == key[1],
            UsageEntry.kind == EntryKind.FOLD.value,
            UsageEntry.reason != "",
        )
        .order_by(UsageEntry.chain_seq.desc())
        .limit(1)
    ).first()
    if reason is None:
        return None
    fields = json.loads(reason)
    return FoldedTicks(fields["ticks_folded_upto"], fields["kept"], fields["kept_sha256"])
