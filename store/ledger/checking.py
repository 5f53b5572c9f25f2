"""Recompute a stream's records and its hash chain. Called by `openlab verify`, tests and whoever wants to be sure."""

import json
from hashlib import sha256

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.canonical import GENESIS, chain_hash
from store.ledger.chain import Fault, columns_of
from store.ledger.refolding import FoldedTicks, folded_ticks, stored_records
from store.ledger.streams import StreamKey
from store.tables.usage import UsageEntry, UsageRecordRow, UsageStream


def check_usage_chain(session: Session, agent_id: str, stream: str) -> Fault | None:
    """Recompute one stream's records and chain; return the first row that does not hold, None where all do.

    Ticks may be absent where a link of the chain says so: what was kept there has the digest that this link states.
    """
    key = (agent_id, stream)
    head = session.get(UsageStream, key)
    if head is None:
        return Fault("usage_stream", f"{agent_id}/{stream}", "there is no such stream")
    folded = folded_ticks(session, key)
    folded_upto = folded.upto if folded is not None else 0
    previous, expected, covered_to = GENESIS, 1, 0
    links = session.scalars(
        select(UsageEntry)
        .where(UsageEntry.agent_id == agent_id, UsageEntry.stream == stream)
        .order_by(UsageEntry.chain_seq)
    )
    for link in links:
        name = f"{agent_id}/{stream}/{link.chain_seq}"
        if link.chain_seq != expected:
            return Fault("usage_entry", f"{agent_id}/{stream}/{expected}", "the link is missing")
        if link.prev_hash != previous or link.row_hash != chain_hash(previous, link.body):
            return Fault("usage_entry", name, "its hash does not follow from its bytes and the link before")
        for column, value in columns_of(json.loads(link.body)).items():
            if getattr(link, column) != value:
                return Fault("usage_entry", name, f"column {column} differs from the hashed body")
        may_lack = link.last_seq <= folded_upto
        fault = _check_records(session, key, covered_to, link.last_seq, link.records_sha256, name, may_lack=may_lack)
        if fault is not None:
            return fault
        previous, expected, covered_to = link.row_hash, expected + 1, link.last_seq
    if (head.chain_hash, head.chain_seq, head.chained_upto) != (previous, expected - 1, covered_to):
        return Fault("usage_stream", f"{agent_id}/{stream}", "the chain's head does not match its last link")
    fault = _check_records(session, key, covered_to, head.upto, None, f"{agent_id}/{stream}", may_lack=False)
    return fault if fault is not None or folded is None else _check_kept(session, key, folded)


def _check_records(
    session: Session, key: StreamKey, after_seq: int, to_seq: int, digest: str | None, name: str, *, may_lack: bool
) -> Fault | None:
    rows = session.execute(
        select(UsageRecordRow.seq, UsageRecordRow.payload, UsageRecordRow.payload_sha256)
        .where(
            UsageRecordRow.agent_id == key[0],
            UsageRecordRow.stream == key[1],
            UsageRecordRow.seq > after_seq,
            UsageRecordRow.seq <= to_seq,
        )
        .order_by(UsageRecordRow.seq)
        .execution_options(yield_per=1000)
    )
    running, seen = sha256(), 0
    for row in rows:
        if sha256(row.payload).hexdigest() != row.payload_sha256:
            return Fault("usage_record", f"{key[0]}/{key[1]}/{row.seq}", "its bytes do not have the stored hash")
        running.update(row.payload_sha256.encode())
        seen += 1
    missing = to_seq - after_seq - seen
    if missing and not may_lack:
        return Fault("usage_record", name, f"{missing} records of {after_seq + 1}..{to_seq} are missing")
    if not missing and digest is not None and running.hexdigest() != digest:
        return Fault("usage_entry", name, "the records it covers do not have its digest")
    return None


def _check_kept(session: Session, key: StreamKey, folded: FoldedTicks) -> Fault | None:
    running, seen = sha256(), 0
    for row in stored_records(session, key, folded.upto):
        running.update(row.payload_sha256.encode())
        seen += 1
    if (seen, running.hexdigest()) != (folded.kept, folded.kept_sha256):
        what = f"what was kept up to {folded.upto} is not what the chain states: {seen} records, stated {folded.kept}"
        return Fault("usage_record", f"{key[0]}/{key[1]}", what)
    return None
