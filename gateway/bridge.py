"""A running gateway: connections to the broker, two pipes, the word to the agents. Built by cli and the demo."""

import threading
from collections.abc import Callable

import structlog

from gateway.batcher import Batcher
from gateway.command_desk import CommandDesk
from gateway.metrics import GatewayMetrics
from gateway.name_guard import NameGuard
from gateway.replays import Replays
from gateway.settings import GatewaySettings
from gateway.shard import Shard
from gateway.telemetry_pipe import TelemetryPipe
from gateway.usage_pipe import UsagePipe
from gateway.watch import NAME_TAKEN, Watch
from store.alerts import raise_alert
from store.database import Database
from store.ledger import StreamMark
from store.series import SeriesStore
from wire.client import BrokerAddress, Delivery, MqttClient, Publication, SubscriptionDenied
from wire.clock import Clock
from wire.commands import Refused
from wire.messages import Ack, ServerState, encode, timestamp
from wire.topics import Channel, all_up, down, server_state, shared

log = structlog.get_logger(__name__)

STATE_EVERY_S = 60.0
"""How often a gateway says again that it is there. Brokers store what is retained a moment after they hand it out: an
agent that subscribes in that moment hears nothing (seen with NATS), and would wait for the next word for ever."""


def no_checkpoint(name: str) -> None:
    """Where the fault tests stop the process; does nothing in production."""


class Gateway:
    """One gateway. `start` connects and says so to the agents; `stop` finishes the batches in hand and says good-bye.

    Alone it keeps a persistent session, so the broker holds messages for it while it is away. In a share group its
    session is clean: what a missing member would hold is sent again by the agents instead. With a shard it hears all
    on a session of its own and works for its agents only.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        address: BrokerAddress,
        database: Database,
        series: SeriesStore,
        clock: Clock,
        metrics: GatewayMetrics,
        checkpoint: Callable[[str], None] = no_checkpoint,
    ) -> None:
        name = settings.gateway_name
        self._name = name
        self._username = address.username
        self._database = database
        self._clock = clock
        self._shard = Shard.parse(settings.shard) if settings.shard else None
        self._stopped = threading.Event()
        self._saying = threading.Lock()
        self._say_now = threading.Event()
        self._sayer = threading.Thread(target=self._say_always, name=f"{name}-state", daemon=True)
        self.metrics = metrics
        telemetry_pipe = TelemetryPipe(
            database, series, clock, self._acknowledge_telemetry, metrics, checkpoint, self._refuse
        )
        usage_pipe = UsagePipe(
            database, clock, name, self._acknowledge_usage, telemetry_pipe.note_floor, metrics, checkpoint, self._refuse
        )
        self._usage = Batcher(
            "usage",
            usage_pipe.handle,
            max_items=settings.batch_records,
            max_wait_ms=settings.batch_wait_ms,
            on_failure=metrics.batches_failed.labels("usage").inc,
            checkpoint=checkpoint,
        )
        self._telemetry = Batcher(
            "telemetry",
            telemetry_pipe.handle,
            max_items=settings.batch_records,
            max_wait_ms=settings.batch_wait_ms,
            on_failure=metrics.batches_failed.labels("telemetry").inc,
            checkpoint=checkpoint,
        )
        metrics.waiting.labels("usage").set_function(self._usage.waiting)
        metrics.waiting.labels("telemetry").set_function(self._telemetry.waiting)

        def subscription(channel: Channel) -> str:
            return shared(settings.share_group, all_up(channel)) if settings.share_group else all_up(channel)

        self._guard = NameGuard(name, self._leave, self._tell_name_taken, self._come_back)
        self._usage_client = MqttClient(
            address,
            f"{name}-usage",
            subscriptions=[subscription(Channel.USAGE), all_up(Channel.STATE), all_up(Channel.BIRTH)],
            clean_session=settings.share_group is not None,
            will=lambda: self._server_state(online=False),
            on_connect=self._guard.connected,
            on_disconnect=self._guard.lost,
            on_unreachable=self._guard.unreachable,
            on_subscribed=self._say_now.set,
            on_delivery=lambda delivery: self._take(self._usage, delivery),
            once_in_hand=True,
            tells_outages=False,
        )
        self._telemetry_client = MqttClient(
            address,
            f"{name}-telemetry",
            subscriptions=[subscription(Channel.TELEMETRY)],
            clean_session=settings.share_group is not None,
            on_subscribed=self._say_now.set,
            on_delivery=lambda delivery: self._take(self._telemetry, delivery),
            once_in_hand=True,
        )
        self._desk = CommandDesk(
            address, f"{name}-commands", clock, lambda agent, said: self._replays.heard(agent, said)
        )
        self._replays = Replays(
            database,
            self._desk,
            clock,
            name,
            metrics,
            after_s=settings.replay_after_s,
            every_s=settings.replay_every_s,
        )

        self._watch = Watch(database, clock, usage_pipe.skews.known, usage_pipe.profiles.known)

    def start(self, timeout_s: float = 15.0) -> None:
        """Connect and begin. Raises BrokerRefused or TimeoutError where the broker cannot be had now; where it does not
        let us read SubscriptionDenied, a BrokerRefused: no agent was told that we are there."""
        self._usage.start()
        self._telemetry.start()
        self._replays.start()
        self._desk.start()
        self._watch.start()
        self._guard.start()
        self._sayer.start()
        self._telemetry_client.start()
        try:
            # First, so that nobody is told that we are there before it is known that we hear all.
            self._telemetry_client.wait_subscribed(timeout_s)
            self._usage_client.start()
            self._usage_client.wait_subscribed(timeout_s)
        except SubscriptionDenied:
            why = self._why_denied()
            self.stop()
            raise SubscriptionDenied(why) from None
        except BaseException:
            self.stop()
            raise

    def stop(self, timeout_s: float = 10.0) -> None:
        """Say offline, finish what is in hand, disconnect. What is not committed stays with broker and agents."""
        with self._saying:
            if self._stopped.is_set():
                return
            self._stopped.set()
        self._say_now.set()
        self._guard.stop(timeout_s)
        self._usage_client.publish_and_wait(self._server_state(online=False), 2.0)
        self._watch.stop(timeout_s)
        self._replays.stop(timeout_s)
        finished = self._usage.stop(timeout_s) and self._telemetry.stop(timeout_s)
        if not finished:
            log.warning("a batch was still being worked on at the end", gateway=self._name)
        self._desk.stop()
        self._usage_client.stop()
        self._telemetry_client.stop()

    @property
    def connected(self) -> bool:
        """Whether both connections that records come on are up."""
        return self._usage_client.connected and self._telemetry_client.connected

    def why_not_ready(self) -> str | None:
        """Return a sentence that says why no records come in, None where they do."""
        if self._guard.resting:
            return f"another gateway connects as {self._name}: give each its own OPENLAB_GATEWAY_NAME"
        if self._denied:
            return self._why_denied()
        return None if self.connected else "not connected to the broker"

    @property
    def _denied(self) -> tuple[str, ...]:
        return self._usage_client.denied + self._telemetry_client.denied

    def _why_denied(self) -> str:
        said = f"the broker refuses the subscriptions {', '.join(self._denied)}"
        if all(topic.startswith("$share/") for topic in self._denied):
            return f"{said}: it cannot share them (NATS cannot). Instead of OPENLAB_SHARE_GROUP set OPENLAB_SHARD"
        return f"{said}: OPENLAB_BROKER_USERNAME ({self._username}) is not a gateway's login there"

    def _take(self, pipe: Batcher, delivery: Delivery) -> None:
        if self._shard is None or self._shard.owns_topic(delivery.topic):
            pipe.put(delivery)
        else:
            delivery.ack()  # the gateway of that shard has its own copy, in its own session

    def _say(self) -> None:
        """Say whether we are there: nobody is who may not hear what agents send."""
        # Never after the good-bye, which would stay retained behind it.
        with self._saying:
            if not self._stopped.is_set() and self._usage_client.subscribed:
                if self._denied:
                    log.error("this gateway hears nothing", gateway=self._name, why=self._why_denied())
                self._usage_client.publish(self._server_state(online=not self._denied))

    def _say_always(self) -> None:
        # Here and not on the network threads: what holds a lock around `publish` must not wait in a callback.
        while not self._stopped.is_set():
            self._say_now.wait(STATE_EVERY_S)
            self._say_now.clear()
            self._say()

    def _leave(self) -> None:
        # In an orderly way, so without a last will: the other one of this name is there. This connection first: it must
        # not come back once more and make the other one stay away too.
        self._usage_client.stop()
        self._telemetry_client.stop()
        self._desk.stop()

    def _come_back(self) -> None:
        self._desk.start()
        self._telemetry_client.start()
        self._usage_client.start()

    def _tell_name_taken(self) -> None:
        detail = "two gateways connect under this name in turn; give each its own OPENLAB_GATEWAY_NAME"
        try:
            with self._database.write() as session:
                raise_alert(session, NAME_TAKEN, self._name, detail, self._clock.now_ms(), owner="")
        except Exception as error:  # noqa: BLE001 - a database that is away now; the next fight tells it
            log.warning("could not raise an alert", rule=NAME_TAKEN, error=repr(error))

    def _server_state(self, *, online: bool) -> Publication:
        state = ServerState(online=online, gateway=self._name, ts=timestamp(self._clock.now_ms()))
        return Publication(server_state(self._name), encode(state), qos=1, retain=True)

    def _acknowledge_usage(self, agent: str, stream: str, mark: StreamMark) -> None:
        self._replays.note((agent, stream), mark)
        self._publish_ack(self._usage_client, agent, stream, mark)

    def _acknowledge_telemetry(self, agent: str, stream: str, mark: StreamMark) -> None:
        self._publish_ack(self._telemetry_client, agent, stream, mark)

    def _refuse(self, agent: str, refused: Refused) -> None:
        self._usage_client.publish(Publication(down(agent, Channel.REFUSED), encode(refused), qos=1))

    def _publish_ack(self, client: MqttClient, agent: str, stream: str, mark: StreamMark) -> None:
        ack = Ack(stream=stream, upto=mark.upto, holes=mark.holes)
        # Not taken (connection just lost): the agent sends again and is answered then.
        client.publish(Publication(down(agent, Channel.ACK), encode(ack), qos=1))
