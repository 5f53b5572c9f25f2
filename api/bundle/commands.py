"""`openlab bundle RUN`: added to the command line by api.commands."""

from pathlib import Path
from typing import Annotated

import typer

from api.accounts.acting import acting_as
from api.bundle.service import make_bundle
from api.command_line import open_ledger


def bundle_command(
    run_id: Annotated[str, typer.Argument(help="The reward run.")],
    login: Annotated[str, typer.Option("--as", help="Login of the person who takes it out.", metavar="LOGIN")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File or folder (default: this folder).")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the databases, where no URL is set.")] = None,
) -> None:
    """Write everything a run rests on, and a program that computes it again, as one archive.

    Example: openlab bundle 01JD5W6ZQ4T8M0V2X3Y4Z5A6B7 --as auditor-1 -o run.zip
    """
    with open_ledger(data_dir=data_dir) as ledger, acting_as(ledger, login) as work:
        bundle = make_bundle(work, run_id)
        # Inside the transaction: a file that cannot be written was not taken out.
        target = Path(bundle.file_name) if out is None else out / bundle.file_name if out.is_dir() else out
        try:
            target.write_bytes(bundle.data)
        except OSError as error:
            raise typer.BadParameter(f"cannot write {target}: {error.strerror}", param_hint="--out") from error
        typer.echo(f"{target}  result {bundle.result_sha256}")
        typer.echo(f"unpack it and check it anywhere: python check.py {target.name}")
