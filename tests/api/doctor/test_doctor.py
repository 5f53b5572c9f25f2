"""`openlab doctor`, `quarantine` and `expire` on a real ledger: what they see, what they mend, what they refuse."""

import json
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import func, select
from typer.testing import CliRunner

from api.commands import app
from store.alerts import raise_alert
from store.database import Database
from store.ledger import Arrival, check_usage_chain, commit_usage
from store.liveness import Heard, note_heard
from store.quarantine import set_aside
from store.series import END_MS, open_series, prepare_series
from store.tables.audit import Anomaly
from store.tables.usage import Alert, Quarantine, QuarantineReason, UsageRecordRow, UsageSession
from tests.gateway.test_gateway import telemetry
from tests.store.test_retention import settle
from tests.support.usage import NINE, StreamWriter, add_registry
from wire.clock import SystemClock
from wire.ids import new_ulid
from wire.messages import encode
from wire.topics import Channel, up

pytestmark = pytest.mark.slow_on_postgresql


@pytest.fixture
def place(database: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A ledger with two instruments, named by the environment as on a server."""
    monkeypatch.setenv("OPENLAB_DATABASE_URL", database_url)
    monkeypatch.setenv("OPENLAB_SERIES_URL", f"sqlite:///{tmp_path / 'series.db'}")
    prepare_series(f"sqlite:///{tmp_path / 'series.db'}")
    with database.write() as session:
        add_registry(session)
    return database


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def told(*arguments: str) -> dict:
    return json.loads(run(*arguments, "--json").stdout)


def park(database: Database, writer: StreamWriter, *seqs: int) -> None:
    """Commit a stream of which some records were refused when they came."""
    arrivals = [
        Arrival(a.agent_id, a.stream, a.seq, a.payload, None if a.seq in seqs else a.record) for a in writer.arrivals()
    ]
    with database.write() as session:
        commit_usage(session, arrivals, NINE, "gateway:test")
        for seq in seqs:
            topic = up(writer.agent, Channel.USAGE, writer.instrument)
            set_aside(
                session, topic, encode(writer.records[seq - 1]), QuarantineReason.UNKNOWN_INSTRUMENT, "not there", NINE
            )


def test_a_county_with_silent_agents_is_not_well_and_the_doctor_says_who(place):
    answer = run("doctor")
    assert answer.exit_code == 1
    assert "a-xc-h01-01 was never heard of" in answer.stdout
    symptoms = {one["name"]: one for one in told("doctor")["symptoms"]}
    assert {name for name, one in symptoms.items() if not one["well"]} == {"agents"}
    assert set(symptoms) == {"schema", "quarantine", "alerts", "agents", "holes", "due", "sessions", "series"}


def test_the_doctor_names_an_agent_of_which_nothing_is_heard_though_it_never_said_good_bye(place):
    now_ms = SystemClock().now_ms()
    with place.write() as session:
        for agent, minutes in (("a-xc-h01-01", 2), ("a-xc-h01-02", 4)):
            note_heard(session, Heard(agent, True, now_ms - minutes * 60_000, "b1", "test", 0, 0, 0))
    [agents] = [one for one in told("doctor")["symptoms"] if one["name"] == "agents"]
    assert [line.split()[0] for line in agents["subjects"]] == ["a-xc-h01-02"]


def test_quarantine_alerts_holes_late_work_and_stale_sessions_are_named(place):
    writer = StreamWriter("xc-h01-01")
    writer.run(minutes=3)
    writer.open(5)
    arrivals = writer.arrivals()
    other = StreamWriter("xc-h01-02")
    other.run(minutes=3)
    with place.write() as session:
        commit_usage(session, arrivals, NINE, "gateway:test")
        commit_usage(session, other.arrivals()[1:], NINE, "gateway:test")
        set_aside(session, "lab/v1/up/a-xc-h01-01/rec/_", b"{", QuarantineReason.NOT_JSON, "not JSON", NINE)
        raise_alert(session, "usage_conflict", writer.agent, "two contents", NINE)
    ill = {one["name"] for one in told("doctor")["symptoms"] if not one["well"]}
    assert ill == {"quarantine", "alerts", "agents", "holes", "due", "sessions"}


def test_what_was_set_aside_is_no_symptom_any_more_once_somebody_is_done_with_its_alert(place):
    topic, reason = "lab/v1/up/a-xc-h01-01/rec/_", QuarantineReason.NOT_JSON

    def quarantined() -> str | None:
        [one] = [one for one in told("doctor")["symptoms"] if one["name"] == "quarantine"]
        return None if one["well"] else one["said"]

    with place.write() as session:
        set_aside(session, topic, b"{", reason, "not JSON", NINE)
    assert quarantined() == "1 messages set aside"
    [alert] = told("alerts", "list")["alerts"]
    assert run("alerts", "done", alert["alert_id"], "--note", "a test of the technician's").exit_code == 0
    assert quarantined() is None
    with place.write() as session:
        set_aside(session, topic, b"[", reason, "not JSON", SystemClock().now_ms() + 1000)
    assert quarantined() == "1 messages set aside"


def test_a_quarantined_message_is_shown_with_its_bytes(place):
    with place.write() as session:
        set_aside(session, "lab/v1/up/a-x1/rec/_", b"\xff{", QuarantineReason.NOT_JSON, "not JSON", NINE)
        whole = session.scalars(select(Quarantine.quarantine_id)).one()
    shown = told("quarantine", "show", whole[:8])
    assert (shown["text"], shown["bytes"], shown["reason"]) == ("\\xff{", 2, "not_json")


def test_what_was_parked_is_replayed_after_the_fix_and_its_alert_is_cleared(place):
    writer = StreamWriter("xc-h01-01")
    name = writer.run(minutes=5)
    park(place, writer, 1)
    answer = told("quarantine", "replay", "--reason", "unknown_instrument")
    assert answer["stays"] == {}
    changed = answer["replayed"][0]["changed"]
    assert changed["new"] + changed["changed"] == [name]
    with place.read() as session:
        assert session.get_one(UsageSession, name).ended_at is not None
        assert check_usage_chain(session, writer.agent, writer.stream) is None
        rule = Alert.rule == "quarantine_unknown_instrument"
        assert session.scalar(select(func.count()).select_from(Alert).where(rule, Alert.open_slot == 1)) == 0
    assert told("quarantine", "replay", "--reason", "unknown_instrument") == {"replayed": [], "stays": {}}


def test_a_message_the_ledger_never_had_arrives_by_its_replay(place):
    writer = StreamWriter("xc-h01-01")
    writer.run(minutes=2)
    with place.write() as session:
        for record in writer.records:
            topic = up(writer.agent, Channel.USAGE, writer.instrument)
            set_aside(session, topic, encode(record), QuarantineReason.UNKNOWN_AGENT, "who?", NINE)
    answer = told("quarantine", "replay", "--reason", "unknown_agent")
    assert [one["new"] for one in answer["replayed"]] == [True] * writer.seq
    with place.read() as session:
        assert session.scalar(select(func.count()).select_from(UsageRecordRow)) == writer.seq


def test_telemetry_is_replayed_into_the_time_series(place, tmp_path):
    message = telemetry("xc-h01-01", new_ulid(), 1, NINE, [700.0, 701.0]).model_copy(update={"extra": {"volts": 230.5}})
    with place.write() as session:
        topic = up("a-xc-h01-01", Channel.TELEMETRY, "xc-h01-01")
        set_aside(session, topic, encode(message), QuarantineReason.UNKNOWN_AGENT, "who?", NINE)
    answer = told("quarantine", "replay", "--reason", "unknown_agent")
    assert ([one["new"] for one in answer["replayed"]], answer["stays"]) == ([True], {})
    with closing(open_series(f"sqlite:///{tmp_path / 'series.db'}")) as series:
        assert [s.power_mw for s in series.read("xc-h01-01", 0, END_MS)] == [700_000, 701_000]
        assert [r.value for r in series.readings("xc-h01-01", "volts", 0, END_MS)] == [230.5]


def test_what_is_still_wrong_stays_and_says_why(place):
    with place.write() as session:
        set_aside(session, "lab/v1/up/a-xc-h01-01/rec/_", b"{", QuarantineReason.NOT_JSON, "not JSON", NINE)
        foreign = StreamWriter("xc-h01-02", agent="a-xc-h01-01")
        foreign.run(minutes=1)
        topic = up("a-xc-h01-01", Channel.USAGE, "xc-h01-02")
        set_aside(session, topic, encode(foreign.records[0]), QuarantineReason.FOREIGN_INSTRUMENT, "not its own", NINE)
    answer = run("quarantine", "replay", "--reason", "not_json")
    assert answer.exit_code == 1
    assert "still not understood" in answer.stdout
    assert "foreign_instrument" in run("quarantine", "replay", "--reason", "foreign_instrument").stdout
    with place.read() as session:
        assert session.scalar(select(func.count()).select_from(UsageRecordRow)) == 0


def test_use_that_was_given_to_somebody_stays_and_gets_an_anomaly(place):
    writer = StreamWriter("xc-h01-01")
    name = writer.run(minutes=5)
    writer.run(minutes=2)
    close = next(r.seq for r in writer.records if r.kind == "close")
    park(place, writer, close)
    settle(place, name)
    answer = told("quarantine", "replay", "--reason", "unknown_instrument")
    assert len(answer["stays"]) == 1
    with place.read() as session:
        [anomaly] = session.scalars(select(Anomaly))
        assert (anomaly.rule, anomaly.subject_id, anomaly.host_id) == ("quarantined_use", name, "h01")


def test_expire_says_what_would_go_and_lets_it_go_only_when_told_to(place):
    writer = StreamWriter("xc-h01-01")
    name = writer.run(minutes=30)
    with place.write() as session:
        commit_usage(session, writer.arrivals(), writer.now_ms, "gateway:test")
    settle(place, name)
    tried = told("expire")
    assert (tried["dropped"], tried["done"]) == (29, False)
    with place.read() as session:
        assert session.scalar(select(func.count()).select_from(UsageRecordRow)) == writer.seq
    assert told("expire", "--yes")["dropped"] == 29
    with place.read() as session:
        assert session.scalar(select(func.count()).select_from(UsageRecordRow)) == 2
        assert check_usage_chain(session, writer.agent, writer.stream) is None
    assert told("expire", "--yes")["dropped"] == 0


def test_a_stream_that_would_not_verify_keeps_all_its_ticks(place):
    writer = StreamWriter("xc-h01-01")
    name = writer.run(minutes=30)
    with place.write() as session:
        commit_usage(session, writer.arrivals(), writer.now_ms, "gateway:test")
    settle(place, name, off_by_ms=1)
    answer = run("expire", "--yes")
    assert answer.exit_code == 1
    assert "keeps all" in answer.stdout
    with place.read() as session:
        assert session.scalar(select(func.count()).select_from(UsageRecordRow)) == writer.seq
