"""`python -m dashboards.push`: data sources, folder and dashboards to a Grafana that reads no files of ours.

Repeating it changes nothing but what is different; what else that Grafana holds is left alone. Secrets come from the
environment, never from the command line, where every user of the machine can read them.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from grafana_client.api import GrafanaApi
from grafana_client.client import GrafanaClientError, GrafanaException

from dashboards.build import all_dashboards
from dashboards.sources import data_sources

FOLDER_UID = "openlab"
FOLDER_TITLE = "OpenLab"
_TIMEOUT_S = 10.0
_NOT_FOUND = 404


class PushFailed(Exception):
    """Grafana said no, or did not answer. What was sent before the error stays; sending all again is harmless."""


class GrafanaTarget:
    """One Grafana. Three calls are all that OpenLab asks of it; each raises PushFailed with Grafana's own words."""

    def __init__(self, url: str, token: str) -> None:
        self._api = GrafanaApi.from_url(url, credential=token, timeout=_TIMEOUT_S)

    def put_folder(self, uid: str, title: str) -> None:
        """Create the folder, or set its title where it is there."""
        if self._there(lambda: self._api.folder.get_folder(uid)):
            self._asked("folder", lambda: self._api.folder.update_folder(uid, title=title, overwrite=True))
        else:
            self._asked("folder", lambda: self._api.folder.create_folder(title, uid))

    def put_data_source(self, source: dict[str, Any]) -> None:
        """Create the data source, or replace the one of the same uid."""
        uid = source["uid"]
        if self._there(lambda: self._api.datasource.get_datasource_by_uid(uid)):
            self._asked(uid, lambda: self._api.datasource.update_datasource_by_uid(uid, source))
        else:
            self._asked(uid, lambda: self._api.datasource.create_datasource(source))

    def put_dashboard(self, dashboard: dict[str, Any], folder_uid: str) -> None:
        """Create the dashboard in the folder, or overwrite the one of the same uid."""
        body = {"dashboard": {**dashboard, "id": None}, "folderUid": folder_uid, "overwrite": True}
        self._asked(dashboard["uid"], lambda: self._api.dashboard.update_dashboard(body))

    def _there(self, look: Callable[[], Any]) -> bool:
        try:
            look()
        except GrafanaClientError as error:
            if error.status_code == _NOT_FOUND:
                return False
            raise PushFailed(str(error)) from error
        except (GrafanaException, OSError) as error:
            raise PushFailed(str(error)) from error
        return True

    def _asked(self, what: str, call: Callable[[], Any]) -> None:
        try:
            call()
        except (GrafanaException, OSError) as error:
            raise PushFailed(f"{what}: {error}") from error


def push(target: GrafanaTarget, sources: Sequence[dict[str, Any]]) -> int:
    """Send everything; return how many dashboards were sent. Raises PushFailed at the first refusal."""
    for source in sources:
        target.put_data_source(source)
    target.put_folder(FOLDER_UID, FOLDER_TITLE)
    built = all_dashboards()
    for one in built.values():
        target.put_dashboard(one, FOLDER_UID)
    return len(built)


def main(
    url: Annotated[str, typer.Option(help="Address of Grafana.")],
    token: Annotated[str, typer.Option(envvar="GRAFANA_TOKEN", help="Of a service account with the role Editor.")],
    influx_token: Annotated[str, typer.Option(envvar="INFLUX_READ_TOKEN", help="May read the bucket.")],
    db_password: Annotated[str, typer.Option(envvar="GRAFANA_DB_PASSWORD", help="Of the role grafana.")],
    influx_url: Annotated[str, typer.Option(help="InfluxDB as Grafana reaches it.")] = "http://influxdb:8086",
    influx_bucket: Annotated[str, typer.Option(help="The bucket that holds the power readings.")] = "openlab",
    postgres: Annotated[str, typer.Option(help="PostgreSQL as Grafana reaches it.")] = "postgres:5432",
    database: Annotated[str, typer.Option(help="The ledger's database.")] = "openlab",
    sslmode: Annotated[str, typer.Option(help="How Grafana speaks to PostgreSQL.")] = "require",
) -> None:
    """Push OpenLab's dashboards. Example: GRAFANA_TOKEN=… python -m dashboards.push --url http://127.0.0.1:3000"""
    sources = data_sources(
        influx_url=influx_url,
        influx_bucket=influx_bucket,
        influx_token=influx_token,
        postgres_address=postgres,
        postgres_database=database,
        postgres_user="grafana",
        postgres_password=db_password,
        sslmode=sslmode,
    )
    try:
        count = push(GrafanaTarget(url, token), sources)
    except PushFailed as error:
        typer.echo(f"Grafana at {url} did not take everything: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{count} dashboards are in the folder {FOLDER_TITLE} of {url}")


if __name__ == "__main__":
    typer.run(main)
