"""The parts of an API process, opened by what the settings name. Composition root beside app.py, without its routes:
the worker and the commands need no route, and building those takes a second.
"""

from api.deps import Parts
from api.limiting import Limiter
from api.settings import Settings
from store.database import Database, open_database
from store.series import open_series
from wire.clock import Clock, SystemClock, open_clock


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
        processes=settings.workers,
    )


def close_parts(parts: Parts) -> None:
    """Give back the connections of `open_parts`."""
    parts.series.close()
    parts.database.dispose()
