"""Waived lines: what is taken off stays visible, and never comes to more than what is left to pay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.charging.corrections_rules import WAIVER_RULE, apply_waivers
from api.charging.rating import Rated, RatedLine
from store.money import net_of_vat
from store.tables.charging import Component

VAT_BP = 600


def line(component: Component, amount_fen: int, item: str = "main") -> RatedLine:
    return RatedLine(component, item, 1 if amount_fen >= 0 else -1, 1, abs(amount_fen), amount_fen, "by.the.list")


def rated(*lines: RatedLine) -> Rated:
    total = sum(each.amount_fen for each in lines)
    net = net_of_vat(total, VAT_BP)
    return Rated(lines, total, net, total - net, 3600, total)


def waived(price: Rated, *components: Component) -> Rated:
    keys = {(each.component.value, each.item_code) for each in price.lines if each.component in components}
    return apply_waivers(price, keys, VAT_BP)


TIME, SETUP, DISCOUNT = line(Component.TIME, 60_000), line(Component.SETUP, 5_000), line(Component.DISCOUNT, -30_000)


@pytest.mark.parametrize(
    ("components", "taken", "total_fen"),
    [
        ((), [], 35_000),
        ((Component.SETUP,), [-5_000], 30_000),
        # The discount has taken off half of it before.
        ((Component.TIME,), [-35_000], 0),
        ((Component.TIME, Component.SETUP), [-5_000, -30_000], 0),
        # Without the discount the price is 650.00: then all of the time can be waived.
        ((Component.DISCOUNT,), [30_000], 65_000),
        ((Component.TIME, Component.DISCOUNT), [30_000, -60_000], 5_000),
    ],
)
def test_no_more_is_waived_than_is_left_to_pay(components, taken, total_fen) -> None:
    for lines in ((TIME, SETUP, DISCOUNT), (DISCOUNT, SETUP, TIME)):
        price = waived(rated(*lines), *components)
        assert price.total_fen == total_fen
        assert price.lines[:3] == lines
        assert [each.amount_fen for each in price.lines[3:]] == taken
        assert all(each.rule == WAIVER_RULE for each in price.lines[3:])


AMOUNTS = st.lists(st.integers(0, 100_000), min_size=1, max_size=5)


@given(AMOUNTS, st.integers(0, 10_000), st.lists(st.booleans(), min_size=6, max_size=6))
def test_a_price_with_waivers_adds_up_and_is_never_negative(amounts, discount_bp, chosen) -> None:
    lines = [line(Component.ITEM, amount, f"item_{number}") for number, amount in enumerate(amounts)]
    lines.append(line(Component.DISCOUNT, -(sum(amounts) * discount_bp // 10_000)))
    price = rated(*lines)
    keys = {(each.component.value, each.item_code) for each, wanted in zip(lines, chosen, strict=False) if wanted}
    after = apply_waivers(price, keys, VAT_BP)
    assert after.total_fen == sum(each.amount_fen for each in after.lines) >= 0
    assert after.net_fen + after.vat_fen == after.total_fen
    for each in after.lines:
        assert each.amount_fen == each.quantity * each.unit_fen // each.per_quantity
