"""The lines of calculations 2 and 3 that price the use itself: time by unit, band, slot or package, and counts. Pure.

Part of them (rating_v2 gives the rules): changed only by a new calculation.
"""

from collections.abc import Iterable, Sequence

from api.charging.bands import cut
from api.charging.rating_types import Piece, RatedLine, RatingInput, Unpriceable
from api.charging.tariff_body import Band, Day, FirstPrice, Prices, SlotPrice, TimeBasis, TimePrice, UnitPrice
from store.money import round_half_up
from store.tables.charging import Component


def line(component: Component, item: str, quantity: int, per_quantity: int, unit_fen: int, rule: str) -> RatedLine:
    """Return a line with its amount, rounded once."""
    amount = round_half_up(quantity * unit_fen, per_quantity)
    return RatedLine(component, item, quantity, per_quantity, unit_fen, amount, rule)


def share_line(component: Component, item: str, of_fen: int, bp: int, rule: str) -> RatedLine:
    """Return a line that is a share of an amount."""
    return line(component, item, of_fen, 10_000, bp, rule)


def use_lines(given: RatingInput, prices: Prices) -> tuple[list[RatedLine], int]:
    """Return the lines for time and counts, without set-up, and the seconds billed by the unit of time."""
    lines: list[RatedLine] = []
    billed = 0
    if prices.time is not None:
        if prices.time.bands is not None:
            lines, billed = _banded(given, prices.time, prices.time.bands)
        else:
            lines, billed = _unbanded(given, prices.time)
    elif prices.slots is not None:
        lines = [_slots(given, prices.slots)]
    if prices.unit is not None:
        lines.append(_units(prices.unit, given.quantity))
    return lines, billed


def basis_ms(given: RatingInput) -> int:
    """Return the time that is billed, before steps and minimum."""
    basis = given.tariff.time_basis
    if basis is TimeBasis.METERED:
        return given.running_ms
    return given.slot_ms if basis is TimeBasis.BOOKED else max(given.running_ms, given.slot_ms)


def _stepped(price: TimePrice, seconds: int) -> int:
    return max(-(-seconds // price.step_s) * price.step_s, price.minimum_s)


def _rule(kind: str, given: RatingInput, price: TimePrice, seconds: int, billed: int) -> str:
    raised = billed == price.minimum_s and seconds < price.minimum_s
    return f"{kind}.{given.tariff.time_basis.value}{'.minimum' if raised else ''}"


def _unbanded(given: RatingInput, price: TimePrice) -> tuple[list[RatedLine], int]:
    seconds = basis_ms(given) // 1000
    billed = _stepped(price, seconds)
    if price.first is not None:
        return _first_and_following(given, price, price.first, seconds, billed), billed
    rule = _rule("time", given, price, seconds, billed)
    return [line(Component.TIME, price.per.value, billed, price.per.seconds, price.unit_fen, rule)], billed


def _first_and_following(
    given: RatingInput, price: TimePrice, first: FirstPrice, seconds: int, billed: int
) -> list[RatedLine]:
    unit, per = price.per.value, price.per.seconds
    begun = min(billed, first.length_s)
    rule = _rule("first", given, price, seconds, billed)
    lines = [line(Component.TIME, f"{unit}_first", begun, per, first.unit_fen, rule)]
    if billed > begun:
        lines.append(line(Component.TIME, unit, billed - begun, per, price.unit_fen, "following.time"))
    return lines


def _banded(given: RatingInput, price: TimePrice, bands: Sequence[Band]) -> tuple[list[RatedLine], int]:
    """Split seconds, not money: whole seconds a band, and what the whole has more goes to the last band."""
    by_band: dict[str, int] = {}
    by_window: dict[tuple[str, int], int] = {}
    last = ""
    for band, window_ms, ms in _in_bands(_pieces(given), bands, _day_kinds(given)):
        if band is not None and band.package_fen is not None:
            by_window[band.code, window_ms] = by_window.get((band.code, window_ms), 0) + ms
            continue
        code = "" if band is None else band.code
        by_band[code] = by_band.get(code, 0) + ms
        last = code if ms > 0 else last
    packages = _packages(bands, by_window)
    seconds = sum(by_band.values()) // 1000
    billed = 0 if packages and seconds == 0 else _stepped(price, seconds)
    if not any(by_band.values()):
        last = _band_at_start(given, bands)
    shares = {code: ms // 1000 for code, ms in by_band.items()}
    shares[last] = shares.get(last, 0) + billed - sum(shares.values())
    rule = _rule("band", given, price, seconds, billed)
    lines = [] if packages and billed == 0 else _band_lines(price, bands, shares, rule)
    return lines + packages, billed


def _band_lines(price: TimePrice, bands: Sequence[Band], shares: dict[str, int], rule: str) -> list[RatedLine]:
    """One line a band that has time; without any time, one line that says so."""
    unit_fens = {"": price.unit_fen} | {band.code: band.unit_fen for band in bands if band.unit_fen is not None}
    unit, per = price.per.value, price.per.seconds
    found = [
        line(Component.TIME, f"{unit}@{code}" if code else unit, shares[code], per, unit_fen, rule)
        for code, unit_fen in unit_fens.items()
        if shares.get(code)
    ]
    return found or [line(Component.TIME, unit, 0, per, price.unit_fen, rule)]


def _packages(bands: Sequence[Band], by_window: dict[tuple[str, int], int]) -> list[RatedLine]:
    found = []
    for band in bands:
        count = sum(code == band.code and ms >= 1000 for (code, _), ms in by_window.items())
        if count and band.package_fen is not None:
            found.append(line(Component.PACKAGE, band.code, count, 1, band.package_fen, "package.window"))
    return found


def _pieces(given: RatingInput) -> Sequence[Piece]:
    if given.times is None:
        raise Unpriceable("this price list has bands; the input does not say when the use was")
    if basis_ms(given) == given.running_ms and given.tariff.time_basis is not TimeBasis.BOOKED:
        return given.times.pieces
    start = given.times.slot_from_ms
    return (Piece(start, start + given.slot_ms, given.slot_ms),)


def _day_kinds(given: RatingInput) -> dict[int, Day]:
    return given.times.day_kinds if given.times is not None and given.times.days else {}


def _in_bands(
    pieces: Iterable[Piece], bands: Sequence[Band], days: dict[int, Day]
) -> Iterable[tuple[Band | None, int, int]]:
    """Yield (band, start of its window, running milliseconds) in the order of time."""
    for piece in sorted(pieces, key=lambda each: (each.from_ms, each.to_ms)):
        length, before = piece.to_ms - piece.from_ms, 0
        for stretch in cut(bands, piece.from_ms, max(piece.to_ms, piece.from_ms + 1), days):
            gone = stretch.to_ms - piece.from_ms
            until = piece.running_ms if gone >= length else piece.running_ms * gone // length
            yield stretch.band, stretch.window_ms, until - before
            before = until


def _band_at_start(given: RatingInput, bands: Sequence[Band]) -> str:
    """The band in which the slot starts: where nothing was used, the minimum is billed there."""
    assert given.times is not None
    start = given.times.slot_from_ms
    stretch = next(iter(cut(bands, start, start + 1, _day_kinds(given))))
    return "" if stretch.band is None or stretch.band.unit_fen is None else stretch.band.code


def _slots(given: RatingInput, price: SlotPrice) -> RatedLine:
    seconds = basis_ms(given) // 1000
    begun = -(-seconds // price.length_s)
    rule = "slot.minimum" if begun < price.minimum_slots else "slot.begun"
    return line(Component.PACKAGE, "slot", max(begun, price.minimum_slots), 1, price.unit_fen, rule)


def _units(price: UnitPrice, quantity: int) -> RatedLine:
    below = quantity < price.minimum_units
    count = price.minimum_units if below else quantity
    component = Component.SAMPLE if price.per == "sample" else Component.ITEM
    return line(component, price.per.value, count, 1, price.unit_fen, "unit.minimum" if below else "unit.count")
