"""The catalogue that each server process keeps in memory, and how a question is put to it.

Kept true by asking, with every question, for the number of the last change of the registry (one row): what changed is
read anew, whoever changed it and in whichever process. The calendar is not kept: who is busy is asked of the database
each time, so "free" here is what the booking rules and the calendar say. What instruments are doing is read in turns
(see LiveTurns) for the counts, and at once for the entries that are shown.
"""

import heapq
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from time import monotonic

from sqlalchemy.orm import Session

from api.registry import search_source as source
from api.registry.opening import Span, merge_special, open_spans
from api.registry.search_index import Group, SearchIndex
from api.registry.search_text import Token, tokens_of
from api.registry.slot_terms import SlotTerms, fault_of, next_free
from store.periods import SHANGHAI
from store.tables.registry import SpecialDay
from wire.clock import from_ms, to_ms

FACETS = ("cluster", "town", "category", "mode", "unit", "live")
NEVER_MS = 2**62
BATCH = 64
_INSTANT = timedelta(milliseconds=1)


@dataclass(frozen=True)
class Question:
    """What is looked for. Values of one facet are alternatives; all facets, the words and the time must hold.

    `free_from` alone: free at that instant (open, and nobody has it). With `free_to`: exactly that slot can be booked.
    """

    text: str = ""
    chosen: dict[str, tuple[str, ...]] = field(default_factory=dict)
    free_from: datetime | None = None
    free_to: datetime | None = None


@dataclass(frozen=True)
class Found:
    """The entries that fit (as bits), by rank where words were asked for, and the counts of every facet's values,
    each under all other conditions; `free` is how many are free under all others, None where no time was asked."""

    fitting: int
    ranked: list[tuple[int, int]]
    counts: dict[str, dict[str, int]]
    free: int | None

    @property
    def total(self) -> int:
        """Return how many fit."""
        return self.fitting.bit_count()


class LiveTurns:
    """When to read which part of the live states: the stalest one, when the pause since the last reading is 20 times
    what that one cost. So reading takes at most a twentieth of the time; a county is one part and some ms old, 100,000
    instruments are 50 parts and some seconds old. After a long silence everything is read at once."""

    PART = 2000
    PAUSE_COSTS = 20
    SILENCE_S = 300.0

    def __init__(self) -> None:
        self._read_at: dict[int, float] = {}
        self._not_before = 0.0

    def due(self, size: int, now_s: float) -> list[int]:
        """Return the numbers of the parts to read now."""
        ages = {part: now_s - self._read_at.get(part, float("-inf")) for part in range(-(-size // self.PART))}
        silent = [part for part, age in ages.items() if age > self.SILENCE_S]
        if silent or now_s < self._not_before or not ages:
            return silent
        return [max(ages, key=lambda part: ages[part])]

    def done(self, parts: Sequence[int], began_s: float, ended_s: float) -> None:
        """Note that parts were read."""
        self._read_at |= dict.fromkeys(parts, began_s)
        self._not_before = ended_s + (ended_s - began_s) / len(parts) * self.PAUSE_COSTS


class Catalogue:
    """The entries in memory. One a process; any number of threads. `speed` is that of the clock it is asked by."""

    def __init__(self) -> None:
        self.speed = 1.0
        self.lock = threading.Lock()
        self.index = SearchIndex()
        self.labels: dict[tuple[str, str], source.Label] = {}
        self._seq = -1
        self._price_changes: list[tuple[int, str]] = []
        self._days: list[SpecialDay] = []
        self._days_from = ""
        self._turns = LiveTurns()
        self._next_slots: dict[tuple[object, ...], tuple[datetime, Span | None]] = {}

    def refresh(self, session: Session, now: datetime) -> None:
        """Take in what changed. To be called with the lock held, in the transaction of the question."""
        seq, today = source.head(session), now.astimezone(SHANGHAI).date().isoformat()
        if self._seq < 0 or self.index.is_worn:
            self._load(session, now)
        else:
            changed = set(source.changed_since(session, self._seq)) if seq > self._seq else set()
            while self._price_changes and self._price_changes[0][0] <= to_ms(now):
                changed.add(heapq.heappop(self._price_changes)[1])
            if changed:
                self._reload(session, now, sorted(changed))
        if seq > self._seq or today != self._days_from:
            self._days, self._days_from = source.special_days(session, today), today
            self.index.set_own_days(frozenset(day.host_id for day in self._days if day.host_id is not None))
            self._next_slots.clear()
        self._seq = max(seq, self._seq)
        self._read_live(session, now)

    def find(self, session: Session, question: Question, now: datetime) -> Found:
        """Answer a question. With the lock held, after `refresh`."""
        index = self.index
        tokens: list[Token] = tokens_of(question.text)
        ranked = index.ranked(tokens)
        base = index.everything() if not tokens else _union(bits for _, bits in ranked)
        chosen = {facet: index.with_any(facet, values) for facet, values in question.chosen.items() if values}
        fitting = base
        for bits in chosen.values():
            fitting &= bits
        free = None
        if question.free_from is not None:
            free = self._free(session, question.free_from, question.free_to, now)
        under_all = fitting if free is None else fitting & free
        counts = {}
        for facet in FACETS:
            under = base if free is None else base & free
            for other, bits in chosen.items():
                if other != facet:
                    under &= bits
            counts[facet] = index.counts(facet, under)
        return Found(
            under_all,
            [(rank, bits & under_all) for rank, bits in ranked if bits & under_all],
            counts,
            None if free is None else (fitting & free).bit_count(),
        )

    def earliest(
        self, session: Session, chosen: int, now: datetime, after: tuple[int, str] | None = None
    ) -> Iterator[tuple[int, str]]:
        """Yield (start of the earliest free slot in milliseconds, id) in that order, those after `after`; the ones
        without any come last, at NEVER_MS.

        Without a booking in the way a slot is where the terms say; that bound is checked against the calendar for as
        many entries as it takes to be sure of the next one.
        """
        bounds = self._bounds(chosen, now)
        exact: list[tuple[int, str]] = []
        while batch := list(islice(bounds, BATCH)):
            for found in self._exact(session, batch, now):
                heapq.heappush(exact, found)
            while exact and exact[0] <= batch[-1]:
                found = heapq.heappop(exact)
                if after is None or found > after:
                    yield found
        for found in sorted(exact):
            if after is None or found > after:
                yield found

    def next_slots(self, session: Session, instrument_ids: Sequence[str], now: datetime) -> dict[str, Span | None]:
        """Return the earliest free slot of the usual length of some entries."""
        busy = source.busy_of(session, instrument_ids, now)
        slots: dict[str, Span | None] = {}
        for key in instrument_ids:
            entry = self.index.entry(key)
            if entry is None or not entry.bookable:
                slots[key] = None
                continue
            terms = entry.schedule.terms(merge_special(self._days, entry.host_id))
            slots[key] = next_free(terms, busy[key], terms.usual_length, now)
        return slots

    def _load(self, session: Session, now: datetime) -> None:
        loaded = source.load(session, now)
        self.index = SearchIndex()
        self.index.load(loaded.entries)
        self.labels = dict(loaded.labels)
        self._price_changes = sorted(loaded.price_changes)
        self._days_from, self._turns = "", LiveTurns()

    def _reload(self, session: Session, now: datetime, instrument_ids: list[str]) -> None:
        loaded = source.load(session, now, instrument_ids)
        entries = {entry.instrument_id: entry for entry in loaded.entries}
        for key in instrument_ids:
            self.index.change(key, entries.get(key))
        self.labels |= loaded.labels
        known = set(self._price_changes)
        for change in loaded.price_changes:
            if change not in known:
                heapq.heappush(self._price_changes, change)

    def _read_live(self, session: Session, now: datetime) -> None:
        began = monotonic()
        parts = self._turns.due(self.index.size, began)
        for part in parts:
            keys = self.index.ids[part * LiveTurns.PART : (part + 1) * LiveTurns.PART]
            states = source.live(session, keys, now, self.speed)
            self.index.set_live({key: found.state for key, found in states.items()})
        if parts:
            self._turns.done(parts, began, monotonic())

    def _terms(self, group: Group) -> SlotTerms:
        # Of a group without a host only the county's days count: no host of it has any of its own.
        return group.schedule.terms(merge_special(self._days, group.host_id or ""))

    def _free(self, session: Session, from_at: datetime, to_at: datetime | None, now: datetime) -> int:
        free = 0
        for group in self.index.groups():
            terms = self._terms(group)
            if to_at is None:
                possible = bool(open_spans(terms.opening, from_at, from_at + _INSTANT))
            else:
                possible = fault_of(terms, from_at, to_at, now) is None
            if possible:
                free |= group.bits.mask()
        free &= self.index.bookable()
        if to_at is None:
            return free & ~self.index.at(key for key, _ in source.busy(session, from_at, from_at + _INSTANT))
        # What the slot would take goes on for the buffer behind it, which is each instrument's own.
        longest = max((group.schedule.buffer_minutes for group in self.index.groups()), default=0)
        until = to_ms(to_at)
        taken = (
            key
            for key, row_from in source.busy(session, from_at, to_at + timedelta(minutes=longest))
            if row_from < until + self.index.buffer_ms(key)
        )
        return free & ~self.index.at(taken)

    def _bounds(self, chosen: int, now: datetime) -> Iterator[tuple[int, str]]:
        by_start: dict[int, int] = {}
        bookable = chosen & self.index.bookable()
        never = chosen
        for group in self.index.groups():
            fitting = group.bits.mask() & bookable
            slot = self._unhindered(group, now) if fitting else None
            if slot is not None:
                start = to_ms(slot[0])
                by_start[start] = by_start.get(start, 0) | fitting
                never &= ~fitting
        for start in sorted(by_start):
            for key in self.index.in_order(by_start[start]):
                yield start, key
        for key in self.index.in_order(never):
            yield NEVER_MS, key

    def _unhindered(self, group: Group, now: datetime) -> Span | None:
        """The next slot if nobody had booked. One that was found stays right until its lead time has begun."""
        key = (group.schedule, group.host_id)
        lead = timedelta(minutes=group.schedule.lead_minutes)
        known = self._next_slots.get(key)
        if known is not None and known[1] is not None and known[0] <= now <= known[1][0] - lead:
            return known[1]
        terms = self._terms(group)
        slot = next_free(terms, (), terms.usual_length, now)
        self._next_slots[key] = (now, slot)
        return slot

    def _exact(self, session: Session, batch: list[tuple[int, str]], now: datetime) -> Iterator[tuple[int, str]]:
        real = [key for start, key in batch if start != NEVER_MS]
        busy = source.busy_of(session, real, now) if real else {}
        for start, key in batch:
            entry = self.index.entry(key)
            if start == NEVER_MS or not busy[key] or entry is None:
                yield start, key
                continue
            terms = entry.schedule.terms(merge_special(self._days, entry.host_id))
            slot = next_free(terms, busy[key], terms.usual_length, now, not_before=from_ms(start))
            yield (NEVER_MS if slot is None else to_ms(slot[0])), key


def _union(parts: Iterator[int]) -> int:
    found = 0
    for bits in parts:
        found |= bits
    return found
