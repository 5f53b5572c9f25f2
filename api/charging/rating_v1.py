"""Calculation 1: one price per unit of time or count. Pure, integers only, never edited.

Rules, in this order. Milliseconds are summed first and cut down to full seconds once. Time is rounded up to full steps
once, then raised to the minimum time. Every line is rounded once (half up, away from zero). Set-up is one line. Where
all lines together are below `minimum_fen`, one line tops up the rest. Net = gross without VAT, rounded once on the
total. A line of zero fen is kept when it says how much was used, and left out otherwise.
"""

from api.charging.rating_types import Rated, RatedLine, RatingInput, Unpriceable
from api.charging.tariff_body import Prices, TimeBasis, TimePrice, UnitPrice
from store.money import net_of_vat, round_half_up
from store.tables.charging import Component


def rate_v1(given: RatingInput) -> Rated:
    """Price by calculation 1. Raises Unpriceable for what only later calculations know."""
    if not given.is_plain or given.tariff.schema_name != "openlab.tariff/1":
        raise Unpriceable("calculation 1 knows openlab.tariff/1 and plain use only")
    prices = given.tariff.prices_for(given.category)
    lines: list[RatedLine] = []
    billed_seconds = 0
    if prices.setup_fen:
        lines.append(_line(Component.SETUP, "setup", 1, 1, prices.setup_fen, "setup.once"))
    if prices.time is not None:
        seconds = _basis_ms(given) // 1000
        billed_seconds = billed_time(prices.time, seconds)
        lines.append(_time_line(prices.time, given.tariff.time_basis, seconds, billed_seconds))
    if prices.unit is not None:
        lines.append(_unit_line(prices.unit, given.quantity))
    lines += _top_up(prices, sum(line.amount_fen for line in lines))
    total = sum(line.amount_fen for line in lines)
    net = net_of_vat(total, given.tariff.vat_rate_bp)
    return Rated(tuple(lines), total, net, total - net, billed_seconds, total)


def billed_time(price: TimePrice, seconds: int) -> int:
    """Return the seconds to bill: full steps, rounded up once, and at least the minimum time."""
    stepped = -(-seconds // price.step_s) * price.step_s
    return max(stepped, price.minimum_s)


def _basis_ms(given: RatingInput) -> int:
    if given.tariff.time_basis is TimeBasis.METERED:
        return given.running_ms
    if given.tariff.time_basis is TimeBasis.BOOKED:
        return given.slot_ms
    return max(given.running_ms, given.slot_ms)


def _time_line(price: TimePrice, basis: TimeBasis, seconds: int, billed: int) -> RatedLine:
    stepped_up_to_minimum = billed == price.minimum_s and seconds < price.minimum_s
    rule = f"time.{basis.value}.minimum" if stepped_up_to_minimum else f"time.{basis.value}"
    return _line(Component.TIME, price.per.value, billed, price.per.seconds, price.unit_fen, rule)


def _unit_line(price: UnitPrice, quantity: int) -> RatedLine:
    below = quantity < price.minimum_units
    count = price.minimum_units if below else quantity
    component = Component.SAMPLE if price.per == "sample" else Component.ITEM
    return _line(component, price.per.value, count, 1, price.unit_fen, "unit.minimum" if below else "unit.count")


def _top_up(prices: Prices, reached_fen: int) -> list[RatedLine]:
    missing = prices.minimum_fen - reached_fen
    return [_line(Component.MINIMUM, "minimum", 1, 1, missing, "minimum.top_up")] if missing > 0 else []


def _line(component: Component, item: str, quantity: int, per_quantity: int, unit_fen: int, rule: str) -> RatedLine:
    amount = round_half_up(quantity * unit_fen, per_quantity)
    return RatedLine(component, item, quantity, per_quantity, unit_fen, amount, rule)
