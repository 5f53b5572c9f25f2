"""What is lost with an agent that is revoked now, and what to do first: for the endpoint and `openlab agents revoke`.

Revoking is for good and at once: what the agent has not delivered is not taken in afterwards, whenever it was used.
"""

from dataclasses import dataclass

from api.registry import repository
from api.work import Work
from store.liveness import meterings_in_force


@dataclass(frozen=True)
class Caution:
    """One thing that is lost, in both languages, with what to do first."""

    code: str
    zh: str
    en: str


def cautions(work: Work, agent_id: str) -> list[Caution]:
    """Return what revoking this agent costs: `backlog` it still has, `still_metering` instruments. Reads only."""
    found = []
    status = repository.agent_status(work.session, agent_id)
    if status is not None and status.queued > 0:
        found.append(
            Caution(
                "backlog",
                f"采集终端 {agent_id} 最近报告仍有 {status.queued} 条记录未送达,停用后不再接收;"
                "请先恢复其网络,待其送完(待送为 0)再停用。",
                f"{agent_id} last said that {status.queued} records wait at it; once it is revoked they are not taken"
                " in. First let it send them: give it its network until none waits.",
            )
        )
    in_force = meterings_in_force(work.session, work.now)
    metered = sorted(instrument for instrument, (agent, _) in in_force.items() if agent == agent_id)
    if metered:
        named = ", ".join(metered)
        found.append(
            Caution(
                "still_metering",
                f"仪器 {named} 的现行计量关系仍为采集终端 {agent_id},停用后其使用不再计量;请先为其登记由其他终端计量。",
                f"{agent_id} speaks for {named}: from then on nobody meters that. First record the metering that"
                " follows, with another agent.",
            )
        )
    return found
