"""`openlab simulate-year`: added to the command line by api.commands."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from api.command_line import usable
from api.settings import load_settings
from api.simulation.year import YearReport, simulate_year
from store.database import Database, open_database
from store.migrations import upgrade
from store.money import yuan
from store.series import SeriesStore, open_series, prepare_series


def simulate_year_command(
    seed: Annotated[int, typer.Option(help="The same seed gives the same year.", min=0)] = 1,
    orders: Annotated[int, typer.Option(help="Orders in the year.", min=1)] = 20_000,
    firms: Annotated[int, typer.Option(help="Client firms (at least 40).", min=40, max=9_999)] = 1_000,
    year: Annotated[int, typer.Option(help="The calendar year that is played.", min=2000, max=2998)] = 2025,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program.")] = False,
    data_dir: Annotated[Path | None, typer.Option(help="Keep the databases in this (new) folder.")] = None,
) -> None:
    """Play a year of a county from a seed, bill it and close it month by month, then verify all of it.

    Goes into an empty ledger only; without --data-dir into a folder that is removed again. Exits 1 where verification
    finds a difference. Example: openlab simulate-year --seed 7 --orders 2000 --firms 200
    """
    folder = data_dir or Path(tempfile.mkdtemp(prefix="openlab-year-"))
    try:
        say = (lambda text: None) if as_json else typer.echo
        with open_fresh(folder) as (database, series):
            report = simulate_year(database, series, seed=seed, orders=orders, firms=firms, year=year, say=say)
    finally:
        if data_dir is None:
            shutil.rmtree(folder)
    if as_json:
        typer.echo(json.dumps({**vars(report), "made_s": report.made_s}, ensure_ascii=False, indent=2))
    else:
        typer.echo("\n".join(summary(report)))
    if report.findings:
        raise typer.Exit(1)


def summary(report: YearReport) -> list[str]:
    """Return what a person reads of a year."""
    lines = [f"{name:>16} {count:>9}" for name, count in report.counts.items()]
    lines.append(
        f"charged {yuan(report.charged_fen)}, paid {yuan(report.paid_fen)}, {report.late_charges} charges late"
    )
    lines += [f"{name:>16} {seconds:9.1f} s" for name, seconds in report.seconds.items()]
    made, verified = report.made_s, report.seconds["verify"]
    lines.append(f"made in {made:.1f} s, verified in {verified:.1f} s; verify / make = {verified / made:.2f}")
    lines += [f"DIFFERENT {found}" for found in report.findings] or ["verification found nothing"]
    return [*lines, f"digest {report.digest}"]


@contextmanager
def open_fresh(folder: Path) -> Iterator[tuple[Database, SeriesStore]]:
    """Open a migrated ledger and a series store in a folder, and close them at the end.

    Never where the environment points: a simulation has no business in a county's own ledger.
    """
    settings = load_settings(data_dir=folder, database_url="", series_url="")
    with usable():
        database = open_database(settings.database_url)
        prepare_series(settings.series_url)
        series = open_series(settings.series_url)
    try:
        upgrade(database.engine)
        yield database, series
    finally:
        series.close()
        database.dispose()
