"""Calculation 2: every convention of `openlab.tariff/2`; a document of /1 costs what it costs by calculation 1. Pure.

The rules, in this order; every line is rounded once, half up.
1. Set-up, once. 2. Time: milliseconds are summed first and cut down to full seconds once, rounded up to full steps
once, raised to the minimum once. With bands, SECONDS are split: whole seconds a band, and what the billed time has
more (the rest, the step, the minimum) goes to the band of the last use. A package window counts whole once it was used
for a full second, and its time is billed by no other line. Slots that were begun count whole. 3. Counts. 4. The
category's uplift, a share of 2 and 3. 5. The top-up, where 1 to 4 are below `minimum_fen`. 6. Rush, a share of 2 to 5.
7. Options. 8. Discounts, each a share or an amount of what is left, never below zero. Then VAT, once, on the total.

List price: the same by `list_prices`; where the lab names none, the dearer of the default prices and the category's
own with its uplift. Rush and options are part of it, discounts are not.
"""

from collections.abc import Sequence

from api.charging.rating_lines import line, share_line, use_lines
from api.charging.rating_types import Ending, ManualItem, Rated, RatedLine, RatingInput, Unpriceable
from api.charging.tariff_body import TARIFF_3, OptionKind, OptionPer, Prices
from store.money import net_of_vat
from store.tables.charging import ChargePurpose, Component

_OPTION_COMPONENTS = {
    OptionKind.PREPARATION: Component.PREPARATION,
    OptionKind.REPORT: Component.REPORT,
}


def rate_v2(given: RatingInput) -> Rated:
    """Price by calculation 2. Raises Unpriceable for codes that the tariff does not have, for missing times, and for
    what only later calculations know."""
    if given.tariff.schema_name == TARIFF_3 or (given.times is not None and given.times.days):
        raise Unpriceable("calculation 2 does not know the public calendar")
    return price(given)


def price(given: RatingInput) -> Rated:
    """Price by the rules above, whatever the days of the input are. Raises Unpriceable."""
    if given.instead is not None:
        return _total(given, _instead(given, given.instead), 0)
    tariff, asked = given.tariff, given.asked
    prices = tariff.prices_for(given.category)
    uplift_bp = tariff.uplift_for(given.category)
    lines, billed = _before_discounts(given, prices, uplift_bp)
    reached = sum([each.amount_fen for each in lines])
    list_fen = reached
    if tariff.list_prices is not None:
        list_fen = _sum_by(given, tariff.list_prices, 0)
    elif prices is not tariff.default or uplift_bp < 0:
        own_fen = reached if uplift_bp >= 0 else _sum_by(given, prices, 0)
        list_fen = max(_sum_by(given, tariff.default, 0), own_fen)
    if asked.discounts:
        lines += _discounts(given, reached)
    return _total(given, lines, billed, list_fen)


def _before_discounts(given: RatingInput, prices: Prices, uplift_bp: int) -> tuple[list[RatedLine], int]:
    work, billed = use_lines(given, prices)
    if uplift_bp:
        of_fen = sum([each.amount_fen for each in work])
        work.append(share_line(Component.SURCHARGE, "category", of_fen, uplift_bp, "category.uplift"))
    setup = [line(Component.SETUP, "setup", 1, 1, prices.setup_fen, "setup.once")] if prices.setup_fen else []
    if prices.minimum_fen:
        missing = prices.minimum_fen - prices.setup_fen - sum([each.amount_fen for each in work])
        if missing > 0:
            work.append(line(Component.MINIMUM, "minimum", 1, 1, missing, "minimum.top_up"))
    if given.asked.rush:
        work.append(_rush(given, sum([each.amount_fen for each in work])))
    return setup + work + [_option(given, code) for code in given.asked.options], billed


def _sum_by(given: RatingInput, prices: Prices, uplift_bp: int) -> int:
    return sum([each.amount_fen for each in _before_discounts(given, prices, uplift_bp)[0]])


def _rush(given: RatingInput, of_fen: int) -> RatedLine:
    rush = given.tariff.rush_called(given.asked.rush)
    if rush is None:
        raise Unpriceable(f"the tariff has no rush level {given.asked.rush!r}")
    return share_line(Component.SURCHARGE, f"rush_{rush.code}", of_fen, rush.surcharge_bp, "rush.share")


def _option(given: RatingInput, code: str) -> RatedLine:
    option = given.tariff.option_called(code)
    if option is None:
        raise Unpriceable(f"the tariff has no option {code!r}")
    count = 1 if option.per is OptionPer.ORDER else given.quantity
    return line(_OPTION_COMPONENTS[option.kind], code, count, 1, option.unit_fen, f"option.{option.per.value}")


def _discounts(given: RatingInput, reached: int) -> list[RatedLine]:
    found, left = [], reached
    for number, discount in enumerate(given.asked.discounts, start=1):
        item = f"discount_{number}"
        if discount.bp:
            taken = share_line(Component.DISCOUNT, item, -left, discount.bp, "discount.share")
        else:
            taken = line(Component.DISCOUNT, item, -1, 1, min(discount.fen, left), "discount.amount")
        found.append(taken)
        left += taken.amount_fen
    return found


def _instead(given: RatingInput, instead: Ending | Sequence[ManualItem]) -> list[RatedLine]:
    if not isinstance(instead, Ending):
        return [line(Component.MANUAL, item.code, item.quantity, 1, item.unit_fen, "manual.item") for item in instead]
    tariff = given.tariff
    if instead.purpose is ChargePurpose.NO_SHOW:
        fee_bp, component = 0 if tariff.no_show is None else tariff.no_show.fee_bp, Component.NO_SHOW
    else:
        terms = tariff.cancellation
        late = terms is not None and instead.notice_ms < terms.free_until_s * 1000
        fee_bp, component = terms.fee_bp if terms is not None and late else 0, Component.CANCELLATION
    if not fee_bp or not instead.quoted_fen:
        return []
    return [share_line(component, component.value, instead.quoted_fen, fee_bp, f"ending.{component.value}")]


def _total(given: RatingInput, lines: list[RatedLine], billed: int, list_fen: int | None = None) -> Rated:
    total = sum([each.amount_fen for each in lines])
    net = net_of_vat(total, given.tariff.vat_rate_bp)
    return Rated(tuple(lines), total, net, total - net, billed, total if list_fen is None else list_fen)
