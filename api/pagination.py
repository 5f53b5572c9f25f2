"""Lists in pages. A cursor holds the sort key of the last row given, so rows added meanwhile neither repeat nor hide.

rows, next_cursor = paginate(work.session, select(Instrument), (Instrument.instrument_id,), page)
"""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Query
from sqlalchemy import Select, literal, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from api.errors import invalid
from store.types import UtcDateTime
from wire.clock import from_ms, to_ms

LIMIT_MAX = 200
_INT_MAX = 2**63 - 1
RowT = TypeVar("RowT")


@dataclass(frozen=True)
class PageAsked:
    """Which page of a list is wanted."""

    limit: int = 50
    cursor: str | None = None


def _page(
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX, description="Rows a page")] = 50,
    cursor: Annotated[str | None, Query(max_length=1000, description="`next_cursor` of the page before")] = None,
) -> PageAsked:
    return PageAsked(limit, cursor)


WantedPage = Annotated[PageAsked, Depends(_page)]


def paginate(
    session: Session,
    statement: Select[RowT],
    keys: Sequence[InstrumentedAttribute[Any]],
    page: PageAsked,
    *,
    descending: bool = False,
    columns: bool = False,
) -> tuple[list[RowT], str | None]:
    """Return the rows of one page and the cursor of the next, None at the end.

    `keys` are attributes of the selected entity that together are unique; the list is in their order. `columns`: they
    are selected instead of an entity, and the rows are of them. Raises 422 `bad_cursor` for a cursor that this list did
    not give.
    """
    if page.cursor is not None:
        after = tuple_(*(literal(v, key.type) for v, key in zip(_read(page.cursor, keys), keys, strict=True)))
        here = tuple_(*keys)
        statement = statement.where(here < after if descending else here > after)
    order = [key.desc() if descending else key.asc() for key in keys]
    wanted = statement.order_by(*order).limit(page.limit + 1)
    rows: list[Any] = list(session.execute(wanted) if columns else session.scalars(wanted))
    if len(rows) <= page.limit:
        return rows, None
    rows = rows[: page.limit]
    return rows, write_cursor([getattr(rows[-1], key.key) for key in keys])


def write_cursor(values: Sequence[Any]) -> str:
    """Return the sort key of a row as a cursor; texts, numbers and instants."""
    plain = [to_ms(value) if isinstance(value, datetime) else value for value in values]
    return base64.urlsafe_b64encode(json.dumps(plain, ensure_ascii=False).encode()).decode().rstrip("=")


def read_cursor(cursor: str, check: Callable[[list[Any]], list[Any]]) -> list[Any]:
    """Return what `check` makes of the values in a cursor; it raises ValueError for those of another list.

    Numbers and texts that no database keeps never get there. Raises 422 `bad_cursor`.
    """
    try:
        values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(values, list):
            raise ValueError("no cursor")
        for value in values:
            _require_storable(value)
        return check(values)
    except (ValueError, OverflowError, RecursionError) as error:
        raise invalid(
            "bad_cursor",
            "翻页游标无效;请从第一页重新读取。",
            "This cursor is not one of this list; start again from the first page.",
            field="cursor",
        ) from error


def _read(cursor: str, keys: Sequence[InstrumentedAttribute[Any]]) -> list[Any]:
    return read_cursor(cursor, lambda values: [_typed(v, key) for v, key in zip(values, keys, strict=True)])


def _require_storable(value: Any) -> None:
    if isinstance(value, str):
        value.encode()  # half a character (a lone surrogate) is a UnicodeEncodeError, which is a ValueError
        if "\0" in value:
            raise ValueError("holds a NUL character")
    elif isinstance(value, int) and abs(value) > _INT_MAX:
        raise ValueError("past the largest number")


def _typed(value: Any, key: InstrumentedAttribute[Any]) -> Any:
    if isinstance(key.type, UtcDateTime):
        if type(value) is not int:
            raise ValueError("not an instant")
        return from_ms(value)
    if type(value) is not key.type.python_type:
        raise ValueError("another type")
    return value
