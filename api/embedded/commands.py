"""`openlab demo`: the whole platform on one machine, for a look or a try."""

import logging
import re
import sys
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from api.embedded.broker import BrokerDidNotStart
from api.embedded.children import ChildDied
from api.embedded.folder import DemoFolder, FolderUnusable
from api.embedded.reconcile import Reconciliation
from api.embedded.status import Status
from api.embedded.supervisor import CannotStart, Supervisor

SHOW_EVERY_S = {True: 1.0, False: 15.0}
"""How often the status is renewed: in place on a terminal, a line in a log."""


def demo(
    data_dir: Annotated[Path, typer.Option(help="The folder everything lives in; kept between starts.")] = Path(
        "openlab-data"
    ),
    run_for: Annotated[
        str | None, typer.Option("--for", help="Run that long (90s, 2m, 1h), reconcile, and end.", metavar="TIME")
    ] = None,
    speed: Annotated[float, typer.Option(help="How fast demo time runs.", min=0.1, max=600.0)] = 1.0,
    port: Annotated[int, typer.Option(help="Port of the API on 127.0.0.1.", min=1024, max=65535)] = 8000,
) -> None:
    """Run broker, gateway, API, worker and 82 simulated instruments until Ctrl-C.

    Example: openlab demo --for 2m --speed 60

    With --for it ends by itself with a reconciliation: what every agent knows it produced against what the ledger
    holds. Exit code 0: all agree. 1: something differs, or a part ended by itself. 2: it could not start.
    """
    seconds = None if run_for is None else _seconds(run_for)
    # What the parts log goes to their files; here a person is reading.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
    console = Console(highlight=False, soft_wrap=True)
    is_terminal = console.is_terminal
    line = Text("")
    live = Live(line, console=console, auto_refresh=False, transient=True)

    def show(status: Status) -> None:
        if is_terminal:
            live.update(Text(status.line()), refresh=True)
        else:
            console.print(status.line())

    try:
        supervisor = Supervisor(
            DemoFolder(data_dir), port=port, speed=speed, say=lambda text: console.print(text), show=show
        )
        if is_terminal:
            live.start()
        outcome = supervisor.run(seconds, SHOW_EVERY_S[is_terminal])
    except (CannotStart, FolderUnusable, BrokerDidNotStart) as reason:
        _end(live, is_terminal)
        sys.stderr.write(f"openlab demo: {reason}\n")
        raise typer.Exit(2) from None
    except ChildDied as reason:
        _end(live, is_terminal)
        sys.stderr.write(f"openlab demo: {reason}\n")
        raise typer.Exit(1) from None
    _end(live, is_terminal)
    if outcome is not None:
        console.print(report(outcome))
        if outcome.differences:
            raise typer.Exit(1)


def report(outcome: Reconciliation) -> str:
    """Return the reconciliation as text: one line, and one more for every difference."""
    lines = [
        f"reconciliation: {outcome.agreeing} of {outcome.agents} agents agree with the ledger: "
        f"{outcome.running_s:,.0f} s of running in {outcome.sessions} sessions, {outcome.records:,} records"
    ]
    return "\n".join(lines + [f"  differs: {difference}" for difference in outcome.differences])


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a time; write 90s, 2m or 1h", param_hint="--for")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def _end(live: Live, is_terminal: bool) -> None:
    if is_terminal:
        live.stop()
