"""The configuration the county wants: kept in the agent's folder, applied without touching the spools.

`judged` decides (pure); `Desired` remembers what was applied, so that a restart without a broker goes by it too.
An instrument that no configuration names keeps the profile of the settings file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
from pydantic import ValidationError

from edge_agents.command_book import write_durably
from edge_agents.commands import Refusal
from edge_agents.detector import DetectorProfile
from edge_agents.watch import Watched
from wire.commands import Config
from wire.errors import BadPayload
from wire.messages import decode, encode
from wire.profiles import ProfileSettings

log = structlog.get_logger(__name__)

CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class Verdict:
    """What to do with a configuration: apply these profiles, refuse it, or (both None) nothing, it is in force."""

    profiles: Mapping[str, DetectorProfile] | None = None
    refusal: Refusal | None = None


def judged(config: Config, agent: str, instruments: Sequence[str], applied: Config | None) -> Verdict:
    """Return what to do with a configuration that arrived. Pure; a refused one is refused whole."""
    if config.agent != agent:
        return Verdict(refusal=Refusal("other_agent", f"it is meant for {config.agent}"))
    if applied is not None and config.version == applied.version:
        if config.sha256 == applied.sha256:
            return Verdict()
        return Verdict(refusal=Refusal("same_version", f"version {config.version} was applied with other content"))
    if applied is not None and config.version < applied.version:
        return Verdict(refusal=Refusal("older", f"version {applied.version} is applied, {config.version} is older"))
    strangers = sorted(set(config.profiles) - set(instruments))
    if strangers:
        return Verdict(refusal=Refusal("unknown_instrument", f"this agent does not read {', '.join(strangers)}"))
    try:
        return Verdict(profiles={inst: profile_of(fields) for inst, fields in config.profiles.items()})
    except ValueError as error:
        return Verdict(refusal=Refusal("bad_profile", str(error).splitlines()[0]))


def profile_of(fields: Mapping[str, bool | int | float]) -> DetectorProfile:
    """Return the detector profile of a configuration's fields. Raises ValueError, naming the field."""
    try:
        return DetectorProfile(**ProfileSettings.model_validate(dict(fields)).model_dump())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None


class Desired:
    """The configuration in force, in one file of the agent's folder."""

    def __init__(self, path: Path, agent: str) -> None:
        """Read what was applied before. A file that is none of ours is left alone and does not count. Raises OSError
        where it may not be read."""
        self._path = path
        self._agent = agent
        self.applied: Config | None = None
        self._profiles: dict[str, DetectorProfile] = {}
        try:
            config = decode(Config, path.read_bytes())
            self._profiles = {inst: profile_of(fields) for inst, fields in config.profiles.items()}
            self.applied = config
        except FileNotFoundError:
            return
        except (BadPayload, ValueError) as error:
            log.error("the applied configuration cannot be read; the settings file counts", error=str(error))

    @property
    def version(self) -> int:
        """The version in force, 0 where none ever arrived."""
        return 0 if self.applied is None else self.applied.version

    def profile(self, inst: str) -> DetectorProfile | None:
        """Return the profile that the county wants for an instrument, None where the settings file counts."""
        return self._profiles.get(inst)

    def watched(self, settings: Sequence[Watched]) -> list[Watched]:
        """Return what is watched, with the profiles in force. The log says where that is not the settings file's."""
        for one in settings:
            profile = self.profile(one.inst)
            if profile is not None and profile.sha256 != one.profile.sha256:
                log.info(
                    "the county's configuration counts, not the profile of the settings file",
                    agent=self._agent,
                    inst=one.inst,
                    version=self.version,
                    on_w=profile.on_w,
                    on_w_of_file=one.profile.on_w,
                    profile=profile.sha256,
                )
        return [replace(one, profile=self.profile(one.inst) or one.profile) for one in settings]

    def keep(self, config: Config, profiles: Mapping[str, DetectorProfile]) -> None:
        """Write down, durably, what is applied from now on. Raises OSError: then nothing changed."""
        write_durably(self._path, encode(config).decode())
        self.applied, self._profiles = config, dict(profiles)
