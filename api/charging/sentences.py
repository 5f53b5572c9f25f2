"""The sentence of each line of a charge: rule key and figures -> what a person reads, in Chinese and English. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from api.charging.rating import RatedLine, RatingInput
from api.charging.tariff_body import TimePrice, UnitPrice
from store.money import yuan

_UNITS_ZH = {"hour": "小时", "day": "天", "sample": "样", "piece": "件", "item": "项", "batch": "批"}
_BASIS_ZH = {"metered": "计量", "booked": "预约", "larger": "计量与预约中较长的"}
_BASIS_EN = {"metered": "metered", "booked": "booked", "larger": "the longer of metered and booked"}


@dataclass(frozen=True)
class Sentence:
    """One explanation in both languages."""

    zh: str
    en: str


def explain_line(line: RatedLine, given: RatingInput) -> Sentence:
    """Return why the line is there and how its amount comes about. Raises KeyError for a rule that does not exist."""
    kind = line.rule.split(".", maxsplit=1)[0]
    return _KINDS[kind](line, given)


def _setup(line: RatedLine, given: RatingInput) -> Sentence:
    return Sentence(
        f"开机费,每次预约收一次:{yuan(line.amount_fen)} 元", f"Set-up, once a booking: {yuan(line.amount_fen)}"
    )


def _time(line: RatedLine, given: RatingInput) -> Sentence:
    price = given.tariff.prices_for(given.category).time
    assert isinstance(price, TimePrice)
    parts = line.rule.split(".")
    used = {"metered": given.running_ms, "booked": given.slot_ms}.get(parts[1], max(given.running_ms, given.slot_ms))
    minutes, seconds = divmod(used // 1000, 60)
    unit = _UNITS_ZH[line.item_code]
    least_zh = f",不足最低时长 {_spell(price.minimum_s)} 按最低时长计" if parts[-1] == "minimum" else ""
    least_en = f", raised to the minimum of {_spell(price.minimum_s)}" if parts[-1] == "minimum" else ""
    return Sentence(
        f"{_BASIS_ZH[parts[1]]}时间 {minutes} 分 {seconds} 秒,按每 {_spell(price.step_s)} 向上取整{least_zh},"
        f"计 {_spell(line.quantity)} × {yuan(line.unit_fen)} 元/{unit} = {yuan(line.amount_fen)} 元",
        f"{_BASIS_EN[parts[1]]} time {minutes} min {seconds} s, rounded up to steps of {_spell(price.step_s)}"
        f"{least_en}: "
        f"{_spell(line.quantity)} at {yuan(line.unit_fen)} per {line.item_code} = {yuan(line.amount_fen)}",
    )


def _unit(line: RatedLine, given: RatingInput) -> Sentence:
    price = given.tariff.prices_for(given.category).unit
    assert isinstance(price, UnitPrice)
    unit = _UNITS_ZH[line.item_code]
    least_zh = f"(实际 {given.quantity},按最低 {price.minimum_units} 计)" if line.rule == "unit.minimum" else ""
    least_en = f" ({given.quantity} done, at least {price.minimum_units} billed)" if line.rule == "unit.minimum" else ""
    return Sentence(
        f"{line.quantity} {unit}{least_zh} × {yuan(line.unit_fen)} 元/{unit} = {yuan(line.amount_fen)} 元",
        f"{line.quantity} x {line.item_code}{least_en} at {yuan(line.unit_fen)} = {yuan(line.amount_fen)}",
    )


def _minimum(line: RatedLine, given: RatingInput) -> Sentence:
    least = yuan(given.tariff.prices_for(given.category).minimum_fen)
    return Sentence(
        f"补足最低收费 {least} 元:{yuan(line.amount_fen)} 元", f"Up to the minimum of {least}: {yuan(line.amount_fen)}"
    )


def _spell(seconds: int) -> str:
    """Spell a whole number of seconds exactly: 5400 -> `1 h 30 min`."""
    sign, left = ("-", -seconds) if seconds < 0 else ("", seconds)
    found = []
    for length, name in ((3600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, length)
        if count:
            found.append(f"{count} {name}")
    return sign + (" ".join(found) or "0 s")


_KINDS: dict[str, Callable[[RatedLine, RatingInput], Sentence]] = {
    "setup": _setup,
    "time": _time,
    "unit": _unit,
    "minimum": _minimum,
}
