"""The parts of a price list: what is priced by time, by count, by package; bands, rush, options and terms. Pure.

Put together by tariff_body; read by rating. Amounts are fen and include VAT, lengths are seconds, times of day are
Asia/Shanghai. A part that `openlab.tariff/1` does not know is an optional field here, and absent fields are not
written, so documents of /1 keep their bytes for ever.
"""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_FEN = 10**11
MAX_SECONDS = 366 * 86_400
DAY_S = 86_400


class FieldFault(ValueError):
    """A fault found when several fields are held against each other; `field` is the one to change."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field
        self.why = why


class UserCategory(StrEnum):
    """What the payer is to the host; each may have prices of its own."""

    OWN = "own"
    AFFILIATE = "affiliate"
    SME = "sme"
    ACADEMIC = "academic"
    OTHER = "other"


class TimeUnit(StrEnum):
    """For how long `unit_fen` lasts."""

    HOUR = "hour"
    DAY = "day"

    @property
    def seconds(self) -> int:
        """Length of the unit; a day is 24 hours, not a calendar day."""
        return 3600 if self is TimeUnit.HOUR else DAY_S


class CountUnit(StrEnum):
    """What is counted."""

    SAMPLE = "sample"
    PIECE = "piece"
    ITEM = "item"
    BATCH = "batch"


class TimeBasis(StrEnum):
    """Which time is billed: what the meter saw, what was booked, or the longer of the two."""

    METERED = "metered"
    BOOKED = "booked"
    LARGER = "larger"


class Day(StrEnum):
    """A day of the week, in order; and, since `openlab.tariff/3`, a public holiday, which is none of them."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"
    HOLIDAY = "holiday"


WEEK = (Day.MON, Day.TUE, Day.WED, Day.THU, Day.FRI, Day.SAT, Day.SUN)


class OptionKind(StrEnum):
    """What an extra service is."""

    PREPARATION = "preparation"
    REPORT = "report"


class OptionPer(StrEnum):
    """How often an extra service is counted: once, or once a sample (piece, item, batch) confirmed by the lab."""

    ORDER = "order"
    SAMPLE = "sample"


Fen = Annotated[int, Field(ge=0, le=MAX_FEN)]
Seconds = Annotated[int, Field(ge=0, le=MAX_SECONDS)]
Length = Annotated[int, Field(ge=1, le=MAX_SECONDS)]
Code = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,29}$")]
Share = Annotated[int, Field(ge=0, le=10_000)]
TimeOfDay = Annotated[str, Field(pattern=r"^(([01]\d|2[0-3]):[0-5]\d|24:00)$")]


class Part(BaseModel):
    """Frozen and strict; an unknown field is a fault."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class FirstPrice(Part):
    """The first `length_s` of a booking's billed time cost `unit_fen` per unit instead."""

    length_s: Length
    unit_fen: Fen


class Band(Part):
    """Times of the week with a price of their own, from `starts` to `ends` on the days on which it starts.

    Where `ends` is not after `starts` it is on the next day. Either `unit_fen` per unit of the time price, or a
    package: `package_fen` once for each such window that was used for a full second or more, however little.
    Named without `days` it holds on Monday to Sunday; a public holiday has to be named.
    """

    code: Code
    starts: TimeOfDay
    ends: TimeOfDay
    days: Annotated[tuple[Annotated[Day, Field(strict=False)], ...], Field(strict=False, min_length=1)] = WEEK
    unit_fen: Fen | None = None
    package_fen: Fen | None = None

    @model_validator(mode="after")
    def _one_price(self) -> Self:
        if (self.unit_fen is None) == (self.package_fen is None):
            raise FieldFault("unit_fen", "give either unit_fen or package_fen")
        if self.starts == "24:00":
            raise FieldFault("starts", "a band starts before 24:00")
        if self.starts == self.ends:
            raise FieldFault("ends", "a band ends at another time of day than it starts; all day is 00:00 to 24:00")
        if len(set(self.days)) != len(self.days):
            raise FieldFault("days", "each day stands there once")
        return self

    @property
    def start_s(self) -> int:
        """Second of the day at which it starts."""
        return int(self.starts[:2]) * 3600 + int(self.starts[3:]) * 60

    @property
    def length_s(self) -> int:
        """How long one window of it lasts."""
        end = int(self.ends[:2]) * 3600 + int(self.ends[3:]) * 60
        return end - self.start_s if end > self.start_s else end + DAY_S - self.start_s


class TimePrice(Part):
    """`unit_fen` per hour or day. Time is rounded up to full steps once, and is at least `minimum_s`."""

    per: Annotated[TimeUnit, Field(strict=False)]
    unit_fen: Fen
    step_s: Annotated[int, Field(ge=1, le=MAX_SECONDS)]
    minimum_s: Seconds = 0
    first: FirstPrice | None = None
    bands: Annotated[tuple[Band, ...] | None, Field(strict=False)] = None

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.minimum_s % self.step_s:
            raise FieldFault("minimum_s", f"{self.minimum_s} is not a multiple of step_s {self.step_s}")
        if self.first is not None and self.bands is not None:
            raise FieldFault("bands", "a first price and bands cannot stand beside each other")
        if self.bands is not None:
            _check_bands(self.bands)
        return self


def _check_bands(bands: tuple[Band, ...]) -> None:
    _check_codes("bands", [band.code for band in bands])
    # Round the week, and from one holiday to the next. Where the calendar brings two other days together, the window
    # that starts later takes over: nobody can write a price list that knows the calendars of all years.
    _check_round(bands, WEEK)
    _check_round(bands, (Day.HOLIDAY,))


def _check_round(bands: tuple[Band, ...], days: tuple[Day, ...]) -> None:
    windows = sorted(
        (place * DAY_S + band.start_s, band.length_s, band.code)
        for band in bands
        for place, day in enumerate(days)
        if day in band.days
    )
    again = [(start + len(days) * DAY_S, length, code) for start, length, code in windows[:1]]
    for (start, length, code), (following, _, other) in zip(windows, [*windows[1:], *again], strict=True):
        if start + length > following:
            raise FieldFault("bands", f"{code} and {other} overlap")


def _check_codes(field: str, codes: list[str]) -> None:
    twice = sorted({code for code in codes if codes.count(code) > 1})
    if twice:
        raise FieldFault(field, f"{twice[0]} stands there twice")


class SlotPrice(Part):
    """`unit_fen` per package slot of `length_s`; a slot that was begun counts whole. At least `minimum_slots`."""

    length_s: Length
    unit_fen: Fen
    minimum_slots: Annotated[int, Field(ge=0, le=10_000)] = 0


class UnitPrice(Part):
    """`unit_fen` per sample, piece, item or batch; at least `minimum_units` are billed."""

    per: Annotated[CountUnit, Field(strict=False)]
    unit_fen: Fen
    minimum_units: Annotated[int, Field(ge=0, le=1_000_000)] = 0


class Prices(Part):
    """What one category of users pays. `minimum_fen` is the least a whole charge comes to, set-up included."""

    time: TimePrice | None = None
    unit: UnitPrice | None = None
    slots: SlotPrice | None = None
    setup_fen: Fen = 0
    minimum_fen: Fen = 0

    @model_validator(mode="after")
    def _something_is_priced(self) -> Self:
        if self.time is None and self.unit is None and self.slots is None:
            raise ValueError("give a time price, a price for slots, a unit price, or time and unit")
        if self.time is not None and self.slots is not None:
            raise FieldFault("slots", "time is priced either by the unit or by slots")
        return self

    @property
    def new_field(self) -> str | None:
        """The first field that `openlab.tariff/1` does not know."""
        if self.slots is not None:
            return "slots"
        if self.time is not None and self.time.first is not None:
            return "time.first"
        return "time.bands" if self.time is not None and self.time.bands is not None else None

    @property
    def holiday_field(self) -> str | None:
        """The first field that names public holidays, which `openlab.tariff/2` does not know either."""
        bands = () if self.time is None else self.time.bands or ()
        found = (f"time.bands.{place}.days" for place, band in enumerate(bands) if Day.HOLIDAY in band.days)
        return next(found, None)


class CategoryPrices(Part):
    """Categories that do not pay the default. An override replaces the default as a whole, it is not merged."""

    own: Prices | None = None
    affiliate: Prices | None = None
    sme: Prices | None = None
    academic: Prices | None = None
    other: Prices | None = None


_Uplift = Annotated[int, Field(ge=-10_000, le=100_000)]


class Uplifts(Part):
    """What a category pays more (or, below zero, less), in 1/100 % of the time, package and count lines."""

    own: _Uplift = 0
    affiliate: _Uplift = 0
    sme: _Uplift = 0
    academic: _Uplift = 0
    other: _Uplift = 0


class Rush(Part):
    """A faster turnaround that may be ordered: `surcharge_bp` on everything but set-up and options."""

    code: Code
    surcharge_bp: Annotated[int, Field(ge=1, le=100_000)]
    name_zh: Annotated[str, Field(min_length=1, max_length=60)]
    name_en: Annotated[str, Field(min_length=1, max_length=60)]


class Option(Part):
    """An extra service that may be ordered: sample preparation, a report with a seal."""

    code: Code
    kind: Annotated[OptionKind, Field(strict=False)]
    per: Annotated[OptionPer, Field(strict=False)] = OptionPer.ORDER
    unit_fen: Fen
    name_zh: Annotated[str, Field(min_length=1, max_length=60)]
    name_en: Annotated[str, Field(min_length=1, max_length=60)]


class CancellationTerms(Part):
    """Cancelling is free until `free_until_s` before the slot; later it costs `fee_bp` of the quoted price."""

    free_until_s: Seconds
    fee_bp: Share


class NoShowTerms(Part):
    """Not coming costs `fee_bp` of the quoted price."""

    fee_bp: Share


def check_codes(field: str, codes: list[str]) -> None:
    """Raise FieldFault where a code stands twice."""
    _check_codes(field, codes)
