"""What an agent is told of messages that were set aside and hold no place in their stream. Pure; used by both pipes.

Most of what is set aside holds its place, and is acknowledged with the rest. What has no place to hold (the stream is
of the other kind, the agent is not known) is never acknowledged, so its agent keeps it: it should know why.
"""

from collections.abc import Iterable

from gateway.decode import Rejected
from store.tables.usage import QuarantineReason
from wire.commands import Refused

HOLDS_NO_PLACE = (QuarantineReason.WRONG_KIND, QuarantineReason.UNKNOWN_AGENT, QuarantineReason.REVOKED_AGENT)
TEXT_AT_MOST = 500


def refusals(rejected: Iterable[Rejected]) -> list[tuple[str, Refused]]:
    """Return (agent, what to tell it): one a stream and reason, of the lowest number."""
    found: dict[tuple[str, str, QuarantineReason], Refused] = {}
    for one in rejected:
        if one.agent is None or one.place is None or one.reason not in HOLDS_NO_PLACE:
            continue
        key = (one.agent, one.place.stream, one.reason)
        if key not in found or one.place.seq < found[key].seq:
            text = one.detail[:TEXT_AT_MOST]
            found[key] = Refused(stream=one.place.stream, seq=one.place.seq, reason=one.reason.value, text=text)
    return [(agent, refused) for (agent, _, _), refused in found.items()]
