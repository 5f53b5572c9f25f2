"""What a check is and what it says. A check reads a session and yields rows that do not hold, the first one first."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy.orm import Session


@dataclass(frozen=True)
class Finding:
    """One row that does not hold: which, and what is wrong with it."""

    table: str
    key: str
    what: str


Check = Callable[[Session], Iterator[Finding]]


@dataclass(frozen=True)
class NamedCheck:
    """A check with the name it is reported under."""

    name: str
    run: Check


@dataclass(frozen=True)
class Outcome:
    """How a check ended: `finding` is the first row that does not hold, None where all do."""

    name: str
    finding: Finding | None
