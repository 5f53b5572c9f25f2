"""What a gateway counts, for Prometheus and for the demo's status line."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


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
        self.waiting = Gauge("openlab_waiting_messages", "Messages not yet committed", ["pipe"], registry=self.registry)
        self.commit_seconds = Histogram(
            "openlab_commit_seconds", "Time to write and commit a batch", ["pipe"], registry=self.registry
        )
