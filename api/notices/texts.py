"""Every sentence that a notice or letter is made of, in Chinese and English. Pure; the one place to change a wording.

A notice keeps facts, never text, so a person who changes their language reads the old ones in the new language too.
A sentence may name {instrument} and, where a host reads it, {firm}; a customer's text never names another firm.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from api.booking.notices import CONCERNS, Happening
from api.booking.states import BookingAction
from api.notices.concerns import MATTERS
from api.notices.matter_texts import matter_text, matter_title
from store.tables.accounts import LetterKind
from store.tables.notices import NoticeParty

LANGUAGES = ("zh", "en")
_C, _M = NoticeParty.CUSTOMER, NoticeParty.MANAGER
_A, _H = BookingAction, Happening


@dataclass(frozen=True)
class Rendered:
    """A notice or letter as somebody reads it: one line, and paragraphs of plain text."""

    title: str
    body: str


@dataclass(frozen=True)
class Told:
    """What a notice says: names in both languages, times as they shall be shown. Empty: there is nothing to say."""

    instrument_zh: str
    instrument_en: str
    slot: str = ""
    booking_id: str = ""
    asked: str = ""
    reason: str = ""
    firm_zh: str = ""
    firm_en: str = ""


# kind -> party -> (Chinese, English)
_SAID: dict[str, dict[NoticeParty, tuple[str, str]]] = {
    _H.BOOK: {
        _C: ("已为您提交 {instrument} 的预约", "A booking of {instrument} was made for you"),
        _M: ("{firm} 预约了 {instrument}", "{firm} booked {instrument}"),
    },
    _A.CONFIRM: {
        _C: ("{instrument} 的预约已确认", "Your booking of {instrument} is confirmed"),
        _M: ("{firm} 对 {instrument} 的预约已确认", "The booking of {instrument} by {firm} is confirmed"),
    },
    _A.REJECT: {_C: ("{instrument} 的预约未获批准", "Your booking of {instrument} was rejected")},
    _A.CANCEL: {
        _C: ("{instrument} 的预约已取消", "Your booking of {instrument} is cancelled"),
        _M: ("{firm} 对 {instrument} 的预约已取消", "The booking of {instrument} by {firm} is cancelled"),
    },
    _A.EXPIRE: {
        _C: ("{instrument} 的预约逾期未确认,已失效", "Your booking of {instrument} expired: nobody confirmed it"),
        _M: (
            "{firm} 对 {instrument} 的预约逾期未确认,已失效",
            "The booking of {instrument} by {firm} expired: nobody confirmed it",
        ),
    },
    _A.MISS: {
        _C: ("{instrument} 的预约被记为未到", "Your booking of {instrument} was recorded as a no-show"),
        _M: ("{firm} 未按预约使用 {instrument}", "{firm} did not come to {instrument}"),
    },
    _A.SHORTEN: {
        _C: ("{instrument} 的预约时段被缩短", "Your booking of {instrument} was shortened"),
        _M: ("{firm} 对 {instrument} 的预约时段被缩短", "The booking of {instrument} by {firm} was shortened"),
    },
    _A.MOVE: {
        _C: ("{instrument} 的预约已改期", "Your booking of {instrument} has another slot"),
        _M: ("{firm} 对 {instrument} 的预约已改期", "The booking of {instrument} by {firm} has another slot"),
    },
    _A.DISPLACE: {
        _C: (
            "{instrument} 停用,您的预约失去原时段,请答复新的时段",
            "{instrument} goes out of service and your booking lost its slot: answer the slot that is offered",
        ),
        _M: (
            "{instrument} 停用,{firm} 的预约失去原时段",
            "{instrument} goes out of service: the booking by {firm} lost its slot",
        ),
    },
    _A.RECEIVE: {_C: ("{instrument}:样品已收到", "{instrument}: your samples were received")},
    _A.SCHEDULE: {_C: ("{instrument}:样品检测已排期", "{instrument}: your samples are scheduled")},
    _A.UNSCHEDULE: {
        _C: ("{instrument}:样品检测的排期已撤销", "{instrument}: your samples are no longer scheduled"),
        _M: ("{instrument}:{firm} 样品的排期已撤销", "{instrument}: the samples of {firm} are no longer scheduled"),
    },
    _A.CONFIRM_RESULTS: {_C: ("{instrument}:检测结果已确认", "{instrument}: your results are confirmed")},
    _A.REPORT: {_C: ("{instrument}:检测报告已出具", "{instrument}: your report is issued")},
    _H.PROPOSED: {
        _C: ("{instrument} 的预约有一项提议,请答复", "Something is proposed about your booking of {instrument}"),
        _M: (
            "{firm} 对 {instrument} 的预约有一项提议",
            "Something is proposed about the booking of {instrument} by {firm}",
        ),
    },
    _H.PROPOSAL_ACCEPTED: {
        _C: ("{instrument} 预约的提议已被接受", "The proposal about your booking of {instrument} was accepted"),
        _M: (
            "{firm} 对 {instrument} 预约的提议已被接受",
            "The proposal about the booking of {instrument} by {firm} was accepted",
        ),
    },
    _H.PROPOSAL_DECLINED: {
        _C: ("{instrument} 预约的提议被谢绝", "The proposal about your booking of {instrument} was declined"),
        _M: (
            "{firm} 对 {instrument} 预约的提议被谢绝",
            "The proposal about the booking of {instrument} by {firm} was declined",
        ),
    },
    _H.PROPOSAL_WITHDRAWN: {
        _C: ("{instrument} 预约的提议已撤回", "The proposal about your booking of {instrument} was withdrawn"),
        _M: (
            "{firm} 对 {instrument} 预约的提议已撤回",
            "The proposal about the booking of {instrument} by {firm} was withdrawn",
        ),
    },
    _H.PROPOSAL_EXPIRED: {
        _C: ("{instrument} 预约的提议逾期未答复", "Nobody answered the proposal about your booking of {instrument}"),
        _M: (
            "{firm} 对 {instrument} 预约的提议逾期未答复",
            "Nobody answered the proposal about the booking of {instrument} by {firm}",
        ),
    },
    _H.USE_CLAIMED: {
        _C: ("{instrument} 的一次使用已记入贵单位", "A use of {instrument} was put to your firm"),
        _M: ("{firm} 认领了 {instrument} 的一次使用", "{firm} took over a use of {instrument}"),
    },
    _H.DISCOUNT: {_C: ("{instrument} 的预约获得优惠", "Your booking of {instrument} got a discount")},
    _H.STRIKE_LIFTED: {_C: ("{instrument} 的未到记录已撤销", "The no-show at {instrument} was lifted")},
}

KINDS: tuple[str, ...] = (
    *(kind.value for kind in (*Happening, *BookingAction) if kind in CONCERNS),
    *MATTERS,
)
"""Every kind of notice, those of bookings first, in the order in which they are shown."""

_LINES = {
    "slot": ("时段:{value}(北京时间)", "Slot: {value} (China Standard Time)"),
    "asked": ("提议时段:{value}(北京时间)", "Proposed slot: {value} (China Standard Time)"),
    "reason": ("说明:{value}", "Reason: {value}"),
    "booking": ("预约号:{value}", "Booking: {value}"),
}

_LETTERS: dict[LetterKind, tuple[Rendered, Rendered]] = {
    LetterKind.PASSWORD_RESET: (
        Rendered(
            "重置密码",
            "{name}:\n\n有人为账号 {login} 申请重置密码。请用下面的一次性口令设置新密码,有效期至 {until}:\n\n"
            "{secret}\n\n如非本人申请,请忽略本邮件:不使用口令,密码不会改变。",
        ),
        Rendered(
            "A new password",
            "{name},\n\nsomebody asked for a new password for the account {login}. Set one with this one-time token; it"
            " is good until {until}:\n\n{secret}\n\nIf it was not you, do nothing: the password stays as it is.",
        ),
    ),
    LetterKind.INVITATION: (
        Rendered(
            "邀请加入 {org_zh}",
            "{from} 邀请您以角色 {role} 加入 {org_zh}。请用下面的一次性口令接受邀请,有效期至 {until}:\n\n{secret}\n\n"
            "如不愿加入,请忽略本邮件。",
        ),
        Rendered(
            "An invitation to {org_en}",
            "{from} invites you to join {org_en} as {role}. Accept with this one-time token; it is good until {until}:"
            "\n\n{secret}\n\nIf you do not want to, do nothing.",
        ),
    ),
    LetterKind.REGISTRATION_DECIDED: (
        Rendered("注册申请已有结果", "{name_zh} 的注册申请:{state}。\n{reason}"),
        Rendered("Your registration was decided", "The registration of {name_zh}: {state}.\n{reason}"),
    ),
}

_STATES = {
    "approved": ("已通过,现在可以登录", "approved, you can sign in now"),
    "joined": ("已通过,您已成为该单位成员", "approved, you are a member of the firm now"),
    "rejected": ("未通过", "rejected"),
}


def render_notice(kind: str, party: NoticeParty, told: Told, language: str) -> Rendered:
    """Return a notice in a language. Raises KeyError for a kind or party that nobody is told of."""
    at = _index(language)
    names = {
        "instrument": (told.instrument_zh, told.instrument_en)[at],
        "firm": (told.firm_zh, told.firm_en)[at],
    }
    title = _SAID[kind][party][at].format_map(names)
    values = {"slot": told.slot, "asked": told.asked, "reason": told.reason, "booking": told.booking_id}
    lines = [_LINES[name][at].format(value=value) for name, value in values.items() if value]
    return Rendered(_one_line(title), "\n".join([title + ("。" if at == 0 else "."), "", *lines]))


def render_matter(kind: str, side: NoticeParty, says: Mapping[str, tuple[str, str]], language: str) -> Rendered:
    """Return a notice that is not about a booking in a language; `says` has both. Raises as `render_notice`."""
    at = _index(language)
    title, lines = matter_text(kind, side, {name: both[at] for name, both in says.items()}, at)
    return Rendered(_one_line(title), "\n".join([title + ("。" if at == 0 else "."), "", *lines]))


def kind_title(kind: str, language: str) -> str:
    """Return what a kind of notice is about, for the page where somebody chooses."""
    if kind in MATTERS:
        return matter_title(kind, _index(language))
    instrument, firm = (("仪器", "企业"), ("an instrument", "a firm"))[_index(language)]
    said = _SAID[kind]
    return said.get(_C, said.get(_M, ("", "")))[_index(language)].format(instrument=instrument, firm=firm)


def render_letter(kind: LetterKind, facts: Mapping[str, str], language: str) -> Rendered:
    """Return a letter of accounts in a language. `facts` are those of the letter, with `secret` and `until`."""
    at = _index(language)
    state = _STATES.get(facts.get("state", ""), ("", ""))[at]
    shown = dict(facts) | {"state": state}
    form = _LETTERS[kind][at]
    return Rendered(_one_line(form.title.format_map(shown)), form.body.format_map(shown))


def _one_line(text: str) -> str:
    # A name may hold a line break; the subject of an e-mail may not.
    return " ".join(text.split())


def _index(language: str) -> int:
    return LANGUAGES.index(language) if language in LANGUAGES else 0
