"""The two data sources every panel reads, by the uid that panels name. Secrets stay in the environment.

Used by panels.py (uids), push.py (whole definitions) and a test that holds provisioning/datasources against them.
"""

from typing import Any

INFLUX = {"type": "influxdb", "uid": "openlab-influx"}
POSTGRES = {"type": "grafana-postgresql-datasource", "uid": "openlab-postgres"}


def data_sources(
    *,
    influx_url: str,
    influx_bucket: str,
    influx_token: str,
    postgres_address: str,
    postgres_database: str,
    postgres_user: str,
    postgres_password: str,
    sslmode: str = "disable",
) -> list[dict[str, Any]]:
    """Return both data sources as Grafana's HTTP interface takes them.

    InfluxDB is asked in InfluxQL: the one language that 1.x, 2.7 and 3 share; in 2.7 a bucket is a database of the
    same name. The PostgreSQL user needs the grants of deploy/postgres/grafana_grants.sql and no more.
    """
    return [
        {
            "name": "OpenLab power",
            **INFLUX,
            "access": "proxy",
            "url": influx_url,
            "jsonData": {"dbName": influx_bucket, "httpMode": "POST", "httpHeaderName1": "Authorization"},
            "secureJsonData": {"httpHeaderValue1": f"Token {influx_token}"},
        },
        {
            "name": "OpenLab ledger",
            **POSTGRES,
            "access": "proxy",
            "url": postgres_address,
            "user": postgres_user,
            "jsonData": {"database": postgres_database, "sslmode": sslmode, "maxOpenConns": 5},
            "secureJsonData": {"password": postgres_password},
        },
    ]
