"""The OpenAPI document, completed: each operation lists every problem it can give, and who may call it.

What an operation can give by its kind follows from what it is built of (its Access, Once, IfMatch), so nobody has to
write it down, and nobody can forget it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts

from api import deps
from api.parameters import KnownParameters
from api.problems import problem_response
from api.repeats import if_match_of, once_of
from api.schemas import Problem

_ETAG = {"description": 'The row version, for If-Match: such as "3"', "schema": {"type": "string"}}


@dataclass(frozen=True)
class Operation:
    """One method of one path with what its signature asks for. `access` is None where it keeps its own rules."""

    method: str
    path: str
    access: deps.Access | None
    open_to_all: bool
    once: bool
    if_match: bool
    judges_input: bool
    in_schema: bool
    versioned: bool
    """Whether it answers with one row that is edited with If-Match: its version is the ETag."""


def operations(app: FastAPI) -> Iterator[Operation]:
    """Yield every operation of the application, in the order of its routers."""
    for context in iter_route_contexts(app.routes):
        dependant = getattr(context, "dependant", None)
        if context.path is None or not isinstance(dependant, Dependant):
            continue
        calls = list(_calls(dependant))
        access = next((call for call in calls if isinstance(call, deps.Access)), None)
        for method in sorted(context.methods or ()):
            yield Operation(
                method,
                context.path,
                access,
                any(isinstance(call, deps.OpenToAll) for call in calls),
                once_of in calls,
                if_match_of in calls,
                any(isinstance(call, KnownParameters) for call in calls),
                bool(getattr(context, "include_in_schema", True)),
                "row_version" in getattr(getattr(context, "response_model", None), "model_fields", {}),
            )


def install(app: FastAPI) -> None:
    """Make `app.openapi()` return the completed document."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _complete(app: FastAPI) -> dict[str, Any]:
    schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    components = schema.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "session": {"type": "apiKey", "in": "cookie", "name": "openlab_session"},
    }
    for operation in operations(app):
        if operation.in_schema:
            _describe(schema["paths"][operation.path][operation.method.lower()], operation)
    return schema


def _describe(described: dict[str, Any], operation: Operation) -> None:
    responses = described["responses"]
    responses.pop("422", None) if not operation.judges_input else responses.update({"422": problem_response(422)})
    for status in _problems_by_kind(operation):
        responses.setdefault(str(status), problem_response(status))
    if operation.versioned:
        for status, response in responses.items():
            if status.startswith("2"):
                response.setdefault("headers", {})["ETag"] = _ETAG
    access = operation.access
    if access is None or access.public:
        described["x-roles"] = ["public"]
        described["security"] = []
    else:
        described["x-roles"] = sorted(access.roles) or ["signed-in"]
        described["security"] = [{"bearer": []}, {"session": []}]


def _problems_by_kind(operation: Operation) -> list[int]:
    statuses = {500}
    access = operation.access
    if access is not None:
        statuses.add(503)
        if not access.public:
            statuses |= {401, 403}
        if access.mode is deps.Mode.WRITE:
            statuses |= {403, 409, 413, 429}
    if operation.open_to_all:
        statuses |= {413, 429, 503}
    if operation.once:
        statuses |= {400, 409}
    if operation.if_match:
        statuses |= {400, 412, 428}
    return sorted(statuses)


def _calls(dependant: Dependant) -> Iterator[object]:
    for dependency in dependant.dependencies:
        yield dependency.call
        yield from _calls(dependency)
