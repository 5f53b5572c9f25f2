"""Something that is so now and should not be: what the gateway's watch finds and makes an alert of."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cause:
    """`owner` is the host that it concerns. Not sure: nothing is raised, and what is open stays open."""

    rule: str
    subject: str
    owner: str
    detail: str
    is_sure: bool = True
