"""Write the dashboards as the JSON files that Grafana reads: `python -m dashboards.build`.

The files are committed, so that a Grafana needs no Python; a test fails where they are not what this would write.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from dashboards.health import health_dashboard
from dashboards.instruments import instruments_dashboard
from dashboards.use_and_money import use_and_money_dashboard

FOLDER = Path(__file__).parent / "json"


def all_dashboards() -> dict[str, dict[str, Any]]:
    """Return every dashboard by the name of its file."""
    built = (instruments_dashboard(), use_and_money_dashboard(), health_dashboard())
    return {f"{one['uid']}.json": one for one in built}


def as_file(dashboard: dict[str, Any]) -> str:
    """Return the text of a dashboard's file."""
    return json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"


def stale_files(folder: Path) -> list[str]:
    """Return the names of files in `folder` that are missing, out of date, or not built here."""
    wanted = {name: as_file(one) for name, one in all_dashboards().items()}
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def main(
    folder: Annotated[Path, typer.Option(help="Where the files are written.")] = FOLDER,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 where a file is not fresh.")] = False,
) -> None:
    """Write the Grafana dashboards as JSON. Example: python -m dashboards.build --check"""
    stale = stale_files(folder)
    if check and stale:
        typer.echo(f"not fresh: {', '.join(stale)}; run python -m dashboards.build", err=True)
        raise typer.Exit(1)
    if not check:
        folder.mkdir(parents=True, exist_ok=True)
        for name, one in all_dashboards().items():
            (folder / name).write_text(as_file(one), encoding="utf-8")
        typer.echo(f"wrote {len(stale)} changed of {len(all_dashboards())} dashboards to {folder}")


if __name__ == "__main__":
    typer.run(main)
