"""Turn deliveries into batches bounded by size and time, and do not let go of one until it is done.

One thread a pipe. A batch that fails is tried again with growing pauses and is never dropped: back-pressure comes
from the broker, which sends no more than its in-flight window until deliveries are acknowledged.
"""

import random
import threading
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from wire.client import Delivery, acknowledge

log = structlog.get_logger(__name__)


class Batcher:
    """Collects deliveries and hands them to `handle` in order; acknowledges to the broker only after it returned.

    `handle` must be safe to repeat: after an error the same batch comes again.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[Sequence[Delivery]], None],
        *,
        max_items: int,
        max_wait_ms: int,
        on_failure: Callable[[], None],
        checkpoint: Callable[[str], None],
    ) -> None:
        self.name = name
        self._handle = handle
        self._max_items = max_items
        self._max_wait_s = max_wait_ms / 1000
        self._on_failure = on_failure
        self._checkpoint = checkpoint
        self._waiting: deque[Delivery] = deque()
        self._wanted = 1
        self._enough = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"batcher-{name}", daemon=True)

    def start(self) -> None:
        """Begin working in a thread of its own."""
        self._thread.start()

    def put(self, delivery: Delivery) -> None:
        """Take a delivery; called on the network thread, waits for nothing."""
        self._waiting.append(delivery)
        # Not for each: a thread that is woken a thousand times a batch takes turns with this one.
        if len(self._waiting) >= self._wanted:
            self._enough.set()

    def waiting(self) -> int:
        """How many deliveries have not been taken into a batch yet."""
        return len(self._waiting)

    def stop(self, timeout_s: float) -> bool:
        """Finish the batch in hand and end. What was not committed stays with the broker. False on time-out."""
        self._stopping.set()
        self._enough.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            batch = self._collect()
            if batch and self._work(batch):
                acknowledge(batch)
                self._checkpoint("puback")

    def _collect(self) -> list[Delivery]:
        self._wait_for(1, None)
        self._wait_for(self._max_items, self._max_wait_s)
        return [self._waiting.popleft() for _ in range(min(len(self._waiting), self._max_items))]

    def _wait_for(self, wanted: int, timeout_s: float | None) -> None:
        """Wait until so many deliveries are here, but not for longer, and not where it is to stop."""
        self._wanted = wanted
        self._enough.clear()
        # Looked at after the clearing: whoever came before it is seen here, whoever comes after it sets the event.
        if len(self._waiting) < wanted and not self._stopping.is_set():
            self._enough.wait(timeout_s)

    def _work(self, batch: Sequence[Delivery]) -> bool:
        pause_s = 0.1
        while not self._stopping.is_set():
            try:
                self._handle(batch)
            except Exception as error:  # noqa: BLE001 - whatever it was, the batch stays and is tried again
                self._on_failure()
                log.warning("batch failed, trying again", pipe=self.name, size=len(batch), error=repr(error))
                self._stopping.wait(pause_s * (0.5 + random.random()))
                pause_s = min(pause_s * 2, 10.0)
            else:
                return True
        return False
