"""What each chain holds when a month is locked: kept row by row beside the month, recomputed by verification for ever.

`charges` and `statements` are those of the month of posting (nothing joins them after the lock). The hash chains of use
(`usage:<agent>/<stream>`) and of the audit (`audit:<chain>`) are sealed up to the row where they stood.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import func, select
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
    if chain == CHARGES:
        charges = session.execute(
            select(Charge.row_hash, Charge.total_fen).where(Charge.host_id == host_id, Charge.posting_month == month)
        )
        return _of_rows(chain, ((row[0], row[1]) for row in charges))
    if chain == STATEMENTS:
        final = session.execute(
            select(Statement.content_sha256, Statement.total_fen).where(
                Statement.host_id == host_id,
                Statement.month == month,
                Statement.state == StatementState.FINAL.value,
            )
        )
        return _of_rows(chain, ((row[0], row[1]) for row in final))
    if chain.startswith(USAGE):
        agent_id, _, stream = chain.removeprefix(USAGE).partition("/")
        mine = (UsageEntry.agent_id == agent_id, UsageEntry.stream == stream, UsageEntry.chain_seq <= upto)
        count, last = session.execute(select(func.count(), func.max(UsageEntry.chain_seq)).where(*mine)).one()
        ms = session.execute(
            select(func.coalesce(func.sum(UsageEntry.quantity_ms), 0)).where(*mine, UsageEntry.metric == METRIC_RUNNING)
        ).scalar_one()
        head = session.get(UsageEntry, (agent_id, stream, last or 0))
        return ChainSeal(chain, int(count), int(ms), GENESIS if head is None else head.row_hash)
    if chain.startswith(AUDIT):
        chain_id = chain.removeprefix(AUDIT)
        count, last = session.execute(
            select(func.count(), func.max(AuditEvent.seq)).where(
                AuditEvent.chain_id == chain_id, AuditEvent.seq <= upto
            )
        ).one()
        event = session.get(AuditEvent, (chain_id, last or 0))
        return ChainSeal(chain, int(count), 0, GENESIS if event is None else event.row_hash)
    raise ValueError(f"{chain!r} is no chain that a month seals")


def _of_rows(chain: str, rows: Iterable[tuple[str, int]]) -> ChainSeal:
    found = list(rows)
    text = "".join(f"{digest}\n" for digest in sorted(digest for digest, _ in found))
    return ChainSeal(chain, len(found), sum(fen for _, fen in found), sha256_hex(text.encode()))
