"""What `openlab-agent check` looks at on site: credential, broker, meters, clock, disk. Each finding is a sentence.

Runs beside an agent that is in service without disturbing it: another client id, a clean session, nothing published.
"""

import os
import shutil
import socket
import ssl
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from edge_agents.check_meter import look_at
from edge_agents.compose import address_of, readers_of
from edge_agents.desired import CONFIG_FILE, Desired
from edge_agents.findings import Finding, Grade
from edge_agents.journal import SpoolLimits
from edge_agents.settings import AgentSettings, BadConfig
from edge_agents.wall import chrony_is_synchronised, timesyncd_was_synchronised, wall_quality
from wire import topics
from wire.client import BrokerAddress, BrokerRefused, Delivery, MqttClient
from wire.clock import Clock
from wire.errors import WireError
from wire.messages import ClockQuality, ServerState, decode

BROKER_WAIT_S = 5.0
STATE_WAIT_S = 1.0


def examine(settings: AgentSettings, clock: Clock) -> Iterator[Finding]:
    """Look at one agent, one finding after the other; takes some seconds."""
    yield from _credential(settings)
    yield from _broker(settings)
    try:
        desired: Desired | None = Desired(settings.data_dir / CONFIG_FILE, settings.agent)
    except OSError as error:
        desired = None
        sentence = f"the county's configuration in {settings.data_dir} cannot be read: {error.strerror}"
        yield Finding("profiles", Grade.WARNING, f"{sentence}; what follows goes by the settings file")
    for instrument in settings.instruments:
        yield from look_at(instrument, clock, desired)
    yield from _readers(settings, clock)
    yield _wall_clock(clock)
    yield from _disk(settings)


def _readers(settings: AgentSettings, clock: Clock) -> Iterator[Finding]:
    try:
        readers = readers_of(settings, clock)
    except BadConfig as error:
        yield Finding("card reader", Grade.WRONG, str(error))
        return
    for reader in readers:
        about = f"card reader of {reader.inst}"
        if os.access(reader.path, os.R_OK):
            yield Finding(about, Grade.OK, f"{reader.path} can be read; hold a card to it and look for the reading")
        else:
            yield Finding(about, Grade.WRONG, f"{reader.path} is not there or may not be read by this user")


def _credential(settings: AgentSettings) -> Iterator[Finding]:
    path = settings.credential_file
    if path is None:
        if BrokerAddress.parse(settings.broker).password is None:
            yield Finding("credential", Grade.WARNING, "there is none: set credential_file = ... to a file with it")
        return
    try:
        address_of(settings)
        open_to = stat.S_IMODE(path.stat().st_mode) & 0o077
    except (BadConfig, OSError) as error:
        yield Finding("credential", Grade.WRONG, str(error))
        return
    if open_to:
        yield Finding("credential", Grade.WARNING, f"{path} can be read by others: chmod 600 {path}")
    else:
        yield Finding("credential", Grade.OK, f"{path} is there, and for its owner alone")


def _broker(settings: AgentSettings) -> Iterator[Finding]:
    try:
        address = address_of(settings)
    except BadConfig:
        return  # told as the credential's fault
    where = f"{address.host}:{address.port}"
    try:
        with socket.create_connection((address.host, address.port), timeout=BROKER_WAIT_S):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        yield Finding("broker", Grade.WRONG, f"nobody answers at {where} ({reason}): check cable, address, firewall")
        return
    states: list[bytes] = []
    arrived = threading.Event()

    def take(delivery: Delivery) -> None:
        delivery.ack()
        if delivery.topic.startswith(f"{topics.ROOT}/srv/"):
            states.append(delivery.payload)
            arrived.set()

    client = MqttClient(
        address,
        f"{settings.agent}-check-{os.getpid()}",
        subscriptions=[topics.SERVER_STATES],
        clean_session=True,
        on_delivery=take,
    )
    try:
        client.start()
        client.wait_connected(BROKER_WAIT_S)
        yield Finding("broker", Grade.OK, f"{where} answers and accepts the credential of {settings.agent}")
        arrived.wait(STATE_WAIT_S)
        yield _county(states)
    except BrokerRefused as error:
        yield Finding("broker", Grade.WRONG, f"{error}: is this the credential of {settings.agent}?")
    except (TimeoutError, ssl.SSLError, OSError):
        hint = (
            "is it a broker, and does it speak TLS there?" if address.tls else "is it a broker, or does it want mqtts?"
        )
        yield Finding("broker", Grade.WRONG, f"something listens at {where} but does not answer: {hint}")
    finally:
        client.stop()


def _county(states: list[bytes]) -> Finding:
    online = []
    for payload in states:
        try:
            state = decode(ServerState, payload)
        except WireError:
            continue
        online += [state.gateway] if state.online else []
    if online:
        return Finding("county", Grade.OK, f"a gateway is there: {', '.join(sorted(online))}")
    return Finding("county", Grade.WARNING, "no gateway says that it is there; records are kept here until one does")


def _wall_clock(clock: Clock) -> Finding:
    quality = wall_quality(clock)
    if quality is ClockQuality.NTP:
        return Finding("clock", Grade.OK, "is synchronised")
    if quality is ClockQuality.UNSET:
        return Finding(
            "clock", Grade.WRONG, "is not set: records are dated later, but mend it (timedatectl set-ntp true)"
        )
    if chrony_is_synchronised():
        sentence = (
            "chrony keeps it but does not tell the kernel, so records say rtc: add the line rtcsync to chrony.conf"
        )
    elif timesyncd_was_synchronised():
        sentence = "was synchronised and is not any more: is the time server reachable? Until then records say holdover"
    else:
        sentence = "is not known to be synchronised (timedatectl set-ntp true); durations are right all the same"
    return Finding("clock", Grade.WARNING, sentence)


def _disk(settings: AgentSettings) -> Iterator[Finding]:
    # Not made here: whoever runs this may be root, and the agent could not write to a folder of root's.
    folder = next(path for path in (settings.data_dir, *settings.data_dir.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
        disk, used = shutil.disk_usage(folder), _size(settings.data_dir)
    except OSError as error:
        yield Finding("disk", Grade.WRONG, f"{folder} cannot be written: {error.strerror}")
        return
    free, free_mb = disk.free, disk.free // 1_000_000
    most = SpoolLimits(settings.max_spool_bytes, settings.usage_reserve_bytes).most_on(disk.total)
    if free + used < settings.usage_reserve_bytes:
        wanted = settings.usage_reserve_bytes // 1_000_000
        yield Finding("disk", Grade.WRONG, f"{folder}: {free_mb} MB free, less than the {wanted} MB that usage needs")
    elif free + used < most:
        wanted = most // 1_000_000
        yield Finding("disk", Grade.WARNING, f"{folder}: {free_mb} MB free, less than the {wanted} MB it may grow to")
    else:
        yield Finding("disk", Grade.OK, f"{folder} can be written, {free_mb} MB free")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) if folder.is_dir() else 0
