"""Which query parameters an operation takes: a name it does not know is refused, not passed over in silence.

A slip in the name of a filter would otherwise give the unfiltered list, and two values where one is taken the last one.
Built into every operation below /api/v1 by app.py; it reads what the operation itself declares, so nobody lists names.
"""

from types import UnionType
from typing import Any, Union, get_args, get_origin

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query

from api.errors import Refused, invalid


async def any_parameters() -> None:
    """Marks an operation whose callers add parameters of their own: calendar programs do."""


class KnownParameters:
    """The dependency. One an application, which remembers what each route declares.

    Raises 422 `unknown_parameter` with the names there are, 422 `repeated_parameter` for what is taken once.
    """

    def __init__(self) -> None:
        self._of_route: dict[int, dict[str, bool] | None] = {}

    async def __call__(self, request: Request) -> None:
        if not request.scope["query_string"]:
            return
        route = request.scope["route"]
        if id(route) not in self._of_route:
            self._of_route[id(route)] = _declared(route.dependant)
        known = self._of_route[id(route)]
        if known is None:
            return
        unknown = sorted(set(request.query_params) - set(known))
        if unknown:
            raise _unknown(unknown, sorted(known))
        repeated = [name for name, many in known.items() if not many and len(request.query_params.getlist(name)) > 1]
        if repeated:
            raise _repeated(repeated)


def _declared(dependant: Dependant) -> dict[str, bool] | None:
    """Return each query parameter and whether it may be given many times; None where any may be given."""
    if any(each.call is any_parameters for each in dependant.dependencies):
        return None
    fields = [field for field in get_flat_params(dependant) if isinstance(field.field_info, Query)]
    return {field.alias: _takes_many(field.field_info.annotation) for field in fields}


def _takes_many(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return any(_takes_many(each) for each in get_args(annotation))
    return origin in (list, set, tuple, frozenset)


def _unknown(unknown: list[str], known: list[str]) -> Refused:
    names, there_are = ", ".join(unknown), ", ".join(known)
    return invalid(
        "unknown_parameter",
        f"没有这样的查询参数:{names};可用的参数:{there_are or '无'};请更正参数名。",
        f"There is no such query parameter: {names}; there are: {there_are or 'none'}; correct the name.",
        field=names,
        unknown=unknown,
        known=known,
    )


def _repeated(repeated: list[str]) -> Refused:
    names = ", ".join(repeated)
    return invalid(
        "repeated_parameter",
        f"查询参数只能给出一次:{names};请只保留一个。",
        f"This query parameter is given once only: {names}; leave one.",
        field=names,
        repeated=repeated,
    )
