"""What an `influxdb://` URL says. Used by `store.series_influx`; reads the token file, contacts nobody."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass(frozen=True)
class InfluxAddress:
    """Where the series is: base URL, organisation, bucket, token (empty where the server asks for none), time-out."""

    url: str
    org: str
    bucket: str
    token: str = field(repr=False)
    timeout_ms: int


def parse_url(url: str, token: str | None) -> InfluxAddress:
    """Take an `influxdb[s]://host:8086/org/bucket?token_file=…&timeout_ms=…` apart. Raises ValueError in a sentence."""
    example = "write it like influxdb://host:8086/org/bucket?token_file=/run/secrets/influx&timeout_ms=10000"
    parts = urlsplit(url)
    names = [unquote(name) for name in parts.path.split("/") if name]
    options = dict(parse_qsl(parts.query))
    if parts.password is not None or parts.username is not None or "token" in options:
        raise ValueError(f"a secret does not belong in a URL, where logs show it: use token_file; {example}")
    if parts.hostname is None or len(names) != 2:
        raise ValueError(f"{url!r} does not name a host, an organisation and a bucket; {example}")
    unknown = sorted(set(options) - {"token_file", "timeout_ms"})
    if unknown:
        raise ValueError(f"unknown option {', '.join(unknown)} in the time-series URL; {example}")
    try:
        if token is None:
            token = Path(options["token_file"]).read_text().strip() if "token_file" in options else ""
        timeout_ms, port = int(options.get("timeout_ms", "10000")), parts.port or 8086
    except OSError as error:
        raise ValueError(f"cannot read the token file: {error}") from error
    except ValueError as error:
        raise ValueError(f"port and timeout_ms are whole numbers; {example}") from error
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    web = "https" if parts.scheme == "influxdbs" else "http"
    return InfluxAddress(f"{web}://{host}:{port}", names[0], names[1], token, timeout_ms)
