"""A link of 64 kbit/s that loses a third: what is sent is what has to be sent, at its speed, and nobody loses patience.

Everything is thirty-two times as fast as out there: the link, its latency and the agent's patience.
"""

import time
from pathlib import Path

import pytest

from edge_agents import lane
from edge_agents.outbox import Outbox, Row
from edge_agents.records import Batch, Sample
from edge_agents.session_state import Labels
from tests.edge.bench import START, Bench, until
from tests.edge.counterpart import Counterpart
from tests.faults.grounds import EITHER_BROKER, on_grounds
from tests.support.brokers import AGENT, GATEWAY, AnyBroker
from tests.support.cable import Cable
from wire.messages import ClockQuality, PowerState, StreamKind, encode

TIMES = 32
LOSS = 0.3
# 64 kbit/s less what is lost and sent again.
BYTES_PER_S = 64_000 / 8 * (1 - LOSS) * TIMES
LATENCY_S = 2.0 / TIMES
ROWS = 150


def backlog(folder: Path) -> int:
    """An agent's telemetry of a while, as its spool has it; returns how many bytes that is."""
    labels = Labels("boot-0", START - 10_000_000, ClockQuality.NTP)
    box = Outbox(folder / "telemetry.db", StreamKind.TELEMETRY)
    rows = []
    for seq in range(1, ROWS + 1):
        at = [seq * 60_000 + n * 1000 for n in range(60)]
        samples = tuple(Sample(ms, 4_000.125 + ms % 977, 1_234_567.25 + ms, PowerState.RUNNING) for ms in at)
        payload = encode(Batch(samples).message("xc-h01-01", box.stream, seq, 1000, labels))
        rows.append(Row(seq, "xc-h01-01", payload))
    box.append(rows)
    box.close()
    return sum(len(row.payload) for row in rows)


@on_grounds(EITHER_BROKER)
def test_a_backlog_goes_over_a_slow_link_once_and_at_its_speed(
    broker: AnyBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "RESEND_AFTER_S", lane.RESEND_AFTER_S / TIMES)
    with Cable(broker.port, BYTES_PER_S, LATENCY_S, LOSS) as cable, Counterpart(broker.url_for(GATEWAY)) as gateway:
        bench = Bench(cable.url(broker.url_for(AGENT)), tmp_path)
        size = backlog(bench.folder)
        began = time.monotonic()
        agent = bench.begin()
        until(agent, lambda: agent.is_drained, "the backlog to be acknowledged")
        took_s = time.monotonic() - began
        assert len(gateway.telemetry()) == ROWS
        assert cable.accepted == 1, "the connection was given up"
        assert gateway.repeats <= ROWS // 8
        assert took_s < 3 * size / BYTES_PER_S + 2
        agent.close()
