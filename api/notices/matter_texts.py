"""Every sentence of the notices that are not about a booking, in Chinese and English. Pure; as texts.py for bookings.

A sentence may name {instrument}, {host}, {org}, {number}, {month} and what else its facts say; {firm} only where the
host reads it.
"""

from collections.abc import Mapping

from store.tables.notices import NoticeParty

_C, _M, _O, _P = NoticeParty.CUSTOMER, NoticeParty.MANAGER, NoticeParty.COUNTY, NoticeParty.PERSON
_Both = tuple[str, str]

_NOTICED = (
    "奖励核算开始公示:{period},可查看并提出异议",
    "The reward run for {period} is publicly announced: look at it, and object if it is wrong",
)
SAID: dict[str, dict[NoticeParty, _Both]] = {
    "charge-posted": {_C: ("{instrument} 的使用已计费", "Your use of {instrument} was charged")},
    "statement-issued": {
        _C: ("{host} 发出 {month} 的结算单,请核对", "{host} issued your statement of {month}: please check it")
    },
    "statement-final": {
        _C: ("{host} {month} 的结算单 {number} 已定稿", "Statement {number} of {host} for {month} is final"),
        _M: ("{firm} {month} 的结算单 {number} 已定稿", "Statement {number} of {firm} for {month} is final"),
    },
    "statement-overdue": {
        _C: ("结算单 {number} 尚未付清,请付款", "Statement {number} is not paid in full: please pay"),
        _M: ("{firm} 的结算单 {number} 尚未付清", "Statement {number} of {firm} is not paid in full"),
    },
    "invoice-recorded": {
        _C: ("{host} 已为结算单 {number} 开具发票", "{host} recorded a tax invoice for statement {number}")
    },
    "dispute-raised": {
        _C: ("贵单位对 {instrument} 的收费提出异议", "Your firm objected to a charge for {instrument}"),
        _M: ("{firm} 对 {instrument} 的收费提出异议,请处理", "{firm} objected to a charge for {instrument}: answer it"),
    },
    "correction-proposed": {
        _C: ("{instrument} 的收费有一项更正提议", "A correction of your charge for {instrument} is proposed"),
        _M: (
            "{firm} 对 {instrument} 的收费有一项更正提议,须由另一人决定",
            "A correction of the charge of {firm} for {instrument} waits for a second person",
        ),
    },
    "correction-decided": {
        _C: (
            "{instrument} 收费的更正提议:{outcome}",
            "The correction of your charge for {instrument}: {outcome}",
        ),
        _M: (
            "{firm} {instrument} 收费的更正提议:{outcome}",
            "The correction of the charge of {firm} for {instrument}: {outcome}",
        ),
    },
    "dispute-ended": {
        _C: ("对 {instrument} 收费的异议已办结:{outcome}", "Your objection about {instrument} has ended: {outcome}"),
        _M: (
            "{firm} 对 {instrument} 收费的异议已办结:{outcome}",
            "The objection of {firm} about {instrument} has ended: {outcome}",
        ),
    },
    "unbooked-use": {
        _M: ("有一次使用没有预约,请归类", "An instrument was used without a booking: please classify the use")
    },
    "anomaly-found": {
        _M: ("发现异常:{rule}", "Something does not fit: {rule}"),
        _O: ("{host} 的数据发现异常:{rule}", "Something does not fit at {host}: {rule}"),
    },
    "use-claim-asked": {
        _C: (
            "{instrument} 的一次使用被记为贵单位的,请确认或拒绝",
            "A use of {instrument} is said to be your firm's: confirm or refuse it",
        )
    },
    "use-claim-confirmed": {
        _M: ("{firm} 确认了 {instrument} 的一次使用", "{firm} confirmed a use of {instrument}"),
    },
    "use-claim-refused": {
        _M: (
            "{firm} 不认可 {instrument} 的一次使用,请重新归类",
            "{firm} refused a use of {instrument}: classify it anew",
        )
    },
    "use-claim-withdrawn": {
        _C: ("{instrument} 一次使用的确认请求已撤回", "The question about a use of {instrument} was taken back")
    },
    "use-claim-expired": {
        _C: (
            "{instrument} 一次使用的确认请求逾期未答复,已失效",
            "The question about a use of {instrument} was not answered in time and has lapsed",
        ),
        _M: (
            "{firm} 逾期未确认 {instrument} 的一次使用,请重新归类",
            "{firm} did not answer about a use of {instrument}: classify it anew",
        ),
    },
    "tariff-proposed": {
        _M: ("{instrument} 的收费标准草案待另一人批准", "Prices of {instrument} wait for a second person"),
        _O: ("{instrument} 的收费标准草案待另一人批准", "Prices of {instrument} wait for a second person"),
    },
    "tariff-published": {
        _M: ("{instrument} 的收费标准已批准发布", "Prices of {instrument} were approved and published"),
        _P: ("您编制的 {instrument} 收费标准已批准发布", "Your prices of {instrument} were approved and published"),
    },
    "certificate-expiring": {
        _M: ("{instrument} 的计量证书 {number} 即将到期", "Certificate {number} of {instrument} is about to expire")
    },
    "qualification-expiring": {
        _M: (
            "{person} 的 {instrument} 操作资格即将到期,如需继续上机请安排培训",
            "The qualification of {person} for {instrument} is about to expire: train them again if they go on",
        ),
        _P: (
            "您的 {instrument} 操作资格即将到期,请联系实验室管理员安排培训",
            "Your qualification for {instrument} is about to expire: ask the lab manager for training",
        ),
    },
    "registration-pending": {
        _O: ("{org} 申请注册,待审核", "{org} asks to be registered: please decide"),
    },
    "registration-decided": {
        _P: ("{org} 的注册申请:{outcome}", "The registration of {org}: {outcome}"),
    },
    "invitation-accepted": {
        _P: ("{person} 接受了加入 {org} 的邀请", "{person} accepted the invitation to {org}"),
    },
    "manager-proposed": {
        _O: (
            "{person} 被提名为 {host} 的实验室管理员:请核实身份后授予角色",
            "{person} is proposed as a lab manager of {host}: verify who they are, then give them the role",
        ),
    },
    "manager-appointed": {
        _M: ("{person} 已成为本单位的实验室管理员", "{person} is a lab manager of your host now"),
        _O: ("{person} 已成为 {host} 的实验室管理员", "{person} is a lab manager of {host} now"),
    },
    "reward-noticed": {_M: _NOTICED},
    "reward-objection": {
        _O: ("{org} 对奖励公示提出异议,请答复", "{org} objected to a reward run: answer it"),
    },
    "reward-objection-answered": {
        _P: ("您对奖励公示的异议已答复:{outcome}", "Your objection to a reward run was answered: {outcome}")
    },
    "reward-approved": {_M: ("{period} 的奖励核算已批准", "The reward run for {period} is approved")},
    "reward-paid": {_M: ("{period} 的奖励已拨付", "The rewards for {period} are paid")},
}

_LINES: dict[str, _Both] = {
    "open": ("尚欠:{value} 元", "Still to pay: {value} yuan"),
    "amount": ("金额:{value} 元", "Amount: {value} yuan"),
    "day": ("使用时间:{value}(北京时间)", "Used: {value} (China Standard Time)"),
    "from": ("生效时间:{value}(北京时间)", "In force from: {value} (China Standard Time)"),
    "until": ("截止:{value}", "Until: {value}"),
    "object_until": ("可提出异议至:{value}(北京时间)", "Objections until: {value} (China Standard Time)"),
    "days": ("账龄:{value} 天", "Age: {value} days"),
    "invoice": ("发票号码:{value}", "Invoice: {value}"),
    "by": ("经办人:{value}", "By: {value}"),
    "uscc": ("统一社会信用代码:{value}", "Unified social credit code: {value}"),
    "detail": ("依据:{value}", "Evidence: {value}"),
    "reason": ("说明:{value}", "Reason: {value}"),
    "policy": ("政策:{value}", "Policy: {value}"),
    "charge": ("收费编号:{value}", "Charge: {value}"),
    "subject": ("对象:{value}", "Subject: {value}"),
}

_ANY: dict[str, _Both] = {
    "instrument": ("仪器", "an instrument"),
    "firm": ("企业", "a firm"),
    "host": ("依托单位", "the host"),
    "org": ("单位", "an organisation"),
    "person": ("某人", "somebody"),
    "month": ("某月", "a month"),
    "period": ("某期", "a period"),
    "rule": ("规则", "the rule"),
    "outcome": ("结果", "the outcome"),
    "number": ("…", "…"),
}


def matter_text(kind: str, side: NoticeParty, says: Mapping[str, str], at: int) -> tuple[str, list[str]]:
    """Return the title and the lines below it, `at` 0 in Chinese, 1 in English. Raises KeyError for a kind or side that
    nobody is told of."""
    title = SAID[kind][side][at].format_map(says)
    return title, [line[at].format(value=says[name]) for name, line in _LINES.items() if says.get(name)]


def matter_title(kind: str, at: int) -> str:
    """Return what a kind of notice is about, of nothing in particular."""
    (first, *_) = SAID[kind].values()
    return first[at].format_map({name: value[at] for name, value in _ANY.items()})
