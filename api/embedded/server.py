"""The demo's server process: gateway, API and worker in one, over the files of one folder. Started by the supervisor.

Run as `python -m api.embedded.server --data-dir DIR --port N`; ends on SIGTERM after finishing what is in hand.
"""

import argparse
import logging
import os
import threading
from pathlib import Path

import structlog
import uvicorn

from api.app import create_app
from api.chores import chores_of
from api.embedded.folder import BROKER_URL_VARIABLE, GATEWAY_NAME, DemoFolder
from api.notices.running import postman_at_work
from api.parts import close_parts, open_parts
from api.settings import load_settings
from api.worker import Worker
from gateway.bridge import Gateway
from gateway.metrics import GatewayMetrics
from gateway.settings import GatewaySettings
from wire.client import BrokerAddress


def main() -> None:
    """Build the parts, run until told to stop, close them in the opposite order."""
    arguments = argparse.ArgumentParser(description="The demo's server process; started by `openlab demo`.")
    arguments.add_argument("--data-dir", type=Path, required=True)
    arguments.add_argument("--port", type=int, required=True)
    given = arguments.parse_args()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
    folder = DemoFolder(given.data_dir)
    settings = load_settings(
        data_dir=folder.path,
        database_url=folder.database_url,
        series_url=folder.series_url,
        clock_file=folder.clock_file,
        port=given.port,
    )
    parts = open_parts(settings)
    # The address with its password comes through the environment: a command line can be read by everybody.
    broker_url = os.environ.pop(BROKER_URL_VARIABLE)
    gateway_settings = GatewaySettings(
        database_url=folder.database_url,
        series_url=folder.series_url,
        broker_url="mqtt://127.0.0.1",
        gateway_name=GATEWAY_NAME,
    )
    gateway = Gateway(
        gateway_settings,
        BrokerAddress.parse(broker_url),
        parts.database,
        parts.series,
        parts.clock,
        GatewayMetrics(),
    )
    worker = Worker(parts.database, parts.series, parts.clock, chores=chores_of(settings, parts.series))
    until = threading.Event()
    working = threading.Thread(target=worker.run, args=(until,), name="worker")
    server = uvicorn.Server(
        uvicorn.Config(create_app(parts), host="127.0.0.1", port=given.port, log_level="warning", access_log=False)
    )
    try:
        gateway.start()
        working.start()
        with postman_at_work(parts):
            server.run()
    finally:
        until.set()
        if working.ident is not None:
            working.join(30)
        gateway.stop()
        close_parts(parts)


if __name__ == "__main__":
    main()
