"""`openlab-gateway run` with a step at which it dies: python -m tests.faults.launch_gateway POINT:N."""

import signal
import sys
import threading

from gateway import running
from tests.faults.kill_points import killer


def main() -> None:
    until = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: until.set())
    running.run(until, killer(sys.argv[1]))


if __name__ == "__main__":
    main()
