"""`openlab tariff-diff`: what changed between two price lists. Added to the command line by api.commands."""

import json
from pathlib import Path
from typing import Annotated

import typer

from api.charging.tariffs import changes_between
from api.command_line import open_ledger

DataDir = Annotated[Path | None, typer.Option(help="Folder of the databases, where no URL is set.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]


def tariff_diff(
    instrument: Annotated[str, typer.Argument(help="The instrument.")],
    old: Annotated[int, typer.Argument(help="The version before.", min=1)],
    new: Annotated[int, typer.Argument(help="The version after.", min=1)],
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Show what changed between two published price lists, field by field.

    Example: openlab tariff-diff xc-h01-01 1 2
    """
    with open_ledger(data_dir=data_dir) as ledger, ledger.look("tariff-diff") as work:
        found = changes_between(work.session, instrument, old, new)
    if as_json:
        typer.echo(json.dumps([dict(vars(each)) for each in found], ensure_ascii=False))
        return
    for each in found:
        typer.echo(f"{each.field}: {_shown(each.old)} -> {_shown(each.new)}")
    if not found:
        typer.echo("the same")


def _shown(value: object) -> str:
    return "(none)" if value is None else json.dumps(value, ensure_ascii=False)
