"""A detector profile as it is written down, and the one hash by which everybody cites it.

Agents read it from settings and configurations, the registry from the text of a metering; both hash the same canonical
JSON, so that what an agent goes by can be held against what was recorded.
"""

import hashlib
import json

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class ProfileSettings(BaseModel):
    """A detector profile written out, as commissioning found it: watts and milliseconds."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    on_w: float
    off_w: float
    standby_w: float
    up_ms: int = Field(10_000, ge=0)
    down_ms: int = Field(60_000, ge=0)
    max_hole_ms: int = Field(30_000, ge=1)
    level_ms: int = Field(10_000, ge=0)
    narrow: bool = False
    version: int = 1

    def canonical(self) -> str:
        """Return the one JSON text of this profile: every field, sorted, watts with a fraction."""
        return json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":"))

    @property
    def sha256(self) -> str:
        """Return the hash by which records and people cite this profile, in hexadecimal."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()


def profile_sha256(text: str) -> str | None:
    """Return the hash of the profile that a text says, however it is written; None where it says none."""
    try:
        return ProfileSettings.model_validate_json(text).sha256
    except ValidationError:
        return None
