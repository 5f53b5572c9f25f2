"""The reconciliation names every difference between an agent's own account and the ledger, and only those."""

import copy

import pytest
from sqlalchemy.orm import Session

from api.embedded.reconcile import differences_of, ledger_view, reconcile
from store.database import Database
from store.ledger import commit_usage
from tests.support.usage import NINE, StreamWriter, add_registry
from wire.messages import PowerState


def truth_of(writer: StreamWriter) -> dict:
    """What the agent behind a writer would say of itself."""
    return {
        "agent": writer.agent,
        "usage": {"stream": writer.stream, "last_seq": writer.seq, "unacknowledged": 0, "dropped": 0},
        "instruments": [
            {
                "inst": writer.instrument,
                "off_ms": writer.odo.off,
                "standby_ms": writer.odo.standby,
                "running_ms": writer.odo.running,
                "unknown_ms": writer.odo.unknown,
                "sessions_opened": sum(r.kind == "open" for r in writer.records),
                "sessions_closed": sum(r.kind == "close" for r in writer.records),
                "open_session": writer.session,
            }
        ],
    }


@pytest.fixture
def writer(database: Database) -> StreamWriter:
    """A stream with a finished and an open session, all of it in the ledger."""
    with database.write() as session:
        [instrument] = add_registry(session, instruments=1)
    writer = StreamWriter(instrument)
    writer.run(minutes=12)
    writer.open(30)
    writer.tick(PowerState.RUNNING, 60)
    with database.write() as session:
        commit_usage(session, writer.arrivals(), NINE, "test")
    return writer


def differences(session: Session, truth: dict) -> list[str]:
    return [difference.what for difference in differences_of(truth, ledger_view(session, truth))]


def test_an_agent_and_the_ledger_that_saw_the_same_agree_open_session_included(database, writer):
    with database.read() as session:
        outcome = reconcile([truth_of(writer)], session, expected_agents=1)
    assert outcome.differences == ()
    assert (outcome.agreeing, outcome.sessions, outcome.records) == (1, 2, writer.seq)
    assert outcome.running_s == 13 * 60


@pytest.mark.parametrize(
    "point", ["off_ms", "standby_ms", "running_ms", "unknown_ms", "sessions_opened", "sessions_closed"]
)
def test_one_millisecond_or_one_session_of_difference_is_named(database, writer, point):
    truth = copy.deepcopy(truth_of(writer))
    truth["instruments"][0][point] += 1
    with database.read() as session:
        assert differences(session, truth) == [f"{writer.instrument}: {point}"]


def test_records_that_the_ledger_does_not_hold_are_named(database, writer):
    truth = truth_of(writer)
    writer.tick(PowerState.RUNNING, 60)
    truth["usage"]["last_seq"] = writer.seq
    with database.read() as session:
        assert differences(session, truth) == ["usage records"]


def test_an_agent_that_says_nothing_is_a_difference(database, writer):
    with database.read() as session:
        outcome = reconcile([truth_of(writer)], session, expected_agents=2)
    assert [difference.what for difference in outcome.differences] == ["number of truths"]
