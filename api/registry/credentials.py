"""An agent's registration and its login together: granted, renewed, taken away. In the caller's transaction, audited.

The registry decides whose word counts; the broker's files decide who may connect. The registry is changed first and the
files after its commit (`api.registry.commands`): a run that was cut short is completed by running it again.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from api.errors import conflict, invalid, not_found
from api.registry import service
from api.registry.broker_files import BrokerFiles
from api.work import Work
from store.tables.registry import Agent
from wire.broker_access import Role


@dataclass(frozen=True)
class Standing:
    """One name: as the registry and as the broker know it. `host_id` is None where it is not registered."""

    agent_id: str
    host_id: str | None
    has_login: bool
    revoked_at: datetime | None

    @property
    def state(self) -> str:
        """In one word, for a list."""
        if self.host_id is None:
            return "unregistered"
        if self.revoked_at is not None:
            return "revoked, login left" if self.has_login else "revoked"
        return "active" if self.has_login else "no login"


def standings(work: Work, files: BrokerFiles) -> list[Standing]:
    """Return every agent that the registry or the broker knows, by name. Gateways are no agents."""
    logins = {name for name, role in files.roles().items() if role is Role.AGENT}
    known = {agent.agent_id: agent for agent in work.session.scalars(select(Agent))}
    return [
        Standing(
            name,
            known[name].host_id if name in known else None,
            name in logins,
            known[name].revoked_at if name in known else None,
        )
        for name in sorted(logins | set(known))
    ]


def admit(work: Work, files: BrokerFiles, agent_id: str, host_id: str) -> bool:
    """Register the agent where it is new; return whether it needs a login (False: it has one, nothing is to be done).

    Raises 403, 404 for an unknown host, 422 `bad_wire_id`, 409 `agent_other_host`, `agent_revoked`, `login_taken`.
    """
    agent = work.session.get(Agent, agent_id)
    if agent is None:
        service.register_agent(work, agent_id, host_id)
    elif agent.host_id != host_id:
        raise conflict(
            "agent_other_host",
            f"采集终端 {agent_id} 属于 {agent.host_id},不属于 {host_id};请核对。",
            f"The agent {agent_id} belongs to {agent.host_id}, not to {host_id}; check both.",
            host_id=agent.host_id,
        )
    elif agent.revoked_at is not None:
        raise _revoked(agent_id)
    if _role(files, agent_id) is not None:
        return False
    work.audit("agent_credential_made", f"agent:{agent_id}", host_id=host_id)
    return True


def renew(work: Work, files: BrokerFiles, agent_id: str) -> None:
    """Note that the agent gets a new secret. Raises 403, 404, 409 `agent_revoked`, 422 `no_login`."""
    work.require(service.REGISTRARS, "更换采集终端凭据", "renew an agent's credential")
    agent = work.session.get(Agent, agent_id)
    if agent is None:
        raise not_found("采集终端", "agent", agent_id)
    if agent.revoked_at is not None:
        raise _revoked(agent_id)
    if _role(files, agent_id) is None:
        raise invalid(
            "no_login",
            f"采集终端 {agent_id} 尚无登录凭据;请先添加。",
            f"The agent {agent_id} has no login yet; add it first.",
            field="agent_id",
        )
    work.audit("agent_credential_rotated", f"agent:{agent_id}", host_id=agent.host_id)


def expel(work: Work, files: BrokerFiles, agent_id: str) -> None:
    """Revoke the agent; harmless where that was done before. Raises 403, 404, 409 `login_taken`.

    A login that no registration stands behind may be taken away too.
    """
    work.require(service.REGISTRARS, "停用采集终端", "revoke agents")
    role = _role(files, agent_id)
    agent = work.session.get(Agent, agent_id)
    if agent is not None:
        service.revoke_agent(work, agent_id)
    elif role is None:
        raise not_found("采集终端", "agent", agent_id)
    if role is not None:
        host_id = None if agent is None else agent.host_id
        work.audit("agent_credential_removed", f"agent:{agent_id}", host_id=host_id)


def is_revoked(work: Work, agent_id: str) -> bool:
    """Whether the agent was revoked before."""
    agent = work.session.get(Agent, agent_id)
    return agent is not None and agent.revoked_at is not None


def _role(files: BrokerFiles, name: str) -> Role | None:
    role = files.roles().get(name)
    if role is Role.GATEWAY:
        raise conflict(
            "login_taken",
            f"{name} 是网关的登录名;请换用采集终端的编号。",
            f"{name} is the login of a gateway; give that of an agent.",
            name=name,
        )
    return role


def _revoked(agent_id: str) -> Exception:
    return conflict(
        "agent_revoked",
        f"采集终端 {agent_id} 已停用;请使用新的编号。",
        f"The agent {agent_id} is revoked; give the new one another name.",
        agent_id=agent_id,
    )
