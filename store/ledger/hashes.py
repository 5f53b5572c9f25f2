"""Read the hashes of stored usage records by where they stand in their streams, through the key and never past it.

Used by store.ledger.records (is this a repeat?) and store.ledger.loading (what does no link cover yet?). The ledger may
hold millions of records; what this costs follows from what is asked for alone.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import BigInteger, String, and_, select
from sqlalchemy.orm import Session
from sqlalchemy.types import TypeEngine

from store.keyed import KEYS_AT_ONCE, keys_to_join
from store.tables.usage import UsageRecordRow

Run = tuple[str, str, int, int]
"""Agent, stream, first and last seq: the records between, both ends among them."""

_COLUMNS: Mapping[str, TypeEngine[Any]] = {
    "agent_id": String(),
    "stream": String(),
    "first_seq": BigInteger(),
    "last_seq": BigInteger(),
}


def runs_of(keys: Iterable[tuple[str, str, int]]) -> list[Run]:
    """Return keys (agent, stream, seq) as few runs without gaps, in order."""
    runs: list[Run] = []
    for agent, stream, seq in sorted(set(keys)):
        if runs and runs[-1][:2] == (agent, stream) and runs[-1][3] == seq - 1:
            runs[-1] = (agent, stream, runs[-1][2], seq)
        else:
            runs.append((agent, stream, seq, seq))
    return runs


def stored_hashes(session: Session, runs: Sequence[Run]) -> Iterator[tuple[str, str, int, str]]:
    """Yield agent, stream, seq and SHA-256 of every record stored in these runs, those of a stream in the order of seq
    where its runs are in order."""
    for start in range(0, len(runs), KEYS_AT_ONCE):
        wanted = keys_to_join(_COLUMNS, runs[start : start + KEYS_AT_ONCE])
        rows = session.execute(
            select(UsageRecordRow.agent_id, UsageRecordRow.stream, UsageRecordRow.seq, UsageRecordRow.payload_sha256)
            .join(
                wanted,
                and_(
                    UsageRecordRow.agent_id == wanted.c.agent_id,
                    UsageRecordRow.stream == wanted.c.stream,
                    UsageRecordRow.seq.between(wanted.c.first_seq, wanted.c.last_seq),
                ),
            )
            .order_by(UsageRecordRow.agent_id, UsageRecordRow.stream, UsageRecordRow.seq)
        )
        for row in rows:
            yield row[0], row[1], row[2], row[3]
