"""The sentence of each hole in a booking's use: counted as use by rule, or not billed, why, and what can be done. Pure.

Chinese and English, for the explanation of a charge and for whoever finds the anomaly `hole_not_bridged`.
"""

from collections.abc import Mapping

from api.charging.bridged import DECIDED
from api.charging.sentences_extra import Sentence
from store.ledger import bridging

HOW_TO_BILL = Sentence(
    "如应计费,请管理员对该收费提出计量更正,客户可见,由另一人批准",
    "if it should be billed, a manager proposes a metered correction of the charge; the customer sees it, and another"
    " person approves",
)
_WHY: Mapping[str, Sentence] = {
    bridging.STATES_DIFFER: Sentence("前后状态不同或不明", "the states on both sides differ or are not known"),
    bridging.BETWEEN_SESSIONS: Sentence("不在同一次使用之内", "it does not lie within one session"),
    bridging.IN_PIECES: Sentence("由多段记录相接而成", "it is told in several records that touch"),
    bridging.LENGTH_UNKNOWN: Sentence("长度不明", "nobody knows how long it was"),
    bridging.CLOCK_UNSET: Sentence("当时时钟未校准", "the clock was not set"),
    bridging.LENGTH_UNSURE: Sentence(
        "重启前后的时钟未同步,长度不可靠", "its length rests on a clock that was not sure"
    ),
    bridging.TOO_LONG: Sentence("超过 10 分钟", "it is longer than ten minutes"),
    bridging.INDICATIVE: Sentence("电表采样过疏,仅供参考", "the meter is read too seldom for an invoice"),
    bridging.REGISTER_RESET: Sentence("电能表底数回退", "the energy register fell in it"),
    bridging.REGISTER_JUMPED: Sentence("电能表底数跳变", "the energy register jumped in it"),
    bridging.NO_ENERGY: Sentence("没有这段时间的电能读数", "nothing is known of the energy drawn in it"),
    bridging.LEVEL_UNKNOWN: Sentence("此前运行不足一分钟,负荷不明", "the load before it was not seen for a minute"),
    bridging.TOO_COARSE: Sentence("电能读数太粗,不足以证明", "the energy register is too coarse to prove it"),
    bridging.ENERGY_BELOW: Sentence("用电少于持续运行所需", "less energy was drawn than running takes"),
    bridging.ENERGY_ABOVE: Sentence("用电多于持续运行所需", "more energy was drawn than running takes"),
    DECIDED: Sentence("该次使用的时长已由两人核定", "two people decided how long this session was"),
}


def explain_hole(seconds: int, why_not: str) -> Sentence:
    """Return what became of a hole of so many full seconds. Raises KeyError for a reason that does not exist."""
    if why_not == bridging.BRIDGED:
        return Sentence(
            f"记录空档 {seconds} 秒:前后均在运行,用电相符,按规则计入使用",
            f"nobody watched for {seconds} s: it ran on both sides and the energy fits, so it counts as use by rule",
        )
    why = _WHY[why_not]
    ends = Sentence("", "") if why_not == DECIDED else Sentence(f";{HOW_TO_BILL.zh}", f"; {HOW_TO_BILL.en}")
    return Sentence(
        f"记录空档 {seconds} 秒,未计费:{why.zh}{ends.zh}",
        f"nobody watched for {seconds} s, not billed: {why.en}{ends.en}",
    )
