"""What an agent has produced and must not lose: records wait here for one transaction with their checkpoint.

The numbers that records get are given here, in order, before they are written; so a record that could not be written
(disk full) keeps its number and waits in memory, and the next ones follow behind it.
"""

import shutil
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from edge_agents.outbox import Outbox, Row
from edge_agents.watch import unreadable
from wire.messages import StreamKind, Telemetry, UsageRecord, encode

log = structlog.get_logger(__name__)

CHECKPOINT_EVERY_S = 5.0
HOUSEKEEPING_EVERY_S = 600.0
DEFAULT_MAX_BYTES = 500 * 1024 * 1024
_FULL_OR_AWAY = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_BUSY)


@dataclass(frozen=True)
class SpoolLimits:
    """How much disk an agent may take. The reserve is room that only usage may use: of the disk, and (at most by half)
    of what the agent may take. Without `max_bytes` that is 500 MB, or a fifth of a small disk."""

    max_bytes: int | None = None
    usage_reserve_bytes: int = 64 * 1024 * 1024

    def most_on(self, disk_bytes: int) -> int:
        """Return how much an agent may take of a disk of this size."""
        return min(DEFAULT_MAX_BYTES, disk_bytes // 5) if self.max_bytes is None else self.max_bytes


class SpoolBroken(Exception):
    """A spool turned out to be damaged while in use: it has to be opened anew, which sets it aside."""


def is_passing(error: sqlite3.Error) -> bool:
    """Whether the disk is the trouble (full, away), and not what the file holds: wait and try again."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _FULL_OR_AWAY


class Journal:
    """The two spools of one agent behind one door. One thread."""

    def __init__(
        self,
        folder: Path,
        limits: SpoolLimits,
        agent: str,
        *,
        distrusted: str | None = None,
        pruned: Callable[[], None] = lambda: None,
    ) -> None:
        """Open or create both spools below `folder`; with `distrusted` (a reason) set aside what is there.

        `pruned` is called whenever rows that are old enough were deleted.

        Raises SpoolInUse, OSError, sqlite3.OperationalError.
        """
        self._folder = folder
        self._agent = agent
        self._pruned = pruned
        self._limits = limits
        folder.mkdir(parents=True, exist_ok=True)
        self._max_bytes = limits.most_on(shutil.disk_usage(folder).total)
        self.usage = Outbox(
            folder / "usage.db",
            StreamKind.USAGE,
            limit_bytes=self._max_bytes,
            refuse=lambda checkpoint: distrusted or unreadable(checkpoint),
        )
        self.telemetry = Outbox(
            folder / "telemetry.db",
            StreamKind.TELEMETRY,
            limit_bytes=self._max_bytes,
            refuse=lambda checkpoint: distrusted,
        )
        self._usage_waiting: list[Row] = []
        self._telemetry_waiting: list[Row] = []
        self._saved_at = self._tidied_at = self._looked_at_disk = -1e9
        self._disk_is_short = False
        self.is_failing = False

    @property
    def next_seq(self) -> int:
        """The number of the next usage record."""
        return self.usage.next_seq + len(self._usage_waiting)

    def add(self, record: UsageRecord) -> None:
        """Take a record for the next transaction. Raises ValueError where it does not carry the next number."""
        if record.seq != self.next_seq or record.stream != self.usage.stream:
            raise ValueError(f"expected record {self.next_seq} of {self.usage.stream}, got {record.seq}")
        self._usage_waiting.append(Row(record.seq, record.inst, encode(record)))

    def add_telemetry(self, make: Callable[[str, int], Telemetry]) -> None:
        """Take a batch of samples for the next transaction; `make` is told its stream and number."""
        if self._telemetry_has_no_room():
            self._telemetry_dropped(1)
            return
        message = make(self.telemetry.stream, self.telemetry.next_seq + len(self._telemetry_waiting))
        self._telemetry_waiting.append(Row(message.seq, message.inst, encode(message)))

    def save(self, checkpoint: Callable[[], str], now_ms: int, *, force: bool = False) -> None:
        """Write what waits, with its checkpoint. Without records a checkpoint is written every few (real) seconds.

        A full disk is logged and tried again; telemetry makes way for usage. Raises SpoolBroken for a damaged one.
        """
        real = time.monotonic()
        is_due = force or real - self._saved_at >= CHECKPOINT_EVERY_S
        if not self._usage_waiting and not is_due:
            return
        if self.is_failing and not is_due:
            return
        self._saved_at = real
        try:
            self.usage.append(self._usage_waiting, checkpoint())
            self._usage_waiting = []
            if self.is_failing:
                log.info("the spool can be written again", agent=self._agent)
            self.is_failing = False
        except sqlite3.Error as error:
            self._failed(error)
        self._save_telemetry()
        if real - self._tidied_at >= HOUSEKEEPING_EVERY_S:
            self._tidied_at = real
            self._tidy(now_ms)

    def clock_was_set(self, step_ms: int, from_ms: int, to_ms: int) -> None:
        """Keep the time for replay over a step of the wall clock; `from_ms` to `to_ms`: this boot, by the old clock."""
        for outbox in (self.usage, self.telemetry):
            outbox.clock_was_set(step_ms, from_ms, to_ms)

    def close(self) -> None:
        """Close both spools in an orderly way."""
        self.usage.close()
        self.telemetry.close()

    def abandon(self) -> None:
        """Let go of both files without writing: one of them cannot be trusted any more."""
        self.usage.abandon()
        self.telemetry.abandon()

    def _save_telemetry(self) -> None:
        if not self._telemetry_waiting:
            return
        reserve = min(self._limits.usage_reserve_bytes, self._max_bytes // 2)
        self.telemetry.limit_bytes = max(0, self._max_bytes - max(reserve, self.usage.size_bytes))
        try:
            self.telemetry.append(self._telemetry_waiting)
        except sqlite3.Error as error:
            self._telemetry_dropped(len(self._telemetry_waiting))
            self._failed(error)
        # Written, or dropped and counted: telemetry does not wait in memory for a disk.
        self._telemetry_waiting = []

    def _telemetry_dropped(self, rows: int) -> None:
        # State and birth say it to the county: they carry the count.
        self.telemetry.dropped += rows
        self.telemetry.position_changed = True

    def _tidy(self, now_ms: int) -> None:
        try:
            for outbox in (self.usage, self.telemetry):
                if outbox.prune(now_ms):
                    self._pruned()
                outbox.fold_log()
        except sqlite3.Error as error:
            self._failed(error)

    def _failed(self, error: sqlite3.Error) -> None:
        if not is_passing(error):
            raise SpoolBroken(str(error)) from error
        if not self.is_failing:
            log.error("the spool cannot be written; records wait in memory", agent=self._agent, error=str(error))
        self.is_failing = True

    def _telemetry_has_no_room(self) -> bool:
        """Whether the disk has only left what is reserved for usage."""
        real = time.monotonic()
        if real - self._looked_at_disk >= CHECKPOINT_EVERY_S:
            self._looked_at_disk = real
            self._disk_is_short = shutil.disk_usage(self._folder).free < self._limits.usage_reserve_bytes
        return self._disk_is_short
