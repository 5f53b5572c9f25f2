"""What should not be becomes an alert with an owner, once, and is cleared by the system when it has gone."""

import dataclasses

import pytest
from sqlalchemy import select

from edge_agents.detector import DetectorProfile
from gateway.profiles import Profiles
from gateway.skew import Skews
from gateway.watch import CALM_AFTER, Watch
from store.alerts import raise_alert
from store.database import Database
from store.ledger import commit_usage
from store.liveness import Heard, note_heard
from store.tables.registry import Agent, Instrument, Metering
from store.tables.usage import AgentStatus, Alert
from tests.support.usage import NINE, StreamWriter
from wire.clock import ManualClock, from_ms
from wire.messages import Birth, PowerState, RecordKind, UsageRecord, timestamp


def open_alerts(database: Database) -> list[tuple[str, str, str]]:
    with database.read() as session:
        rows = session.scalars(select(Alert).where(Alert.open_slot == 1).order_by(Alert.rule, Alert.subject))
        return [(row.rule, row.subject, row.owner) for row in rows]


def hear(database: Database, clock: ManualClock, agent: str, *, online: bool = True, skew_ms: int = 0) -> None:
    with database.write() as session:
        note_heard(session, Heard(agent, online, clock.now_ms(), "b1", "test", 0, 0, skew_ms))


@pytest.fixture
def skews() -> Skews:
    return Skews()


@pytest.fixture
def watch(database: Database, clock: ManualClock, skews: Skews) -> Watch:
    return Watch(database, clock, skews.known)


def test_an_agent_that_stays_away_beyond_the_grace_is_told_once_and_taken_back_when_it_returns(
    watch, database, clock, instruments
):
    agent = f"a-{instruments[0]}"
    hear(database, clock, agent)
    clock.advance(60_000)
    hear(database, clock, agent, online=False)
    clock.advance(19_000)
    assert watch.look() == (0, 0)
    clock.advance(1_000)
    assert watch.look() == (1, 0)
    assert watch.look() == (0, 0)
    assert open_alerts(database) == [("agent_offline", agent, "h01")]
    hear(database, clock, agent)
    assert watch.look() == (0, 1)
    with database.read() as session:
        [alert] = session.scalars(select(Alert))
        assert (alert.open_slot, alert.done_by, alert.times) == (None, "system", 1)
    hear(database, clock, agent, online=False)
    clock.advance(20_000)
    assert watch.look() == (1, 0)


def test_an_agent_that_died_with_its_broker_is_told_after_three_minutes_of_silence(watch, database, clock, instruments):
    agents = [f"a-{instrument}" for instrument in instruments]
    for agent in agents:
        hear(database, clock, agent)
    clock.advance(179_000)
    hear(database, clock, agents[0])
    assert watch.look() == (0, 0)
    clock.advance(1_000)
    assert watch.look() == (1, 0)
    assert open_alerts(database) == [("agent_offline", agents[1], "h01")]
    hear(database, clock, agents[1])
    assert watch.look() == (0, 1)


def test_a_gateway_that_has_just_begun_to_listen_neither_tells_nor_takes_back_silence(
    watch, database, clock, instruments, skews
):
    for instrument in instruments:
        hear(database, clock, f"a-{instrument}")
    clock.advance(3_600_000)
    fresh = Watch(database, clock, skews.known)
    assert fresh.look() == (0, 0)
    assert watch.look() == (2, 0)
    assert fresh.look() == (0, 0)
    assert len(open_alerts(database)) == 2
    # What the broker had kept for the gateway is no sign of life; a new boot in it is.
    with database.write() as session:
        for instrument, boot in zip(instruments, ("b1", "b2"), strict=True):
            note_heard(session, Heard(f"a-{instrument}", True, clock.now_ms(), boot, None, 0, 0, None, retained=True))
    assert fresh.look() == (0, 1)
    assert open_alerts(database) == [("agent_offline", f"a-{instruments[0]}", "h01")]


def test_an_agent_that_ought_to_speak_and_was_never_heard_of_is_told(watch, database, clock, instruments):
    first, other = (f"a-{instrument}" for instrument in instruments)
    with database.write() as session:
        session.get_one(Instrument, instruments[1]).run_status = "retired"
    clock.advance(599_000)
    assert watch.look() == (0, 0)
    clock.advance(1_000)
    assert watch.look() == (1, 0)
    assert open_alerts(database) == [("agent_never_heard", first, "h01")]
    hear(database, clock, first)
    assert watch.look() == (0, 1)
    assert other.endswith(instruments[1])


@pytest.mark.parametrize(
    ("skew_ms", "rule"), [(5_000, None), (5_001, "clock_skew"), (-5_001, "clock_skew"), (60_001, "clock_wrong")]
)
def test_a_clock_that_is_off_is_told_by_how_much_it_is_off(watch, database, clock, instruments, skew_ms, rule):
    agent = f"a-{instruments[0]}"
    hear(database, clock, agent, skew_ms=skew_ms)
    watch.look()
    assert [alert[0] for alert in open_alerts(database)] == ([rule] if rule else [])
    hear(database, clock, agent, skew_ms=0)
    watch.look()
    assert open_alerts(database) == []


def test_records_that_are_all_equally_late_tell_of_a_clock_and_a_backlog_does_not(
    watch, database, clock, instruments, skews
):
    agent = f"a-{instruments[0]}"
    hear(database, clock, agent)
    for late_ms in (3_600_000, 3_540_000, 3_480_000):
        skews.note(agent, NINE + late_ms, timestamp(NINE))
    assert watch.look() == (0, 0)
    for late_ms in (90_100, 90_050, 91_000):
        skews.note(agent, NINE + late_ms, timestamp(NINE))
    assert watch.look() == (1, 0)
    assert open_alerts(database) == [("clock_wrong", agent, "h01")]
    with database.read() as session:
        assert session.get_one(AgentStatus, agent).skew_ms == 90_100


def test_a_hole_that_stays_for_a_minute_is_told_and_cleared_when_it_is_filled(watch, database, clock, instruments):
    writer = StreamWriter(instruments[0])
    writer.run(minutes=10)
    arrivals = writer.arrivals()
    missing = arrivals.pop(3)
    hear(database, clock, writer.agent)
    with database.write() as session:
        commit_usage(session, arrivals, clock.now_ms(), "test")
    assert watch.look() == (0, 0)
    clock.advance(60_000)
    assert watch.look() == (1, 0)
    assert open_alerts(database) == [("usage_gap", f"{writer.agent}/{writer.stream}", "h01")]
    with database.write() as session:
        commit_usage(session, [missing], clock.now_ms(), "test")
    assert watch.look() == (0, 1)


def commit(database: Database, clock: ManualClock, writer: StreamWriter, last: int) -> None:
    with database.write() as session:
        commit_usage(session, writer.arrivals()[-last:], clock.now_ms(), "test")


def test_a_silent_sensor_is_told_while_its_agent_is_there(watch, database, clock, instruments):
    writer = StreamWriter(instruments[0])
    writer.tick(PowerState.OFF, 60)
    writer.gap(60)
    writer.gap(60)
    hear(database, clock, writer.agent)
    commit(database, clock, writer, 3)
    assert watch.look() == (0, 0)  # as after every restart: the first time of a boot is unknown
    writer.gap(60)
    commit(database, clock, writer, 1)
    watch.look()
    assert open_alerts(database) == [("sensor_silent", instruments[0], "h01")]
    writer.tick(PowerState.OFF, 60)
    commit(database, clock, writer, 1)
    watch.look()
    assert open_alerts(database) == []


def test_a_sensor_that_was_taken_away_is_silent_no_more(watch, database, clock, instruments):
    writer = StreamWriter(instruments[0])
    for _ in range(3):
        writer.gap(60)
    hear(database, clock, writer.agent)
    commit(database, clock, writer, 3)
    assert watch.look() == (1, 0)
    with database.write() as session:
        before = session.scalars(select(Metering).where(Metering.instrument_id == instruments[0])).one()
        columns = {column.name: getattr(before, column.name) for column in Metering.__table__.columns}
        moved = {"agent_id": f"a-{instruments[1]}", "effective_at": from_ms(clock.now_ms())}
        session.add(Metering(**columns | moved))
    assert watch.look() == (0, 1)


def test_a_conflict_belongs_to_the_host_and_waits_for_a_person(watch, database, clock, instruments):
    writer = StreamWriter(instruments[0])
    writer.tick(PowerState.OFF, 60)
    [arrival] = writer.arrivals()
    with database.write() as session:
        commit_usage(session, [arrival], clock.now_ms(), "test")
        commit_usage(session, [dataclasses.replace(arrival, payload=b"other")], clock.now_ms(), "test")
    clock.advance(10**9)
    watch.look()
    assert ("usage_conflict", writer.agent, "h01") in open_alerts(database)


def test_two_machines_under_one_name_are_forgotten_an_hour_after_they_were_last_heard(
    watch, database, clock, instruments
):
    agent = f"a-{instruments[0]}"
    with database.write() as session:
        raise_alert(session, "duplicate_identity", agent, "boots a and b speak in turn", clock.now_ms())
    hour_ms = int(CALM_AFTER.total_seconds() * 1000)
    clock.advance(hour_ms)
    watch.look()
    assert ("duplicate_identity", agent, "h01") in open_alerts(database)
    clock.advance(1_000)
    watch.look()
    assert ("duplicate_identity", agent, "h01") not in open_alerts(database)


def test_any_number_of_gateways_may_look_at_once(database, clock, instruments, skews):
    agent = f"a-{instruments[0]}"
    hear(database, clock, agent, online=False)
    clock.advance(20_000)
    looks = [Watch(database, clock, skews.known) for _ in range(3)]
    assert [each.look() for each in looks] == [(1, 0), (0, 0), (0, 0)]
    assert len(open_alerts(database)) == 1


class FastClock(ManualClock):
    """A demo's clock: sixty seconds of it pass in a second."""

    speed = 60.0


def test_under_a_fast_clock_silence_is_three_real_minutes(database, instruments):
    clock = FastClock(NINE)
    watch = Watch(database, clock, Skews().known)
    for instrument in instruments:
        hear(database, clock, f"a-{instrument}")
    clock.advance(60 * 179_000)
    assert watch.look() == (0, 0)
    clock.advance(60 * 1_000)
    assert watch.look() == (2, 0)


@pytest.mark.parametrize(("skew_ms", "rules"), [(300_000, []), (300_060, ["clock_skew"]), (3_600_060, ["clock_wrong"])])
def test_under_a_fast_clock_the_way_of_a_message_is_not_taken_for_a_wrong_clock(database, instruments, skew_ms, rules):
    clock = FastClock(NINE)
    hear(database, clock, f"a-{instruments[0]}", skew_ms=skew_ms)
    Watch(database, clock, Skews().known).look()
    assert [rule for rule, _, _ in open_alerts(database)] == rules


def birth_of(agent: str, instrument: str, profile: str, at_ms: int) -> Birth:
    return Birth(
        agent=agent, boot="b1", ts=timestamp(at_ms), software="t", speaks=(), instruments=(instrument,), drivers={},
        profiles={instrument: profile}, streams=(),
    )  # fmt: skip


def config_of(writer: StreamWriter, profile: str, at_ms: int) -> UsageRecord:
    told = writer.tick(PowerState.OFF, 0)
    detail = {"inst": writer.instrument, "profile": profile, "before": ""}
    return told.model_copy(update={"kind": RecordKind.CONFIG, "ts": timestamp(at_ms), "detail": detail})


def test_an_agent_that_goes_by_another_profile_than_its_metering_is_told_until_they_agree(database, clock, instruments):
    typed = '{"standby_w": 20, "off_w": 250, "on_w": 300}'
    meant = DetectorProfile(on_w=300.0, off_w=250.0, standby_w=20.0).sha256
    with database.write() as session:
        session.scalars(select(Metering).where(Metering.instrument_id == instruments[0])).one().profile = typed
    profiles = Profiles()
    watch = Watch(database, clock, dict, profiles.known)
    writers = [StreamWriter(instrument) for instrument in instruments]
    agent, now = writers[0].agent, clock.now_ms()
    for writer in writers:
        profiles.told(writer.agent, config_of(writer, "f" * 64, now))  # before its birth is heard
        hear(database, clock, writer.agent)
    assert watch.look() == (0, 0)
    for writer in writers:  # what the second one's metering names is no profile
        profiles.born(writer.agent, birth_of(writer.agent, writer.instrument, "f" * 64, now))
    assert watch.look() == (1, 0)
    assert open_alerts(database) == [("profile_differs", instruments[0], "h01")]
    with database.read() as session:
        detail = session.scalars(select(Alert.detail)).one()
    assert meant in detail
    assert "f" * 64 in detail
    assert f"openlab-gateway configure {agent}" in detail
    assert Watch(database, clock, dict).look() == (0, 0), "a gateway that has not heard the agent leaves it open"
    profiles.told(agent, config_of(writers[0], meant, now - 1))
    assert watch.look() == (0, 0), "a record that is older than the birth is from a backlog"
    profiles.told(agent, config_of(writers[0], meant, now))
    assert watch.look() == (0, 1)
    profiles.born(agent, birth_of(agent, instruments[0], "e" * 64, now - 1))
    assert watch.look() == (1, 0)
    profiles.born(agent, birth_of(agent, instruments[0], meant, now - 1))
    assert watch.look() == (0, 1)


def test_an_instrument_whose_agent_was_revoked_is_told_until_it_is_metered_again(watch, database, clock, instruments):
    for instrument in instruments:
        hear(database, clock, f"a-{instrument}")
    with database.write() as session:
        session.get_one(Agent, f"a-{instruments[0]}").revoked_at = from_ms(clock.now_ms())
    assert watch.look() == (1, 0)
    assert open_alerts(database) == [("not_metered", instruments[0], "h01")]
    with database.write() as session:
        before = session.scalars(select(Metering).where(Metering.instrument_id == instruments[0])).one()
        columns = {column.name: getattr(before, column.name) for column in Metering.__table__.columns}
        ahead = {"agent_id": f"a-{instruments[1]}", "effective_at": from_ms(clock.now_ms() + 1_000)}
        session.add(Metering(**columns | ahead))
    assert watch.look() == (0, 0)
    clock.advance(1_000)
    assert watch.look() == (0, 1)
    with database.write() as session:
        session.get_one(Agent, f"a-{instruments[1]}").revoked_at = from_ms(clock.now_ms())
        session.get_one(Instrument, instruments[0]).run_status = "retired"
    watch.look()
    assert open_alerts(database) == [("not_metered", instruments[1], "h01")]
