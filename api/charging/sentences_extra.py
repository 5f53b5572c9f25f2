"""Sentences of lines that are no use: uplift, rush, options, discounts, cancellation, no-show, manual items. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from api.charging.rating_types import Ending, RatedLine, RatingInput
from store.money import yuan


@dataclass(frozen=True)
class Sentence:
    """One explanation in both languages."""

    zh: str
    en: str


def percent(bp: int) -> str:
    """Spell a share exactly: 2550 -> `25.5 %`."""
    sign, whole, rest = "-" if bp < 0 else "", abs(bp) // 100, abs(bp) % 100
    return f"{sign}{whole}" + (f".{rest:02d}".rstrip("0") if rest else "") + " %"


def _share(line: RatedLine) -> str:
    return f"{yuan(abs(line.quantity))} × {percent(line.unit_fen)} = {yuan(line.amount_fen)}"


def _category(line: RatedLine, given: RatingInput) -> Sentence:
    name = given.category.value
    more = line.unit_fen > 0
    return Sentence(
        f"用户类别 {name} {'加收' if more else '减收'}:{_share(line)} 元",
        f"{'Uplift' if more else 'Reduction'} for category {name}: {_share(line)}",
    )


def _rush(line: RatedLine, given: RatingInput) -> Sentence:
    rush = given.tariff.rush_called(given.asked.rush)
    assert rush is not None
    return Sentence(f"加急({rush.name_zh}):{_share(line)} 元", f"Rush ({rush.name_en}): {_share(line)}")


def _option(line: RatedLine, given: RatingInput) -> Sentence:
    option = given.tariff.option_called(line.item_code)
    assert option is not None
    amount = f"{line.quantity} × {yuan(line.unit_fen)}"
    return Sentence(
        f"{option.name_zh}:{amount} 元 = {yuan(line.amount_fen)} 元",
        f"{option.name_en}: {amount} = {yuan(line.amount_fen)}",
    )


def _discount(line: RatedLine, given: RatingInput) -> Sentence:
    granted = given.asked.discounts[int(line.item_code.removeprefix("discount_")) - 1]
    told = f"{percent(granted.bp)} " if granted.bp else ""
    return Sentence(
        f"减免 {told}(理由:{granted.reason}):{yuan(line.amount_fen)} 元",
        f"Discount {told}(because: {granted.reason}): {yuan(line.amount_fen)}",
    )


def _ending(line: RatedLine, given: RatingInput) -> Sentence:
    assert isinstance(given.instead, Ending)
    if line.rule == "ending.no_show":
        return Sentence(f"未按预约到场:报价 {_share(line)} 元", f"Nobody came: of the quoted price {_share(line)}")
    minutes = given.instead.notice_ms // 60_000
    return Sentence(
        f"开始前 {minutes} 分钟取消:报价 {_share(line)} 元",
        f"Cancelled {minutes} min before the slot: of the quoted price {_share(line)}",
    )


def _manual(line: RatedLine, given: RatingInput) -> Sentence:
    assert isinstance(given.instead, tuple)
    text = next(item.text for item in given.instead if item.code == line.item_code)
    amount = f"{line.quantity} × {yuan(line.unit_fen)}"
    return Sentence(
        f"人工收费({text}):{amount} 元 = {yuan(line.amount_fen)} 元",
        f"Entered by hand ({text}): {amount} = {yuan(line.amount_fen)}",
    )


EXTRA: Mapping[str, Callable[[RatedLine, RatingInput], Sentence]] = {
    "category": _category,
    "rush": _rush,
    "option": _option,
    "discount": _discount,
    "ending": _ending,
    "manual": _manual,
}
"""Kind of rule (the part before the dot) -> its sentence."""
