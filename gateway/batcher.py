"""Turn deliveries into batches bounded by size and time, and do not let go of one until it is done.

One thread a pipe. A batch that fails is tried again with growing pauses and is never dropped: back-pressure comes
from the broker, which sends no more than its in-flight window until deliveries are acknowledged.
"""

import queue
import random
import threading
import time
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
        self._queue: queue.SimpleQueue[Delivery | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"batcher-{name}", daemon=True)

    def start(self) -> None:
        """Begin working in a thread of its own."""
        self._thread.start()

    def put(self, delivery: Delivery) -> None:
        """Take a delivery; called on the network thread, returns at once."""
        self._queue.put(delivery)

    def waiting(self) -> int:
        """How many deliveries have not been taken into a batch yet."""
        return self._queue.qsize()

    def stop(self, timeout_s: float) -> bool:
        """Finish the batch in hand and end. What was not committed stays with the broker. False on time-out."""
        self._stopping.set()
        self._queue.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            batch = self._collect()
            if batch and self._work(batch):
                acknowledge(batch)
                self._checkpoint("puback")

    def _collect(self) -> list[Delivery]:
        first = self._queue.get()
        if first is None:
            return []
        batch = [first]
        deadline = time.monotonic() + self._max_wait_s
        while len(batch) < self._max_items:
            try:
                item = (
                    self._queue.get_nowait()
                    if not self._queue.empty()
                    else self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
                )
            except queue.Empty:
                break
            if item is None:
                break
            batch.append(item)
        return batch

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
