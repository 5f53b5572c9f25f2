"""`openlab registry`: import and export of the registry as CSV files. A typer application that api.commands adds."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from api.accounts.acting import acting_as
from api.command_line import open_ledger
from api.registry import transfer
from api.registry.csv_tables import FILES
from api.settings import BadSettings

registry = typer.Typer(
    help="The registry as CSV files: hosts, labs, instruments, test_items, certificates, special_days.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

DataDir = Annotated[Path | None, typer.Option(help="Folder of the databases, where no URL is set.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]
Folder = Annotated[Path, typer.Argument(help="Folder of the files.", file_okay=False)]


@registry.command("export")
def export_files(folder: Folder, data_dir: DataDir = None) -> None:
    """Write hosts.csv, labs.csv, instruments.csv, test_items.csv, certificates.csv (without withdrawn ones) and
    special_days.csv, all of one moment. Importing them changes nothing.

    Example: openlab registry export ./registry
    """
    with open_ledger(data_dir=data_dir) as ledger, ledger.look("registry") as work:
        tables = {name: transfer.export_table(work.session, name) for name in FILES}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in tables.items():
            (folder / f"{name}.csv").write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise BadSettings(f"cannot write to {folder}: {error.strerror}") from error
    typer.echo(f"{folder}: {', '.join(f'{name}.csv' for name in tables)}")


@registry.command("import")
def import_files(
    folder: Folder,
    login: Annotated[str, typer.Option("--as", help="Login of the person who imports.", metavar="LOGIN")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report and change nothing.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Import those of the six files that are in the folder: all rows, or none where any is wrong (exit code 1).

    Example: openlab registry import ./registry --as officer-1 --dry-run
    """
    try:
        files = {name: path.read_text(encoding="utf-8") for name in FILES if (path := folder / f"{name}.csv").is_file()}
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"cannot read {folder}: {error}; save the files as CSV in UTF-8") from error
    if not files:
        raise BadSettings(f"{folder} has none of {', '.join(f'{name}.csv' for name in FILES)}")
    with open_ledger(data_dir=data_dir) as ledger, acting_as(ledger, login) as work:
        plan = transfer.plan_import(work, files) if dry_run else transfer.carry_out(work, files)
    if as_json:
        counts = {name: asdict(each) for name, each in plan.counts.items()}
        findings = [asdict(each) for each in plan.findings]
        imported = not (dry_run or findings)
        typer.echo(json.dumps({"imported": imported, "counts": counts, "findings": findings}, ensure_ascii=False))
    else:
        _print(plan, dry_run)
    if plan.findings:
        raise typer.Exit(1)


def _print(plan: transfer.Plan, dry_run: bool) -> None:
    for each in plan.findings:
        where = f"{each.file}.csv:{each.line} {each.column}".rstrip()
        typer.echo(f"{where}: {each.value!r}\n  {each.zh}\n  {each.en}")
    for name, counts in plan.counts.items():
        typer.echo(f"{name}: {counts.new} new, {counts.changed} changed, {counts.same} the same")
    done = "nothing was imported" if dry_run or plan.findings else "imported"
    typer.echo(f"{len(plan.findings)} findings; {done}")
