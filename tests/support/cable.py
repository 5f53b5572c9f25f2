"""A network cable that can be pulled, and may be slow: forwards TCP connections to a server until a test cuts them."""

import contextlib
import random
import socket
import threading
import time
from queue import Queue
from types import TracebackType
from urllib.parse import urlsplit, urlunsplit


class Cable:
    """Forwards from a port of its own to `port` on 127.0.0.1. `cut` drops everything, `mend` allows it again.

    With `bytes_per_s` each direction of a connection takes its time, and `latency_s` on top of it. Of what is sent the
    share `loss` gets lost, each time again: as TCP does, it is sent once more a round trip later, and what follows
    waits for it.
    """

    def __init__(self, port: int, bytes_per_s: float = 0.0, latency_s: float = 0.0, loss: float = 0.0) -> None:
        self._target = port
        self._bytes_per_s = bytes_per_s
        self._latency_s = latency_s
        self._loss = loss
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._up = True
        self.accepted = 0
        """How many connections were asked for."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def url(self, address: str) -> str:
        """Return `address` with this cable's port in place of the server's."""
        parts = urlsplit(address)
        user = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{self.port}"))

    def cut(self) -> None:
        """Break every connection without a good-bye, and refuse new ones until `mend`."""
        with self._lock:
            self._up = False
            for side in self._open:
                with contextlib.suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Let connections through again."""
        with self._lock:
            self._up = True

    def close(self) -> None:
        """Cut, and stop listening."""
        self.cut()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def __enter__(self) -> "Cable":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                far = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            with self._lock:
                up = self._up
                if up:
                    self._open |= {near, far}
            if not up:
                near.close()
                far.close()
                continue
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            if self._bytes_per_s:
                self._carry_slowly(source, sink)
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass  # cut, or the other side went: both ends are closed below
        with self._lock:
            self._open.discard(source)
        for side in (source, sink):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
        source.close()

    def _carry_slowly(self, source: socket.socket, sink: socket.socket) -> None:
        under_way: Queue[tuple[float, bytes]] = Queue()
        luck = random.Random(1)

        def arrive() -> None:
            with contextlib.suppress(OSError):
                while (parcel := under_way.get())[1]:
                    time.sleep(max(0.0, parcel[0] - time.monotonic()))
                    sink.sendall(parcel[1])

        far_end = threading.Thread(target=arrive, daemon=True)
        far_end.start()
        try:
            while data := source.recv(1024):
                time.sleep(len(data) / self._bytes_per_s)
                arrives = time.monotonic() + self._latency_s
                while luck.random() < self._loss:
                    arrives += 2 * self._latency_s
                under_way.put((arrives, data))
        finally:
            under_way.put((0.0, b""))
            far_end.join()
