"""Commands and configurations over real brokers: executed at most once, refused with a code, answered always."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_agents.agent import Agent
from edge_agents.command_book import CommandBook
from edge_agents.commands import Circumstances, Seen, made_ms, may_cut_power, refusal
from edge_agents.desired import judged
from edge_agents.drivers.from_callable import CallableDriver
from edge_agents.fleet import Fleet
from edge_agents.watch import Watched
from tests.edge.bench import START, Bench, until
from tests.edge.counterpart import Counterpart
from tests.edge.making import A_PROFILE
from tests.support.brokers import AGENT, GATEWAY, AnyBroker
from tests.support.mqtt import Station
from tests.support.waiting import wait_until
from wire.client import BrokerAddress
from wire.clock import SystemClock
from wire.commands import Command, Config, Op, Reply, SwitchArgs, desired_config, not_kept_record
from wire.ids import new_ulid
from wire.messages import ClockQuality, PowerState, RecordKind, decode, encode, timestamp
from wire.profiles import ProfileSettings
from wire.topics import Channel, all_up, down

INST = "xc-h01-01"
ANOTHER: dict[str, Any] = json.loads(replace(A_PROFILE, on_w=300, off_w=250).canonical())


def command(op: Op, args: dict[str, Any] | None = None, *, late_in_ms: int = 30_000, **changes: Any) -> Command:
    fields = {"id": new_ulid(), "op": op, "args": args or {}, "not_after": timestamp(START + late_in_ms), "by": "wang"}
    return Command(**fields | changes)


class Caller:
    """The county's side: sends orders and collects answers."""

    def __init__(self, station: Station, agent: Agent) -> None:
        self.station, self.agent = station, agent

    def send(self, order: Command | Config, *, retain: bool = False) -> None:
        channel = Channel.COMMAND if isinstance(order, Command) else Channel.CONFIG
        self.station.send(down(AGENT, channel), encode(order), retain=retain)

    def replies(self, command_id: str) -> list[Reply]:
        said = [decode(Reply, d.payload) for d in self.station.heard if d.topic.endswith(command_id)]
        assert all(reply.id == command_id for reply in said)
        return said

    def ask(self, order: Command, *, retain: bool = False) -> Reply:
        before = len(self.replies(order.id))
        self.send(order, retain=retain)
        return self.wait(order.id, before + 1)

    def wait(self, command_id: str, count: int = 1) -> Reply:
        def stepped() -> bool:
            self.agent.step()
            return len(self.replies(command_id)) >= count

        wait_until(stepped, "the answer")
        return self.replies(command_id)[-1]


@pytest.fixture
def bench(broker: AnyBroker, tmp_path: Path) -> Bench:
    return Bench(broker.url_for(AGENT), tmp_path)


@pytest.fixture
def caller(broker: AnyBroker, bench: Bench) -> Iterator[Caller]:
    agent = bench.begin()
    with Station(broker.url_for(GATEWAY), f"{GATEWAY}-calls", [all_up(Channel.REPLY)]) as station:
        wait_until(lambda: agent.is_connected and agent._sender._client.subscribed, "the agent to listen")
        yield Caller(station, bench.agent or agent)
        if bench.agent is not None:
            bench.agent.close()


def test_an_agent_says_who_it_is_and_shows_its_newest_reading(caller: Caller, bench: Bench) -> None:
    bench.power = 230.5
    bench.pass_time(3)
    who = caller.ask(command(Op.IDENTIFY))
    assert (who.outcome, who.result["agent"], who.result["instruments"]) == ("done", AGENT, [INST])
    shown = caller.ask(command(Op.READ_NOW, {"inst": INST}))
    assert shown.result[INST]["power_w"] == 230.5  # type: ignore[index, call-overload]
    assert set(caller.ask(command(Op.READ_NOW)).result) == {INST}
    assert caller.ask(command(Op.READ_NOW, {"inst": "xc-h99-01"})).code == "unknown_instrument"


def test_a_command_that_comes_twice_is_executed_once_and_answered_twice(caller: Caller, bench: Bench) -> None:
    order = command(Op.TEACH, {"inst": INST, "mark": "start", "state": "off"})
    first = caller.ask(order)
    bench.pass_time(2)
    second = caller.ask(order)
    assert (first, first.outcome) == (second, "done")
    bench.clock.advance(60_000)
    assert caller.ask(order) == first, "late now, but it was done in time and says so"


def test_a_command_is_not_executed_again_by_the_agent_that_was_restarted(caller: Caller, bench: Bench) -> None:
    order = command(Op.IDENTIFY)
    first = caller.ask(order)
    bench.crash()
    caller.agent = bench.begin()
    wait_until(lambda: caller.agent.is_connected and caller.agent._sender._client.subscribed, "the new agent")
    assert caller.ask(order) == first


def test_a_command_that_a_crash_cut_short_is_not_tried_again(caller: Caller, bench: Bench) -> None:
    order = command(Op.RESTART)
    caller.agent.orders._book.begin(order.id, bench.clock.now_ms())
    answer = caller.ask(order)
    assert (answer.outcome, answer.code) == ("failed", "interrupted")
    assert not caller.agent.orders.restart_wanted


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"late_in_ms": -1}, "late"), ({"late_in_ms": 24 * 3600_000 + 5_000}, "too_far")],
)
def test_a_command_out_of_its_time_is_refused(caller: Caller, changes: dict[str, int], code: str) -> None:
    answer = caller.ask(command(Op.RESTART, **changes))
    assert (answer.outcome, answer.code) == ("refused", code)
    assert not caller.agent.orders.restart_wanted


def test_a_command_that_the_broker_kept_is_refused(broker: AnyBroker, caller: Caller, bench: Bench) -> None:
    bench.crash()
    order = command(Op.RESTART)
    caller.send(order, retain=True)
    caller.agent = bench.begin()
    # Once as what waited for the session (then it was not retained), at the latest at the next connect as retained.
    answer = caller.wait(order.id)
    assert answer.code in ("retained", "ok")
    other = command(Op.RESTART)
    caller.agent.orders.restart_wanted = False
    caller.send(other, retain=True)
    caller.wait(other.id)
    caller.agent.orders._book._entries.clear()
    broker.restart()
    wait_until(lambda: caller.station.client.connected and caller.station.client.subscribed, "the county", 60)
    assert caller.wait(other.id, 2).code == "retained"


def test_power_is_not_switched_without_a_relay(caller: Caller) -> None:
    assert caller.ask(command(Op.SWITCH, {"inst": INST, "on": False})).code == "no_relay"


def test_what_is_not_a_command_is_answered_where_it_says_its_id(caller: Caller) -> None:
    newer = json.loads(encode(command(Op.IDENTIFY))) | {"schema": "lab.command/2"}
    caller.station.send(down(AGENT, Channel.COMMAND), json.dumps(newer).encode())
    answer = caller.wait(newer["id"])
    assert (answer.outcome, answer.code, answer.op) == ("refused", "unknown_schema", "?")
    for rubbish in (b"", b"{", b"\xff", b'{"id": 7}', b"[]"):
        caller.station.send(down(AGENT, Channel.COMMAND), rubbish)
    assert caller.ask(command(Op.IDENTIFY)).outcome == "done"


def test_restart_ends_a_process_of_one_agent_with_its_answer_given(broker: AnyBroker, tmp_path: Path) -> None:
    clock = SystemClock()
    watched = [Watched(INST, CallableDriver(lambda: 0.0, clock), A_PROFILE)]
    agent = Agent(AGENT, watched, clock, BrokerAddress.parse(broker.url_for(AGENT)), tmp_path / "spool")
    fleet = Fleet([agent], step_every_s=0.02)
    running = threading.Thread(target=fleet.run, args=(threading.Event(),), kwargs={"drain_timeout_s": 0.5})
    with Station(broker.url_for(GATEWAY), f"{GATEWAY}-calls", [all_up(Channel.REPLY)]) as station:
        running.start()
        fleet.started.wait(10)
        wait_until(lambda: agent.is_connected and agent._sender._client.subscribed, "the agent to listen")
        order = command(Op.RESTART, late_in_ms=clock.now_ms() - START + 30_000)
        station.send(down(AGENT, Channel.COMMAND), encode(order))
        running.join(20)
        assert not running.is_alive()
        [answer] = [decode(Reply, d.payload) for d in station.wait_heard(1)]
    assert (answer.id, answer.outcome) == (order.id, "done")


def test_an_agent_that_shares_its_process_does_not_end_the_others(caller: Caller) -> None:
    caller.agent.orders.may_restart = False
    assert caller.ask(command(Op.RESTART)).code == "shared_process"


def test_a_configuration_is_applied_told_and_kept_over_a_restart(
    broker: AnyBroker, caller: Caller, bench: Bench
) -> None:
    with Counterpart(broker.url_for(GATEWAY)) as county:
        bench.power = 200
        bench.pass_time(10)
        assert caller.agent._watches[0].detector.running
        stream = caller.agent.truth().usage.stream
        wanted = desired_config(AGENT, 3, {INST: ANOTHER}, "wang")
        caller.send(wanted, retain=True)
        until_applied(caller, county, 3)
        bench.pass_time(20)
        assert not caller.agent._watches[0].detector.running, "200 W lies below the new threshold"
        [told] = [r for r in county.usage() if r.kind is RecordKind.CONFIG]
        new = ProfileSettings(**ANOTHER)
        assert told.detail["version"] == 3
        assert told.detail["before"] == A_PROFILE.sha256
        assert told.detail["profile"] == caller.agent._watches[0].profile.sha256 != A_PROFILE.sha256
        answer = caller.ask(command(Op.CONFIG))
        assert answer.result == {"version": 3, "sha256": wanted.sha256, "profiles": {INST: told.detail["profile"]}}
        bench.crash()
        with structlog.testing.capture_logs() as logged:
            caller.agent = bench.begin()
        [said] = [line for line in logged if "profile of the settings file" in line["event"]]
        assert (said["inst"], said["version"], said["on_w"], said["on_w_of_file"]) == (INST, 3, 300, A_PROFILE.on_w)
        assert caller.agent._watches[0].profile.on_w == new.on_w
        assert caller.agent.truth().usage.stream == stream, "the spool is not made anew"
        until_applied(caller, county, 3)
        bench.pass_time(5)
        assert len([r for r in county.usage() if r.kind is RecordKind.CONFIG]) == 1


def until_applied(caller: Caller, county: Counterpart, version: int) -> None:
    def told() -> bool:
        caller.agent.step()
        return bool(county.births) and county.births[-1].config_version == version

    wait_until(told, f"a birth with version {version}")


def test_a_configuration_that_cannot_be_applied_is_told_once_and_changes_nothing(
    broker: AnyBroker, caller: Caller, bench: Bench
) -> None:
    with Counterpart(broker.url_for(GATEWAY)) as county:
        bad = desired_config(AGENT, 2, {INST: ANOTHER | {"off_w": 400.0}}, "wang")
        for _ in range(3):
            caller.send(bad)
        caller.send(desired_config(AGENT, 2, {"xc-h09-09": ANOTHER}, "wang"))
        caller.send(desired_config("xc-h02-01", 2, {INST: ANOTHER}, "wang"))
        bench.pass_time(1)

        def codes() -> list[object]:
            caller.agent.step()
            faults = [r for r in county.usage() if r.reason == "config_refused"]
            return [r.detail["code"] for r in faults]

        wait_until(lambda: len(codes()) == 3, "the faults")
        assert codes() == ["bad_profile", "unknown_instrument", "other_agent"]
        assert caller.agent._watches[0].profile == A_PROFILE


def test_versions_of_a_configuration_only_rise() -> None:
    two = desired_config(AGENT, 2, {INST: ANOTHER}, "wang")
    same = desired_config(AGENT, 2, {INST: ANOTHER | {"up_ms": 1}}, "wang")
    older = desired_config(AGENT, 1, {INST: ANOTHER}, "wang")
    assert judged(two, AGENT, [INST], None).profiles is not None
    assert judged(two, AGENT, [INST], two) == judged(two, AGENT, [INST], two.model_copy())
    assert judged(two, AGENT, [INST], two).refusal is None
    assert [r.code for r in (judged(c, AGENT, [INST], two).refusal for c in (same, older)) if r] == [
        "same_version",
        "older",
    ]


def test_a_profile_is_learnt_beside_the_running_instrument(caller: Caller, bench: Bench) -> None:
    def mark(mark: str, state: str | None = None) -> Reply:
        args = {"inst": INST, "mark": mark, "state": state}
        return caller.ask(command(Op.TEACH, args, late_in_ms=bench.clock.now_ms() - START + 30_000))

    assert mark("learn").code == "nothing_started"
    for state, power in (("off", 1.0), ("standby", 40.0), ("running", 700.0), ("standby", 40.0)):
        bench.power = power
        bench.pass_time(1)
        assert mark("start", state).outcome == "done"
        bench.pass_time(150)
    noted = mark("stop")
    assert noted.result["labels"] == 4
    learnt = mark("learn")
    assert learnt.outcome == "done"
    bench.power = 9000.0
    bench.pass_time(5)
    assert mark("learn").result == learnt.result, "whoever did not get the answer asks again"
    profile: Any = learnt.result["profile"]
    assert 40 < profile["off_w"] <= profile["on_w"] < 700
    assert 1 < profile["standby_w"] <= 40
    assert caller.agent._watches[0].profile == A_PROFILE, "learnt, not applied: the county configures it"
    mark("start", "running")
    bench.pass_time(5)
    assert mark("learn").outcome == "failed"
    assert [mark("cancel").code for _ in range(2)] == ["ok", "nothing_started"]


def test_a_replay_brings_rows_again_and_stands_in_for_those_that_are_gone(
    broker: AnyBroker, caller: Caller, bench: Bench
) -> None:
    with Counterpart(broker.url_for(GATEWAY)) as county:
        bench.pass_time(400)
        until(caller.agent, lambda: caller.agent.is_drained, "the first delivery")
        usage = caller.agent._journal.usage
        before = county.usage()
        assert len(before) == 6
        usage._delete_below(4)
        county.forget_above(AGENT, usage.stream, 0)

        # As a restored database that acknowledges nothing, while the agent lost its first rows.
        order = command(Op.REPLAY, {"stream": usage.stream, "ranges": [[1, 6]]}, late_in_ms=500_000)
        answer = caller.ask(order)
        assert (answer.outcome, answer.result["gone"]) == ("done", [[1, 3]])
        until(caller.agent, lambda: len(county.usage()) == 6, "all six")
        expected = [not_kept_record(usage.stream, seq) for seq in (1, 2, 3)] + before[3:]
        assert county.usage() == expected
        assert county.conflicts == []
        stranger = command(Op.REPLAY, {"stream": new_ulid(), "ranges": [[1, 1]]}, late_in_ms=500_000)
        assert caller.ask(stranger).code == "unknown_stream"


def at(**changes: Any) -> Circumstances:
    fields: dict[str, Any] = {"now_ms": START, "clock": ClockQuality.NTP, "retained": False, "remembers_since_ms": 0}
    return Circumstances(**fields | changes)


def test_without_a_clock_only_what_is_harmless_is_done() -> None:
    unset = at(now_ms=1000, clock=ClockQuality.UNSET)
    assert refusal(command(Op.IDENTIFY), unset) is None
    refused = refusal(command(Op.RESTART), unset)
    assert refused is not None
    assert refused.code == "clock_unset"


@pytest.mark.parametrize("clock", ClockQuality)
@pytest.mark.parametrize("off_by_days", [-400, -1, 1, 400])
def test_a_wrong_clock_does_not_keep_a_stream_waiting_for_its_rows(clock: ClockQuality, off_by_days: int) -> None:
    order = command(Op.REPLAY, {"stream": new_ulid(), "ranges": [[1, 2]]})
    assert refusal(order, at(now_ms=START + off_by_days * 86_400_000, clock=clock)) is None
    kept = refusal(order, at(retained=True))
    assert kept is not None


def test_a_damaged_memory_is_set_aside_and_what_was_ordered_before_is_not_done(tmp_path: Path) -> None:
    path = tmp_path / "commands.json"
    old = command(Op.RESTART)
    book = CommandBook(path, START)
    book.begin(old.id, START)
    assert CommandBook(path, START).find(old.id) is not None
    path.write_text(path.read_text().replace('"id"', '"i'))
    new = CommandBook(path, made_ms(old.id) + 1)
    assert (tmp_path / "commands.json.damaged").exists()
    refused = refusal(old, at(remembers_since_ms=new.since_ms))
    assert refused is not None
    assert refused.code == "forgotten"
    assert CommandBook(path, START).since_ms == new.since_ms, "remembered over the next start too"


@settings(deadline=None)
@given(st.integers(0, 400))
def test_a_book_cut_off_in_a_power_cut_still_knows_what_was_begun_before(
    tmp_path_factory: pytest.TempPathFactory, cut_off: int
) -> None:
    path = tmp_path_factory.mktemp("book") / "commands.json"
    book = CommandBook(path, START)
    ids = [new_ulid() for _ in range(4)]
    reply = Reply(id=ids[0], op="identify", outcome="done", code="ok", ts=timestamp(START))
    book.begin(ids[0], START)
    book.finish(reply)
    durable = path.stat().st_size
    for one in ids[1:]:
        book.begin(one, START)
    content = path.read_bytes()
    path.write_bytes(content[: max(durable, len(content) - cut_off)])
    again = CommandBook(path, START)
    entry = again.find(ids[0])
    assert entry is not None
    assert entry.reply == reply
    known = [again.find(one) is not None for one in ids]
    assert known == sorted(known, reverse=True)
    again.begin(ids[3], START)
    assert CommandBook(path, START).find(ids[3]) is not None


def test_commands_are_forgotten_after_a_day(tmp_path: Path) -> None:
    book = CommandBook(tmp_path / "commands.json", START)
    first, second, third = (new_ulid() for _ in range(3))
    book.begin(first, START)
    book.begin(second, START + 1)
    book.begin(third, START + 24 * 3600_000)
    assert [book.find(one) is not None for one in (first, second, third)] == [False, True, True]


def cut(**changes: Any) -> SwitchArgs:
    return SwitchArgs(**{"inst": INST, "on": False} | changes)


@given(st.sampled_from(PowerState), st.integers(0, 10**9), st.none() | st.floats(0, 1e5), st.integers(0, 600))
@example(PowerState.STANDBY, 120_000, 5.0, 120)
@example(PowerState.STANDBY, 119_999, 5.0, 120)
def test_power_is_never_cut_while_an_instrument_runs_or_nobody_knows(
    state: PowerState, quiet_ms: int, power: float | None, quiet_s: int
) -> None:
    seen = Seen(state, quiet_ms, power)
    may = may_cut_power(seen, cut(quiet_s=quiet_s), "wang") is None
    assert may == (state in (PowerState.OFF, PowerState.STANDBY) and quiet_ms >= quiet_s * 1000)
    assert may_cut_power(seen, cut(on=True), "wang") is None, "granted freely"
    assert may_cut_power(seen, cut(approved_by="li"), "wang") is None, "an emergency, by two"
    alone = may_cut_power(seen, cut(approved_by="wang"), "wang")
    assert alone is not None
    assert alone.code == "second_person_needed"


@pytest.mark.parametrize(
    ("only_if", "allowed"),
    [
        ({"state": "standby"}, True),
        ({"state": "off"}, False),
        ({"power_below_w": 41.0}, True),
        ({"power_below_w": 40.0}, False),
        ({"state": "standby", "power_below_w": 39.0}, False),
    ],
)
def test_the_conditions_of_a_switch_are_checked_at_the_moment_of_switching(
    only_if: dict[str, Any], allowed: bool
) -> None:
    wanted = SwitchArgs.model_validate_json(json.dumps({"inst": INST, "on": False, "only_if": only_if}))
    assert (may_cut_power(Seen(PowerState.STANDBY, 200_000, 40.0), wanted, "wang") is None) == allowed
    unknown = may_cut_power(Seen(PowerState.STANDBY, 200_000, None), wanted, "wang") is None
    assert unknown == (only_if == {"state": "standby"})
