"""What a gateway remembers between two commits: the running digests of records that no chain link covers yet.

Without it every commit would read up to 255 hashes of every stream again. It is only a shortcut: an entry counts
where the locked stream stands exactly where the entry was made and committed, else the hashes are read.
"""

from dataclasses import dataclass
from typing import Any

from store.ledger.streams import StreamKey

MAX_STREAMS = 50_000


@dataclass(frozen=True)
class Pending:
    """The digest over the records in (chained_upto, upto] of one stream. `digest` is a hash object, never updated."""

    chained_upto: int
    upto: int
    digest: Any
    covered: int


class ChainMemory:
    """Pending digests by stream. Give a commit's `pending` to `keep` after the transaction has committed, not before:
    what was rolled back must not be remembered. For one thread."""

    def __init__(self) -> None:
        self._pending: dict[StreamKey, Pending] = {}

    def find(self, key: StreamKey, chained_upto: int, upto: int) -> Pending | None:
        """Return the pending digest of a stream that stands at these marks, None where it is not remembered."""
        found = self._pending.get(key)
        return found if found is not None and (found.chained_upto, found.upto) == (chained_upto, upto) else None

    def keep(self, pending: dict[StreamKey, Pending]) -> None:
        """Remember what a committed transaction left."""
        if len(self._pending) > MAX_STREAMS:
            self._pending.clear()
        self._pending |= pending
