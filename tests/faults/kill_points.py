"""Ends this process with SIGKILL when a named step is passed for the n-th time: given to the product as a callable."""

import os
import signal
import threading
from collections.abc import Callable


def killer(order: str) -> Callable[[str], None]:
    """Return the callable for an order like `committed:3`. Raises ValueError for anything else."""
    point, _, times = order.partition(":")
    left, lock = [int(times)], threading.Lock()

    def checkpoint(name: str) -> None:
        if name != point:
            return
        with lock:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return checkpoint
