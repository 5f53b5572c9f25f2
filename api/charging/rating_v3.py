"""Calculation 3: `openlab.tariff/3`, whose bands follow the public calendar; /1 and /2 cost what they did. Pure.

The rules are those of calculation 2, with one more for documents of /3: a day that the calendar makes like another day
of the week (a weekend day that is worked) has that day's bands; a public holiday has the bands that name `holiday`, or
those of its own weekday where no band of the price does. Where two windows meet by that, the one that starts later
takes over. What the calendar said is part of the input, frozen with the charge.
"""

from api.charging.rating_types import Rated, RatingInput, Unpriceable
from api.charging.rating_v2 import price
from api.charging.tariff_body import TARIFF_3


def rate_v3(given: RatingInput) -> Rated:
    """Price by calculation 3. Raises Unpriceable for codes that the tariff does not have, for missing times, and for a
    calendar beside a document that does not follow it."""
    if given.times is not None and given.times.days and given.tariff.schema_name != TARIFF_3:
        raise Unpriceable(f"{given.tariff.schema_name} does not follow the public calendar")
    return price(given)
