"""`openlab export …`: write reward runs as files. Added to the command line by api.commands."""

from pathlib import Path
from typing import Annotated

import typer

from api.accounts.acting import acting_as
from api.command_line import open_ledger
from api.exports import service
from api.exports.service import Export
from api.rewards.periods import read_period
from store.tables.rewards import ExportFormat

app = typer.Typer(help="Files of reward runs, which anybody with the data can verify.", no_args_is_help=True)

DataDir = Annotated[Path | None, typer.Option(help="Folder of the databases, where no URL is set.")]
As = Annotated[str, typer.Option("--as", help="Login of the person who exports.", metavar="LOGIN")]
Format = Annotated[ExportFormat, typer.Option("--format", help="The rows and their hash are the same in all.")]
Out = Annotated[Path | None, typer.Option(help="File or folder to write to (default: this folder).")]


@app.command("run")
def export_one(
    run_id: Annotated[str, typer.Argument(help="The run.")],
    login: As,
    file_format: Format = ExportFormat.CSV,
    out: Out = None,
    data_dir: DataDir = None,
) -> None:
    """Write one run as a file. A run that is not locked is marked DRAFT.

    Example: openlab export run 01JD5W6ZQ4T8M0V2X3Y4Z5A6B7 --as finance-1 --format xlsx
    """
    with open_ledger(data_dir=data_dir) as ledger, acting_as(ledger, login) as work:
        _write(service.export_run(work, run_id, file_format), out)


@app.command("period")
def export_period(
    policy: Annotated[str, typer.Argument(help="The policy, like FLAT10.")],
    period: Annotated[str, typer.Argument(help="2026 (year), 2026-Q4 (quarter) or 2026-11 (month).")],
    login: As,
    file_format: Format = ExportFormat.CSV,
    out: Out = None,
    data_dir: DataDir = None,
) -> None:
    """Write the newest run of a period: the locked one, or the prepared one (DRAFT) where none is locked.

    Example: openlab export period FLAT10 2026 --as finance-1 --out rewards.csv
    """
    kind, first = read_period(period)
    with open_ledger(data_dir=data_dir) as ledger, acting_as(ledger, login) as work:
        run = service.run_to_export(work.session, policy, kind, first)
        _write(service.export_run(work, run.run_id, file_format), out)


def _write(export: Export, out: Path | None) -> None:
    # Inside the transaction: a file that cannot be written was not exported.
    target = Path(export.file_name) if out is None else out / export.file_name if out.is_dir() else out
    try:
        target.write_bytes(export.data)
    except OSError as error:
        raise typer.BadParameter(f"cannot write {target}: {error.strerror}", param_hint="--out") from error
    draft = " (DRAFT)" if export.is_draft else ""
    typer.echo(f"{target}{draft}  content {export.content_sha256}")
