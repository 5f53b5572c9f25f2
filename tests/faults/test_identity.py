"""Who speaks: two processes under one name, cloned memory cards, wrong passwords, words that nobody may trust."""

import json
import shutil
from pathlib import Path

from sqlalchemy import select

from store.ledger import check_usage_chain, refold
from store.tables.usage import Alert, Quarantine, UsageStream
from tests.faults.conftest import MakeSite
from tests.faults.grounds import BOTH, EITHER_BROKER, on_grounds
from tests.faults.judge import records_of
from tests.faults.processes import Process
from tests.faults.site import Site
from tests.support.brokers import AnyBroker
from tests.support.cable import Cable
from tests.support.mqtt import Station
from tests.support.usage import NINE
from tests.support.waiting import wait_until
from wire.ids import new_ulid
from wire.messages import Ack, encode
from wire.topics import Channel, down, up

TAKEN = "is taken away again and again"


def alerts(site: Site) -> set[str]:
    with site.database.read() as session:
        return set(session.scalars(select(Alert.rule)))


def second_agent(site: Site, agent: str, spool: Path) -> Process:
    """Start the same agent again, as of another machine: its own boot and its own spool."""
    clock, config = site.folder / "clock-2.json", site.folder / "agents.d" / "second.json"
    first = site.clock
    site.begin_clock(first.now_ms(), file=clock)
    site.clock = first
    fields = json.loads(site.config(agent).read_text())
    config.write_text(json.dumps(fields | {"clock_file": str(clock), "data_dir": str(spool)}))
    arguments = ["run", "--config", str(config), "--drain", "0"]
    site.running["second"] = Process("second", "edge_agents.cli", arguments, site.logs / "second.log", {})
    return site.running["second"]


@on_grounds(EITHER_BROKER, quick=[0])
def test_two_agents_under_one_name_back_off_and_the_county_is_told(make_site: MakeSite, tmp_path: Path) -> None:
    site = make_site(agents=1)
    [agent] = site.agents
    site.start_all()
    site.await_records(2)
    second = second_agent(site, agent, tmp_path / "second-spool")
    first = site.running[agent]
    wait_until(lambda: TAKEN in first.said() or TAKEN in second.said(), "one of them to stay away", 60)
    wait_until(lambda: "duplicate_identity" in alerts(site), "the county's alert")
    # One stays away for minutes, so the other is left in peace and delivers; then this one goes.
    stayed, other = (first, second) if TAKEN in first.said() else (second, first)
    site.await_records(3)
    assert other.alive
    assert stayed.alive
    second.kill()
    del site.running["second"]
    if stayed is first:
        # Its technician restarts it; it tells what happened, as soon as that is written down.
        log = site.spool(agent) / "usage.db-wal"
        wait_until(lambda: b"connection_taken" in log.read_bytes(), "the fault record in the spool")
        site.kill(agent)
        site.start_agent(agent)
        site.wait(lambda: "fault_connection_taken" in alerts(site), "the agent's own word")
    verdict = site.finish(expected=["duplicate_identity"])
    # The second one's stream is not complete, but what there is of it is sound; the first one's is complete.
    assert [fault for fault in verdict.faults if "the agent says" in fault] == []
    with site.database.read() as session:
        for row in session.query(UsageStream).filter(UsageStream.kind == "usage"):
            assert check_usage_chain(session, row.agent_id, row.stream) is None
            assert list(refold(session, row.agent_id, row.stream)) == []


@on_grounds(BOTH, quick=[1])
def test_a_cloned_memory_card_cannot_overwrite_what_was_said_first(make_site: MakeSite, tmp_path: Path) -> None:
    site = make_site(agents=1)
    [agent] = site.agents
    site.start_all()
    site.await_records(6)
    site.kill(agent)
    clone = tmp_path / "clone"
    shutil.copytree(site.spool(agent), clone)
    site.start_agent(agent)
    site.await_records(6)
    with site.database.read() as session:
        [stream] = session.query(UsageStream).filter(UsageStream.kind == "usage").all()
        before = records_of(session, agent, stream.stream)
    second_agent(site, agent, clone)
    wait_until(lambda: "usage_conflict" in alerts(site), "a second content for a number that is taken", 60)
    with site.database.read() as session:
        assert records_of(session, agent, stream.stream)[: len(before)] == before
        assert check_usage_chain(session, agent, stream.stream) is None
        assert list(refold(session, agent, stream.stream)) == []


@on_grounds(EITHER_BROKER, quick=[1])
def test_a_wrong_password_is_tried_with_patience_and_told_when_it_is_right(
    make_site: MakeSite, broker: AnyBroker
) -> None:
    with Cable(broker.port) as cable:
        site = make_site(agents=1, broker_port=cable.port)
        [agent] = site.agents
        site.start_gateway()
        secret = site.folder / "agents.d" / f"{agent}.password"
        right = secret.read_text()
        secret.write_text("a-wrong-password")
        process = site.start_agent(agent)
        wait_until(lambda: "the broker refuses this agent" in process.said(), "the refusal")
        began = site.clock.now_ms()
        wait_until(lambda: site.clock.now_ms() - began > 5_000 * site.speed, "five seconds")
        # Each try after a longer pause: 1 to 2 s, then twice that, and so on up to a minute.
        assert 2 <= cable.accepted <= 4
        site.kill(agent)
        secret.write_text(right)
        site.start_agent(agent)
        wait_until(lambda: "fault_broker_refused" in alerts(site), "the fault record that waited in the spool")
        verdict = site.finish()
    verdict.assert_exact()
    assert verdict.streams == 1


def test_an_acknowledgement_of_what_was_never_sent_is_refused_and_reported(make_site: MakeSite) -> None:
    site = make_site(agents=1)
    [agent] = site.agents
    site.start_all()
    site.await_records(4)
    with site.database.read() as session:
        [stream] = session.query(UsageStream).filter(UsageStream.kind == "usage").all()
    topic = down(agent, Channel.ACK)
    with Station(site.broker.url_for("gw-2"), "gw-2") as liar:
        liar.send(topic, encode(Ack(stream=stream.stream, upto=1_000_000)))
        liar.send(topic, encode(Ack(stream=new_ulid(), upto=3)))
        liar.send(topic, b"not even a message")
        wait_until(lambda: "fault_ack_beyond_last" in alerts(site), "the report")
    site.await_records(4)
    verdict = site.finish(expected=["fault_ack_beyond_last"])
    verdict.assert_exact()
    assert verdict.unknown_ms == 0
    said = site.running[agent].said()
    assert "not ours" in said
    assert "was not understood" in said


@on_grounds(BOTH, quick=[0])
def test_a_record_of_a_newer_version_is_parked_over_a_restart_and_blocks_nothing(make_site: MakeSite) -> None:
    site = make_site(agents=2)
    agent, newer = site.agents
    site.start_gateway()
    site.start_agent(agent)
    # A gateway that was never there has no queue at the broker: what is sent before is only kept by agents.
    site.await_records(1, [agent])
    stream = new_ulid()
    messages = [
        json.dumps({"schema": "lab.usage/2", "stream": stream, "seq": seq, "when": NINE + seq}).encode()
        for seq in (1, 2, 3)
    ]
    with Station(site.broker.url_for(newer), newer, [down(newer, Channel.ACK)]) as station:
        station.send(up(newer, Channel.USAGE, site.instruments[1]), messages[0])
        wait_until(lambda: site.upto(newer) == 1, "its place")
        site.kill("gw-1")
        for message in messages[1:]:
            station.send(up(newer, Channel.USAGE, site.instruments[1]), message)
        site.keep_alive()
        wait_until(lambda: site.upto(newer) == 3, "their places")
        wait_until(lambda: json.loads(station.payloads[-1])["upto"] == 3, "the word that they are committed")
    del site.agents[1]
    site.await_records(3)
    verdict = site.finish(expected=["quarantine"])
    verdict.assert_exact()
    with site.database.read() as session:
        assert sorted(session.scalars(select(Quarantine.payload))) == sorted(messages)
