"""Brokers that take no more than an operator allowed them, or that show a certificate. For `test_broker_limits`.

Each is given its limits before it starts, or between two starts.
"""

import re
from pathlib import Path
from typing import Protocol

from api.embedded.broker import write_secret
from tests.support.brokers import AnyBroker, MosquittoBroker, NatsBroker
from tests.support.ports import free_port


class LimitedBroker(AnyBroker, Protocol):
    """What may be limited with either."""

    scheme: str
    """By which a gateway connects to `port`."""

    def set(self, **options: object) -> None:
        """Give options of its configuration, by their own names, another value."""
        ...

    def take_at_most(self, packet_bytes: int) -> None:
        """Refuse larger messages."""
        ...

    def show_certificate(self, folder: Path) -> int:
        """Show `broker.pem` of this folder; return the port where that is asked for."""
        ...


class LimitedMosquitto(MosquittoBroker):
    """The certificate is shown at a port of its own."""

    scheme = "mqtt"

    @property
    def _config(self) -> Path:
        return self._folder / "mosquitto.conf"

    def set(self, **options: object) -> None:
        lines = [line for line in self._config.read_text().splitlines() if line.split()[0] not in options]
        self._config.write_text("\n".join([*lines, *(f"{name} {value}" for name, value in options.items())]) + "\n")

    def take_at_most(self, packet_bytes: int) -> None:
        self.set(max_packet_size=packet_bytes)

    def show_certificate(self, folder: Path) -> int:
        port = free_port()
        listener = f"listener {port} 127.0.0.1\ncertfile {folder}/broker.pem\nkeyfile {folder}/broker.key\n"
        self._config.write_text(self._config.read_text() + listener)
        return port


class LimitedNats(NatsBroker):
    """It has one port for MQTT: with a certificate it is shown to gateways too."""

    scheme = "mqtt"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._options: dict[str, object] = {}
        self._certificate = ""

    def set(self, **options: object) -> None:
        self._options |= options

    def take_at_most(self, packet_bytes: int) -> None:
        self.set(max_payload=packet_bytes)

    def show_certificate(self, folder: Path) -> int:
        self._certificate = f'tls {{ cert_file: "{folder}/broker.pem", key_file: "{folder}/broker.key" }}, '
        self.scheme = "mqtts"
        return self.port

    def _write_config(self) -> None:
        super()._write_config()
        text = self._config_path.read_text()
        for name, value in self._options.items():
            text, found = re.subn(rf"\b{name}: \d+", f"{name}: {value}", text)
            assert found == 1, f"{name} is not in the configuration"
        write_secret(self._config_path, text.replace("mqtt { ", "mqtt { " + self._certificate))
