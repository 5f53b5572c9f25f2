"""The hash chain of a usage stream: links over stored bytes, each covering the records since the link before it.

A link states what was concluded (a session's running time, unknown time, an event) or only covers ticks (`fold`),
which may then be dropped. Anyone with the rows can recompute it; `check_usage_chain` does.
"""

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.canonical import GENESIS, canonical_json, chain_hash
from store.tables.usage import EntryKind, UsageEntry, UsageRecordRow, UsageStream
from wire.clock import from_ms

METRIC_RUNNING = "running_ms"
LINK_AFTER_RECORDS = 256


@dataclass(frozen=True)
class Statement:
    """What a link states besides the records it covers."""

    kind: EntryKind
    instrument_id: str | None
    session_id: str | None
    metric: str | None
    quantity_ms: int
    from_ms: int
    to_ms: int
    reason: str


@dataclass(frozen=True)
class Fault:
    """The first row of a stream that does not hold, and why."""

    table: str
    key: str
    what: str


class ChainBuilder:
    """Adds links to one stream's chain; the caller holds the stream's row lock and writes the rows out."""

    def __init__(self, stream: UsageStream, recorded_by: str, recorded_at_ms: int) -> None:
        self._stream = stream
        self._recorded_by = recorded_by
        self._recorded_at_ms = recorded_at_ms
        self._digest = sha256()
        self._covered = 0
        self.rows: list[dict[str, Any]] = []

    def cover(self, payload_sha256: str) -> None:
        """Take the next record (in the order of seq) into the digest of the link to come."""
        self._digest.update(payload_sha256.encode())
        self._covered += 1

    @property
    def covered(self) -> int:
        """How many records wait for a link."""
        return self._covered

    def link(self, last_seq: int, statement: Statement) -> None:
        """Append a link that covers all records up to `last_seq` that no earlier link covers."""
        stream = self._stream
        fields: dict[str, Any] = {
            "agent": stream.agent_id,
            "stream": stream.stream,
            "chain_seq": stream.chain_seq + 1,
            "kind": statement.kind.value,
            "last_seq": last_seq,
            "records_sha256": self._digest.hexdigest(),
            "instrument": statement.instrument_id,
            "session": statement.session_id,
            "metric": statement.metric,
            "revision": 1,
            "quantity_ms": statement.quantity_ms,
            "from_ms": statement.from_ms,
            "to_ms": statement.to_ms,
            "reason": statement.reason,
            "recorded_by": self._recorded_by,
            "recorded_at_ms": self._recorded_at_ms,
        }
        body = canonical_json(fields)
        row_hash = chain_hash(stream.chain_hash, body)
        self.rows.append(
            {
                "agent_id": stream.agent_id,
                "stream": stream.stream,
                "chain_seq": stream.chain_seq + 1,
                "kind": statement.kind.value,
                "last_seq": last_seq,
                "records_sha256": fields["records_sha256"],
                "instrument_id": statement.instrument_id,
                "session_id": statement.session_id,
                "metric": statement.metric,
                "revision": 1,
                "prev_revision": None,
                "quantity_ms": statement.quantity_ms,
                "from_at": from_ms(statement.from_ms),
                "to_at": from_ms(statement.to_ms),
                "reason": statement.reason,
                "recorded_by": self._recorded_by,
                "recorded_at": from_ms(self._recorded_at_ms),
                "body": body,
                "prev_hash": stream.chain_hash,
                "row_hash": row_hash,
            }
        )
        stream.chain_seq += 1
        stream.chain_hash = row_hash
        stream.chained_upto = last_seq
        self._digest = sha256()
        self._covered = 0


def columns_of(body: dict[str, Any]) -> dict[str, Any]:
    """Return the columns that a link's row must hold for its hashed body to be true of it."""
    renamed = {"agent": "agent_id", "instrument": "instrument_id", "session": "session_id"}
    columns = {renamed.get(name, name): value for name, value in body.items()}
    for name in ("from", "to", "recorded_at"):
        moment = columns.pop(f"{name}_ms")
        columns[name if name == "recorded_at" else f"{name}_at"] = from_ms(moment)
    return columns


def check_usage_chain(session: Session, agent_id: str, stream: str) -> Fault | None:
    """Recompute one stream's records and chain; return the first row that does not hold, None where all do.

    Ticks may have been dropped below the last link: then their digest stands for them.
    """
    head = session.get(UsageStream, (agent_id, stream))
    if head is None:
        return Fault("usage_stream", f"{agent_id}/{stream}", "there is no such stream")
    previous, expected, covered_to = GENESIS, 1, 0
    links = session.scalars(
        select(UsageEntry)
        .where(UsageEntry.agent_id == agent_id, UsageEntry.stream == stream)
        .order_by(UsageEntry.chain_seq)
    )
    for link in links:
        key = f"{agent_id}/{stream}/{link.chain_seq}"
        if link.chain_seq != expected:
            return Fault("usage_entry", f"{agent_id}/{stream}/{expected}", "the link is missing")
        if link.prev_hash != previous or link.row_hash != chain_hash(previous, link.body):
            return Fault("usage_entry", key, "its hash does not follow from its bytes and the link before")
        for column, value in columns_of(json.loads(link.body)).items():
            if getattr(link, column) != value:
                return Fault("usage_entry", key, f"column {column} differs from the hashed body")
        fault = _check_records(session, agent_id, stream, covered_to, link.last_seq, link.records_sha256, key)
        if fault is not None:
            return fault
        previous, expected, covered_to = link.row_hash, expected + 1, link.last_seq
    if (head.chain_hash, head.chain_seq, head.chained_upto) != (previous, expected - 1, covered_to):
        return Fault("usage_stream", f"{agent_id}/{stream}", "the chain's head does not match its last link")
    return _check_records(session, agent_id, stream, covered_to, head.upto, None, f"{agent_id}/{stream}")


def _check_records(
    session: Session, agent_id: str, stream: str, after_seq: int, to_seq: int, digest: str | None, key: str
) -> Fault | None:
    rows = session.execute(
        select(UsageRecordRow.seq, UsageRecordRow.payload, UsageRecordRow.payload_sha256)
        .where(
            UsageRecordRow.agent_id == agent_id,
            UsageRecordRow.stream == stream,
            UsageRecordRow.seq > after_seq,
            UsageRecordRow.seq <= to_seq,
        )
        .order_by(UsageRecordRow.seq)
        .execution_options(yield_per=1000)
    )
    running, seen = sha256(), 0
    for row in rows:
        if sha256(row.payload).hexdigest() != row.payload_sha256:
            return Fault("usage_record", f"{agent_id}/{stream}/{row.seq}", "its bytes do not have the stored hash")
        running.update(row.payload_sha256.encode())
        seen += 1
    if seen == to_seq - after_seq:
        if digest is not None and running.hexdigest() != digest:
            return Fault("usage_entry", key, "the records it covers do not have its digest")
    elif digest is None:
        return Fault("usage_record", key, f"{to_seq - after_seq - seen} records after the last link are missing")
    return None
