"""Calculation 4: the metered time of an input may hold holes that were bridged by rule; the price is that of 3. Pure.

Which holes were bridged, and how much of each, is part of the input, frozen with the charge (api.charging.bridged says
by which rule). Charges of earlier calculations have none.
"""

from api.charging.rating_types import Rated, RatingInput
from api.charging.rating_v3 import rate_v3


def rate_v4(given: RatingInput) -> Rated:
    """Price by calculation 4. Raises Unpriceable as calculation 3 does."""
    return rate_v3(given)
