"""What each chain holds when a month is locked: kept row by row beside the month, recomputed by verification for ever.

`charges` and `statements` are those of the month of posting (nothing joins them after the lock). The hash chains of use
(`usage:<agent>/<stream>`) and of the audit (`audit:<chain>`) are sealed up to the row where they stood.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import bindparam, case, func, select
from sqlalchemy.orm import Session

from store.canonical import GENESIS, sha256_hex
from store.ledger.chain import METRIC_RUNNING
from store.tables.audit import AuditEvent, ChainHead
from store.tables.charging import Charge, Statement, StatementState
from store.tables.disputes import MonthSeal
from store.tables.registry import Agent
from store.tables.usage import UsageEntry, UsageStream
from wire.messages import StreamKind

CHARGES, STATEMENTS, USAGE, AUDIT = "charges", "statements", "usage:", "audit:"

# Put together once: a close, and verification after it, asks this of every chain of every host.
POSTED = select(Charge.row_hash, Charge.total_fen).where(
    Charge.host_id == bindparam("host"), Charge.posting_month == bindparam("month")
)
"""Hash and amount of every charge that was posted into a host's month."""
_FINAL = select(Statement.content_sha256, Statement.total_fen).where(
    Statement.host_id == bindparam("host"),
    Statement.month == bindparam("month"),
    Statement.state == StatementState.FINAL.value,
)
_STREAM = (UsageEntry.agent_id == bindparam("agent"), UsageEntry.stream == bindparam("stream"))
_RUNNING_MS = case((UsageEntry.metric == METRIC_RUNNING, UsageEntry.quantity_ms), else_=0)
_USAGE = select(func.count(), func.max(UsageEntry.chain_seq), func.coalesce(func.sum(_RUNNING_MS), 0)).where(
    *_STREAM, UsageEntry.chain_seq <= bindparam("upto")
)
_USAGE_HEAD = select(UsageEntry.row_hash).where(*_STREAM, UsageEntry.chain_seq == bindparam("upto"))
_AUDIT = select(func.count(), func.max(AuditEvent.seq)).where(
    AuditEvent.chain_id == bindparam("chain"), AuditEvent.seq <= bindparam("upto")
)
_AUDIT_HEAD = select(AuditEvent.row_hash).where(
    AuditEvent.chain_id == bindparam("chain"), AuditEvent.seq == bindparam("upto")
)


@dataclass(frozen=True)
class ChainSeal:
    """Rows of a chain, the sum over them (fen; for use milliseconds; 0 for the audit) and their hash."""

    chain: str
    row_count: int
    row_sum: int
    sha256: str


def seal_chains(session: Session, host_id: str, month: int) -> list[ChainSeal]:
    """Compute and keep the seals of every chain of a host. The caller holds the month alone."""
    seals = [recompute(session, host_id, month, CHARGES, None), recompute(session, host_id, month, STATEMENTS, None)]
    streams = session.execute(
        select(UsageStream.agent_id, UsageStream.stream, UsageStream.chain_seq)
        .join(Agent, Agent.agent_id == UsageStream.agent_id)
        .where(Agent.host_id == host_id, UsageStream.kind == StreamKind.USAGE.value, UsageStream.chain_seq > 0)
        .order_by(UsageStream.agent_id, UsageStream.stream)
    )
    for agent_id, stream, seq in streams.all():
        seals.append(recompute(session, host_id, month, f"{USAGE}{agent_id}/{stream}", seq))
    heads = session.execute(select(ChainHead.chain_id, ChainHead.seq).where(ChainHead.chain_id == f"host:{host_id}"))
    for chain_id, seq in heads.all():
        seals.append(recompute(session, host_id, month, f"{AUDIT}{chain_id}", seq))
    session.add_all(
        MonthSeal(
            host_id=host_id,
            month=month,
            chain=seal.chain,
            row_count=seal.row_count,
            row_sum=seal.row_sum,
            sha256=seal.sha256,
        )
        for seal in seals
    )
    session.flush()
    return seals


def recompute(session: Session, host_id: str, month: int, chain: str, upto: int | None) -> ChainSeal:
    """Return what a chain holds now; of a hash chain its first `upto` rows. Raises ValueError for another chain."""
    if chain in (CHARGES, STATEMENTS):
        query = POSTED if chain == CHARGES else _FINAL
        rows = session.execute(query, {"host": host_id, "month": month})
        return _of_rows(chain, ((row[0], row[1]) for row in rows))
    if chain.startswith(USAGE):
        agent_id, _, stream = chain.removeprefix(USAGE).partition("/")
        asked: dict[str, object] = {"agent": agent_id, "stream": stream, "upto": upto}
        count, last, ms = session.execute(_USAGE, asked).one()
        head = session.execute(_USAGE_HEAD, asked | {"upto": last or 0}).scalar_one_or_none()
        return ChainSeal(chain, int(count), int(ms), GENESIS if head is None else head)
    if chain.startswith(AUDIT):
        asked = {"chain": chain.removeprefix(AUDIT), "upto": upto}
        count, last = session.execute(_AUDIT, asked).one()
        head = session.execute(_AUDIT_HEAD, asked | {"upto": last or 0}).scalar_one_or_none()
        return ChainSeal(chain, int(count), 0, GENESIS if head is None else head)
    raise ValueError(f"{chain!r} is no chain that a month seals")


def _of_rows(chain: str, rows: Iterable[tuple[str, int]]) -> ChainSeal:
    found = list(rows)
    text = "".join(f"{digest}\n" for digest in sorted(digest for digest, _ in found))
    return ChainSeal(chain, len(found), sum(fen for _, fen in found), sha256_hex(text.encode()))
