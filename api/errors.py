"""What the API refuses: one exception type with a stable code, a sentence in Chinese and English, and the facts.

Services raise `Refused`; one handler in api/app.py renders it as RFC 9457 problem+json. The command line prints
the same sentence. Codes are listed by the constructors below and never change their meaning.
"""

from typing import Any


class Refused(Exception):
    """A request that cannot be carried out, with what to do next."""

    def __init__(self, status: int, code: str, zh: str, en: str, **facts: Any) -> None:
        super().__init__(en)
        self.status = status
        self.code = code
        self.zh = zh
        self.en = en
        self.facts = facts


def not_found(noun_zh: str, noun_en: str, key: str) -> Refused:
    """404: there is no such thing, or none that the caller may see."""
    return Refused(
        404,
        "not_found",
        f"没有找到{noun_zh} {key};请核对编号。",
        f"There is no {noun_en} {key}; check the number.",
        noun=noun_en,
        key=key,
    )


def forbidden(zh: str, en: str, **facts: Any) -> Refused:
    """403: the caller is known, but this is not theirs to do."""
    return Refused(403, "forbidden", zh, en, **facts)


def conflict(code: str, zh: str, en: str, **facts: Any) -> Refused:
    """409: the request contradicts what is already there."""
    return Refused(409, code, zh, en, **facts)


def invalid(code: str, zh: str, en: str, **facts: Any) -> Refused:
    """422: the request itself makes no sense; `facts` name the field."""
    return Refused(422, code, zh, en, **facts)


def stale(found: int, given: int) -> Refused:
    """412: somebody changed the row since it was read."""
    return Refused(
        412,
        "stale_version",
        "数据已被他人修改;请重新读取后再保存。",
        "Somebody changed this since you read it; read it again, then save.",
        current_version=found,
        given_version=given,
    )
