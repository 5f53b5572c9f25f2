"""What Grafana itself does to a query before it sends it: times, interval and chosen values put in."""

FROM_MS = 1_772_409_600_000  # 2026-03-02 00:00 UTC
TO_MS = FROM_MS + 86_400_000


def sql_as_sent(raw: str, hosts: tuple[str, ...]) -> str:
    """PostgreSQL: macros become numbers, several values a quoted list."""
    listed = ",".join(f"'{host}'" for host in hosts)
    return (
        raw.replace("$__unixEpochFrom()", str(FROM_MS // 1000))
        .replace("$__unixEpochTo()", str(TO_MS // 1000))
        .replace("$host", listed)
    )


def influxql_as_sent(raw: str, instruments: tuple[str, ...], quantity: str = "") -> str:
    """InfluxDB: the range becomes a condition, several values an alternative of a regular expression. A panel that is
    repeated for each quantity asks for one of them."""
    return (
        raw.replace("$timeFilter", f"time >= {FROM_MS}ms AND time <= {TO_MS}ms")
        .replace("$__interval", "1h")
        .replace("$instrument", f"({'|'.join(instruments)})")
        .replace("$quantity", quantity)
    )
