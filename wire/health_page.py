"""`/healthz`, `/readyz` and `/metrics` for processes that serve nothing else: the gateway and the worker.

It lies here because both sides may import `wire`, and it knows neither of them: what is ready, and what the metrics
are, is told by whoever starts it.
"""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class HealthPage:
    """Serves until `close`. `why_not_ready` returns None, or a sentence that says what is missing."""

    def __init__(
        self, host: str, port: int, why_not_ready: Callable[[], str | None], metrics: Callable[[], bytes]
    ) -> None:
        """Begin to listen. Port 0 takes a free one. Raises OSError where the address cannot be had."""

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/healthz":
                    self._answer(200, "text/plain; charset=utf-8", b"ok\n")
                elif self.path == "/readyz":
                    missing = why_not_ready()
                    body = "ready\n" if missing is None else f"{missing}\n"
                    self._answer(200 if missing is None else 503, "text/plain; charset=utf-8", body.encode())
                elif self.path == "/metrics":
                    self._answer(200, METRICS_TYPE, metrics())
                else:
                    self._answer(404, "text/plain; charset=utf-8", b"here are /healthz, /readyz and /metrics\n")

            def _answer(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Probes come every few seconds; they are not worth a line."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="health-page", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
