"""Rules of readings (what meters show beside power and energy) that every time-series backend shares. Pure.

Called by the backends only. Readings are for people to look at: nothing of money, and no roll-up, rests on them.
"""

from collections.abc import Iterable

from store.series import END_MS, Reading, RefusedReading
from wire.ids import is_quantity, is_wire_id

_MAX_VALUE = 1e100  # far beyond any meter, and the sum of all there could ever be is still a number


def reason_to_refuse(reading: Reading, expired_before_ms: int) -> str | None:
    """Return why no store may keep this reading, or None. Both backends ask this, so they refuse alike."""
    if not isinstance(reading.instrument_id, str) or not is_wire_id(reading.instrument_id):
        return "the instrument is not a wire id"
    if not isinstance(reading.quantity, str) or not is_quantity(reading.quantity):
        return "the quantity is not named in a-z, 0-9 and '_', at most 32 of them, a letter first"
    if type(reading.at_ms) is not int:
        return "the time is a whole number"
    if not 0 <= reading.at_ms < END_MS:
        return f"the time is outside 0..{END_MS} ms"
    if type(reading.value) not in (int, float) or not -_MAX_VALUE <= reading.value <= _MAX_VALUE:
        return f"the value is not a number within {_MAX_VALUE:g}"
    if reading.at_ms < expired_before_ms:
        return f"readings before {expired_before_ms} ms have expired"
    return None


def sort_out(readings: Iterable[Reading], expired_before_ms: int) -> tuple[list[Reading], list[RefusedReading]]:
    """Split into what may be stored (one a key, the last of a call, sorted by key) and what may not."""
    kept: dict[tuple[str, str, int], Reading] = {}
    refused: list[RefusedReading] = []
    for reading in readings:
        reason = reason_to_refuse(reading, expired_before_ms)
        if reason is None:
            kept[reading.instrument_id, reading.quantity, reading.at_ms] = reading
        else:
            refused.append(RefusedReading(reading, reason))
    return [kept[key] for key in sorted(kept)], refused
