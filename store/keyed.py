"""Ask for rows by keys of several columns in words that let every engine find them by index.

`(a, b) IN ((?, ?), …)` reads the whole table on SQLite, whatever indexes there are; a join with the keys does not.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import CTE, column, values
from sqlalchemy.types import TypeEngine

KEYS_AT_ONCE = 500
"""How many keys one statement may name: engines limit the values of a statement."""


def keys_to_join(columns: Mapping[str, TypeEngine[Any]], keys: Sequence[Sequence[Any]]) -> CTE:
    """Return a table of these keys, to be joined on all of its columns. Not for an empty sequence."""
    named = [column(name, kind) for name, kind in columns.items()]
    return values(*named, name="keys_given").data([tuple(key) for key in keys]).cte("wanted")
