"""What contradicts the meterings in force: an agent that goes by another profile, one that was revoked. For the watch.

The profile of a metering is what its text says, hashed as the agent hashes its own: facts that were recorded when the
text itself was hashed are held against agents in the same way. Where it says no profile there is nothing to compare.
"""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.cause import Cause
from gateway.profiles import NamedProfiles
from store.liveness import InForce, meterings_in_force, unmetered
from store.tables.registry import Instrument, Metering, RunStatus
from wire.profiles import profile_sha256

PROFILE_DIFFERS, NOT_METERED = "profile_differs", "not_metered"


class MeteringWatch:
    """Finds what is wrong now. Remembers the hashes of the facts in force: facts do not change."""

    def __init__(self, named: Callable[[], NamedProfiles]) -> None:
        self._named = named
        self._hashes: dict[tuple[str, datetime], str | None] = {}

    def causes(self, session: Session, now: datetime) -> list[Cause]:
        """Return what is wrong, by instrument."""
        in_force = meterings_in_force(session, now)
        return [*self._other_profiles(session, in_force), *_not_metered(session, in_force)]

    def _other_profiles(self, session: Session, in_force: InForce) -> list[Cause]:
        named = self._named()
        hosts = _hosts(session)
        self._learn(session, in_force)
        causes = []
        for instrument, (agent, since) in in_force.items():
            if instrument not in hosts:
                continue
            of_metering = self._hashes[instrument, since]
            if agent not in named:
                # Its birth is still to come: what was found before is neither confirmed nor refuted.
                causes.append(Cause(PROFILE_DIFFERS, instrument, hosts[instrument], "", is_sure=False))
                continue
            of_agent = named[agent].get(instrument)
            if of_agent is not None and of_metering is not None and of_agent != of_metering:
                detail = (
                    f"agent {agent} goes by profile {of_agent}, the metering since {since.isoformat()} names"
                    f" {of_metering}: run `openlab-gateway configure {agent}`, or record a metering with the other one"
                )
                causes.append(Cause(PROFILE_DIFFERS, instrument, hosts[instrument], detail))
        return causes

    def _learn(self, session: Session, in_force: InForce) -> None:
        """Know the hash of every fact in force, and no others."""
        wanted = {(instrument, since) for instrument, (_, since) in in_force.items()}
        missing = wanted - self._hashes.keys()
        if missing:
            earliest = min(since for _, since in missing)
            rows = session.execute(
                select(Metering.instrument_id, Metering.effective_at, Metering.profile).where(
                    Metering.effective_at >= earliest
                )
            )
            self._hashes |= {(row[0], row[1]): profile_sha256(row[2]) for row in rows if (row[0], row[1]) in missing}
        self._hashes = {key: self._hashes[key] for key in wanted}


def _not_metered(session: Session, in_force: InForce) -> list[Cause]:
    return [
        Cause(
            NOT_METERED,
            one.instrument_id,
            one.host_id,
            f"its metering names agent {one.agent_id}, revoked {one.revoked_at.isoformat()}:"
            " record a metering with the agent that speaks for it now",
        )
        for one in unmetered(session, in_force)
    ]


def _hosts(session: Session) -> dict[str, str]:
    rows = session.execute(
        select(Instrument.instrument_id, Instrument.host_id).where(Instrument.run_status != RunStatus.RETIRED)
    )
    return {row[0]: row[1] for row in rows}
