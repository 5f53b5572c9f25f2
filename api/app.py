"""The HTTP application, built from its parts. Composition root of the api process (`openlab serve`).

Each domain exports a `router` from its `endpoints.py`; ROUTERS is the one list of them.
"""

from fastapi import APIRouter, Depends, FastAPI
from fastapi_offline import FastAPIOffline

from api import health, openapi, problems
from api.accounts import endpoints as accounts
from api.alerts import endpoints as alerts
from api.booking import endpoints as booking
from api.charging import endpoints as charging
from api.deps import Parts
from api.exports import endpoints as exports
from api.middleware import Guard, Metrics
from api.notices import endpoints as notices
from api.parameters import KnownParameters
from api.registry import endpoints as registry
from api.registry import endpoints_catalogue as registry_catalogue
from api.registry import endpoints_editing as registry_editing
from api.registry import endpoints_transfer as registry_transfer
from api.rewards import endpoints as rewards
from api.usage import endpoints as usage

# One line a domain, in the order of the documentation page. A request looks through them in this order: what is asked
# most comes first.
ROUTERS: tuple[APIRouter, ...] = (
    booking.router,
    registry_catalogue.router,
    registry.router,
    registry_editing.router,
    registry_transfer.router,
    accounts.router,
    notices.router,
    charging.router,
    usage.router,
    alerts.router,
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
    known = Depends(KnownParameters())
    for router in ROUTERS:
        # Each by itself: a router of routers is looked through once a level.
        app.include_router(router, prefix="/api/v1", dependencies=[known])
    app.include_router(health.router)
    problems.install(app)
    openapi.install(app)
    app.add_middleware(Guard, metrics=app.state.metrics, body_bytes_max=parts.settings.body_bytes_max)
    return app
