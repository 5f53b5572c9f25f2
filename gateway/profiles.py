"""Which detector profile each agent says it goes by, as births and `config` records name it.

Fed by the usage pipe and read by the watch, on different threads; each call is short.

A birth says all of it, and is kept by the broker for a gateway that starts. A `config` record says one change; one that
waited in a backlog is older than the birth and says nothing new.
"""

from collections.abc import Mapping

from wire.messages import Birth, RecordKind, UsageRecord, timestamp_ms

NamedProfiles = Mapping[str, Mapping[str, str]]
"""By agent and instrument: the hash of the profile. An agent that is not in it has not been heard."""


class Profiles:
    """The newest word of each agent."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, Mapping[str, str]]] = {}

    def born(self, agent: str, birth: Birth) -> None:
        """Take a birth: it replaces whatever was said before."""
        self._known[agent] = (timestamp_ms(birth.ts), dict(birth.profiles))

    def told(self, agent: str, record: UsageRecord) -> None:
        """Take a record; one that names no profile, or is older than the birth, changes nothing."""
        if record.kind is not RecordKind.CONFIG or agent not in self._known:
            return
        born_ms, profiles = self._known[agent]
        inst, named = record.detail.get("inst"), record.detail.get("profile")
        if isinstance(inst, str) and isinstance(named, str) and timestamp_ms(record.ts) >= born_ms:
            self._known[agent] = (born_ms, {**profiles, inst: named})

    def known(self) -> NamedProfiles:
        """Return what each agent goes by."""
        return {agent: profiles for agent, (_, profiles) in list(self._known.items())}
