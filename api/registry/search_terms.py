"""Which entries contain a word, in any of the ways people write it. In memory; knows texts and positions, no database.

A term is a distinct text of one field (a model, a town); many entries share one, so a query is held against the terms
and not against the entries. Sets of entries are integers used as bits: bit n is the entry at position n.
"""

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from enum import IntEnum

from api.registry.search_text import Token, slips, sounds_of, southern, squeeze, standards_in

NEWLINE = "\n"
DENSE = 32
"""A set with more than one entry in so many is kept as bits, a smaller one as a list."""
SLIP_LETTERS, SLIP_HAN = 4, 3
"""The shortest words that are searched with a slip."""


class Field(IntEnum):
    """Where a text stands; a higher one counts for more."""

    PLACE = 1
    LAB = 2
    CATEGORY = 3
    MODEL = 4
    ITEM = 5
    STANDARD = 6
    NAME = 7
    CODE = 8


class Match(IntEnum):
    """How a word was found; a higher one counts for more than any field."""

    SLIP = 0
    SOUND = 1
    INSIDE = 2
    WORD = 3
    WHOLE = 4


class Bits:
    """A growing set of positions, to be asked for as an integer."""

    __slots__ = ("_buffer", "_known")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._known: int | None = 0

    def add(self, position: int) -> None:
        """Put a position in."""
        byte = position >> 3
        if byte >= len(self._buffer):
            self._buffer.extend(bytes(byte + 1 + (byte >> 2) - len(self._buffer)))
        self._buffer[byte] |= 1 << (position & 7)
        self._known = None

    def drop(self, position: int) -> None:
        """Take a position out."""
        if position >> 3 < len(self._buffer):
            self._buffer[position >> 3] &= ~(1 << (position & 7)) & 0xFF
            self._known = None

    def mask(self) -> int:
        """Return the set as bits of an integer."""
        if self._known is None:
            self._known = int.from_bytes(self._buffer, "little")
        return self._known


class _Lines:
    """Texts, one a line, to be looked through as one string; a line's number is its term."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._joined = ""
        self._starts = array("Q")

    def add(self, line: str) -> None:
        self._lines.append(line)
        self._joined = ""

    def line(self, number: int) -> str:
        return self._lines[number]

    def holding(self, part: str) -> Iterator[int]:
        """Yield the numbers of the lines that hold `part`, each once."""
        text = self._text()
        at = text.find(part)
        while at >= 0:
            number = bisect_right(self._starts, at) - 1
            yield number
            end = text.find(NEWLINE, at)
            at = text.find(part, end) if end >= 0 else -1

    def matching(self, pattern: re.Pattern[str]) -> Iterator[int]:
        """Yield the numbers of the lines where the pattern is found, each once."""
        text = self._text()
        found = pattern.search(text)
        while found is not None:
            number = bisect_right(self._starts, found.start()) - 1
            yield number
            end = text.find(NEWLINE, found.end())
            found = pattern.search(text, end) if end >= 0 else None

    def _text(self) -> str:
        if not self._joined and self._lines:
            self._joined = NEWLINE.join(self._lines)
            self._starts = array("Q")
            start = 0
            for line in self._lines:
                self._starts.append(start)
                start += len(line) + 1
        return self._joined


class Terms:
    """All texts of all entries, and which entries have them."""

    def __init__(self) -> None:
        self._number: dict[tuple[Field, str], int] = {}
        self._fields: list[Field] = []
        self._entries: list[array[int]] = []
        self._masks: dict[int, tuple[int, int]] = {}
        self._literal, self._full, self._southern, self._initials = _Lines(), _Lines(), _Lines(), _Lines()
        self._standards: dict[str, list[int]] = {}
        self._standard_order: list[str] = []

    def add(self, field: Field, text: str, position: int) -> None:
        """Note that the entry at `position` has this (folded) text in this field."""
        if not text:
            return
        number = self._number.get((field, text))
        if number is None:
            number = self._new(field, text)
        self._entries[number].append(position)

    def find(self, token: Token, size: int) -> dict[int, int]:
        """Return the entries (as bits) that have a word, by rank; higher ranks were found better. May be empty.

        What sounds like the word is looked for beside what is written like it; slips only where nothing else is found.
        """
        found = _Found()
        if token.standard is not None:
            for number in self._of_standard(token.standard):
                found.note(number, self._rank(number, Match.WORD))
            if not found.ranks:
                self._note_written(token, found)
            if not found.ranks:
                for number in self._standards_from(token.standard):
                    found.note(number, self._rank(number, Match.SLIP))
            return self._masks_of(found, size)
        self._note_written(token, found)
        self._note_sounds(token, found)
        if not found.ranks:
            self._note_slips(token, found)
        return self._masks_of(found, size)

    def _note_written(self, token: Token, found: "_Found") -> None:
        for text in {token.text, token.squeezed}:
            for number in self._literal.holding(text):
                found.note(number, self._rank(number, _how(self._literal.line(number), text)))

    def _note_sounds(self, token: Token, found: "_Found") -> None:
        spoken = token.squeezed if token.latin else token.pinyin
        if len(spoken) < 2:
            return
        if token.latin and not found.as_word:
            for number in self._initials.holding(token.squeezed):
                found.note(number, self._rank(number, Match.SOUND))
        if not token.latin and found.ranks:
            return  # written as it stands; what only sounds alike would be noise
        if len(spoken) > 2:
            for number in self._full.matching(_aloud(spoken)):
                found.note(number, self._rank(number, Match.SOUND))
        if len(spoken) > 2 and not found.ranks:
            for number in self._southern.matching(_aloud(southern(spoken))):
                found.note(number, self._rank(number, Match.SLIP))

    def _note_slips(self, token: Token, found: "_Found") -> None:
        word = token.squeezed
        # With a digit wrong it is another standard, model or code.
        if len(word) < (SLIP_LETTERS if word.isascii() else SLIP_HAN) or any(sign.isdigit() for sign in word):
            return
        places = [*self._literal.matching(_any_of(slips(word)))]
        if token.latin:
            places += self._full.matching(_any_of(slips(word), between="'?", before="'"))
        for number in places:
            found.note(number, self._rank(number, Match.SLIP))

    def _of_standard(self, standard: str) -> Iterable[int]:
        """The terms that name this standard or a part of it: `gb 228` is in `gb 228.1`, not in `gb 2281`."""
        for key in self._standard_keys(standard):
            if key == standard or key[len(standard)] == ".":
                yield from self._standards[key]

    def _standards_from(self, standard: str) -> Iterable[int]:
        for key in self._standard_keys(standard):
            yield from self._standards[key]

    def _standard_keys(self, start: str) -> Iterator[str]:
        if len(self._standard_order) != len(self._standards):
            self._standard_order = sorted(self._standards)
        place = bisect_left(self._standard_order, start)
        while place < len(self._standard_order) and self._standard_order[place].startswith(start):
            yield self._standard_order[place]
            place += 1

    def _rank(self, number: int, match: Match) -> int:
        return match * 10 + self._fields[number]

    def _masks_of(self, found: "_Found", size: int) -> dict[int, int]:
        lists: dict[int, bytearray] = {}
        masks: dict[int, int] = {}
        for number, rank in found.ranks.items():
            entries = self._entries[number]
            if len(entries) * DENSE > size:
                masks[rank] = masks.get(rank, 0) | self._mask(number)
                continue
            buffer = lists.setdefault(rank, bytearray((size >> 3) + 1))
            for position in entries:
                buffer[position >> 3] |= 1 << (position & 7)
        for rank, buffer in lists.items():
            masks[rank] = masks.get(rank, 0) | int.from_bytes(buffer, "little")
        return masks

    def _mask(self, number: int) -> int:
        entries = self._entries[number]
        known = self._masks.get(number)
        if known is None or known[0] != len(entries):
            bits = Bits()
            for position in entries:
                bits.add(position)
            known = self._masks[number] = (len(entries), bits.mask())
        return known[1]

    def _new(self, field: Field, text: str) -> int:
        number = self._number[field, text] = len(self._fields)
        self._fields.append(field)
        self._entries.append(array("L"))
        squeezed, sounds = squeeze(text), sounds_of(text)
        self._literal.add(text if squeezed == text else f"{text}\x1f{squeezed}")
        self._full.add(sounds.full)
        self._southern.add(sounds.southern)
        self._initials.add(sounds.initials)
        for standard in standards_in(text) if field in (Field.STANDARD, Field.ITEM) else ():
            self._standards.setdefault(standard, []).append(number)
        return number


class _Found:
    """The terms found, each with its best rank."""

    def __init__(self) -> None:
        self.ranks: dict[int, int] = {}
        self.as_word = False

    def note(self, number: int, rank: int) -> None:
        self.as_word = self.as_word or rank >= Match.WORD * 10
        if rank > self.ranks.get(number, -1):
            self.ranks[number] = rank


def _how(line: str, word: str) -> Match:
    if word in line.split("\x1f"):
        return Match.WHOLE
    at = line.find(word)
    while at >= 0:
        if at == 0 or not (line[at - 1].isalnum() and line[at].isascii() and line[at - 1].isascii()):
            return Match.WORD
        at = line.find(word, at + 1)
    return Match.INSIDE


def _aloud(spoken: str) -> re.Pattern[str]:
    """A pattern for pinyin from the start of a syllable on, wherever the following syllables begin."""
    return re.compile("'" + "'?".join(map(re.escape, spoken)))


def _any_of(forms: Iterable[tuple[str, ...]], between: str = "", before: str = "") -> re.Pattern[str]:
    """A pattern for any of these forms, each a row of single characters (`.`: whichever)."""
    texts = [between.join("." if sign == "." else re.escape(sign) for sign in form) for form in forms]
    return re.compile(before + "(?:" + "|".join(texts) + ")")
