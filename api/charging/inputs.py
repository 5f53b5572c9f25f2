"""What a charge is priced by, gathered from the booking: use in pieces, what was ordered, what was granted. Reads only.

Called by charging when it posts, so that everything the price depends on is frozen with the charge: where a price has
bands, the odometers are read at the edges of the bands now, while the records of the session are there.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from api.booking.discounts import discounts_of
from api.booking.matching import MeteredSession, OdometerPoint
from api.booking.odometer import odometer_points
from api.charging.bands import edges
from api.charging.documents import read_asked
from api.charging.public_days import public_days
from api.charging.rating_types import Asked, Piece, RatingInput, Times
from api.charging.tariff_body import TARIFF_1, Band, Day, TariffBody, UserCategory
from api.charging.use import Use
from api.errors import invalid
from store.ledger import session_records
from store.tables.calendar import Booking, BookingMode, BookingUse
from store.tables.usage import UsageSession
from wire.clock import to_ms

_USED = select(BookingUse.session_id, BookingUse.from_at, BookingUse.to_at, BookingUse.running_ms).where(
    BookingUse.booking_id == bindparam("booking")
)


def use_input(session: Session, booking: Booking, use: Use, tariff: TariffBody) -> RatingInput:
    """Return the input of the charge for a booking's use, by the tariff frozen on it."""
    quantity = booking.quantity if booking.confirmed_quantity is None else booking.confirmed_quantity
    ordered = ordered_with(booking)
    return RatingInput(
        tariff,
        UserCategory(booking.category),
        BookingMode(booking.mode),
        to_ms(booking.slot_to) - to_ms(booking.slot_from),
        use.metered_ms,
        quantity,
        _times(session, booking, use, tariff),
        Asked(ordered.rush, ordered.options, discounts_of(session, booking.booking_id)),
        bridged=use.holes.bridged,
    )


def ordered_with(booking: Booking) -> Asked:
    """Return what was ordered with a booking, from its frozen quote."""
    return read_asked(json.loads(booking.quote)["input"])


def check_ordered(tariff: TariffBody, asked: Asked) -> None:
    """Raise 422 for a rush level or an option that the price list does not have."""
    if asked.rush and tariff.rush_called(asked.rush) is None:
        raise _unknown("unknown_rush", "rush", asked.rush, [each.code for each in tariff.rush or ()])
    for code in asked.options:
        if tariff.option_called(code) is None:
            raise _unknown("unknown_option", "options", code, [each.code for each in tariff.options or ()])


def _unknown(code: str, field: str, asked: str, known: list[str]) -> Exception:
    listed = ", ".join(known)
    return invalid(
        code,
        f"该仪器的收费标准没有“{asked}”;请从中选择:{listed or '无'}。",
        f"The price list of this instrument has no {asked!r}; choose one of: {listed or 'none'}.",
        field=field,
        known=known,
    )


def _times(session: Session, booking: Booking, use: Use, tariff: TariffBody) -> Times | None:
    if tariff.schema_name == TARIFF_1:
        return None
    priced_by = (tariff.prices_for(UserCategory(booking.category)), tariff.default, tariff.list_prices)
    times = [prices.time for prices in priced_by if prices is not None and prices.time is not None]
    used = session.execute(_USED, {"booking": booking.booking_id}).all()
    since = min(to_ms(booking.slot_from), *(to_ms(row.from_at) for row in used), _presence_from(booking))
    until = max(to_ms(booking.slot_to), *(to_ms(row.to_at) for row in used), _presence_from(booking) + use.metered_ms)
    days = public_days(session, tariff, since, until)
    bands = [time.bands for time in times if time.bands is not None]
    slot_from_ms = to_ms(booking.slot_from)
    pieces = list(_pieces(session, used, bands, Times(slot_from_ms, days=days).day_kinds))
    # A bridged hole is a piece of its own, so that the band it lies in is the band it costs.
    pieces = [Piece(hole.from_ms, hole.to_ms, hole.ms) for hole in use.holes.bridged] + pieces
    if not pieces and use.metered_ms:
        # Nothing measures the instrument: the presence between check-in and check-out is the use.
        start = _presence_from(booking)
        pieces = [Piece(start, start + use.metered_ms, use.metered_ms)]
    return Times(slot_from_ms, tuple(_corrected(pieces, use.metered_ms)), days)


def _presence_from(booking: Booking) -> int:
    return to_ms(booking.checked_in_at or booking.slot_from)


def _corrected(pieces: list[Piece], metered_ms: int) -> list[Piece]:
    """Bring pieces to an approved correction of the metered time: it is added to the last one, or taken off the end."""
    difference = metered_ms - sum(piece.running_ms for piece in pieces)
    for index in range(len(pieces) - 1, -1, -1):
        if not difference:
            break
        changed = max(0, pieces[index].running_ms + difference)
        difference -= changed - pieces[index].running_ms
        pieces[index] = replace(pieces[index], running_ms=changed)
    return pieces


def _pieces(
    session: Session, used: Sequence[Any], band_sets: Sequence[Sequence[Band]], days: Mapping[int, Day]
) -> Iterable[Piece]:
    for row in sorted(used, key=lambda each: (each.from_at, each.session_id)):
        start, end = to_ms(row.from_at), to_ms(row.to_at)
        inside = sorted({edge for bands in band_sets for edge in edges(bands, start, end, days)})
        yield from _cut(session, row.session_id, start, end, row.running_ms, inside)


def _cut(
    session: Session, session_id: str, start: int, end: int, running_ms: int, inside: Sequence[int]
) -> Iterable[Piece]:
    """Cut one use at the given instants by the odometer; the pieces add up to what was matched, whatever is left."""
    if not inside:
        yield Piece(start, end, running_ms)
        return
    row = session.get_one(UsageSession, session_id)
    first = OdometerPoint(to_ms(row.started_at), row.odo_running_first_ms, row.odo_unknown_first_ms)
    last = OdometerPoint(to_ms(row.last_at), row.odo_running_last_ms, row.odo_unknown_last_ms)
    metered = MeteredSession(session_id, odometer_points(session_records(session, session_id), first, last))
    began, at, before = metered.at(start)[0], start, 0
    for instant in inside:
        until = max(before, min(metered.at(instant)[0] - began, running_ms))
        yield Piece(at, instant, until - before)
        at, before = instant, until
    yield Piece(at, end, running_ms - before)
