"""The demonstration county as a starting point of tests: `database_servers.fresh_url(engine, seed_county)`."""

from api.seeding import load_registry
from api.work import Work, system_actor
from store.database import Database
from wire.clock import from_ms

COUNTY_PASSWORD = "only-for-these-tests"
MONDAY_NINE_MS = 1_772_413_200_000
"""2026-03-02 09:00 in Shanghai, a working day."""


def seed_county(database: Database) -> None:
    """Load the registry as it stood at MONDAY_NINE_MS; everybody has COUNTY_PASSWORD."""
    with database.write() as session:
        work = Work(session, system_actor("seed"), from_ms(MONDAY_NINE_MS))
        load_registry(work, password_for=lambda login: COUNTY_PASSWORD)
