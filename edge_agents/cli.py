"""`openlab-agent`: runs what sits beside the instruments. Composition root of this package."""

import json
import os
import resource
import signal
import sqlite3
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import structlog
import typer

from edge_agents import commands_check, commands_detect
from edge_agents.agent import Agent
from edge_agents.compose import build_agent, clock_of
from edge_agents.fleet import Fleet
from edge_agents.refusal import refuse
from edge_agents.settings import AgentSettings, BadConfig, load_folder, load_settings
from edge_agents.spool_file import SpoolInUse
from edge_agents.truth import spooled_sessions
from wire.clock import Clock

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Reads instruments and reports what they do.")

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="Settings of one agent (TOML or JSON), or a folder of such files.")
]


@app.callback()
def _openlab_agent() -> None:
    """Reads instruments and reports what they do. Example: openlab-agent run --config agent.toml"""


@app.command()
def run(
    config: ConfigOption,
    truth: Annotated[Path | None, typer.Option(help="Write here, at the end, what the agents produced (JSON).")] = None,
    drain: Annotated[float, typer.Option(help="Seconds to wait at the end for acknowledgements.", min=0)] = 10.0,
) -> None:
    """Run one agent, or every agent of a folder in this one process, until SIGTERM or Ctrl-C.

    Example: openlab-agent run --config /etc/openlab/agent.toml --truth truth.json
    """
    # Lines of a log on stderr: what this command answers goes to stdout.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=sys.stderr))
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        fleet = Fleet(_agents(config))
        drained = fleet.run(ended, drain_timeout_s=drain)
    except (BadConfig, SpoolInUse) as error:
        refuse(str(error))
    except (OSError, sqlite3.OperationalError) as error:
        refuse(f"the data folder cannot be used: {error}")
    produced = [agent.truth().as_json() for agent in fleet.agents]
    if truth is not None:
        for agent, told in zip(fleet.agents, produced, strict=True):
            told["sessions"] = [asdict(session) for session in spooled_sessions(agent.folder / "usage.db")]
        draft = truth.with_name(truth.name + ".tmp")
        draft.write_text(json.dumps({"agents": produced}, indent=1, sort_keys=True), encoding="utf-8")
        os.replace(draft, truth)
    if not drained:
        waiting = sum(agent[stream]["unacknowledged"] for agent in produced for stream in ("usage", "telemetry"))
        typer.echo(f"Ended with {waiting} messages not acknowledged; they are kept and will be sent at the next start.")


app.command()(commands_check.check)
app.command()(commands_detect.teach)
app.command()(commands_detect.detect)


def _agents(config: Path) -> list[Agent]:
    many = load_folder(config) if config.is_dir() else [load_settings(config)]
    _allow_open_files(len(many))
    clocks: dict[Path | None, Clock] = {}

    def clock(settings: AgentSettings) -> Clock:
        # One clock for all who name the same file, so that they never disagree by a tick.
        if settings.clock_file not in clocks:
            clocks[settings.clock_file] = clock_of(settings)
        return clocks[settings.clock_file]

    return [build_agent(settings, clock(settings)) for settings in many]


def _allow_open_files(agents: int) -> None:
    """Each agent needs about ten open files; the usual soft limit of 1024 is too near for a county."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, max(soft, 256 + 16 * agents)) if hard != resource.RLIM_INFINITY else max(soft, 256 + 16 * agents)
    if soft != resource.RLIM_INFINITY and wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
