"""The HTTP application, built from its parts. Composition root of the api process (`openlab serve`).

Each domain exports a `router` from its `endpoints.py`; ROUTERS is the one list of them.
"""

from fastapi import APIRouter, FastAPI
from fastapi_offline import FastAPIOffline

from api import health, openapi, problems
from api.accounts import endpoints as accounts
from api.booking import endpoints as booking
from api.charging import endpoints as charging
from api.deps import Parts
from api.exports import endpoints as exports
from api.limiting import Limiter
from api.middleware import Guard, Metrics
from api.notices import endpoints as notices
from api.registry import endpoints as registry
from api.registry import endpoints_catalogue as registry_catalogue
from api.registry import endpoints_editing as registry_editing
from api.registry import endpoints_transfer as registry_transfer
from api.rewards import endpoints as rewards
from api.settings import Settings
from api.usage import endpoints as usage
from store.database import Database, open_database
from store.series import open_series
from wire.clock import Clock, SystemClock, open_clock

# One line a domain, in the order of the documentation page.
ROUTERS: tuple[APIRouter, ...] = (
    registry_catalogue.router,
    registry.router,
    registry_editing.router,
    registry_transfer.router,
    accounts.router,
    booking.router,
    notices.router,
    charging.router,
    usage.router,
    rewards.router,
    exports.router,
)


def create_app(parts: Parts) -> FastAPI:
    """Return the application over these parts. Opens nothing: the parts' owner closes them."""
    app: FastAPI = FastAPIOffline(
        title="OpenLab",
        version="1",
        description="Shared laboratory instruments of a county: who has what, booking, metered use, fees and rewards.",
        openapi_url="/api/v1/openapi.json",
    )
    app.state.parts = parts
    app.state.metrics = Metrics()
    api = APIRouter(prefix="/api/v1")
    for router in ROUTERS:
        api.include_router(router)
    app.include_router(api)
    app.include_router(health.router)
    problems.install(app)
    openapi.install(app)
    app.add_middleware(Guard, metrics=app.state.metrics, body_bytes_max=parts.settings.body_bytes_max)
    return app


def open_parts(settings: Settings) -> Parts:
    """Open what the settings name. Raises ValueError for an unknown backend, FileNotFoundError for a missing clock."""
    database, real_clock = open_database(settings.database_url), SystemClock()
    return Parts(
        settings,
        database,
        open_series(settings.series_url, settings.series_token.get_secret_value() if settings.series_token else None),
        open_clock(settings.clock_file),
        open_limiter(settings, database, real_clock),
        real_clock,
    )


def open_limiter(settings: Settings, database: Database, real_clock: Clock) -> Limiter:
    """Build the rate limits that the settings name. Raises ValueError for one that cannot be read."""
    return Limiter(
        database,
        real_clock,
        login=settings.login_limit,
        lockout=settings.lockout_limit,
        registration=settings.registration_limit,
        write=settings.write_limit,
    )


def close_parts(parts: Parts) -> None:
    """Give back the connections of `open_parts`."""
    parts.series.close()
    parts.database.dispose()
