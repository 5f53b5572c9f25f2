"""Opens a spool file so that an agent always starts: what is sound is used, what is damaged is set aside and told.

One SQLite file a stream, held by one process with one connection. Used by `outbox` alone. A damaged file is never
repaired or deleted: it becomes `<name>.damaged-<n>` with its log beside it, and a new stream begins.
"""

import os
import sqlite3
import zlib
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from wire.ids import is_stream_id, new_ulid
from wire.messages import StreamKind

log = structlog.get_logger(__name__)

SCHEMA_VERSION = "1"
QUICK_CHECK_BELOW_BYTES = 100 * 1024 * 1024
_NOT_THE_FILE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN)

_SCHEMA = """
CREATE TABLE spool_rows (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, inst TEXT NOT NULL, payload BLOB NOT NULL,
    crc INTEGER NOT NULL, sha256 BLOB NOT NULL
);
CREATE TABLE spool_facts (name TEXT PRIMARY KEY, value TEXT NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID;
"""


class SpoolInUse(Exception):
    """Another process holds this spool: two writers would give one number to two records."""


class _Damaged(Exception):
    """The file cannot be trusted; the message says what was found."""


@dataclass(frozen=True)
class Lost:
    """What is known of a spool that was set aside: as much as could still be read."""

    kind: StreamKind
    reason: str
    file: str
    stream: str | None = None
    last_seq: int | None = None
    upto: int | None = None
    checkpoint: str | None = None


def fact_crc(name: str, value: str) -> int:
    """Return the check sum of one fact; it covers the name, so that no fact can stand in for another."""
    return zlib.crc32(f"{name}={value}".encode())


def row_crc(seq: int, inst: str, payload: bytes) -> int:
    """Return the check sum of one row, its number and instrument included."""
    return zlib.crc32(payload, zlib.crc32(f"{seq}/{inst}/".encode()))


def put_fact(connection: sqlite3.Connection, name: str, value: str) -> None:
    """Write one fact within the running transaction."""
    connection.execute("INSERT OR REPLACE INTO spool_facts VALUES (?, ?, ?)", (name, value, fact_crc(name, value)))


def read_facts(connection: sqlite3.Connection) -> dict[str, str]:
    """Return all facts. Raises _Damaged on a bad sum."""
    facts = {}
    for name, value, crc in connection.execute("SELECT name, value, crc FROM spool_facts").fetchall():
        if fact_crc(name, value) != crc:
            raise _Damaged(f"the fact {name!r} does not fit its check sum")
        facts[name] = value
    return facts


def open_spool(
    path: Path, kind: StreamKind, refuse: Callable[[str | None], str | None]
) -> tuple[sqlite3.Connection, dict[str, str], Lost | None]:
    """Open or create the spool at `path`; return it, its facts, and what was lost if a file had to be set aside.

    A file for whose checkpoint `refuse` gives a reason is set aside like a damaged one.
    Raises SpoolInUse where another process has it, OSError or sqlite3.OperationalError where the folder cannot be
    written at all.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lost = None
    if path.exists():
        try:
            return *_open_sound(path, kind, refuse), None
        except _Damaged as damage:
            lost = _set_aside(path, kind, str(damage))
            log.error("a spool file was damaged and set aside", file=lost.file, reason=lost.reason, stream=lost.stream)
    elif (orphan := _log_of(path)).exists():
        os.replace(orphan, _free_name(orphan))
    _create(path, kind)
    return *_open_sound(path, kind, lambda checkpoint: None), lost


def close_spool(connection: sqlite3.Connection, path: Path) -> None:
    """Close in an orderly way, with the log folded in."""
    with suppress(sqlite3.Error):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    release_spool(connection, path)


def release_spool(connection: sqlite3.Connection, path: Path) -> None:
    """Close as things are."""
    # Before the log goes: a kill in between must not look like a log that was lost.
    _mark(path).unlink(missing_ok=True)
    connection.close()


def _mark(path: Path) -> Path:
    return path.with_name(path.name + ".open")


def _log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=0.5, isolation_level=None, check_same_thread=False)
    # Exclusive: one writer by force, and no shared-memory file beside each of many spools.
    for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=256"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection


def _create(path: Path, kind: StreamKind) -> None:
    # Made under another name, so that a spool that exists is whole from its first moment.
    draft = path.with_name(path.name + ".new")
    for leftover in (draft, _log_of(draft)):
        leftover.unlink(missing_ok=True)
    connection = _connect(draft)
    try:
        connection.executescript(_SCHEMA)
        connection.execute("BEGIN IMMEDIATE")
        for name, value in (
            ("schema", SCHEMA_VERSION),
            ("kind", kind.value),
            ("stream", new_ulid()),
            ("last_seq", "0"),
        ):
            put_fact(connection, name, value)
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        connection.close()
    os.replace(draft, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _open_sound(
    path: Path, kind: StreamKind, refuse: Callable[[str | None], str | None]
) -> tuple[sqlite3.Connection, dict[str, str]]:
    if path.stat().st_size == 0:
        raise _Damaged("the file is empty")
    with path.open("rb") as file:
        if file.read(16) != b"SQLite format 3\0":
            raise _Damaged("the file does not begin like a database")
    if _mark(path).exists() and not _log_of(path).exists():
        # Its last holder was killed, so the log must be there. Without it numbers would be given twice.
        raise _Damaged("the write-ahead log is gone")
    connection = None
    try:
        connection = _connect(path)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("COMMIT")
        _check(connection, path, kind)
        facts = read_facts(connection)
        if (reason := refuse(facts.get("checkpoint"))) is not None:
            raise _Damaged(reason)
    except sqlite3.DatabaseError as error:
        if connection is not None:
            connection.close()
        if "locked" in str(error):
            raise SpoolInUse(f"{path} is held by another process; is this agent already running?") from None
        # The low byte of the extended code. A disk that is full or may not be written is not a damaged file.
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _NOT_THE_FILE:
            raise
        raise _Damaged(f"the database cannot be read: {error}") from None
    except _Damaged:
        if connection is not None:
            connection.close()
        raise
    _mark(path).touch()
    return connection, facts


def _check(connection: sqlite3.Connection, path: Path, kind: StreamKind) -> None:
    if path.stat().st_size < QUICK_CHECK_BELOW_BYTES:
        found = connection.execute("PRAGMA quick_check(1)").fetchall()
        if found != [("ok",)]:
            raise _Damaged(f"quick_check: {found[0][0]}")
    facts = read_facts(connection)
    if facts.get("schema") != SCHEMA_VERSION:
        raise _Damaged(f"the schema is {facts.get('schema')!r}, not {SCHEMA_VERSION!r}")
    if facts.get("kind") != kind.value or not is_stream_id(facts.get("stream", "")):
        raise _Damaged("it does not say which stream it is")
    [(highest,)] = connection.execute("SELECT coalesce(max(seq), 0) FROM spool_rows").fetchall()
    given = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'spool_rows'").fetchall()
    counted = given[0][0] if given else 0
    if not facts.get("last_seq", "").isdigit() or not int(facts["last_seq"]) == counted >= highest:
        raise _Damaged(f"its numbers contradict each other: {facts.get('last_seq')}, {counted}, {highest}")


def _free_name(path: Path) -> Path:
    n = 1
    while (name := path.with_name(f"{path.name}.damaged-{n}")).exists():
        n += 1
    return name


def _set_aside(path: Path, kind: StreamKind, reason: str) -> Lost:
    aside = _free_name(path)
    os.replace(path, aside)
    for suffix in ("-wal", "-shm"):
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            os.replace(beside, aside.with_name(aside.name + suffix))
    _mark(path).unlink(missing_ok=True)
    return _salvaged(aside, kind, reason)


def _salvaged(aside: Path, kind: StreamKind, reason: str) -> Lost:
    """Read what can still be believed of a damaged file, fact by fact, without changing it."""
    facts: dict[str, str] = {}
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{aside}?mode=ro&immutable=1", uri=True)) as connection:
        for name, value, crc in connection.execute("SELECT name, value, crc FROM spool_facts"):
            if isinstance(name, str) and isinstance(value, str) and fact_crc(name, value) == crc:
                facts[name] = value
    return Lost(
        kind=kind,
        reason=reason,
        file=aside.name,
        stream=facts.get("stream"),
        last_seq=int(facts["last_seq"]) if facts.get("last_seq", "").isdigit() else None,
        upto=int(facts["upto"]) if facts.get("upto", "").isdigit() else None,
        checkpoint=facts.get("checkpoint"),
    )
