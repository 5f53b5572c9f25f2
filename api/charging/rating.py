"""What a use costs. Pure, integers only: the same function makes the quote, the charge and the recomputation.

Called by booking (quote), charging (charge) and verification (`calc_version` stays with each charge, and an old
function is never edited: a changed rule is a new entry of CALC_VERSIONS). The rules are in rating_v1 to rating_v4,
what goes in and comes out in rating_types.
"""

from collections.abc import Callable
from types import MappingProxyType

from api.charging.rating_types import (
    NOTHING_ASKED,
    Asked,
    Days,
    Discount,
    Ending,
    ManualItem,
    Piece,
    Rated,
    RatedLine,
    RatingInput,
    Times,
    UnknownCalcVersion,
    Unpriceable,
)
from api.charging.rating_v1 import billed_time, rate_v1
from api.charging.rating_v2 import rate_v2
from api.charging.rating_v3 import rate_v3
from api.charging.rating_v4 import rate_v4
from api.charging.tariff_body import TariffBody, UserCategory
from store.tables.calendar import BookingMode

__all__ = [
    "CALC_VERSIONS",
    "CURRENT_CALC_VERSION",
    "NOTHING_ASKED",
    "Asked",
    "Discount",
    "Ending",
    "ManualItem",
    "Piece",
    "Rated",
    "RatedLine",
    "RatingInput",
    "Times",
    "UnknownCalcVersion",
    "Unpriceable",
    "billed_time",
    "quote",
    "quote_input",
    "rate",
]

CURRENT_CALC_VERSION = "4"
CALC_VERSIONS: MappingProxyType[str, Callable[[RatingInput], Rated]] = MappingProxyType(
    {"1": rate_v1, "2": rate_v2, "3": rate_v3, "4": rate_v4}
)
_BRIDGE_NOTHING = frozenset({"1", "2", "3"})


def rate(given: RatingInput, calc_version: str = CURRENT_CALC_VERSION) -> Rated:
    """Return the price by the named calculation. Raises UnknownCalcVersion, Unpriceable (a ValueError)."""
    calculation = CALC_VERSIONS.get(calc_version)
    if calculation is None:
        known = ", ".join(CALC_VERSIONS)
        raise UnknownCalcVersion(f"no calculation is called {calc_version!r}; this program has {known}")
    if given.bridged and calc_version in _BRIDGE_NOTHING:
        raise Unpriceable(f"calculation {calc_version} knows no bridged holes")
    return calculation(given)


def quote_input(
    tariff: TariffBody,
    category: UserCategory,
    mode: BookingMode,
    slot_from_ms: int,
    slot_ms: int,
    quantity: int,
    asked: Asked = NOTHING_ASKED,
    days: Days = (),
) -> RatingInput:
    """Return what a booking would be priced by if exactly the booked slot were used.

    The times are part of it only where the tariff is of a schema that may look at them; `days` only with one that
    follows the public calendar (see api.charging.public_days).
    """
    times = None
    if tariff.schema_name != "openlab.tariff/1":
        times = Times(slot_from_ms, (Piece(slot_from_ms, slot_from_ms + slot_ms, slot_ms),), days)
    return RatingInput(tariff, category, mode, slot_ms, slot_ms, quantity, times, asked)


def quote(
    tariff: TariffBody,
    category: UserCategory,
    mode: BookingMode,
    slot_ms: int,
    quantity: int,
    calc_version: str = CURRENT_CALC_VERSION,
) -> Rated:
    """Return what a booking without special wishes costs by a tariff without bands, if exactly its slot is used."""
    return rate(RatingInput(tariff, category, mode, slot_ms, slot_ms, quantity), calc_version)
