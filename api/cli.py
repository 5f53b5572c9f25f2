"""`openlab`: the thin entry. Imports nothing heavy, so that a missing extra is a sentence and not a traceback."""

import gc
import sys

HINT = "openlab needs the api extra ({missing} is missing); install it with: pip install 'openlab[api]'\n"


def main() -> None:
    """Entry of the console script. Exit codes: 0 done, 1 refused or different, 2 cannot run as configured."""
    # What is imported stays: looking for garbage in it takes a quarter of the start.
    gc.disable()
    try:
        from api import commands
    except ModuleNotFoundError as error:
        name = error.name or "a package"
        if name.partition(".")[0] in {"api", "store", "wire", "gateway", "edge_agents"}:
            raise  # not an extra: our own code is broken
        sys.stderr.write(HINT.format(missing=name))
        raise SystemExit(2) from None
    gc.freeze()
    gc.enable()
    raise SystemExit(commands.run())


if __name__ == "__main__":
    main()
