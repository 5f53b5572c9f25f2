"""Which holes of which streams are old enough to be asked for again. Pure state, no thread, no database.

A hole is known by its end: the record above it came, those below did not. It stays the same hole while it shrinks.
Times are the machine's own. Used by `gateway.replays`.
"""

from collections.abc import Sequence

from store.ledger.streams import StreamKey

Ranges = Sequence[tuple[int, int]]
MAX_STREAMS = 10_000


class HoleBook:
    """When each hole was first seen and each stream last asked. Not safe for threads: the caller locks."""

    def __init__(self, *, after_s: float, every_s: float) -> None:
        """`after_s`: how old a hole is before it is asked for; `every_s`: how often one stream is asked at most."""
        self._after_s = after_s
        self._every_s = every_s
        self._seen: dict[StreamKey, dict[int, float]] = {}
        self._asked: dict[StreamKey, float] = {}

    def note(self, key: StreamKey, upto: int, holes: Ranges, now: float) -> None:
        """Take what a commit said of a stream. No holes said means nothing: a commit does not always look."""
        known = self._seen.get(key)
        if known is None:
            if not holes or len(self._seen) >= MAX_STREAMS:
                return
            known = self._seen.setdefault(key, {})
        for _, end in holes:
            known.setdefault(end, now)
        for end in [end for end in known if end <= upto]:
            del known[end]
        if not known:
            self._forget(key)

    def due(self, now: float) -> list[StreamKey]:
        """Return the streams with a hole that is old enough and that were not asked a moment ago."""
        return sorted(
            key
            for key, ends in self._seen.items()
            if min(ends.values()) <= now - self._after_s and self._asked.get(key, -1e18) <= now - self._every_s
        )

    def to_ask(self, key: StreamKey, holes: Ranges, now: float) -> list[tuple[int, int]]:
        """Return which of a stream's true holes to ask for now, and remember that it was done."""
        known = self._seen.get(key, {})
        current = {end: known.get(end, now) for _, end in holes}
        if not current:
            self._forget(key)
            return []
        self._seen[key] = current
        self._asked[key] = now
        return [(first, end) for first, end in holes if current[end] <= now - self._after_s]

    def _forget(self, key: StreamKey) -> None:
        self._seen.pop(key, None)
        self._asked.pop(key, None)
