"""Where a broker listens and who we are there, read from one address. Used by the client and by settings."""

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from wire.ids import is_host_name


@dataclass(frozen=True)
class BrokerAddress:
    """Where a broker listens and who we are there. `mqtt://` is plain TCP, `mqtts://` TLS."""

    host: str
    port: int
    tls: bool
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def where(self) -> str:
        """Host and port, for people."""
        return f"{self.host}:{self.port}"

    @staticmethod
    def parse(url: str) -> "BrokerAddress":
        """Read `mqtt://user:password@host:port`. Raises ValueError with the form that is expected, or with what is
        wrong with the host: a name that can be no name is not worth trying."""
        parts = urlsplit(url)
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
            raise ValueError(f"broker address {parts.scheme}://… is not mqtt://host:port or mqtts://host:port")
        if not is_host_name(parts.hostname):
            raise ValueError(
                f"broker address {parts.scheme}://…: {parts.hostname!r} cannot be a host; between its dots stand 1 to"
                " 63 letters, digits or '-'"
            )
        tls = parts.scheme == "mqtts"
        return BrokerAddress(
            host=parts.hostname,
            port=parts.port or (8883 if tls else 1883),
            tls=tls,
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
        )
