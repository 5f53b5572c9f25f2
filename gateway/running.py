"""Composition root of the gateway process: reads the settings, opens the parts, runs, closes them again."""

import threading
from dataclasses import replace

import structlog
from prometheus_client import start_http_server
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from gateway.bridge import Gateway
from gateway.metrics import GatewayMetrics
from gateway.settings import GatewaySettings
from store.database import open_database
from store.errors import StoreError
from store.migrations import require_current
from store.series import open_series
from wire.client import BrokerAddress, BrokerRefused
from wire.clock import open_clock

log = structlog.get_logger(__name__)


class CannotRun(Exception):
    """Something a person has to put right first; the message says what."""


def run(until: threading.Event) -> None:
    """Run one gateway until `until` is set. Raises CannotRun with a sentence for the operator."""
    try:
        settings = GatewaySettings()
    except ValidationError as error:
        names = ", ".join(f"OPENLAB_{str(e['loc'][0]).upper()} ({e['msg']})" for e in error.errors())
        raise CannotRun(f"check these settings: {names}") from None
    try:
        address = replace(
            BrokerAddress.parse(settings.broker_url),
            username=settings.broker_username,
            password=settings.password(),
        )
        database = open_database(settings.database_url)
        require_current(database.engine)
        token = settings.series_token.get_secret_value() if settings.series_token else None
        series = open_series(settings.series_url, token=token)
    except (ValueError, OSError, StoreError, SQLAlchemyError) as error:
        raise CannotRun(str(error)) from None
    metrics = GatewayMetrics()
    gateway = Gateway(settings, address, database, series, open_clock(settings.clock_file), metrics)
    try:
        if settings.metrics_port is not None:
            start_http_server(settings.metrics_port, settings.metrics_host, metrics.registry)
        gateway.start()
        log.info("gateway online", gateway=settings.gateway_name)
        until.wait()
    except (BrokerRefused, TimeoutError, OSError) as error:
        raise CannotRun(str(error)) from None
    finally:
        gateway.stop()
        series.close()
        database.dispose()
