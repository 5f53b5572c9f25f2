"""The sentence of each line of a charge: rule key and figures -> what a person reads, in Chinese and English. Pure.

The sentences of use and counts are here, those of surcharges, options, discounts, fees and manual items in
sentences_extra.
"""

from collections.abc import Callable

from api.charging.rating_types import RatedLine, RatingInput
from api.charging.sentences_extra import EXTRA, Sentence, percent
from api.charging.tariff_body import Band, Day, Prices, SlotPrice, TimePrice, UnitPrice
from store.money import yuan

__all__ = ["Sentence", "explain_line", "percent"]

_UNITS_ZH = {"hour": "小时", "day": "天", "sample": "样", "piece": "件", "item": "项", "batch": "批"}
_BASIS_ZH = {"metered": "计量", "booked": "预约", "larger": "计量与预约中较长的"}
_BASIS_EN = {"metered": "metered", "booked": "booked", "larger": "the longer of metered and booked"}


def explain_line(line: RatedLine, given: RatingInput) -> Sentence:
    """Return why the line is there and how its amount comes about. Raises KeyError for a rule that does not exist."""
    kind = line.rule.split(".", maxsplit=1)[0]
    return _KINDS[kind](line, given)


def _prices(given: RatingInput) -> Prices:
    return given.tariff.prices_for(given.category)


def _time_price(given: RatingInput) -> TimePrice:
    price = _prices(given).time
    assert isinstance(price, TimePrice)
    return price


def _setup(line: RatedLine, given: RatingInput) -> Sentence:
    return Sentence(
        f"开机费,每次预约收一次:{yuan(line.amount_fen)} 元", f"Set-up, once a booking: {yuan(line.amount_fen)}"
    )


def _used(line: RatedLine, given: RatingInput) -> Sentence:
    """How long it was, and how that was rounded: the first half of every sentence about time."""
    price = _time_price(given)
    parts = line.rule.split(".")
    used = {"metered": given.running_ms, "booked": given.slot_ms}.get(parts[1], max(given.running_ms, given.slot_ms))
    minutes, seconds = divmod(used // 1000, 60)
    raised = parts[-1] == "minimum"
    least_zh = f",不足最低时长 {_spell(price.minimum_s)} 按最低时长计" if raised else ""
    least_en = f", raised to the minimum of {_spell(price.minimum_s)}" if raised else ""
    return Sentence(
        f"{_BASIS_ZH[parts[1]]}时间 {minutes} 分 {seconds} 秒,按每 {_spell(price.step_s)} 向上取整{least_zh}",
        f"{_BASIS_EN[parts[1]]} time {minutes} min {seconds} s, rounded up to steps of {_spell(price.step_s)}"
        f"{least_en}",
    )


def _amount(line: RatedLine) -> Sentence:
    """What the billed time comes to: the second half."""
    unit = line.item_code.partition("@")[0].removesuffix("_first")
    return Sentence(
        f"计 {_spell(line.quantity)} × {yuan(line.unit_fen)} 元/{_UNITS_ZH[unit]} = {yuan(line.amount_fen)} 元",
        f"{_spell(line.quantity)} at {yuan(line.unit_fen)} per {unit} = {yuan(line.amount_fen)}",
    )


def _time(line: RatedLine, given: RatingInput) -> Sentence:
    used, amount = _used(line, given), _amount(line)
    return Sentence(f"{used.zh},{amount.zh}", f"{used.en}: {amount.en}")


def _first(line: RatedLine, given: RatingInput) -> Sentence:
    first = _time_price(given).first
    assert first is not None
    used, amount = _used(line, given), _amount(line)
    length = _spell(first.length_s)
    return Sentence(f"{used.zh};其中首 {length}:{amount.zh}", f"{used.en}; of it the first {length}: {amount.en}")


def _following(line: RatedLine, given: RatingInput) -> Sentence:
    amount = _amount(line)
    return Sentence(f"其后的时间:{amount.zh}", f"the time that follows: {amount.en}")


def _band(line: RatedLine, given: RatingInput) -> Sentence:
    used, amount = _used(line, given), _amount(line)
    code = line.item_code.partition("@")[2]
    band = next((each for each in _time_price(given).bands or () if each.code == code), None)
    if band is None:
        where = Sentence("其中标准时段", "of it at other times")
    else:
        days = _holidays(band)
        where = Sentence(
            f"其中 {code} 时段({band.starts}–{band.ends}{days.zh})",
            f"of it in band {code} ({band.starts}-{band.ends}{days.en})",
        )
    return Sentence(f"{used.zh};{where.zh}:{amount.zh}", f"{used.en}; {where.en}: {amount.en}")


def _holidays(band: Band) -> Sentence:
    """What is said of a band's days: only that of public holidays, which nobody reads off the date."""
    if Day.HOLIDAY not in band.days:
        return Sentence("", "")
    if band.days == (Day.HOLIDAY,):
        return Sentence(",法定节假日", ", public holidays")
    return Sentence(",含法定节假日", ", public holidays too")


def _package(line: RatedLine, given: RatingInput) -> Sentence:
    band = next(each for each in _time_price(given).bands or () if each.code == line.item_code)
    times, days = f"{line.quantity} × {yuan(line.unit_fen)}", _holidays(band)
    en = f"package {band.code} ({band.starts}-{band.ends}{days.en}), whole once it is used"
    return Sentence(
        f"套餐 {band.code}({band.starts}–{band.ends}{days.zh}),用过即按整段计:{times} 元 = {yuan(line.amount_fen)} 元",
        f"{en}: {times} = {yuan(line.amount_fen)}",
    )


def _slot(line: RatedLine, given: RatingInput) -> Sentence:
    price = _prices(given).slots
    assert isinstance(price, SlotPrice)
    length, least = _spell(price.length_s), line.rule == "slot.minimum"
    least_zh = f",最少 {price.minimum_slots} 段" if least else ""
    least_en = f", at least {price.minimum_slots}" if least else ""
    times = f"{line.quantity} × {yuan(line.unit_fen)}"
    return Sentence(
        f"每段 {length},不足一段按一段计{least_zh}:{times} 元 = {yuan(line.amount_fen)} 元",
        f"slots of {length}, each begun one counts whole{least_en}: {times} = {yuan(line.amount_fen)}",
    )


def _unit(line: RatedLine, given: RatingInput) -> Sentence:
    price = _prices(given).unit
    assert isinstance(price, UnitPrice)
    unit = _UNITS_ZH[line.item_code]
    least_zh = f"(实际 {given.quantity},按最低 {price.minimum_units} 计)" if line.rule == "unit.minimum" else ""
    least_en = f" ({given.quantity} done, at least {price.minimum_units} billed)" if line.rule == "unit.minimum" else ""
    return Sentence(
        f"{line.quantity} {unit}{least_zh} × {yuan(line.unit_fen)} 元/{unit} = {yuan(line.amount_fen)} 元",
        f"{line.quantity} x {line.item_code}{least_en} at {yuan(line.unit_fen)} = {yuan(line.amount_fen)}",
    )


def _minimum(line: RatedLine, given: RatingInput) -> Sentence:
    least = yuan(_prices(given).minimum_fen)
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
    "first": _first,
    "following": _following,
    "band": _band,
    "package": _package,
    "slot": _slot,
    "unit": _unit,
    "minimum": _minimum,
    **EXTRA,
}
