"""Ports for servers of a test."""

import itertools
import os
import random
import socket

# Below what the system takes for outgoing connections (32768 and up): one of these could take a port that was free a
# moment ago. Each test process has a block of its own, and begins anywhere in it, for there may be another test run.
_BLOCK = 2_000
_FIRST = 15_000 + _BLOCK * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8)
_NEXT = itertools.count(random.SystemRandom().randrange(_BLOCK))


def free_port() -> int:
    """Return a port on 127.0.0.1 that nobody listens on at this moment, and that no other call has given lately."""
    for number in itertools.islice(_NEXT, _BLOCK):
        port = _FIRST + number % _BLOCK
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no port is free from {_FIRST} to {_FIRST + _BLOCK - 1}")
