"""Why a charge does not count, in a sentence for people. Every reason of the rules has one (a test walks them)."""

from collections.abc import Iterable

from api.rewards.rules import Reason

FIRST: dict[str, tuple[str, str]] = {
    Reason.REVERSED: (
        "该笔收费已冲销,或本身是冲销。",
        "The charge was taken back, or is what takes one back.",
    ),
    Reason.INTERNAL: ("依托单位自用,不属对外服务。", "The host's own use is no outside service."),
    Reason.NO_SHOW_OR_CANCELLATION: (
        "取消费或爽约费不是检测费。",
        "A fee for a cancellation or a no-show is no testing fee.",
    ),
    Reason.AFFILIATED: (
        "服务当日付费单位与依托单位有关联关系。",
        "Payer and host were affiliated when the service was done.",
    ),
    Reason.NO_SESSION: (
        "没有仪器运行记录佐证,且未经人工核实。",
        "No session of the instrument bears witness to it, and nobody has cleared that.",
    ),
    Reason.COVERAGE: (
        "功率采样覆盖率低于政策要求,且未经人工核实。",
        "Power samples cover less of the use than the policy asks for, and nobody has cleared that.",
    ),
    Reason.CERTIFICATE: (
        "服务当日仪器检定或校准证书已过期,且未经人工核实。",
        "The instrument's certificate had expired when the service was done, and nobody has cleared that.",
    ),
    Reason.ANOMALY_CONFIRMED: ("异常已查实。", "An anomaly was found and confirmed."),
    Reason.ANOMALY_OPEN: (
        "有异常尚待裁定;裁定通过后计入下一次核算。",
        "An anomaly waits for a decision; once cleared, the charge counts in the next run.",
    ),
    Reason.UNPAID: (
        "截止时尚未付清;付清后计入下一次核算。",
        "It was not paid in full; once it is, it counts in the next run.",
    ),
    Reason.UNINVOICED: (
        "截止时尚未足额开票;开票后计入下一次核算。",
        "It was not invoiced in full; once it is, it counts in the next run.",
    ),
}
LATER: dict[str, tuple[str, str]] = {
    Reason.OUT_OF_AREA: (
        "付费单位的登记地不在政策规定的区域内。",
        "The payer is not registered in the area of the policy.",
    ),
    Reason.STATUTORY: ("属法定检验检测,已经两人登记确认。", "A test that law obliges to, as two people recorded."),
    Reason.ENFORCEMENT: (
        "属执法或监督检验检测,已经两人登记确认。",
        "A test ordered by an enforcing authority, as two people recorded.",
    ),
    Reason.CERTIFICATION_TEST: (
        "属产品认证检测,已经两人登记确认。",
        "A test for a product's certification, as two people recorded.",
    ),
    Reason.COMMERCIAL_INSPECTION: (
        "属商业检验,已经两人登记确认。",
        "A commercial inspection, as two people recorded.",
    ),
    Reason.BULK: ("属批量检验,已经两人登记确认。", "A bulk inspection, as two people recorded."),
    Reason.MEDICAL: ("属医疗检查,已经两人登记确认。", "A medical examination, as two people recorded."),
    Reason.FILMING: ("属影视拍摄,已经两人登记确认。", "Filming, as two people recorded."),
    Reason.ALREADY_FUNDED: (
        "已由其他财政资金支持,已经两人登记确认。",
        "Other public money has paid for it already, as two people recorded.",
    ),
    Reason.DOUBLE_INVOICE: (
        "同一发票已在别处申报,已经两人登记确认。",
        "The same invoice was claimed elsewhere already, as two people recorded.",
    ),
    Reason.INSTRUMENT_CAP: (
        "该仪器本期计入的费用已达上限。",
        "The fees of this instrument that count in the period are at their cap.",
    ),
}
SENTENCES = FIRST | LATER


def sentences_for(reasons: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return the sentences that a file explains itself with: the first ones always, a later one where a line needs it,
    so that a file without later reasons stays what it was."""
    used = set(reasons)
    return FIRST | {code: said for code, said in LATER.items() if code in used}


def sentence(reason: str) -> list[str]:
    """Return the sentence in Chinese and in English; two empty texts for a charge that counts, or an unknown reason."""
    return list(SENTENCES.get(reason, ("", "")))
