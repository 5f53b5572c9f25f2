"""What the usage endpoints give. Durations are milliseconds, power is milliwatt."""

from pydantic import Field

from api.schemas import Answer, Instant


class SessionAnswer(Answer):
    """One run of an instrument. `ended_at` is null while it runs; running time is a difference of odometers."""

    session_id: str
    instrument_id: str
    agent_id: str
    started_at: Instant
    last_at: Instant
    ended_at: Instant | None
    running_ms: int
    unknown_ms: int
    bridged_ms: int = Field(description="Of `unknown_ms`: holes that count as use by rule (flag `bridged`)")
    flags: list[str]
    booking_ids: list[str] = Field(description="Bookings that the session was matched to")


class CurvePoint(Answer):
    """One slice of a curve: the mean and the highest power of its samples."""

    start: Instant
    samples: int
    power_mean_mw: int
    power_max_mw: int


class CurveAnswer(Answer):
    """A power curve, thinned for a chart; slices without a sample are left out."""

    instrument_id: str
    points: list[CurvePoint]


class QuantitiesAnswer(Answer):
    """What the meter showed beside power and energy in the window asked for, by quantity and unit (`volts_l1`)."""

    instrument_id: str
    quantities: list[str]


class ReadingPoint(Answer):
    """One slice of a chart: how many readings it holds, their mean, the lowest and the highest."""

    start: Instant
    readings: int
    mean: float
    lowest: float
    highest: float


class ReadingsAnswer(Answer):
    """One quantity over time, in the unit its name says; slices without a reading are left out."""

    instrument_id: str
    quantity: str
    points: list[ReadingPoint]


class HourAnswer(Answer):
    """One hour of an instrument as far as samples witness it; `hole_ms` is time without any."""

    hour: Instant
    samples: int
    power_avg_mw: int
    power_max_mw: int
    off_ms: int
    standby_ms: int
    running_ms: int
    unknown_ms: int
    hole_ms: int


class HoursAnswer(Answer):
    """The hours that start in the window asked for."""

    instrument_id: str
    hours: list[HourAnswer]
