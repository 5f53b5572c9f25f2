"""Builds agents from settings. The only place of this package, besides tests, that puts parts together."""

from collections.abc import Callable
from dataclasses import replace

from edge_agents.agent import Agent
from edge_agents.drivers import build_driver
from edge_agents.drivers.base import BadDriverSetting, DriverContext
from edge_agents.drivers.cards import CardReader, read_key
from edge_agents.journal import SpoolLimits
from edge_agents.settings import AgentSettings, BadConfig
from edge_agents.watch import Watched
from wire.client import BrokerAddress
from wire.clock import Clock, open_clock


def clock_of(settings: AgentSettings) -> Clock:
    """Return the clock that the settings name. Raises BadConfig where its file cannot be used."""
    try:
        return open_clock(settings.clock_file)
    except (OSError, ValueError, TypeError) as error:
        raise BadConfig(f"clock_file {settings.clock_file}: {error}") from None


def address_of(settings: AgentSettings) -> BrokerAddress:
    """Return where to connect and as whom: the user name is always the agent. Raises BadConfig."""
    address = BrokerAddress.parse(settings.broker)
    if settings.credential_file is None:
        return address if address.username else replace(address, username=settings.agent)
    try:
        lines = settings.credential_file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise BadConfig(f"credential_file {settings.credential_file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadConfig(f"credential_file {settings.credential_file}: is not text in UTF-8") from None
    if not lines or not lines[0].strip():
        raise BadConfig(f"credential_file {settings.credential_file}: its first line should be the password")
    return replace(address, username=settings.agent, password=lines[0].strip())


def build_agent(settings: AgentSettings, clock: Clock, checkpoint: Callable[[str], None] = lambda step: None) -> Agent:
    """Build one agent; nothing is opened before it is started. Raises BadConfig."""
    watched = []
    for item in settings.instruments:
        try:
            driver = build_driver(item.driver, DriverContext(item.id, clock, item.period_ms, item.params))
        except BadDriverSetting as error:
            raise BadConfig(f"agent {settings.agent}, instrument {item.id}: {error}") from None
        watched.append(Watched(item.id, driver, item.detector_profile(), item.tick_ms, item.most_w()))
    limits, readers = SpoolLimits(settings.max_spool_bytes, settings.usage_reserve_bytes), readers_of(settings, clock)
    return Agent(settings.agent, watched, clock, address_of(settings), settings.data_dir, limits, checkpoint, readers)


def readers_of(settings: AgentSettings, clock: Clock) -> list[CardReader]:
    """Build the card readers of one agent; none is opened. Raises BadConfig."""
    readers = []
    for item in settings.readers:
        try:
            key = read_key(item.key_file)
            readers.append(CardReader(item.instrument, item.path, key, clock, says=item.says, baudrate=item.baudrate))
        except BadDriverSetting as error:
            raise BadConfig(f"agent {settings.agent}, card reader of {item.instrument}: {error}") from None
    return readers
