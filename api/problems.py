"""Every error of the API as RFC 9457 problem+json, and the same list for the OpenAPI document.

`install` registers the handlers; endpoints raise `api.errors.Refused` (or let the store's errors through) and name
the problems they can give with `problems(404, 409)`.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from api.errors import Refused
from api.schemas import Problem
from store.errors import (
    AlreadyThere,
    AppendOnly,
    CalendarOverlap,
    OutOfOrder,
    SchemaOutdated,
    StillReferenced,
    StoreError,
    TryAgain,
)

MEDIA_TYPE = "application/problem+json"

MEANINGS = {
    400: "The request lacks something that every such request carries",
    401: "Not signed in, or no longer",
    403: "Signed in, but this is not theirs to do",
    404: "There is no such thing, or none that the caller may see",
    405: "This address does not take that method",
    409: "The request contradicts what is already there",
    412: "Somebody changed the row since it was read",
    413: "The request is too large",
    422: "The request makes no sense, or names a parameter that there is not; `facts` name the fields",
    428: "The edit does not say which version it was made on",
    429: "Too many requests; `facts.retry_after_s` says when to try again",
    500: "A fault of the server; `facts.incident` finds it in the log",
    503: "Busy or not ready; the same request may succeed in a moment",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses=` of an operation that can give these problems. What every operation of its kind can
    give (401, 403, 422, 429, 500, 503) is added by api.openapi and need not be listed."""
    return {status: problem_response(status) for status in statuses}


def problem_response(status: int) -> dict[str, Any]:
    """Return the OpenAPI response object of one problem status."""
    return {
        "description": MEANINGS[status],
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def render(request: Request, refused: Refused, headers: Mapping[str, str] | None = None) -> Response:
    """Return the problem document of a refusal, in the language that the caller prefers."""
    english = request.headers.get("accept-language", "").lower().startswith("en")
    problem = Problem(
        type=f"urn:openlab:problem:{refused.code}",
        title=HTTPStatus(refused.status).phrase,
        status=refused.status,
        code=refused.code,
        detail=refused.en if english else refused.zh,
        zh=refused.zh,
        en=refused.en,
        facts=refused.facts,
    )
    extra = dict(headers or {})
    if refused.status == 401:
        extra.setdefault("WWW-Authenticate", "Bearer")
    if "retry_after_s" in refused.facts:
        extra.setdefault("Retry-After", str(refused.facts["retry_after_s"]))
    return JSONResponse(problem.model_dump(mode="json"), refused.status, extra, media_type=MEDIA_TYPE)


def meaning_of(error: StoreError) -> Refused | None:
    """Return what a refusal of the database means to the caller; None where it is a fault of ours.

    Services say it better, earlier; this is the last fence, so that a race never becomes a 500.
    """
    if isinstance(error, CalendarOverlap):
        return Refused(
            409,
            "slot_taken",
            "该时段仪器已被占用;请另选时段。",
            "The instrument is taken at that time; choose another slot.",
        )
    if isinstance(error, AlreadyThere):
        return Refused(
            409, "already_there", "该记录已存在;请刷新后核对。", "This has been recorded before; read it again."
        )
    if isinstance(error, StillReferenced):
        return Refused(
            409,
            "still_referenced",
            "有其他记录与之关联,或所引用的记录不存在;请刷新后核对。",
            "Something else is built on it, or it names something that does not exist; read it again and check"
            " the numbers.",
        )
    if isinstance(error, AppendOnly):
        return Refused(
            409,
            "append_only",
            "已记录的内容不可修改;请用更正流程。",
            "What was recorded is never edited; make a correction instead.",
        )
    if isinstance(error, OutOfOrder):
        return Refused(
            409,
            "out_of_order",
            "步骤顺序不符;请刷新后查看当前状态。",
            "Something else has to come first, or it went on meanwhile; read it again.",
        )
    if isinstance(error, TryAgain):
        return Refused(503, "busy", "系统繁忙;请稍后重试。", "Busy; try again in a moment.", retry_after_s=1)
    if isinstance(error, SchemaOutdated):
        return Refused(503, "not_migrated", "数据库版本过旧;请联系管理员。", str(error), retry_after_s=60)
    return None


def too_large(request: Request) -> Response:
    """Return the 413 of a request that announces more than the limit."""
    return _http(request, HTTPException(413))


def install(app: FastAPI) -> None:
    """Register the handlers. Unexpected errors are left to api.middleware, which logs them with an incident id."""
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(StoreError, _store)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return render(request, error)


def _store(request: Request, error: Exception) -> Response:
    assert isinstance(error, StoreError)
    refused = meaning_of(error)
    if refused is None:
        raise error
    return render(request, refused)


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # Never the input itself: it may be a password.
    fields = [{"field": ".".join(map(str, e["loc"])), "problem": e["msg"], "kind": e["type"]} for e in error.errors()]
    names = ", ".join(field["field"] for field in fields)
    return render(
        request,
        Refused(
            422,
            "invalid_request",
            f"请求内容有误,请检查字段:{names}。",
            f"The request cannot be read; check these fields: {names}.",
            fields=fields,
        ),
    )


_HTTP = {
    404: ("no_such_address", "没有这个地址;请核对路径。", "There is nothing at this address; check the path."),
    405: (
        "method_not_allowed",
        "该地址不支持此方法;请改用响应头 Allow 中的方法。",
        "This address does not take that method; use one of its Allow header.",
    ),
    413: ("body_too_large", "请求内容过大;请拆分后提交。", "The request is too large; split it up."),
}


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code, zh, en = _HTTP.get(
        error.status_code,
        ("bad_request", "请求无法处理;请核对后重试。", f"Refused ({error.detail}); check the request and try again."),
    )
    return render(request, Refused(error.status_code, code, zh, en), error.headers)
