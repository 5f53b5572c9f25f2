"""Composition root of the gateway process: reads the settings, opens the parts, runs, closes them again."""

import gc
import threading
from collections.abc import Callable
from dataclasses import replace

import structlog
from prometheus_client import generate_latest
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from gateway.bridge import Gateway, no_checkpoint
from gateway.metrics import GatewayMetrics
from gateway.settings import GatewaySettings
from store.database import Database, open_database
from store.errors import StoreError
from store.migrations import require_current
from store.series import open_series
from wire.client import BrokerAddress, BrokerRefused
from wire.clock import open_clock
from wire.health_page import HealthPage

log = structlog.get_logger(__name__)


class CannotRun(Exception):
    """Something a person has to put right first; the message says what."""


def settings_of_environment() -> GatewaySettings:
    """Return the settings. Raises CannotRun, naming the variables."""
    try:
        return GatewaySettings()
    except ValidationError as error:
        names = ", ".join(f"OPENLAB_{str((*e['loc'], 'shard')[0]).upper()} ({e['msg']})" for e in error.errors())
        raise CannotRun(f"check these settings: {names}") from None


def broker_address(settings: GatewaySettings) -> BrokerAddress:
    """Return where the broker is and who we are there. Raises CannotRun."""
    try:
        address = BrokerAddress.parse(settings.broker_url)
        return replace(address, username=settings.broker_username, password=settings.password())
    except (ValueError, OSError) as error:
        raise CannotRun(str(error)) from None


def open_ledger(settings: GatewaySettings) -> Database:
    """Open the database, which must be migrated. Raises CannotRun."""
    try:
        database = open_database(settings.database_url)
        require_current(database.engine)
    except (ValueError, OSError, StoreError, SQLAlchemyError) as error:
        raise CannotRun(str(error)) from None
    return database


def run(until: threading.Event, checkpoint: Callable[[str], None] = no_checkpoint) -> None:
    """Run one gateway until `until` is set. Raises CannotRun with a sentence for the operator."""
    settings = settings_of_environment()
    address, database = broker_address(settings), open_ledger(settings)
    try:
        token = settings.series_token.get_secret_value() if settings.series_token else None
        series = open_series(settings.series_url, token=token)
    except (ValueError, OSError, StoreError, SQLAlchemyError) as error:
        raise CannotRun(str(error)) from None
    metrics = GatewayMetrics()
    gateway = Gateway(settings, address, database, series, open_clock(settings.clock_file), metrics, checkpoint)
    page = None
    try:
        if settings.metrics_port is not None:
            page = HealthPage(
                settings.metrics_host,
                settings.metrics_port,
                gateway.why_not_ready,
                lambda: generate_latest(metrics.registry),
            )
        gateway.start()
        _spare_collector()
        log.info("gateway online", gateway=settings.gateway_name)
        until.wait()
    except (BrokerRefused, TimeoutError, OSError) as error:
        raise CannotRun(str(error)) from None
    finally:
        if page is not None:
            page.close()
        gateway.stop()
        series.close()
        database.dispose()


def _spare_collector() -> None:
    """A batch is thousands of objects without a cycle; looking for cycles in them is a tenth of a commit's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
