"""What the commands of `openlab-agent` share."""

from typing import NoReturn

import typer


def refuse(sentence: str) -> NoReturn:
    """End the command with a sentence on stderr and exit code 2."""
    typer.echo(f"openlab-agent: {sentence}", err=True)
    raise typer.Exit(2)
