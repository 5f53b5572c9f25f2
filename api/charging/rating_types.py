"""What goes into a price and what comes out: frozen values without any rule. Pure.

Shared by the calculations (rating_v1 to rating_v4), the documents that are hashed and the sentences that explain.
"""

from dataclasses import dataclass
from itertools import pairwise

from api.charging.bands import number_of_day
from api.charging.tariff_body import Day, TariffBody, UserCategory
from store.tables.calendar import BookingMode
from store.tables.charging import ChargePurpose, Component


class UnknownCalcVersion(ValueError):
    """A charge names a calculation that this program does not have."""


class Unpriceable(ValueError):
    """An input that the tariff or the calculation cannot price: something it does not have, or that is missing."""


@dataclass(frozen=True, slots=True)
class Piece:
    """`running_ms` of running time inside [from_ms, to_ms), UTC milliseconds.

    Where the interval crosses the edge of a band, the running time is spread evenly over it.
    """

    from_ms: int
    to_ms: int
    running_ms: int

    def __post_init__(self) -> None:
        # A clock that was set back may leave less wall time than running time: the running time is what counts.
        if self.from_ms > self.to_ms or self.running_ms < 0:
            raise ValueError(f"{self} runs backwards")


Days = tuple[tuple[str, Day], ...]
"""Days (YYYY-MM-DD, ascending) that the public calendar calls a holiday, or makes like another day of the week."""


@dataclass(frozen=True)
class Times:
    """When: the booked slot's start, and the metered time in pieces. Only prices with bands look at it.

    `days`: what the public calendar said of these days when the price was made, where it said anything.
    """

    slot_from_ms: int
    pieces: tuple[Piece, ...] = ()
    days: Days = ()

    def __post_init__(self) -> None:
        if any(one[0] >= other[0] for one, other in pairwise(self.days)):
            raise ValueError("the days are not in order")

    @property
    def day_kinds(self) -> dict[int, Day]:
        """Number of the day -> what it is."""
        return {number_of_day(day): kind for day, kind in self.days}


@dataclass(frozen=True)
class Bridged:
    """`ms` of a hole in a session's records that count as running by rule: [from_ms, to_ms) in UTC milliseconds is what
    of it lies in the booking's part. `record` is agent/stream/seq of the gap record."""

    session_id: str
    record: str
    from_ms: int
    to_ms: int
    ms: int

    def __post_init__(self) -> None:
        if not 0 < self.ms <= self.to_ms - self.from_ms:
            raise ValueError(f"{self} counts more than its hole, or nothing")


@dataclass(frozen=True)
class Discount:
    """Somebody's decision to ask less, with its reason: a share (1/100 %) or an amount, one of the two."""

    reason: str
    bp: int = 0
    fen: int = 0

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise ValueError("a discount has a reason")
        if not (0 <= self.bp <= 10_000 and self.fen >= 0) or (self.bp > 0) == (self.fen > 0):
            raise ValueError("a discount is either a share of at most 100 % or an amount")


@dataclass(frozen=True)
class Asked:
    """What was ordered beside the use: a rush level, extra services (codes of the tariff), and what was granted."""

    rush: str = ""
    options: tuple[str, ...] = ()
    discounts: tuple[Discount, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.options)) != len(self.options):
            raise ValueError("an option is ordered once")


@dataclass(frozen=True)
class Ending:
    """A booking that was not used: cancelled `notice_ms` before its slot, or missed (no notice)."""

    purpose: ChargePurpose
    quoted_fen: int
    notice_ms: int = 0

    def __post_init__(self) -> None:
        if self.purpose not in (ChargePurpose.CANCELLATION, ChargePurpose.NO_SHOW) or self.quoted_fen < 0:
            raise ValueError(f"{self} is neither a cancellation nor a no-show")


@dataclass(frozen=True)
class ManualItem:
    """Something charged by hand: what, how many, at which price each."""

    code: str
    text: str
    quantity: int
    unit_fen: int

    def __post_init__(self) -> None:
        if not self.text.strip() or self.quantity < 1 or self.unit_fen < 1:
            raise ValueError("a manual item has a text, a quantity and a price, each above nothing")


NOTHING_ASKED = Asked()


@dataclass(frozen=True)
class RatingInput:
    """Everything a price depends on. `slot_ms` is the booked time, `running_ms` the metered time of all sessions.

    `instead`: the charge is not for use but for a booking's end or for items entered by hand. `bridged`: holes that
    `running_ms` includes. Raises ValueError for numbers that are none, for pieces that do not add up to `running_ms`
    and for holes above it.
    """

    tariff: TariffBody
    category: UserCategory
    mode: BookingMode
    slot_ms: int
    running_ms: int
    quantity: int
    times: Times | None = None
    asked: Asked = NOTHING_ASKED
    instead: Ending | tuple[ManualItem, ...] | None = None
    bridged: tuple[Bridged, ...] = ()

    def __post_init__(self) -> None:
        for name in ("slot_ms", "running_ms", "quantity"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 0")
        if self.times is not None and sum(piece.running_ms for piece in self.times.pieces) != self.running_ms:
            raise ValueError("the pieces do not add up to running_ms")
        if sum(hole.ms for hole in self.bridged) > self.running_ms:
            raise ValueError("more was bridged than running_ms")
        if isinstance(self.instead, tuple) and len({item.code for item in self.instead}) != len(self.instead):
            raise ValueError("two manual items have one code")

    @property
    def is_plain(self) -> bool:
        """Whether it says nothing that the first calculation does not know."""
        return self.times is None and self.asked == NOTHING_ASKED and self.instead is None and not self.bridged


@dataclass(frozen=True)
class RatedLine:
    """One line: `round_half_up(quantity * unit_fen / per_quantity)`. `rule` is the key of its sentence.

    Shares are lines too: the amount they are of is the quantity, `unit_fen` the share in 1/100 %, per 10,000.
    """

    component: Component
    item_code: str
    quantity: int
    per_quantity: int
    unit_fen: int
    amount_fen: int
    rule: str


@dataclass(frozen=True)
class Rated:
    """A price. `net_fen + vat_fen == total_fen`, and `total_fen` is the sum of the lines.

    `list_fen`: what the same would cost by the list, without any reduction.
    """

    lines: tuple[RatedLine, ...]
    total_fen: int
    net_fen: int
    vat_fen: int
    billed_seconds: int
    list_fen: int

    @property
    def saving_fen(self) -> int:
        """What the payer saves against the list; 0 where the price is not below it."""
        return max(0, self.list_fen - self.total_fen)
