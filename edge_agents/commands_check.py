"""`openlab-agent check`: tells a technician on site, in plain words, what is right and what is wrong."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import structlog
import typer

from edge_agents.check import examine
from edge_agents.compose import clock_of
from edge_agents.findings import Grade
from edge_agents.refusal import refuse
from edge_agents.settings import BadConfig, load_folder, load_settings


def check(
    config: Annotated[
        Path, typer.Option("--config", "-c", help="Settings of one agent (TOML or JSON), or a folder of such files.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for a program.")] = False,
) -> None:
    """Look at broker, credential, meters, clock and disk, and say what is right and wrong. Exit code 1 if anything is.

    Example: openlab-agent check --config /etc/openlab/agent.toml
    """
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=sys.stderr))
    try:
        many = load_folder(config) if config.is_dir() else [load_settings(config)]
        clocks = [clock_of(settings) for settings in many]
    except (BadConfig, OSError) as error:
        refuse(str(error))
    wrong = 0
    for settings, clock in zip(many, clocks, strict=True):
        if not as_json:
            typer.echo(f"agent {settings.agent}")
        for finding in examine(settings, clock):
            wrong += finding.grade is Grade.WRONG
            if as_json:
                typer.echo(json.dumps({"agent": settings.agent, **asdict(finding)}, ensure_ascii=False))
            else:
                typer.echo(f"  {finding.grade:<8} {finding.about}: {finding.sentence}")
    if not as_json:
        typer.echo("all is well" if not wrong else f"{wrong} thing{'s' if wrong > 1 else ''} to mend")
    if wrong:
        raise typer.Exit(1)
