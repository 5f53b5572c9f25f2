"""Shared shapes of what the API takes and gives: instants, money, pages and problems.

Instants go out as RFC 3339 with the offset of Asia/Shanghai and come in with any offset; a naive one is refused, and
one outside of 1950 to 2200: a slot or a paper that never ends would be counted day by day to the end of the calendar.
Money is an integer `…_fen`; an `Answer` shows each one as text too (`total_fen: 90000` -> `total_yuan: "900.00"`).
"""

from datetime import UTC, date, datetime
from functools import cache
from typing import Annotated, Any, Generic, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from store.money import yuan
from store.periods import SHANGHAI
from wire.clock import from_ms, to_ms

FEN_MAX = 10**13
YEAR_MIN, YEAR_MAX = 1950, 2200
_EARLIEST, _LATEST = datetime(YEAR_MIN, 1, 1, tzinfo=UTC), datetime(YEAR_MAX, 1, 1, tzinfo=UTC)


def rfc3339(moment: datetime) -> str:
    """Return an instant as the API writes it: `2026-11-02T09:00:00+08:00`, milliseconds only where there are any."""
    local = moment.astimezone(SHANGHAI)
    return local.isoformat(timespec="milliseconds" if local.microsecond else "seconds")


def _whole_milliseconds(moment: datetime) -> datetime:
    if moment.tzinfo is UTC and moment.microsecond % 1000 == 0:
        return moment  # as every instant comes out of the database
    return from_ms(to_ms(moment))


def _within_the_era(given: Any, read: ValidatorFunctionWrapHandler) -> datetime:
    moment: datetime = read(given)
    # What is a datetime already comes out of the database and is shown as it stands; requests bring text.
    if not isinstance(given, datetime) and not _EARLIEST <= moment < _LATEST:
        raise ValueError(f"an instant lies in {YEAR_MIN} to {YEAR_MAX - 1}; give one of those years")
    return moment


def _day_within_the_era(given: Any, read: ValidatorFunctionWrapHandler) -> date:
    day: date = read(given)
    if not isinstance(given, date) and not YEAR_MIN <= day.year < YEAR_MAX:
        raise ValueError(f"a day lies in {YEAR_MIN} to {YEAR_MAX - 1}; give one of those years")
    return day


Instant = Annotated[
    AwareDatetime,
    WrapValidator(_within_the_era),
    AfterValidator(_whole_milliseconds),
    PlainSerializer(rfc3339, return_type=str, when_used="json"),
    WithJsonSchema(
        {"type": "string", "format": "date-time", "description": "RFC 3339 with offset"}, mode="serialization"
    ),
]
"""An instant: aware, whole milliseconds, UTC inside the program; from a request, of the years 1950 to 2199."""

Day = Annotated[date, WrapValidator(_day_within_the_era)]
"""A day of the calendar in Asia/Shanghai; from a request, of the years 1950 to 2199."""

Fen = Annotated[int, Field(ge=-FEN_MAX, le=FEN_MAX)]
"""Money in fen (1/100 yuan)."""

Name = Annotated[str, Field(min_length=1, max_length=200)]


class Question(BaseModel):
    """Base of what the API takes: unknown fields are refused, so that a misspelt one is not silently ignored.

    A text with a NUL character is refused everywhere: one database cannot keep it, and nobody can see it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nul(cls, given: Any) -> Any:
        if _holds_nul(given):
            raise ValueError("a text holds a NUL character (U+0000); leave it out")
        return given


class Answer(BaseModel):
    """Base of what the API gives. Each integer field `x_fen` comes with a text `x_yuan` beside it."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    @model_serializer(mode="wrap")
    def _with_yuan(self, inner: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = inner(self)
        money = _money_of(type(self))
        if not money:
            return values
        shown: dict[str, Any] = {}
        for name, value in values.items():
            shown[name] = value
            if name in money:
                shown[money[name]] = None if value is None else yuan(value)
        return shown

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        # The serializer above returns "some dictionary"; describe the fields instead, and the texts it adds.
        described: Any = {key: value for key, value in core_schema.items() if key != "serialization"}
        schema = handler.resolve_ref_schema(handler(described))
        if handler.mode == "serialization":
            properties = schema.get("properties", {})
            for name in [name for name in properties if name.endswith("_fen")]:
                properties[_yuan_name(name)] = {"type": "string", "description": f"{name} in yuan", "readOnly": True}
        return schema


def _holds_nul(given: Any) -> bool:
    if isinstance(given, str):
        return "\0" in given
    if isinstance(given, dict):
        return any(_holds_nul(name) or _holds_nul(value) for name, value in given.items())
    return isinstance(given, list) and any(_holds_nul(each) for each in given)


@cache
def _money_of(model: type[BaseModel]) -> dict[str, str]:
    return {name: _yuan_name(name) for name in model.model_fields if name.endswith("_fen")}


def _yuan_name(name: str) -> str:
    return name.removesuffix("_fen") + "_yuan"


ItemT = TypeVar("ItemT", bound=BaseModel)


class Page(BaseModel, Generic[ItemT]):
    """Some rows of a list, in its order. `next_cursor` gets the following ones; it is null at the end."""

    items: list[ItemT]
    next_cursor: str | None = None


class Problem(BaseModel):
    """What went wrong (RFC 9457). `code` never changes its meaning; `detail` says what to do next."""

    type: str = Field(description="urn:openlab:problem:<code>")
    title: str
    status: int
    code: str
    detail: str = Field(description="In the language asked for, Chinese by default")
    zh: str
    en: str
    facts: dict[str, Any] = Field(default_factory=dict)
