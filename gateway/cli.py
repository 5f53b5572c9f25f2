"""`openlab-gateway`: build one gateway from the environment and run it until it is told to stop."""

import signal
import sys
import threading

import structlog


def main() -> None:
    """Entry of the console script."""
    try:
        import typer

        from gateway import running
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
        """Keeps `run` a command of its own, so that others can join it."""

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

    structlog.configure(processors=[structlog.processors.TimeStamper(fmt="iso"), structlog.processors.JSONRenderer()])
    app()


if __name__ == "__main__":
    main()
