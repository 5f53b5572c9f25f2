"""How the catalogue reads text: folded forms, pinyin, standards, and the parts of a query. Pure.

One fold for what is searched and what is asked: full-width and upper case are no difference, and what stands between
the letters and digits of a standard or a model is none either (`GB/T 228.1`, `gbt228.1`).
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from pypinyin import lazy_pinyin

QUERY_TOKENS_MAX = 8

_HAN = re.compile(r"[\u3400-\u9fff]+")
_SPACE = re.compile(r"\s+")
_BETWEEN = re.compile(r"[\s/\-_·()（）,;:'\"]+")
_SPLIT = re.compile(r"[\s,;、，；|]+")
# Who issues standards: the letters before a number. `T` behind a stroke: recommended.
_BODIES = (
    *(
        "gb",
        "gjb",
        "gbz",
        "jb",
        "jy",
        "yb",
        "yy",
        "hg",
        "hj",
        "fz",
        "qc",
        "sj",
        "nb",
        "dl",
        "qb",
        "jt",
        "jg",
        "jc",
        "sh",
    ),
    *(
        "sy",
        "cj",
        "ny",
        "ls",
        "ly",
        "mt",
        "wj",
        "ws",
        "db",
        "jjf",
        "jjg",
        "iso",
        "iec",
        "astm",
        "din",
        "en",
        "bs",
        "jis",
    ),
    *("chp", "usp", "ep", "ansi", "sae", "itu"),
)
_STANDARD = re.compile(
    rf"(?<![a-z])({'|'.join(sorted(_BODIES, key=len, reverse=True))})(\d\d(?=/t))?(/?[tz](?![a-z]))?[\s\-_]*"
    r"(\d+(?:\.\d+)*)(?:\s*[-:]\s*((?:19|20)\d\d))?"
)
_SOUTHERN = (("zh", "z"), ("ch", "c"), ("sh", "s"), ("ang", "an"), ("eng", "en"), ("ing", "in"))


@dataclass(frozen=True)
class Token:
    """One word of a query. `standard` is set where it names a standard; `pinyin` where it has Chinese in it."""

    text: str
    squeezed: str
    standard: str | None
    pinyin: str

    @property
    def latin(self) -> bool:
        """Whether it could be pinyin or initials."""
        return self.text.isascii() and self.text.isalpha()


@dataclass(frozen=True)
class Sounds:
    """How a text is read: its syllables each behind a `'`, the same without what the south does not tell apart, and
    its initials. Empty where it has no Chinese."""

    full: str
    southern: str
    initials: str


def fold(text: str) -> str:
    """Return the text as it is compared."""
    return _SPACE.sub(" ", unicodedata.normalize("NFKC", text).lower()).strip()


def squeeze(folded: str) -> str:
    """Return a folded text without what stands between its letters and digits."""
    return _BETWEEN.sub("", folded)


def standards_in(folded: str) -> list[str]:
    """Return the standards that a folded text names: `gb/t 228.1-2010; jjg 139` -> [`gb 228.1`, `jjg 139`].

    The year and the mark of a recommended standard are left out: few people say them.
    """
    return [_standard_key(found) for found in _STANDARD.finditer(folded)]


@lru_cache(maxsize=65536)
def sounds_of(folded: str) -> Sounds:
    """Return how a folded text is read."""
    if _HAN.search(folded) is None:
        return Sounds("", "", "")
    parts = [(han, reading.lower()) for han, reading in _paired(folded) if reading]
    return Sounds(
        "".join(f"'{reading}" for _, reading in parts),
        "".join(f"'{southern(reading)}" for _, reading in parts),
        "".join(reading[0] if _HAN.match(han) else reading for han, reading in parts),
    )


def southern(pinyin: str) -> str:
    """Return pinyin without the differences that southern speakers do not make: zh/z, ch/c, sh/s, -ng/-n."""
    for difference, same in _SOUTHERN:
        pinyin = pinyin.replace(difference, same)
    return pinyin


def tokens_of(query: str) -> list[Token]:
    """Return the words of a query, standards as one word each; all of them have to be found."""
    folded = fold(query)
    found: list[Token] = []

    def take(match: re.Match[str]) -> str:
        text = match.group(0)
        found.append(Token(text, squeeze(text), _standard_key(match), ""))
        return " "

    rest = _STANDARD.sub(take, folded)
    for word in filter(None, _SPLIT.split(rest)):
        if squeeze(word):
            found.append(Token(word, squeeze(word), None, _read_aloud(word)))
    return found[:QUERY_TOKENS_MAX]


def slips(text: str) -> list[tuple[str, ...]]:
    """Return the forms of a text with one character wrong, missing, too many, or two changed round; `.` is any.

    The first character is taken as right: people hit it, and the search is the quicker for it.
    """
    forms: set[tuple[str, ...]] = set()
    for place in range(1, len(text)):
        head, tail, later = (*text[:place],), (*text[place + 1 :],), (*text[place:],)
        forms |= {(*head, ".", *tail), (*head, *tail), (*head, ".", *later)}
        if place + 1 < len(text):
            forms.add((*head, text[place + 1], text[place], *text[place + 2 :]))
    return sorted(forms)


def _standard_key(found: re.Match[str]) -> str:
    body, region, _, number, _ = found.groups()
    return f"{body}{region or ''} {number}"


def _read_aloud(word: str) -> str:
    if _HAN.search(word) is None:
        return ""
    return "".join(reading.lower() for _, reading in _paired(word))


def _paired(text: str) -> list[tuple[str, str]]:
    """Return each Chinese character, or run of others, beside its reading."""
    pairs: list[tuple[str, str]] = []
    for chunk in re.findall(r"[\u3400-\u9fff]+|[^\u3400-\u9fff]+", text):
        if _HAN.match(chunk):
            pairs += list(zip(chunk, lazy_pinyin(chunk), strict=False))
        else:
            pairs.append((chunk, squeeze(chunk)))
    return pairs
