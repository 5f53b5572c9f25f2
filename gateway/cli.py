"""`openlab-gateway`: run one gateway from the environment; send commands and configurations to agents."""

import signal
import sys
import threading

import structlog


def main() -> None:
    """Entry of the console script."""
    try:
        import typer

        from gateway import commanding, running
        from wire.commands import Op
        from wire.ids import new_ulid
    except ImportError as missing:
        sys.stderr.write(
            f"openlab-gateway needs the gateway extra ({missing.name} is missing): pip install 'openlab[gateway]'\n"
        )
        raise SystemExit(2) from None

    app = typer.Typer(
        help="Bridge between the broker and the ledger. Settings come from OPENLAB_… variables (docs/operations.md).",
        no_args_is_help=True,
    )

    @app.callback()
    def only_verbs() -> None:
        """Every command reads the same variables."""

    @app.command()
    def run() -> None:
        """Run one gateway until SIGTERM or Ctrl-C.

        Example: OPENLAB_DATABASE_URL=sqlite:////srv/openlab.db OPENLAB_SERIES_URL=sqlite:////srv/series.db
        OPENLAB_BROKER_URL=mqtt://127.0.0.1:1883 openlab-gateway run
        """
        until = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: until.set())
        try:
            running.run(until)
        except running.CannotRun as reason:
            sys.stderr.write(f"openlab-gateway cannot run: {reason}\n")
            raise SystemExit(2) from None

    agent_argument = typer.Argument(help="The agent, like xc-h01-01.", show_default=False)
    by_option = typer.Option(help="Who orders it; stays in the audit chain.", show_default=False)

    @app.command()
    def command(
        agent: str = agent_argument,
        op: Op = typer.Argument(help="What it shall do.", show_default=False),
        by: str = by_option,
        arg: list[str] = typer.Option([], help="key=value; a value may be JSON. Repeat for more."),
        wait: float = typer.Option(10.0, help="Seconds the command is good for, and waited for.", min=1, max=3600),
        again: str = typer.Option("", "--id", help="Of a command without an answer: ask for the answer again."),
    ) -> None:
        """Send one command to an agent and print its answer (JSON). Exit 0: done; 1: refused, failed or no answer.

        Example: openlab-gateway command xc-h01-01 read_now --by wang
        """
        try:
            args, command_id = commanding.parsed(arg), again or new_ulid()
            with commanding.office() as at:
                reply = commanding.order(at, agent, op, args, by, wait, command_id)
        except running.CannotRun as reason:
            sys.stderr.write(f"openlab-gateway: {reason}\n")
            raise SystemExit(2) from None
        if reply is None:
            sys.stderr.write(
                f"openlab-gateway: {agent} did not answer within {wait:g} s; the same command again, with "
                f"--id {command_id}, gets the answer of what it did and is not done twice\n"
            )
            raise SystemExit(1)
        typer.echo(reply.model_dump_json(by_alias=True, indent=2))
        raise SystemExit(0 if reply.outcome == "done" else 1)

    @app.command()
    def configure(
        agent: str = agent_argument,
        by: str = by_option,
        version: int = typer.Option(0, help="Instead of the next one (after a restored database).", min=0),
    ) -> None:
        """Publish to an agent the detector profiles that its meterings in force name. It keeps and applies them.

        Example: openlab-gateway configure xc-h01-01 --by wang
        """
        try:
            with commanding.office() as at:
                config = commanding.configure(at, agent, by, version or None)
        except running.CannotRun as reason:
            sys.stderr.write(f"openlab-gateway: {reason}\n")
            raise SystemExit(2) from None
        typer.echo(f"{agent}: version {config.version}, {len(config.profiles)} profiles, sha256 {config.sha256}")

    structlog.configure(processors=[structlog.processors.TimeStamper(fmt="iso"), structlog.processors.JSONRenderer()])
    app()


if __name__ == "__main__":
    main()
