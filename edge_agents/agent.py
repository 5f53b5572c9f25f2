"""One agent: reads its instruments, decides what they do, writes it down, sends it. One process, one credential.

`step` does all that is due and returns; one thread calls it (for a fleet, one thread for all). `wire.clock.Clock`
says when readings are due and dates all facts; sending, checkpoints and patience follow the machine's own time.
"""

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from edge_agents.dating import Dating
from edge_agents.drivers.cards import CardReader
from edge_agents.journal import Journal, SpoolBroken, SpoolLimits, is_passing
from edge_agents.orders import Orders, Reach
from edge_agents.outbox import Outbox, Row
from edge_agents.presence import Cause, agent_state, birth, told_of_lost
from edge_agents.records import Detail, check_in, fact
from edge_agents.sender import Greetings, Sender
from edge_agents.session_state import Labels
from edge_agents.truth import AgentTruth, InstrumentTruth, StreamTruth
from edge_agents.watch import Watch, Watched, read_checkpoint, write_checkpoint
from wire.client import BrokerAddress
from wire.clock import Clock
from wire.messages import Birth, ClockQuality, Live, RecordKind, Telemetry, UsageRecord, encode

log = structlog.get_logger(__name__)

MAX_READINGS_A_STEP = 2_000
LIVE_EVERY_S = 5.0
CLOCK_STEP_MS = 1_000
DISTRUST_FOR_S = 60.0


def _no_checkpoint(name: str) -> None:
    """Where the fault tests end the process; does nothing in production."""


class Agent:
    """Construct, `start`, `step` again and again, `stop`."""

    def __init__(
        self,
        name: str,
        watched: Sequence[Watched],
        clock: Clock,
        address: BrokerAddress,
        folder: Path,
        limits: SpoolLimits | None = None,
        checkpoint: Callable[[str], None] = _no_checkpoint,
        readers: Sequence[CardReader] = (),
    ) -> None:
        """Nothing is opened yet. `folder` holds this agent's spools and belongs to it alone. `readers` stand beside
        instruments for people to check in.

        `checkpoint` is told each step by name: read, spooled, sent, pruned.
        """
        self.name = name
        self.folder = folder
        self._at = checkpoint
        self._watched = list(watched)
        self._readers = list(readers)
        self._clock = clock
        self._address = address
        self._limits = limits or SpoolLimits()
        self._dating = Dating(clock, {})
        self._live_at = -1e9
        self._broke_at = -1e9
        self._dropped_told = 0
        self.orders = Orders(name, folder, clock)

    def start(self) -> None:
        """Open the spools, go on from their checkpoint, begin connecting.

        Raises SpoolInUse where another process runs on the same folder, OSError where it cannot be written.
        A damaged spool is no error: it is set aside and told.
        """
        self.orders.open()
        self._open()
        self._sender.start()

    def step(self) -> None:
        """Do all that is due now: readings in due order, one transaction for what they gave, sending."""
        try:
            self._notice_clock()
            self._read_due()
            self._tell_gap_lengths()
            self._take_cards()
            self._at("read")
            self._save()
            self._at("spooled")
            self.pump()
            self._at("sent")
            self._obey()
            self._show_live()
        except SpoolBroken as error:
            self._start_over(error)

    def settle(self) -> None:
        """Write down everything up to now that is decided: the last step before an orderly end."""
        self._notice_clock()
        self._read_due()
        self._tell_gap_lengths()
        for watch in self._watches:
            for record in watch.settle(self._labels, self._journal.usage.stream, self._journal.next_seq):
                self._journal.add(record)
            self._write_batch(watch)
        self._save(force=True)

    def pump(self) -> None:
        """Send and take acknowledgements, without reading."""
        try:
            troubles = self._sender.pump()
        except sqlite3.Error as error:
            if not is_passing(error):
                raise SpoolBroken(str(error)) from error
            log.error("the spool cannot be used now", agent=self.name, error=str(error))
            return
        for trouble in troubles:
            self._tell(RecordKind.FAULT, reason=trouble.reason, detail=trouble.detail)

    @property
    def is_drained(self) -> bool:
        """Whether the gateway has acknowledged every row there is."""
        return self._journal.usage.unacknowledged == 0 and self._journal.telemetry.unacknowledged == 0

    @property
    def is_connected(self) -> bool:
        return self._sender.connected

    def close(self) -> None:
        """Say good-bye to the broker and close spools and drivers."""
        self._sender.stop(self._state(online=False, cause="stop"))
        self._journal.close()
        self.orders.close()
        for watch in self._watches:
            watch.driver.close()
        for reader in self._readers:
            reader.close()

    def stop(self, drain_timeout_s: float = 10.0) -> bool:
        """Settle, wait until everything is acknowledged or the (real) time is over, close; whether it was drained."""
        self.settle()
        deadline = time.monotonic() + drain_timeout_s
        while not self.is_drained and time.monotonic() < deadline:
            self.pump()
            time.sleep(0.02)
        drained = self.is_drained
        self.close()
        return drained

    def truth(self) -> AgentTruth:
        """Return what this agent knows that it produced, as a reader of its streams should know it too."""
        return AgentTruth(
            agent=self.name,
            usage=_stream_truth(self._journal.usage),
            telemetry=_stream_truth(self._journal.telemetry),
            instruments=tuple(InstrumentTruth.of(watch.inst, watch.sessions) for watch in self._watches),
        )

    def _start_over(self, error: SpoolBroken) -> None:
        """Open the spools anew. One that breaks again at once is not believed a second time."""
        real = time.monotonic()
        distrusted = real - self._broke_at < DISTRUST_FOR_S
        self._broke_at = real
        log.error("a spool broke while in use", agent=self.name, error=str(error), set_aside=distrusted)
        self._sender.stop(self._state(online=False, cause="lost"))
        self._journal.abandon()
        self._open(distrusted=str(error) if distrusted else None)
        self._sender.start()

    def _open(self, distrusted: str | None = None) -> None:
        self._journal = journal = Journal(
            self.folder, self._limits, self.name, distrusted=distrusted, pruned=self._pruned
        )
        journal.usage.replacement = self._replacement
        self._dropped_told = journal.usage.dropped
        checkpoint = read_checkpoint(journal.usage.checkpoint)
        self._dating = Dating(self._clock, checkpoint)
        self._dormant = dict(checkpoint.get("instruments", {}))
        self._watches = [Watch(watched) for watched in self.orders.desired.watched(self._watched)]
        for lost in (journal.usage.lost, journal.telemetry.lost):
            for reason, detail in () if lost is None else told_of_lost(lost):
                self._tell(RecordKind.SPOOL_LOST, reason=reason, detail=detail)
        self._tell_step(self._dating.stepped_from)
        now = self._clock.mono_ms()
        for watch in self._watches:
            saved = self._dormant.pop(watch.inst, None)
            for record in watch.begin(saved, self._labels, now, journal.usage.stream, journal.next_seq):
                journal.add(record)
            if saved is not None and saved.get("profile") != watch.profile.sha256:
                detail = {"inst": watch.inst, "profile": watch.profile.sha256, "before": saved.get("profile")}
                self._tell(RecordKind.CONFIG, reason="profile", detail=detail)
        self._save(force=True)
        self._sender = Sender(
            self.name,
            self._address,
            journal.usage,
            journal.telemetry,
            Greetings(
                state=lambda: self._state(online=True, cause="running"),
                birth=self._birth,
                will=lambda: self._state(online=False, cause="lost"),
                now_ms=self._clock.now_ms,
                is_dated=lambda: self._labels.quality is not ClockQuality.UNSET,
            ),
        )

    def _read_due(self) -> None:
        now = self._clock.mono_ms()
        stream = self._journal.usage.stream
        for _ in range(MAX_READINGS_A_STEP):
            watch = min(self._watches, key=lambda w: w.due_ms)
            if watch.due_ms > now:
                return
            for record in watch.take(watch.read(), self._labels, stream, self._journal.next_seq):
                self._journal.add(record)
            sample = watch.newest
            if sample is not None and not watch.batch.takes(sample.mono_ms):
                self._write_batch(watch)
            if sample is not None:
                watch.batch = watch.batch.with_sample(sample)
                self.orders.teaching.saw(watch.inst, sample)

    def _take_cards(self) -> None:
        for reader in self._readers:
            for held in reader.poll():
                stream, seq = self._journal.usage.stream, self._journal.next_seq
                said, card = reader.says, held.card_sha256
                self._journal.add(
                    check_in(stream, seq, self._labels, held.mono_ms, inst=reader.inst, said=said, card_sha256=card)
                )

    def _write_batch(self, watch: Watch) -> None:
        if not watch.batch.samples:
            return
        batch, labels = watch.batch, self._labels
        watch.batch = type(batch)()

        def message(stream: str, seq: int) -> Telemetry:
            return batch.message(watch.inst, stream, seq, watch.driver.period_ms, labels)

        self._journal.add_telemetry(message)

    def _pruned(self) -> None:
        self._at("pruned")

    def _save(self, *, force: bool = False) -> None:
        dropped = self._journal.usage.dropped
        if dropped != self._dropped_told:
            detail: Detail = {"rows": dropped - self._dropped_told}
            self._dropped_told = dropped
            self._tell(RecordKind.FAULT, reason="usage_dropped", detail=detail)
        self._journal.save(self._checkpoint, self._clock.now_ms(), force=force)

    def _checkpoint(self) -> str:
        return write_checkpoint(self._dating.saved(), self._dormant, self._watches)

    @property
    def _labels(self) -> Labels:
        return self._dating.labels

    def _notice_clock(self) -> None:
        before = self._labels
        if self._dating.look():
            self._tell_step(before)

    def _tell_step(self, before: Labels | None) -> None:
        """A wall clock that was set, or that turns out to be right: labels of this boot before and after differ, or
        are worth more; durations do not notice."""
        if before is None:
            return
        now, step = self._labels, self._labels.wall_offset_ms - before.wall_offset_ms
        became_sure = before.quality is ClockQuality.UNSET and now.quality is not ClockQuality.UNSET
        if abs(step) > CLOCK_STEP_MS:
            boot_began = before.wall_offset_ms
            self._journal.clock_was_set(step, boot_began, boot_began + self._clock.mono_ms())
        if abs(step) > CLOCK_STEP_MS or became_sure:
            self._tell(RecordKind.CLOCK, reason="step", detail={"step_ms": step})

    def _tell_gap_lengths(self) -> None:
        """A hole between two boots is as long as the wall clock says, so a clock that was set says it anew."""
        for watch in self._watches:
            detail = watch.gap_length(self._labels)
            if detail is not None:
                self._tell(RecordKind.CLOCK, reason="gap_length", detail=detail)

    def _tell(self, kind: RecordKind, *, reason: str, detail: Detail, flags: tuple[str, ...] = ()) -> None:
        self._journal.add(self._fact(kind, self._journal.next_seq, reason, detail, flags))

    def _fact(
        self, kind: RecordKind, seq: int, reason: str, detail: Detail, flags: tuple[str, ...] = ()
    ) -> UsageRecord:
        stream, now = self._journal.usage.stream, self._clock.mono_ms()
        return fact(kind, stream, seq, self._labels, now, reason=reason, detail=detail, flags=flags)

    def _replacement(self, seq: int) -> Row:
        """A row that rotted away: its number must not stay empty, or everything behind it would wait."""
        record = self._fact(RecordKind.FAULT, seq, "row_damaged", {"seq": seq}, ("gap",))
        return Row(seq, record.inst, encode(record))

    def _obey(self) -> None:
        arrived = self._sender.orders
        reach = Reach(
            watches=lambda: self._watches,
            quality=lambda: self._labels.quality,
            birth=self._birth_message,
            live=lambda watch: watch.live(self._labels, self._clock.mono_ms()),
            replay=self._sender.replay,
            answer=self._sender.answer,
            tell=lambda kind, reason, detail: self._tell(kind, reason=reason, detail=detail),
            reconfigured=self._sender.greet_again,
        )
        self.orders.take([arrived.popleft() for _ in range(len(arrived))], reach)

    def _show_live(self) -> None:
        real = time.monotonic()
        if real - self._live_at < LIVE_EVERY_S or not self._sender.connected:
            return
        self._live_at = real
        now = self._clock.mono_ms()
        for watch in self._watches:
            live: Live = watch.live(self._labels, now)
            self._sender.live(watch.inst, encode(live))

    def _state(self, *, online: bool, cause: Cause) -> bytes:
        return encode(agent_state(self._journal, self._labels, self._clock.now_ms(), online=online, cause=cause))

    def _birth(self) -> bytes:
        return encode(self._birth_message())

    def _birth_message(self) -> Birth:
        version, with_reader = self.orders.desired.version, {reader.inst for reader in self._readers}
        now_ms = self._clock.now_ms()
        return birth(self.name, self._journal, self._watches, self._labels, now_ms, version, with_reader)


def _stream_truth(outbox: Outbox) -> StreamTruth:
    return StreamTruth(outbox.stream, outbox.last_seq, outbox.unacknowledged, outbox.dropped)
