"""What a gateway counts, for Prometheus and for the demo's status line."""

import threading
import time
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily

SHOWN_FOR_S = 600.0


class FurtherReadings:
    """What meters show beside power and energy: the newest values of each instrument, for as long as they are new.

    The series keeps their history, for people to look at; no fee rests on them. An instrument takes the room of one
    batch here, whatever names its agent thinks of.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Mapping[str, float]]] = {}
        self._lock = threading.Lock()

    def take(self, instrument: str, values: Mapping[str, float]) -> None:
        """Show these values of an instrument instead of the ones before; none change nothing."""
        if values:
            with self._lock:
                self._known[instrument] = (time.monotonic(), dict(values))

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield what is new, for the registry; forget the rest."""
        text = "Further readings of a meter (volts, amperes, ...), the newest of each"
        family = GaugeMetricFamily("openlab_meter_reading", text, labels=["instrument", "quantity"])
        since = time.monotonic() - SHOWN_FOR_S
        with self._lock:
            self._known = {name: one for name, one in self._known.items() if one[0] >= since}
            known = sorted(self._known.items())
        for instrument, (_, values) in known:
            for quantity, value in sorted(values.items()):
                family.add_metric([instrument, quantity], value)
        yield family


class GatewayMetrics:
    """One registry a gateway, so that several in one process (tests, the demo) do not meet."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.records = Counter(
            "openlab_usage_records_total", "Usage records by outcome", ["outcome"], registry=self.registry
        )
        self.samples = Counter("openlab_samples_total", "Power samples written", registry=self.registry)
        self.quarantined = Counter(
            "openlab_quarantined_total", "Messages set aside by reason", ["reason"], registry=self.registry
        )
        self.batches_failed = Counter(
            "openlab_batches_failed_total", "Batches that had to be tried again", ["pipe"], registry=self.registry
        )
        self.replays = Counter(
            "openlab_replays_total", "Times an agent was asked for missing records", registry=self.registry
        )
        self.readings = FurtherReadings()
        self.registry.register(self.readings)
        self.waiting = Gauge("openlab_waiting_messages", "Messages not yet committed", ["pipe"], registry=self.registry)
        self.commit_seconds = Histogram(
            "openlab_commit_seconds", "Time to write and commit a batch", ["pipe"], registry=self.registry
        )
