"""Lets a gateway stay away for a while where another one connects under its name. Used by the bridge.

Two that fight for one name throw each other out as soon as they connect, and get nothing done. The rule is the agents'
(`wire.connection_losses`); the rest is shorter, because a gateway speaks for the whole county.
"""

import random
import threading
import time
from collections.abc import Callable

import structlog

from wire.connection_losses import ConnectionLosses

log = structlog.get_logger(__name__)

REST_S = 60.0


class NameGuard:
    """Is told what happens to one connection (on its network thread), and acts in a thread of its own.

    `leave` ends all connections of the gateway, `tell` says so where people look, `come_back` begins them again.
    """

    def __init__(
        self,
        name: str,
        leave: Callable[[], None],
        tell: Callable[[], None],
        come_back: Callable[[], None],
        *,
        rest_s: float = REST_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._leave, self._tell, self._come_back = leave, tell, come_back
        self._rest_s = rest_s
        self._monotonic = monotonic
        self._losses = ConnectionLosses()
        self._taken = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{name}-guard", daemon=True)
        self.resting = False

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End; the connections stay as they are."""
        self._stopping.set()
        self._taken.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def connected(self) -> None:
        """A connection was made."""
        self._losses.connected(self._monotonic())

    def unreachable(self) -> None:
        """The broker did not answer."""
        self._losses.unreachable()

    def lost(self) -> None:
        """A connection was lost."""
        if self._losses.lost(self._monotonic()):
            self._taken.set()

    def _run(self) -> None:
        while True:
            self._taken.wait()
            if self._stopping.is_set():
                return
            self._rest()

    def _rest(self) -> None:
        # Not for exactly as long as the other one, or the fight would go on where it stopped.
        rest_s = self._rest_s * (1 + 0.2 * random.random())
        log.error(
            "another gateway connects under this name; this one stays away for a while. Give each its own"
            " OPENLAB_GATEWAY_NAME",
            gateway=self._name,
            rests_s=round(rest_s),
        )
        self.resting = True
        self._leave()
        # What the end of these connections looked like says nothing new.
        self._losses = ConnectionLosses()
        self._taken.clear()
        self._tell()
        if not self._stopping.wait(rest_s):
            self._come_back()
        self.resting = False
