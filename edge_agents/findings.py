"""What `openlab-agent check` says of one thing that it looked at."""

from dataclasses import dataclass
from enum import StrEnum


class Grade(StrEnum):
    """`wrong` must be mended before the agent may be left alone; `warning` should be looked at."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it is, and what that means or what to do."""

    about: str
    grade: Grade
    sentence: str
