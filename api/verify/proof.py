"""The audit chains: every event has its hash, follows from the one before, and says in its columns what is hashed."""

import json
from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.verify.finding import Finding
from store.audit import check_audit_chain
from store.tables.audit import AuditEvent, ChainHead
from wire.clock import to_ms


def audit_chains(session: Session) -> Iterator[Finding]:
    """See the head of this file."""
    for chain_id in session.execute(select(ChainHead.chain_id).order_by(ChainHead.chain_id)).scalars().all():
        broken = check_audit_chain(session, chain_id)
        if broken is not None:
            yield Finding("audit_event", f"{broken.chain_id}/{broken.seq}", broken.what)
            continue
        yield from _columns_differ(session, chain_id)


def _columns_differ(session: Session, chain_id: str) -> Iterator[Finding]:
    rows = session.execute(
        select(
            AuditEvent.seq, AuditEvent.at, AuditEvent.actor, AuditEvent.action, AuditEvent.subject, AuditEvent.body
        ).where(AuditEvent.chain_id == chain_id),
        execution_options={"yield_per": 1000},
    )
    for row in rows:
        said = json.loads(row.body)
        wanted = (said["seq"], said["at_ms"], said["actor"], said["action"], said["subject"])
        if (row.seq, to_ms(row.at), row.actor, row.action, row.subject) != wanted or said["chain"] != chain_id:
            yield Finding("audit_event", f"{chain_id}/{row.seq}", "its columns are not what its hashed body says")
