"""The spool of one stream: rows that were produced and may still have to be sent. SQLite, one writer, one thread.

Promises: a row is durable when `append` returns, in one transaction with the checkpoint that explains it; its number
is never given to another row; it leaves only after the gateway's acknowledgement and the time for replay, or as a
drop that is counted; each row carries a check sum and is not sent if that does not fit; the file is bounded.
Acknowledgements are kept in memory and written with the next transaction: losing one costs a repeat, no more.
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import structlog

from edge_agents.spool_file import Lost, close_spool, open_spool, put_fact, release_spool, row_crc
from wire.messages import Ack, StreamKind

log = structlog.get_logger(__name__)

KEEP_MS = 7 * 24 * 3600 * 1000
ROW_OVERHEAD_BYTES = 100
_MARK_EVERY_MS = 3600 * 1000
_INSERT = "INSERT INTO spool_rows (seq, inst, payload, crc, sha256) VALUES (?, ?, ?, ?, ?)"


@dataclass(frozen=True)
class Row:
    """One message as it will be sent, byte for byte, however often."""

    seq: int
    inst: str
    payload: bytes


class AckOutcome(StrEnum):
    """What an acknowledgement did."""

    TAKEN = "taken"
    REWOUND = "rewound"
    """It fell below an earlier one: the server was restored, and rows above it will be sent again."""
    OTHER_STREAM = "other_stream"
    BEYOND_LAST = "beyond_last"
    """It speaks of rows that were never written here. Refused."""
    DOUBTED = "doubted"
    """It fell below an earlier one for the first time: perhaps an old word that was overtaken. Nothing is changed."""


class Outbox:
    """One stream. Not safe for threads: the agent's stepping thread owns it."""

    def __init__(
        self,
        path: Path,
        kind: StreamKind,
        *,
        limit_bytes: int = 500 * 1024 * 1024,
        keep_ms: int = KEEP_MS,
        refuse: Callable[[str | None], str | None] = lambda checkpoint: None,
    ) -> None:
        """Open or create the spool. `lost` tells of a damaged file that was set aside.

        `refuse` is shown the checkpoint and says why the file cannot be gone on with, or None. Raises SpoolInUse,
        OSError.
        """
        self.kind = kind
        self.limit_bytes = limit_bytes
        self._path = path
        self._keep_ms = keep_ms
        self._db, facts, self.lost = open_spool(path, kind, refuse)
        self.stream = facts["stream"]
        self.last_seq = int(facts["last_seq"])
        self.upto = min(int(facts.get("upto", "0")), self.last_seq)
        self.dropped = int(facts.get("dropped", "0"))
        self.checkpoint = facts.get("checkpoint")
        self._marks: list[tuple[int, int]] = [(int(seq), int(at)) for seq, at in json.loads(facts.get("marks", "[]"))]
        self._committed_to = self.upto
        self._holes: tuple[tuple[int, int], ...] = ()
        self.refused_acks = 0
        self.damaged_rows = 0
        # Asked for a row that no longer fits its check sum: gives what takes its place, or None to drop it.
        self.replacement: Callable[[int], Row | None] = lambda seq: None
        # Set when rows that were not acknowledged are gone, until the reader of the stream was told (birth).
        self.position_changed = False
        [(size, first)] = self._db.execute(
            "SELECT coalesce(sum(length(payload) + ?), 0), min(seq) FROM spool_rows", (ROW_OVERHEAD_BYTES,)
        ).fetchall()
        self.size_bytes: int = size
        self.first_kept: int = first if first is not None else self.last_seq + 1

    @property
    def next_seq(self) -> int:
        return self.last_seq + 1

    @property
    def unacknowledged(self) -> int:
        """How many kept rows the gateway has not said to have."""
        missing = sum(b - a + 1 for a, b in ((max(a, self.first_kept), b) for a, b in self._holes) if b >= a)
        return max(0, self.last_seq - max(self._committed_to, self.first_kept - 1)) + missing

    def is_acknowledged(self, seq: int) -> bool:
        """Whether the gateway said that it has committed this row."""
        return seq <= self._committed_to and not any(a <= seq <= b for a, b in self._holes)

    def append(self, rows: Sequence[Row], checkpoint: str | None = None) -> None:
        """Write rows and checkpoint in one transaction. When it returns they survive a power cut.

        Raises ValueError where the rows are not numbered on from `last_seq`, sqlite3.Error where nothing was
        written (disk full, disk gone): the caller keeps them and tries again.
        """
        if [row.seq for row in rows] != list(range(self.next_seq, self.next_seq + len(rows))):
            raise ValueError(f"rows must be numbered from {self.next_seq} on")
        last = self.last_seq + len(rows)
        added = sum(len(row.payload) + ROW_OVERHEAD_BYTES for row in rows)
        self._make_room(added)
        with _Transaction(self._db):
            self._db.executemany(
                _INSERT,
                [(r.seq, r.inst, r.payload, row_crc(r.seq, r.inst, r.payload), _sha(r.payload)) for r in rows],
            )
            put_fact(self._db, "last_seq", str(last))
            self._put_progress()
            if checkpoint is not None:
                put_fact(self._db, "checkpoint", checkpoint)
        self.last_seq = last
        self.size_bytes += added
        self.checkpoint = self.checkpoint if checkpoint is None else checkpoint

    def rows(self, after: int, limit: int) -> list[Row]:
        """Return up to `limit` rows above `after`, in order. A damaged one is replaced or dropped, and counted."""
        found = self._db.execute(
            "SELECT seq, inst, payload, crc, sha256 FROM spool_rows WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit)
        ).fetchall()
        out = []
        for seq, inst, payload, crc, sha in found:
            whole = isinstance(inst, str) and isinstance(payload, bytes)
            if whole and row_crc(seq, inst, payload) == crc and sha == _sha(payload):
                out.append(Row(seq, inst, payload))
            elif (replaced := self._replace(seq)) is not None:
                out.append(replaced)
        return out

    def row(self, seq: int) -> Row | None:
        """Return one row, or None where it is no longer kept."""
        found = self.rows(seq - 1, 1)
        return found[0] if found and found[0].seq == seq else None

    def falls_back(self, ack: Ack) -> bool:
        """Whether an acknowledgement of this stream is below what an earlier one said."""
        return ack.stream == self.stream and min([ack.upto, *(a - 1 for a, b in ack.holes if a <= b)]) < self.upto

    def acknowledge(self, ack: Ack, now_ms: int) -> AckOutcome:
        """Take the gateway's word. `now_ms` is wall time, for the replay time of what was acknowledged."""
        if ack.stream != self.stream:
            self.refused_acks += 1
            log.warning("acknowledgement for a stream that is not ours", stream=ack.stream, ours=self.stream)
            return AckOutcome.OTHER_STREAM
        if ack.upto > self.last_seq:
            self.refused_acks += 1
            log.error("acknowledgement beyond our last row", upto=ack.upto, last=self.last_seq, stream=self.stream)
            return AckOutcome.BEYOND_LAST
        holes = tuple(sorted((max(1, a), min(b, ack.upto)) for a, b in ack.holes if a <= b and a <= ack.upto))
        upto = min([ack.upto, *(a - 1 for a, _ in holes)])
        rewound = upto < self.upto
        self.upto, self._committed_to, self._holes = upto, ack.upto, holes
        if rewound:
            self._marks = [mark for mark in self._marks if mark[0] <= upto]
        elif not self._marks or abs(now_ms - self._marks[-1][1]) >= _MARK_EVERY_MS:
            self._marks.append((upto, now_ms))
        if self.first_kept <= upto < self.last_seq:
            self._skip_what_is_gone()
        return AckOutcome.REWOUND if rewound else AckOutcome.TAKEN

    def clock_was_set(self, step_ms: int, from_ms: int, to_ms: int) -> None:
        """Date again, by a step of the wall clock, what was acknowledged in [from_ms, to_ms] of the clock before it.

        Without this a clock that is set far on would end the time for replay of what came a moment ago. What was
        acknowledged outside (before this boot, by a clock that was right) keeps its date.
        """
        self._marks = [(seq, at + step_ms if from_ms <= at <= to_ms else at) for seq, at in self._marks]

    def prune(self, now_ms: int) -> int:
        """Delete rows acknowledged longer ago than the replay time; return how many."""
        ripe = [seq for seq, at in self._marks if now_ms - at >= self._keep_ms]
        if not ripe or max(ripe) < self.first_kept:
            return 0
        self._marks = [mark for mark in self._marks if now_ms - mark[1] < self._keep_ms]
        return self._delete_below(min(max(ripe), self.upto) + 1)

    def shrink(self) -> None:
        """Drop the oldest rows until the spool fits its limit."""
        self._make_room(0)

    def fold_log(self) -> None:
        """Fold the write-ahead log into the file: without it a lost log would take more than the last moments."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Write down what was acknowledged and close."""
        try:
            with _Transaction(self._db):
                self._put_progress()
        finally:
            close_spool(self._db, self._path)

    def abandon(self) -> None:
        """Let go of the file without a last word: what was not written stays unwritten."""
        release_spool(self._db, self._path)

    def _put_progress(self) -> None:
        put_fact(self._db, "upto", str(self.upto))
        put_fact(self._db, "dropped", str(self.dropped))
        put_fact(self._db, "marks", json.dumps(self._marks))

    def _make_room(self, needed: int) -> None:
        while self.size_bytes + needed > self.limit_bytes and self.first_kept <= self.last_seq:
            # In portions, so that a spool at its limit does not pay for every single row.
            count = max(1, (self.last_seq - self.first_kept + 1) // 20)
            acked = self.upto >= self.first_kept
            below = min(self.first_kept + count, self.upto + 1) if acked else self.first_kept + count
            gone = self._delete_below(below)
            if not acked:
                self.dropped += gone
                self.position_changed = True
                log.error("the spool is full: oldest rows were dropped", kind=self.kind.value, rows=gone)

    def _delete_below(self, seq: int) -> int:
        with _Transaction(self._db):
            [(count, size)] = self._db.execute(
                "SELECT count(*), coalesce(sum(length(payload) + ?), 0) FROM spool_rows WHERE seq < ?",
                (ROW_OVERHEAD_BYTES, seq),
            ).fetchall()
            self._db.execute("DELETE FROM spool_rows WHERE seq < ?", (seq,))
            [(first,)] = self._db.execute("SELECT min(seq) FROM spool_rows").fetchall()
        self.size_bytes -= size
        self.first_kept = first if first is not None else self.last_seq + 1
        return int(count)

    def _skip_what_is_gone(self) -> None:
        """Where the row after the acknowledged ones was dropped, say so by the first row that is kept."""
        [(first,)] = self._db.execute("SELECT min(seq) FROM spool_rows WHERE seq > ?", (self.upto,)).fetchall()
        if first is None or first > self.upto + 1:
            self._delete_below(self.upto + 1)
            self.position_changed = True

    def _replace(self, seq: int) -> Row | None:
        self.damaged_rows += 1
        new = self.replacement(seq)
        log.error("a row of the spool is damaged", kind=self.kind.value, seq=seq, replaced=new is not None)
        with _Transaction(self._db):
            self._db.execute("DELETE FROM spool_rows WHERE seq = ?", (seq,))
            if new is not None:
                values = (seq, new.inst, new.payload, row_crc(seq, new.inst, new.payload), _sha(new.payload))
                self._db.execute(
                    "INSERT INTO spool_rows (seq, inst, payload, crc, sha256) VALUES (?, ?, ?, ?, ?)", values
                )
        if new is None:
            self.dropped += 1
            if seq == self.first_kept:
                self._delete_below(seq)
                self.position_changed = True
        return new


class _Transaction:
    """BEGIN IMMEDIATE ... COMMIT, or ROLLBACK where anything goes wrong."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            try:
                self._connection.execute("COMMIT")
                return
            except sqlite3.Error:
                self._roll_back()
                raise
        self._roll_back()

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def _sha(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()


__all__ = ["KEEP_MS", "AckOutcome", "Lost", "Outbox", "Row"]
