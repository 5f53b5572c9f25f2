"""The demonstration county as data, and its loader. Package data: data/hosts.csv, data/instruments.csv."""

from api.seeding.catalogue_files import host_rows, instrument_rows
from api.seeding.registry import Seeded, agent_of, load_registry

__all__ = ["Seeded", "agent_of", "host_rows", "instrument_rows", "load_registry"]
