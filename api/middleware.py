"""Around every request: limits of size and text, a count and a duration, and an answer for what nobody expected.

An unexpected error is logged with an incident id; the client learns the id and nothing else.
"""

import os
import time
from uuid import uuid4

import structlog
from fastapi import Request
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from api.errors import Refused, invalid

COUNTERS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable by which the library is told, before it is imported, that several processes count together."""
_log = structlog.get_logger("openlab.api")


class Metrics:
    """What is counted about requests. One registry an application, so that tests may build many."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "openlab_api_requests", "Requests answered", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "openlab_api_request_seconds", "Seconds to the last byte", ["method", "route"], registry=self.registry
        )
        self.incidents = Counter("openlab_api_incidents", "Unexpected errors", registry=self.registry)

    def page(self) -> bytes:
        """Return everything in the Prometheus text format: of all processes, where several serve together."""
        if COUNTERS_FOLDER not in os.environ:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)
        return generate_latest(together)


class Guard:
    """The outermost ASGI layer of the application."""

    def __init__(self, app: ASGIApp, metrics: Metrics, body_bytes_max: int) -> None:
        self._app, self._metrics, self._limit = app, metrics, body_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, taken = time.monotonic(), 0, 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._limit:
                # The framework lets this one type through while it reads a body; its handler renders the problem.
                raise HTTPException(413)
            return message

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        request = Request(scope)
        try:
            if "\0" in scope["path"] or b"%00" in scope["query_string"]:
                await problems.render(request, _nul_in_address())(scope, receive, noted)
                return
            if int(request.headers.get("content-length") or 0) > self._limit:
                await problems.too_large(request)(scope, receive, noted)
                return
            await self._app(scope, limited, noted)
        except Exception as error:
            if status:
                raise  # half an answer is out; the server cuts the connection
            await problems.render(request, self._incident(request, error))(scope, receive, noted)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.requests.labels(scope["method"], route, str(status)).inc()
            self._metrics.seconds.labels(scope["method"], route).observe(time.monotonic() - started)

    def _incident(self, request: Request, error: Exception) -> Refused:
        incident = uuid4().hex[:12]
        self._metrics.incidents.inc()
        # The route, not the address: that of a private calendar feed holds its secret.
        route = getattr(request.scope.get("route"), "path", "none")
        _log.error("unexpected error", incident=incident, method=request.method, route=route, exc_info=error)
        return Refused(
            500,
            "internal_error",
            f"服务器内部错误,未作任何更改;请告知管理员事件号 {incident}。",
            f"A fault of the server; nothing was changed. Tell the administrator incident {incident}.",
            incident=incident,
        )


def _nul_in_address() -> Refused:
    return invalid(
        "nul_in_address",
        "网址中含有 NUL 字符(%00);请去掉后重试。",
        "The address holds a NUL character (%00); leave it out.",
        field="path",
    )
