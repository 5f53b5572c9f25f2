"""The catalogue in memory: what every entry says, where it counts, and in which order. No database, no clock.

An entry that changes is put in anew at the end and its old place is dead; after many changes the owner loads afresh
(`is_worn`). Sets of entries are integers used as bits. Not for several threads at once: the owner has the lock.
"""

import heapq
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from api.registry.opening import Opening
from api.registry.search_terms import Bits, Field, Terms
from api.registry.search_text import Token
from api.registry.slot_terms import SlotTerms

WORN_MIN = 2000
LIVE_UNKNOWN = "unknown"

Price = tuple[int, int]
"""The rank of its unit, and fen."""
PRICE_UNITS = ("hour", "day", "sample", "piece", "item", "batch")


@dataclass(frozen=True, slots=True)
class Schedule:
    """The terms of booking that many instruments share; without the special days, which are the host's."""

    week: str
    lead_minutes: int
    horizon_days: int
    min_slot_minutes: int
    max_slot_minutes: int
    step_minutes: int
    buffer_minutes: int

    def terms(self, special: Mapping[str, int | None]) -> SlotTerms:
        """Return the terms with a host's special days."""
        return SlotTerms(
            Opening(self.week, special),
            self.lead_minutes,
            self.horizon_days,
            self.min_slot_minutes,
            self.max_slot_minutes,
            self.step_minutes,
            self.buffer_minutes,
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """One instrument as the catalogue knows it. Texts are folded; `facets` are (facet, value) pairs.

    `bookable`: working and open to others. `price` is in force at the instant of loading.
    """

    instrument_id: str
    host_id: str
    schedule: Schedule
    texts: tuple[tuple[Field, str], ...]
    facets: tuple[tuple[str, str], ...]
    bookable: bool
    price: Price | None


@dataclass(frozen=True)
class Group:
    """Entries with the same terms of booking and the same special days (of one host, or the county's alone)."""

    schedule: Schedule
    host_id: str | None
    bits: Bits = field(default_factory=Bits)


class SearchIndex:
    """Entries by position. What is asked for and given are sets of positions as bits."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.terms = Terms()
        self._entries: list[Entry | None] = []
        self._position: dict[str, int] = {}
        self._sorted = 0
        self._tail: list[tuple[str, int]] = []
        self._alive, self._bookable = Bits(), Bits()
        self._facets: dict[str, dict[str, Bits]] = {}
        self._prices: list[tuple[int, int, str, int]] = []
        self._groups: dict[tuple[Schedule, str | None], Group] = {}
        self._own_days: frozenset[str] = frozenset()
        self._live: dict[str, str] = {}

    @property
    def size(self) -> int:
        """Return how many positions there are, dead ones included."""
        return len(self.ids)

    @property
    def is_worn(self) -> bool:
        """Whether so much was changed that loading afresh is worth it."""
        loose = len(self._tail) + self.size - len(self._position)
        return loose > max(WORN_MIN, self.size // 10)

    def load(self, entries: Iterable[Entry]) -> None:
        """Fill an empty index; in the order of the ids."""
        prices = []
        for entry in sorted(entries, key=lambda each: each.instrument_id):
            position = self._put(entry)
            if entry.price is not None:
                prices.append((*entry.price, entry.instrument_id, position))
        self._prices = sorted(prices)
        self._sorted = self.size

    def change(self, instrument_id: str, entry: Entry | None) -> None:
        """Replace an entry, add one, or (None) take one out."""
        old = self._position.pop(instrument_id, None)
        if old is not None:
            self._alive.drop(old)
            self._bookable.drop(old)
            self._entries[old] = None
        if entry is not None:
            position = self._put(entry)
            insort(self._tail, (instrument_id, position))
            if entry.price is not None:
                insort(self._prices, (*entry.price, instrument_id, position))

    def set_own_days(self, host_ids: frozenset[str]) -> None:
        """Say which hosts have special days of their own: their instruments are open at times of their own."""
        if host_ids != self._own_days:
            self._own_days = host_ids
            self._groups = {}
            for position, entry in enumerate(self._entries):
                if entry is not None:
                    self._group(entry, position)

    def set_live(self, states: Mapping[str, str]) -> None:
        """Say what instruments are doing; of those that are not named nothing new is known."""
        facet = self._facets.setdefault("live", {})
        for instrument_id, state in states.items():
            position, before = self._position.get(instrument_id), self._live.get(instrument_id, LIVE_UNKNOWN)
            self._live[instrument_id] = state
            if position is not None and before != state:
                facet.setdefault(before, Bits()).drop(position)
                facet.setdefault(state, Bits()).add(position)

    def everything(self) -> int:
        """Return all entries."""
        return self._alive.mask()

    def at(self, instrument_ids: Iterable[str]) -> int:
        """Return the entries with these ids."""
        bits = Bits()
        for key in instrument_ids:
            if key in self._position:
                bits.add(self._position[key])
        return bits.mask()

    def bookable(self) -> int:
        """Return the entries that can be booked at all."""
        return self._bookable.mask() & self._alive.mask()

    def with_any(self, facet: str, values: Iterable[str]) -> int:
        """Return the entries that have one of these values."""
        known = self._facets.get(facet, {})
        found = 0
        for value in values:
            if value in known:
                found |= known[value].mask()
        return found & self._alive.mask()

    def counts(self, facet: str, under: int) -> dict[str, int]:
        """Return how many of the entries `under` have each value; values that none has are left out."""
        counted = {value: (bits.mask() & under).bit_count() for value, bits in self._facets.get(facet, {}).items()}
        return {value: count for value, count in counted.items() if count}

    def ranked(self, tokens: Sequence[Token]) -> list[tuple[int, int]]:
        """Return the entries that have all the words, best first: (rank, entries), the worst word's rank counts."""
        best: list[tuple[int, int]] | None = None
        for token in tokens:
            masks = self.terms.find(token, self.size)
            own, above = [], 0
            for rank in sorted(masks, reverse=True):
                own.append((rank, masks[rank] & ~above))
                above |= masks[rank]
            best = own if best is None else _both(best, own)
        alive = self._alive.mask()
        return [(rank, found & alive) for rank, found in best or [] if found & alive]

    def groups(self) -> list[Group]:
        """Return the groups of entries with the same terms of booking."""
        return list(self._groups.values())

    def entry(self, instrument_id: str) -> Entry | None:
        """Return an entry by id."""
        position = self._position.get(instrument_id)
        return None if position is None else self._entries[position]

    def buffer_ms(self, instrument_id: str) -> int:
        """Return how long an instrument rests after a slot."""
        entry = self.entry(instrument_id)
        return 0 if entry is None else entry.schedule.buffer_minutes * 60_000

    def in_order(self, chosen: int, after: str = "") -> Iterator[str]:
        """Yield the ids of the entries chosen, in their order, those after `after`."""
        bits = chosen.to_bytes((self.size >> 3) + 1, "little")
        start = bisect_right(self.ids, after, 0, self._sorted)
        main = (self.ids[place] for place in _places(bits, start, self._sorted))
        tail_from = bisect_right(self._tail, after, key=lambda each: each[0])
        tail = (key for key, place in self._tail[tail_from:] if bits[place >> 3] >> (place & 7) & 1)
        return heapq.merge(main, tail)

    def by_price(self, chosen: int, after: tuple[int, int, str] | None = None) -> Iterator[tuple[int, int, str]]:
        """Yield (unit, fen, id) of the entries chosen that have a price: unit by unit, the lowest price first."""
        bits = chosen.to_bytes((self.size >> 3) + 1, "little")
        start = 0 if after is None else bisect_left(self._prices, (*after, self.size))
        for unit, fen, key, place in self._prices[start:]:
            if bits[place >> 3] >> (place & 7) & 1:
                yield unit, fen, key

    def priced(self) -> int:
        """Return the entries that have a price."""
        return self.with_any("unit", PRICE_UNITS)

    def _put(self, entry: Entry) -> int:
        position = len(self.ids)
        self.ids.append(entry.instrument_id)
        self._entries.append(entry)
        self._position[entry.instrument_id] = position
        self._alive.add(position)
        if entry.bookable:
            self._bookable.add(position)
        for name, text in entry.texts:
            self.terms.add(name, text, position)
        for facet, value in (*entry.facets, ("live", self._live.get(entry.instrument_id, LIVE_UNKNOWN))):
            self._facets.setdefault(facet, {}).setdefault(value, Bits()).add(position)
        self._group(entry, position)
        return position

    def _group(self, entry: Entry, position: int) -> None:
        key = (entry.schedule, entry.host_id if entry.host_id in self._own_days else None)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(*key)
        group.bits.add(position)


def _both(left: list[tuple[int, int]], right: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join two rankings: what both have, at the worse of the two ranks."""
    joined: dict[int, int] = {}
    for left_rank, left_bits in left:
        for right_rank, right_bits in right:
            if common := left_bits & right_bits:
                rank = min(left_rank, right_rank)
                joined[rank] = joined.get(rank, 0) | common
    return sorted(joined.items(), reverse=True)


def _places(bits: bytes, start: int, end: int) -> Iterator[int]:
    """Yield the positions that are set, from `start` to `end`; empty bytes are passed over eight at a time."""
    place = start
    while place < end:
        byte = bits[place >> 3] >> (place & 7)
        if not byte:
            place = (place >> 3) + 1
            place = _next_byte(bits, place) << 3
            continue
        place += (byte & -byte).bit_length() - 1
        if place < end:
            yield place
        place += 1


def _next_byte(bits: bytes, start: int) -> int:
    rest = bits[start : start + 4096].lstrip(b"\x00")
    while not rest and start < len(bits):
        start += 4096
        rest = bits[start : start + 4096].lstrip(b"\x00")
    return min(start + 4096, len(bits)) - len(rest) if rest else len(bits)
