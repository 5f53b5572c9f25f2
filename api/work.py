"""One unit of work: the transaction, who asks and when. Every service function takes one and never commits.

Built by api/deps.py for a request, by the worker and the command line for a step; closed by whoever built it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from api.errors import forbidden
from store.audit import COUNTY_CHAIN, append_audit_event
from store.tables.accounts import Role


@dataclass(frozen=True)
class Actor:
    """Who acts: a person with roles, or a part of the system (no roles; name `system:…`)."""

    person_id: str
    name: str
    org_id: str
    roles: frozenset[Role]
    host_ids: frozenset[str]
    scopes: frozenset[str] = frozenset({"read", "write"})
    language: str = "zh"

    @property
    def is_system(self) -> bool:
        """Whether a part of the system acts by rule."""
        return self.person_id.startswith("system:")

    def has(self, *roles: Role) -> bool:
        """Whether the actor holds at least one of `roles`."""
        return not self.roles.isdisjoint(roles)

    def manages(self, host_id: str) -> bool:
        """Whether the actor is a lab manager of that host."""
        return Role.LAB_MANAGER in self.roles and host_id in self.host_ids


def system_actor(part: str) -> Actor:
    """The worker, the gateway or a command acting by rule rather than by a person's decision."""
    return Actor(f"system:{part}", f"system:{part}", "", frozenset(), frozenset())


@dataclass(frozen=True)
class Work:
    """A transaction with its actor and its instant (aware, from the process' clock, fixed for the whole unit)."""

    session: Session
    actor: Actor
    now: datetime

    def require(self, roles: Iterable[Role], what_zh: str, what_en: str) -> None:
        """Raise 403 unless the actor holds one of `roles`. The system's own parts may do what they are built to do."""
        wanted = tuple(roles)
        if self.actor.is_system or self.actor.has(*wanted):
            return
        listed = ", ".join(sorted(wanted))
        raise forbidden(
            f"您没有权限{what_zh},需要角色:{listed};请联系有该角色的人员。",
            f"You may not {what_en}; it takes the role {listed}; ask somebody who has it.",
            roles=listed,
        )

    def audit(
        self,
        action: str,
        subject: str,
        *,
        host_id: str | None,
        before: dict[str, Any] | None = None,
        after: dict[str, Any] | None = None,
    ) -> None:
        """Append to the host's audit chain (the county's where `host_id` is None), in this transaction; whom the event
        concerns is told."""
        # Late: what people are told is read from every domain, and all of them build on this module.
        from api.notices.matters import gather

        chain_id = COUNTY_CHAIN if host_id is None else f"host:{host_id}"
        seq = append_audit_event(
            self.session,
            chain_id=chain_id,
            at=self.now,
            actor=self.actor.person_id,
            action=action,
            subject=subject,
            before=before,
            after=after,
        )
        gather(self, chain_id, seq, action, subject, after)
