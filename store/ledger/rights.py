"""Which agent may speak for which instrument: read from the dated metering facts, judged before anything is stored."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.tables.registry import Agent, Instrument, Metering
from store.tables.usage import QuarantineReason
from wire.topics import AGENT_ITSELF


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
        if instrument_id == AGENT_ITSELF or instrument_id in rights.instruments:
            return None
        if instrument_id in self.instruments:
            return QuarantineReason.FOREIGN_INSTRUMENT
        return QuarantineReason.UNKNOWN_INSTRUMENT


def load_registry(session: Session, agent_ids: Iterable[str], instrument_ids: Iterable[str]) -> Registry:
    """Read what is known of some agents and instruments."""
    revoked: dict[str, bool] = {}
    speaks_for: dict[str, set[str]] = {}
    for agent, gone, instrument in session.execute(
        select(Agent.agent_id, Agent.revoked_at.is_not(None), Metering.instrument_id)
        .outerjoin(Metering, Metering.agent_id == Agent.agent_id)
        .where(Agent.agent_id.in_(set(agent_ids)))
    ):
        revoked[agent] = bool(gone)
        speaks_for.setdefault(agent, set()).update([instrument] if instrument is not None else ())
    known = set().union(*speaks_for.values())
    # Nearly always everybody speaks for his own, and there is nothing to look up.
    if others := set(instrument_ids) - known - {AGENT_ITSELF}:
        known |= set(session.scalars(select(Instrument.instrument_id).where(Instrument.instrument_id.in_(others))))
    return Registry(
        {agent: Rights(gone, frozenset(speaks_for[agent])) for agent, gone in revoked.items()}, frozenset(known)
    )
