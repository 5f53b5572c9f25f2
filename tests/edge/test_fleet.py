"""Patience with a gateway that does not accept, and with an agent that fails among others."""

import threading
from pathlib import Path

from edge_agents.agent import Agent
from edge_agents.drivers.base import Driver, Reading
from edge_agents.drivers.from_callable import CallableDriver
from edge_agents.fleet import Fleet
from edge_agents.outbox import Outbox, Row
from edge_agents.sender import NOT_ACCEPTED_AFTER_S, RESEND_AFTER_S, Greetings, Sender
from edge_agents.watch import Watched
from tests.edge.bench import START, Bench
from tests.edge.counterpart import Counterpart
from tests.edge.making import A_PROFILE
from tests.support.brokers import AGENT, GATEWAY, OTHER_AGENT, AnyBroker, NatsBroker
from tests.support.waiting import wait_until
from wire.client import BrokerAddress, Publication
from wire.clock import ManualClock
from wire.commands import Refused
from wire.messages import StreamKind, encode
from wire.topics import Channel, down


def test_what_the_gateway_never_accepts_is_repeated_with_patience_and_becomes_a_complaint(
    broker: AnyBroker, tmp_path: Path
) -> None:
    now = [1000.0]
    usage = Outbox(tmp_path / "usage.db", StreamKind.USAGE)
    telemetry = Outbox(tmp_path / "telemetry.db", StreamKind.TELEMETRY)
    with Counterpart(broker.url_for(GATEWAY)) as gateway:
        bench = Bench(broker.url_for(AGENT), tmp_path)
        source = bench.begin()
        bench.pass_time(70)

        def has_arrived() -> bool:
            source.pump()
            return len(gateway.usage()) >= source._journal.usage.last_seq

        wait_until(has_arrived, "all that it has recorded")
        source.settle()
        payload = source._journal.usage.rows(0, 1)[0].payload
        gateway.acks = False
        bench.crash()
        usage.append([Row(1, "xc-h01-01", payload)])
        state = source._state(online=True, cause="running")
        birth = source._birth()
        sender = Sender(
            AGENT, BrokerAddress.parse(bench.url), usage, telemetry,
            Greetings(lambda: state, lambda: birth, lambda: state, lambda: START), monotonic=lambda: now[0],
        )  # fmt: skip
        sender.start()

        def heard() -> int:
            # Not the samples: those of the agent that crashed may still be on their way.
            return sum(channel == "usage" for channel, _ in gateway.order)

        def sent(times: int) -> bool:
            assert sender.pump() == []
            return heard() >= times

        already = heard()
        wait_until(lambda: sent(already + 1), "the row")
        for n, patience in enumerate((RESEND_AFTER_S, 2 * RESEND_AFTER_S, 4 * RESEND_AFTER_S)):
            now[0] += patience - 1
            sender.pump()
            assert heard() == already + 1 + n
            now[0] += 1
            wait_until(lambda n=n: sent(already + 2 + n), "the row again")  # type: ignore[misc]
        said = Refused(stream=usage.stream, seq=1, reason="wrong_kind", text="it is one of telemetry")
        assert gateway.client.publish_and_wait(Publication(down(AGENT, Channel.REFUSED), encode(said)), 10)

        def knows_why() -> bool:
            return sender.pump() == [] and sender._usage.refused == "wrong_kind"

        wait_until(knows_why, "the reason, which changes nothing in what is repeated")
        now[0] = 1000 + NOT_ACCEPTED_AFTER_S
        [complaint] = sender.pump()
        told = {"stream": usage.stream, "kind": "usage", "seq": 1, "said": "wrong_kind"}
        assert (complaint.reason, complaint.detail) == ("not_accepted", told)
        assert sender.pump() == []
        sender.stop(state)
    usage.close()
    telemetry.close()


class DriverWithABug(CallableDriver):
    def read(self, due_ms: int) -> Reading:
        raise RuntimeError("a driver with a bug")


def test_a_fleet_goes_on_when_one_of_its_agents_fails(nats_broker: NatsBroker, tmp_path: Path) -> None:
    clock, ended, result = ManualClock(START), threading.Event(), list[bool]()

    def an_agent(name: str, inst: str, driver: Driver) -> Agent:
        address = BrokerAddress.parse(nats_broker.url_for(name))
        return Agent(name, [Watched(inst, driver, A_PROFILE)], clock, address, tmp_path / name)

    with Counterpart(nats_broker.url_for(GATEWAY)) as gateway:
        fleet = Fleet(
            [
                an_agent(AGENT, "xc-h01-01", DriverWithABug(lambda: 20.0, clock)),
                an_agent(OTHER_AGENT, "xc-h02-01", CallableDriver(lambda: 20.0, clock)),
            ],
            step_every_s=0.01,
        )
        thread = threading.Thread(target=lambda: result.append(fleet.run(ended)))
        thread.start()
        assert fleet.started.wait(10)

        def time_passes() -> bool:
            clock.advance(1000)
            return bool(gateway.usage())

        wait_until(time_passes, "the sound agent's records")
        ended.set()
        thread.join(30)
        assert result == [True]
        assert {r.inst for r in gateway.usage()} == {"xc-h02-01"}
        [truth] = [i for agent in fleet.agents for i in agent.truth().instruments if i.inst == "xc-h02-01"]
        assert truth.standby_ms == gateway.usage()[-1].odo.standby
