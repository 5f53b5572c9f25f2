"""What the public calendar says of some days: facts that a price with bands is made by and that are frozen with it.

Only the county's word counts: a host that opens on a public holiday does not make it a working day, and one that is
closed for a day does not make it a holiday. Called where a price is made: quote, charge, claimed use. Reads only.
"""

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from api.charging.bands import days_touched
from api.charging.rating_types import Days
from api.charging.tariff_body import TARIFF_3, TariffBody
from api.charging.tariff_parts import WEEK, Day
from store.tables.registry import SpecialDay

_COUNTY_DAYS = (
    select(SpecialDay.day, SpecialDay.like_weekday)
    .where(SpecialDay.host_id.is_(None), SpecialDay.day.between(bindparam("first"), bindparam("last")))
    .order_by(SpecialDay.day)
)


def public_days(session: Session, tariff: TariffBody, from_ms: int, to_ms: int) -> Days:
    """Return the days around [from_ms, to_ms) that are holidays or like another day of the week, as known now.

    Empty for a price list that does not follow the public calendar.
    """
    if tariff.schema_name != TARIFF_3:
        return ()
    first, last = days_touched(from_ms, to_ms)
    rows = session.execute(_COUNTY_DAYS, {"first": first, "last": last}).all()
    return tuple(sorted((day, Day.HOLIDAY if like is None else WEEK[like - 1]) for day, like in rows))
