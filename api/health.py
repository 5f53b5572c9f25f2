"""Whether the process lives, whether it can serve, and what it counted. For supervisors, not for people."""

import structlog
from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy.exc import SQLAlchemyError

from api.deps import PublicParts
from api.problems import problems
from api.schemas import Answer
from store.database import Database
from store.errors import SchemaOutdated, StoreError
from store.migrations import require_current
from store.series import SeriesStore

router = APIRouter(tags=["health"])
_log = structlog.get_logger("openlab.api")


class Alive(Answer):
    """The process answers."""

    status: str = "ok"


class Readiness(Answer):
    """Which parts are ready; `problem` is a stable word, the log says more."""

    status: str
    database: str
    series: str


@router.get("/healthz", summary="Whether the process answers")
def healthz() -> Alive:
    """Always 200 while the process lives; touches nothing."""
    return Alive()


@router.get(
    "/readyz",
    summary="Whether the database is reachable and migrated and the time series answers",
    responses={503: {"model": Readiness, "description": "Some part is not ready"}},
)
def readyz(parts: PublicParts, response: Response) -> Readiness:
    """503 while the database is away or of another version. A series outage alone degrades, it does not stop money."""
    database, series = state_of_database(parts.database), state_of_series(parts.series)
    response.status_code = 200 if database == "ok" else 503
    status = "ok" if database == series == "ok" else ("degraded" if database == "ok" else "not_ready")
    return Readiness(status=status, database=database, series=series)


@router.get("/metrics", summary="Counters in the Prometheus text format", response_class=Response, responses=problems())
def metrics(request: Request) -> Response:
    """Requests, durations and incidents, of all processes that `openlab serve` started."""
    page: bytes = request.app.state.metrics.page()
    return Response(page, media_type=CONTENT_TYPE_LATEST)


def state_of_database(database: Database) -> str:
    """Return `ok`, `not_migrated` or `unreachable`."""
    try:
        require_current(database.engine)
    except SchemaOutdated as error:
        _log.warning("not ready", part="database", problem=str(error))
        return "not_migrated"
    except (SQLAlchemyError, StoreError, OSError) as error:
        _log.warning("not ready", part="database", problem=str(error))
        return "unreachable"
    return "ok"


def state_of_series(series: SeriesStore) -> str:
    """Return `ok` or `unreachable`."""
    try:
        series.ping()
    except (StoreError, OSError) as error:
        _log.warning("degraded", part="series", problem=str(error))
        return "unreachable"
    return "ok"


def why_not_ready(database: Database) -> str | None:
    """Return why the worker cannot work, None where it can: for the health page of a process without the API."""
    state = state_of_database(database)
    return None if state == "ok" else f"the database is {state}"
