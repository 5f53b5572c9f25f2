"""The hash chain of a usage stream: links over stored bytes, each covering the records since the link before it.

A link states what was concluded (a session's running time, unknown time, an event) or only covers ticks (`fold`),
which may then be dropped. Anyone with the rows can recompute it; `check_usage_chain` does.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol

from store.canonical import canonical_json, chain_hash
from store.ledger.memory import Pending
from store.tables.usage import EntryKind, UsageStream
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
    revision: int = 1


@dataclass(frozen=True)
class Fault:
    """The first row of a stream that does not hold, and why."""

    table: str
    key: str
    what: str


class ChainHead(Protocol):
    """A locked stream, as far as its chain goes; a link moves it on."""

    agent_id: str
    stream: str
    chain_seq: int
    chain_hash: str
    chained_upto: int


class ChainBuilder:
    """Adds links to one stream's chain; the caller holds the stream's row lock and writes the rows out."""

    def __init__(
        self, stream: ChainHead | UsageStream, recorded_by: str, recorded_at_ms: int, pending: Pending | None = None
    ) -> None:
        self._stream = stream
        self._recorded_by = recorded_by
        self._recorded_at_ms = recorded_at_ms
        self._digest = sha256() if pending is None else pending.digest.copy()
        self._covered = 0 if pending is None else pending.covered
        self.rows: list[dict[str, Any]] = []

    def cover(self, payload_sha256: str) -> None:
        """Take the next record (in the order of seq) into the digest of the link to come."""
        self._digest.update(payload_sha256.encode())
        self._covered += 1

    @property
    def covered(self) -> int:
        """How many records wait for a link."""
        return self._covered

    def pending(self, upto: int) -> Pending:
        """Return the digest of the records that wait for a link, of which `upto` is the last."""
        return Pending(self._stream.chained_upto, upto, self._digest.copy(), self._covered)

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
            "revision": statement.revision,
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
                "revision": statement.revision,
                "prev_revision": None if statement.revision == 1 else statement.revision - 1,
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
