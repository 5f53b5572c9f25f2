"""Fold a stream again from its stored bytes. Used by reading (to check), retention and replay (to try before doing).

What the chain says about the stored records counts: a parked record that was taken in later is folded in its place,
and below the mark to which ticks were folded, ticks may be absent.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import BigInteger, select, type_coerce
from sqlalchemy.orm import Session

from store.canonical import canonical_json
from store.ledger.dating import HoleLength, date_closed, date_position, dates_kept, length_of, length_told
from store.ledger.fold import Position, SessionClosed, fold, is_about_an_instrument
from store.ledger.labels import step_of
from store.ledger.streams import StreamKey
from store.tables.usage import EntryKind, UsageEntry, UsageRecordRow
from wire.messages import RecordKind, UsageRecord

PARKED = "parked"
_UNPARKED = "unparked "
_DATES_STAY = "dates stay "


@dataclass(frozen=True)
class StoredRecord:
    """A row of the ledger's records, as it came, and when (UTC milliseconds)."""

    seq: int
    kind: str
    payload: bytes
    payload_sha256: str
    received_ms: int


STORED = (
    UsageRecordRow.seq,
    UsageRecordRow.kind,
    UsageRecordRow.payload,
    UsageRecordRow.payload_sha256,
    type_coerce(UsageRecordRow.received_at, BigInteger),
)
"""The columns of a StoredRecord, in its order."""


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
    matched when the clock was set, and kept their dates from that record on: the chain says which, and from where."""

    dates_stay: Mapping[str, int] = field(default_factory=dict)
    positions: dict[str, Position] = field(default_factory=dict)
    closed: dict[str, SessionClosed] = field(default_factory=dict)

    def take(self, record: UsageRecord, received_ms: int) -> None:
        """Fold the next record, which was received at `received_ms` (UTC)."""
        if is_about_an_instrument(record):
            self.positions[record.inst], effects = fold(self.positions.get(record.inst), record, received_ms)
            for effect in effects:
                if isinstance(effect, SessionClosed):
                    self.closed[effect.session.session_id] = effect
        elif (step_ms := step_of(record)) is not None:
            for inst, position in self.positions.items():
                self.positions[inst] = date_position(position, record, step_ms) or position
            for name, closed in self.closed.items():
                stay_from = self.dates_stay.get(name)
                if stay_from is None or record.seq < stay_from:
                    self.closed[name] = date_closed(closed, record, step_ms) or closed
                elif record.seq == stay_from:
                    self.closed[name] = dates_kept(closed)
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
        select(*STORED)
        .where(UsageRecordRow.agent_id == key[0], UsageRecordRow.stream == key[1], UsageRecordRow.seq <= upto)
        .order_by(UsageRecordRow.seq)
        .execution_options(yield_per=1000)
    )
    for row in rows:
        yield StoredRecord(*row)


def clocks_set(session: Session, key: StreamKey, after_seq: int, upto: int) -> list[UsageRecord]:
    """Return the records of a stream behind `after_seq` and up to `upto` by which a clock was set, in its order."""
    rows = session.execute(
        select(*STORED)
        .where(
            UsageRecordRow.agent_id == key[0],
            UsageRecordRow.stream == key[1],
            UsageRecordRow.seq > after_seq,
            UsageRecordRow.seq <= upto,
            UsageRecordRow.kind.in_([RecordKind.CLOCK.value, PARKED]),
        )
        .order_by(UsageRecordRow.seq)
    )
    found = [StoredRecord(*row) for row in rows]
    # Which parked records were taken in since stands somewhere in the chain: only looked for where one lies here.
    unparked = unparked_seqs(session, key) if any(row.kind == PARKED for row in found) else frozenset[int]()
    records = (understood(row, unparked) for row in found)
    return [record for record in records if record is not None and step_of(record) is not None]


def clocks_that_date(
    session: Session, key: StreamKey, name: str, open_seq: int, upto: int, stay: Mapping[str, int]
) -> list[UsageRecord]:
    """Return the clocks by which a session is dated: those set since it began, up to `upto`, until it had been matched
    (`stay`, of `dates_stay`)."""
    return clocks_set(session, key, open_seq, stay.get(name, upto + 1) - 1)


def understood(row: StoredRecord, unparked: frozenset[int]) -> UsageRecord | None:
    """Return the record in a row; None for one that is parked and was not taken in since."""
    return None if row.kind == PARKED and row.seq not in unparked else UsageRecord.model_validate_json(row.payload)


def unparked_seqs(session: Session, key: StreamKey) -> frozenset[int]:
    """Return which parked records of a stream were taken in later: the chain says so."""
    return frozenset(int(reason.removeprefix(_UNPARKED)) for reason, _ in _said(session, key, _UNPARKED))


def unparked_reason(seq: int) -> str:
    """Return the text by which a link of kind `event` says that a parked record was taken in."""
    return f"{_UNPARKED}{seq}"


def dates_stay(session: Session, key: StreamKey) -> dict[str, int]:
    """Return the sessions of a stream that kept their dates when the clock was set, and the record from which on they
    do: the chain says so."""
    found: dict[str, int] = {}
    for reason, seq in _said(session, key, _DATES_STAY):
        found.setdefault(reason.removeprefix(_DATES_STAY), seq)
    return found


def dates_stay_reason(session_id: str) -> str:
    """Return the text by which a link of kind `event` says that a session kept its dates."""
    return f"{_DATES_STAY}{session_id}"


def _said(session: Session, key: StreamKey, what: str) -> Sequence[tuple[str, int]]:
    """Return the reasons of a stream's events that begin so, as the chain has them, with the record they go up to."""
    rows = session.execute(
        select(UsageEntry.reason, UsageEntry.last_seq)
        .where(
            UsageEntry.agent_id == key[0],
            UsageEntry.stream == key[1],
            UsageEntry.kind == EntryKind.EVENT.value,
            UsageEntry.reason.startswith(what),
        )
        .order_by(UsageEntry.chain_seq)
    )
    return [(row[0], row[1]) for row in rows]


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
