"""What no store can keep is set aside alone, with its own bytes; everybody else's messages go on."""

import json

import pytest
from sqlalchemy import select

from gateway.metrics import GatewayMetrics
from gateway.telemetry_pipe import TelemetryPipe
from gateway.usage_pipe import UsagePipe
from store.database import Database
from store.ledger import StreamMark, check_usage_chain
from store.series import END_MS, Reading, SeriesUnavailable
from store.tables.usage import AgentStatus, Quarantine, UsageStream
from tests.gateway.test_gateway import telemetry
from tests.support.unset_clock import Unset
from tests.support.usage import NINE, StreamWriter
from wire.client import Delivery
from wire.commands import Refused
from wire.ids import new_ulid
from wire.messages import AgentState, ClockQuality, PowerState, Telemetry, encode, timestamp
from wire.topics import Channel, up


class Heard:
    """Both pipes of one gateway, without a broker, and what they tell the agents."""

    def __init__(self, database, series, clock) -> None:
        self.acks: dict[str, int] = {}
        metrics = GatewayMetrics()
        told, nothing, refused = self._told, lambda name: None, self._refused
        self.refused: list[tuple[str, str, int, str]] = []
        self.telemetry = TelemetryPipe(database, series, clock, told, metrics, nothing, refused)
        self.usage = UsagePipe(database, clock, "gw", told, self.telemetry.note_floor, metrics, nothing, refused)

    def _told(self, agent: str, stream: str, mark: StreamMark) -> None:
        self.acks[stream] = mark.upto

    def _refused(self, agent: str, said: Refused) -> None:
        self.refused.append((agent, said.stream, said.seq, said.reason))


@pytest.fixture
def heard(database, series, clock) -> Heard:
    return Heard(database, series, clock)


def delivery(topic: str, payload: bytes) -> Delivery:
    return Delivery(topic, payload, False, lambda: None)


def sent(agent: str, message: Telemetry) -> Delivery:
    return delivery(up(agent, Channel.TELEMETRY, message.inst), encode(message))


def set_aside(database: Database) -> list[tuple[str, bytes]]:
    with database.read() as session:
        rows = session.execute(select(Quarantine.reason, Quarantine.payload).order_by(Quarantine.reason))
        return [(row[0], row[1]) for row in rows]


def test_a_count_that_no_database_can_hold_is_set_aside_and_the_agents_of_its_batch_are_heard(
    heard, database, clock, instruments
):
    good, bad = (f"a-{instrument}" for instrument in instruments)
    state = AgentState(online=True, cause="running", boot="b1", ts=timestamp(clock.now_ms()))
    huge = json.dumps(json.loads(encode(state)) | {"queued": 2**63}).encode()
    heard.usage.handle([delivery(up(bad, Channel.STATE), huge), delivery(up(good, Channel.STATE), encode(state))])
    assert set_aside(database) == [("invalid", huge)]
    with database.read() as session:
        assert session.scalars(select(AgentStatus.agent_id)).all() == [good]


def test_power_that_no_series_can_hold_is_set_aside_alone_and_keeps_its_place(heard, database, series, instruments):
    agent, stream, other = f"a-{instruments[0]}", new_ulid(), new_ulid()
    poison = telemetry(instruments[0], stream, 1, NINE, [1e306])
    after = telemetry(instruments[0], stream, 2, NINE + 10_000, [700.0])
    theirs = telemetry(instruments[1], other, 1, NINE, [20.0])
    heard.telemetry.handle([sent(agent, poison), sent(agent, after), sent(f"a-{instruments[1]}", theirs)])
    assert set_aside(database) == [("invalid", encode(poison))]
    assert heard.acks == {stream: 2, other: 1}
    assert [s.power_mw for s in series.read(instruments[0], 0, END_MS)] == [700_000]


@pytest.mark.parametrize("step", ["write", "write_readings"])
def test_a_series_that_is_away_is_no_fault_of_a_message(heard, database, series, instruments, monkeypatch, step):
    def away(points):
        raise SeriesUnavailable("shut by the test")

    monkeypatch.setattr(series, step, away)
    message = telemetry(instruments[0], new_ulid(), 1, NINE, [700.0]).model_copy(update={"extra": {"volts": 230.5}})
    with pytest.raises(SeriesUnavailable):
        heard.telemetry.handle([sent(f"a-{instruments[0]}", message)] * 2)
    assert (set_aside(database), heard.acks) == ([], {})


def test_samples_that_the_series_refuses_are_set_aside_with_the_message_that_brought_them(
    heard, database, series, instruments
):
    agent, stream = f"a-{instruments[0]}", new_ulid()
    fine = telemetry(instruments[0], stream, 1, NINE, [700.0])
    partly = telemetry(instruments[0], stream, 2, NINE + 10_000, [2e9, 701.0])
    heard.telemetry.handle([sent(agent, fine), sent(agent, partly)])
    assert set_aside(database) == [("series_refused", encode(partly))]
    with database.read() as session:
        assert session.scalars(select(Quarantine.detail)).one().startswith("1 of 2 samples refused: the power")
    assert heard.acks == {stream: 2}
    assert [s.power_mw for s in series.read(instruments[0], 0, END_MS)] == [700_000, 701_000]


def test_what_else_a_meter_showed_is_kept_at_the_last_sample_and_refused_like_samples(
    heard, database, series, instruments
):
    agent, stream, (inst, _) = f"a-{instruments[0]}", new_ulid(), instruments
    fine = telemetry(inst, stream, 1, NINE, [700.0, 701.0, 702.0])
    fine = fine.model_copy(update={"extra": {"volts": 230.5, "celsius": -20.0}})
    partly = telemetry(inst, stream, 2, NINE + 10_000, [2e9, 703.0])
    partly = partly.model_copy(update={"extra": {"volts": 231.0, "hertz": 1e101}})
    heard.telemetry.handle([sent(agent, fine), sent(agent, partly)])
    heard.telemetry.handle([sent(agent, fine)])  # a repeat changes nothing
    assert series.quantities(inst, 0, END_MS) == ["celsius", "volts"]
    assert list(series.readings(inst, "celsius", 0, END_MS)) == [Reading(inst, NINE + 2_000, "celsius", -20.0)]
    assert [(r.at_ms - NINE, r.value) for r in series.readings(inst, "volts", 0, END_MS)] == [
        (2_000, 230.5),
        (11_000, 231.0),
    ]
    assert [s.power_mw for s in series.read(inst, 0, END_MS)] == [700_000, 701_000, 702_000, 703_000]
    assert (set_aside(database), heard.acks) == ([("series_refused", encode(partly))], {stream: 2})
    with database.read() as session:
        samples, readings = session.scalars(select(Quarantine.detail)).one().split("; ")
    assert samples.startswith("1 of 2 samples refused: the power")
    assert readings.startswith("1 of 2 readings refused: the value")


def test_telemetry_under_the_name_of_a_usage_stream_moves_no_mark_of_usage(heard, database, clock, instruments):
    writer = StreamWriter(instruments[0])
    writer.tick(PowerState.OFF, 60)
    topic = up(writer.agent, Channel.USAGE, writer.instrument)
    heard.usage.handle([delivery(topic, encode(writer.records[0]))])
    stray = telemetry(instruments[0], writer.stream, 2, NINE, [700.0])
    heard.telemetry.handle([sent(writer.agent, stray)])
    assert set_aside(database) == [("wrong_kind", encode(stray))]
    assert heard.refused == [(writer.agent, writer.stream, 2, "wrong_kind")]
    writer.tick(PowerState.OFF, 60)
    heard.usage.handle([delivery(topic, encode(writer.records[1]))])
    assert heard.acks == {writer.stream: 2}
    with database.read() as session:
        assert check_usage_chain(session, writer.agent, writer.stream) is None


def test_usage_under_the_name_of_a_telemetry_stream_is_set_aside_and_holds_nothing_up(heard, database, instruments):
    writer, other = (StreamWriter(instrument) for instrument in instruments)
    heard.telemetry.handle([sent(writer.agent, telemetry(writer.instrument, writer.stream, 1, NINE, [700.0]))])
    for each in (writer, other):
        each.tick(PowerState.OFF, 60)
    heard.acks.clear()
    batch = [delivery(up(w.agent, Channel.USAGE, w.instrument), encode(w.records[0])) for w in (writer, other)]
    for _ in range(3):  # its agent keeps it, and tries again: it is counted, and told again
        heard.usage.handle(batch)
    assert set_aside(database) == [("wrong_kind", encode(writer.records[0]))]
    assert heard.acks == {other.stream: 1}
    assert heard.refused == [(writer.agent, writer.stream, 1, "wrong_kind")] * 3
    with database.read() as session:
        assert session.scalars(select(Quarantine.times)).one() == 3
        assert session.get_one(UsageStream, (writer.agent, writer.stream)).kind == "telemetry"


def test_samples_of_a_box_whose_clock_was_hours_ahead_lie_where_they_belong_once_it_says_so(
    heard, database, series, instruments
):
    meter = StreamWriter(instruments[0], start_ms=NINE + 8 * 3_600_000)
    meter.quality, stream = ClockQuality.RTC, new_ulid()
    meter.tick(PowerState.STANDBY, 60)
    ahead = telemetry(instruments[0], stream, 1, meter.now_ms, [700.0]).model_copy(
        update={"ts_q": ClockQuality.RTC, "boot": meter.boot, "t0_ms": meter.mono_ms}
    )
    Unset.set_clock(meter, -8 * 3_600_000)  # type: ignore[arg-type]
    heard.usage.handle([delivery(up(meter.agent, Channel.USAGE, r.inst), encode(r)) for r in meter.records])
    late = ahead.model_copy(update={"seq": 2, "t0_ms": meter.mono_ms + 1_000, "ts": timestamp(meter.now_ms + 1_000)})
    heard.telemetry.handle([sent(meter.agent, one) for one in (ahead, late)])
    assert set_aside(database) == []
    assert [sample.at_ms for sample in series.read(instruments[0], 0, END_MS)] == [NINE + 60_000, NINE + 61_000]


def test_samples_of_a_box_whose_clock_was_set_afterwards_lie_where_they_belong(heard, database, series, instruments):
    agent, stream, meter = f"a-{instruments[0]}", new_ulid(), Unset(instruments[0])
    early = telemetry(instruments[0], stream, 1, NINE, [700.0]).model_copy(
        update={
            "ts": timestamp(0),
            "ts_q": ClockQuality.UNSET,
            "boot": meter.boot,
            "t0_ms": meter.mono_ms,
            "extra": {"celsius": 4.5},
        }
    )
    heard.telemetry.handle([sent(agent, early)])
    [(reason, _)] = set_aside(database)
    assert (reason, heard.acks) == ("series_refused", {stream: 1})
    meter.tick(PowerState.STANDBY, 60)
    meter.set_clock(NINE - meter.now_ms)
    heard.usage.handle([delivery(up(agent, Channel.USAGE, r.inst), encode(r)) for r in meter.records])
    heard.telemetry.handle([sent(agent, early.model_copy(update={"seq": 2}))])
    assert [sample.at_ms for sample in series.read(instruments[0], 0, END_MS)] == [NINE - 60_000]
    assert [reading.at_ms for reading in series.readings(instruments[0], "celsius", 0, END_MS)] == [NINE - 60_000]
