"""Which agent may speak for which instrument: read from the dated metering facts, judged before anything is stored."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.tables.registry import Agent, Instrument, Metering
from store.tables.usage import QuarantineReason


@dataclass(frozen=True)
class Rights:
    """What one agent may report. `instruments` are those it speaks for by any metering fact, old ones included:
    records that waited at the agent while its meter was moved are still its own."""

    revoked: bool
    instruments: frozenset[str]


@dataclass(frozen=True)
class Registry:
    """The facts needed to judge a batch."""

    agents: dict[str, Rights]
    instruments: frozenset[str]

    def refusal(self, agent_id: str, instrument_id: str) -> QuarantineReason | None:
        """Return why this agent's word about this instrument (`_`: itself) is not taken; None where it is."""
        rights = self.agents.get(agent_id)
        if rights is None:
            return QuarantineReason.UNKNOWN_AGENT
        if rights.revoked:
            return QuarantineReason.REVOKED_AGENT
        if instrument_id == "_" or instrument_id in rights.instruments:
            return None
        if instrument_id in self.instruments:
            return QuarantineReason.FOREIGN_INSTRUMENT
        return QuarantineReason.UNKNOWN_INSTRUMENT


def load_registry(session: Session, agent_ids: Iterable[str], instrument_ids: Iterable[str]) -> Registry:
    """Read what is known of some agents and instruments."""
    agents = set(agent_ids)
    revoked = {
        row.agent_id: row.revoked
        for row in session.execute(
            select(Agent.agent_id, Agent.revoked_at.is_not(None).label("revoked")).where(Agent.agent_id.in_(agents))
        )
    }
    speaks_for: dict[str, set[str]] = {agent: set() for agent in revoked}
    for agent, instrument in session.execute(
        select(Metering.agent_id, Metering.instrument_id).where(Metering.agent_id.in_(agents)).distinct()
    ):
        speaks_for[agent].add(instrument)
    known = session.scalars(
        select(Instrument.instrument_id).where(Instrument.instrument_id.in_(set(instrument_ids)))
    ).all()
    return Registry(
        {agent: Rights(bool(gone), frozenset(speaks_for[agent])) for agent, gone in revoked.items()}, frozenset(known)
    )
