"""Executes what the county sends to one agent: commands, at most once each, and the desired configuration.

Called by the agent's stepping thread with the deliveries the sender collected; reaches the agent only through the
functions it is given (`Reach`). Whether a command may be executed is decided in `edge_agents.commands`.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from edge_agents.command_book import CommandBook
from edge_agents.commands import Circumstances, Refusal, id_of, refusal
from edge_agents.desired import CONFIG_FILE, Desired, judged
from edge_agents.lane import Replay
from edge_agents.live_teaching import LiveTeaching, Noted
from edge_agents.records import Detail
from edge_agents.teaching import Teaching
from edge_agents.watch import Watch
from wire.client import Delivery
from wire.clock import Clock
from wire.commands import Command, Config, Op, ReadNowArgs, ReplayArgs, Reply, SwitchArgs, TeachArgs
from wire.errors import BadPayload
from wire.messages import Birth, ClockQuality, Live, RecordKind, decode, encode, timestamp
from wire.topics import Channel, down

log = structlog.get_logger(__name__)

MAX_TEXT = 1000


@dataclass(frozen=True)
class Reach:
    """What an agent lets its orders do and see. `tell` writes a usage record about the agent itself."""

    watches: Callable[[], Sequence[Watch]]
    quality: Callable[[], ClockQuality]
    birth: Callable[[], Birth]
    live: Callable[[Watch], Live]
    replay: Callable[[str, Sequence[tuple[int, int]]], Replay | None]
    answer: Callable[[str, bytes], None]
    tell: Callable[[RecordKind, str, Detail], None]
    reconfigured: Callable[[], None]


@dataclass(frozen=True)
class _Done:
    result: dict[str, object]


class Orders:
    """One agent's. `open` before use; `restart_wanted` is set by the command and read by whoever runs the process."""

    def __init__(self, agent: str, folder: Path, clock: Clock) -> None:
        self._agent = agent
        self._folder = folder
        self._clock = clock
        self._teaching = LiveTeaching()
        self._learning: dict[str, Future[Teaching]] = {}
        self._refused_configs: set[tuple[int, str]] = set()
        self.restart_wanted = False
        self.may_restart = True

    def open(self) -> None:
        """Read what was remembered. Raises OSError where the folder cannot be used."""
        self._book = CommandBook(self._folder / "commands.json", self._clock.now_ms())
        self.desired = Desired(self._folder / CONFIG_FILE, self._agent)

    def close(self) -> None:
        """End what is still being learnt."""
        self._teaching.close()
        self._learning.clear()

    @property
    def teaching(self) -> LiveTeaching:
        """Takes every good reading, in case its instrument is being taught."""
        return self._teaching

    def take(self, deliveries: Iterable[Delivery], reach: Reach) -> None:
        """Execute what arrived, answer it, and answer what was learnt meanwhile. Raises nothing for what it says."""
        for delivery in deliveries:
            if delivery.topic == down(self._agent, Channel.CONFIG):
                self._take_config(delivery.payload, reach)
            elif delivery.payload:
                self._take_command(delivery, reach)
        for command_id in [key for key, future in self._learning.items() if future.done()]:
            self._finish(reach, _learnt(command_id, self._learning.pop(command_id), self._now()))

    def _take_command(self, delivery: Delivery, reach: Reach) -> None:
        try:
            command = decode(Command, delivery.payload)
        except BadPayload as error:
            log.warning("a command was not understood", agent=self._agent, error=str(error))
            command_id = id_of(delivery.payload)
            if command_id is not None:
                self._answer(reach, command_id, "?", Refusal(error.reason, str(error)))
            return
        known = self._book.find(command.id)
        if known is not None:
            if known.reply is not None:
                reach.answer(command.id, encode(known.reply))
            elif command.id not in self._learning:
                text = "this agent stopped while it was executing the command; it is not tried again"
                self._finish(reach, self._reply(command.id, command.op, "failed", "interrupted", text))
            return
        at = Circumstances(self._clock.now_ms(), reach.quality(), delivery.retained, self._book.since_ms)
        refused = refusal(command, at)
        if refused is not None:
            self._answer(reach, command.id, command.op, refused)
            return
        try:
            self._book.begin(command.id, at.now_ms)
        except OSError as error:
            text = f"this agent cannot write down that it executes the command: {error.strerror}"
            self._answer(reach, command.id, command.op, Refusal("cannot_remember", text))
            return
        log.info("a command is executed", agent=self._agent, id=command.id, op=command.op.value, by=command.by)
        outcome = self._execute(command, reach)
        if isinstance(outcome, Refusal):
            self._finish(reach, self._reply(command.id, command.op, "refused", outcome.code, outcome.text))
        elif outcome is not None:
            self._finish(reach, self._reply(command.id, command.op, "done", "ok", "", outcome.result))

    def _execute(self, command: Command, reach: Reach) -> _Done | Refusal | None:
        """Return what came of it; None where the answer comes later."""
        wanted = command.arguments()
        named = getattr(wanted, "inst", None)
        watches = [watch for watch in reach.watches() if named in (None, watch.inst)]
        if named is not None and not watches:
            return Refusal("unknown_instrument", f"this agent does not read {named}")
        match wanted:
            case ReadNowArgs():
                return _Done({watch.inst: _fields(reach.live(watch)) for watch in watches})
            case ReplayArgs(stream=stream, ranges=ranges):
                found = reach.replay(stream, ranges)
                if found is None:
                    return Refusal("unknown_stream", "the spool of that stream is not (or no longer) here")
                return _Done({"kept": found.kept, "gone": [list(each) for each in found.gone]})
            case TeachArgs():
                return self._teach(command.id, wanted)
            case SwitchArgs():
                return Refusal("no_relay", f"the driver of {named} cannot switch power")
        if command.op is Op.RESTART:
            if not self.may_restart:
                return Refusal("shared_process", "this process runs several agents; restart it where it runs")
            self.restart_wanted = True
            return _Done({})
        birth = _fields(reach.birth())
        if command.op is Op.IDENTIFY:
            return _Done(birth)
        applied = self.desired.applied
        sha256 = None if applied is None else applied.sha256
        return _Done({"version": self.desired.version, "sha256": sha256, "profiles": birth["profiles"]})

    def _teach(self, command_id: str, wanted: TeachArgs) -> _Done | Refusal | None:
        now = self._clock.mono_ms()
        if wanted.mark != "learn":
            noted = self._teaching.mark(wanted, now)
            return _Done(asdict(noted)) if isinstance(noted, Noted) else noted
        future = self._teaching.learn(wanted.inst, now)
        if isinstance(future, Refusal):
            return future
        self._learning[command_id] = future
        return None

    def _take_config(self, payload: bytes, reach: Reach) -> None:
        if not payload:
            return  # the broker was told to forget the configuration; what is applied stays applied
        try:
            config = decode(Config, payload)
        except BadPayload as error:
            self._refuse_config(reach, 0, str(hash(payload)), Refusal(error.reason, str(error)))
            return
        instruments = [watch.inst for watch in reach.watches()]
        verdict = judged(config, self._agent, instruments, self.desired.applied)
        if verdict.refusal is not None:
            self._refuse_config(reach, config.version, config.sha256, verdict.refusal)
        if verdict.profiles is None:
            return
        try:
            self.desired.keep(config, verdict.profiles)
        except OSError as error:
            self._refuse_config(reach, config.version, config.sha256, Refusal("cannot_keep", str(error.strerror)))
            return
        log.info("a configuration is applied", agent=self._agent, version=config.version, by=config.by)
        for watch in reach.watches():
            profile = verdict.profiles.get(watch.inst)
            if profile is None or profile.sha256 == watch.profile.sha256:
                continue
            before = watch.profile.sha256
            watch.use(profile)
            detail: Detail = {"inst": watch.inst, "profile": profile.sha256, "before": before}
            reach.tell(RecordKind.CONFIG, "profile", detail | {"version": config.version})
        reach.reconfigured()

    def _refuse_config(self, reach: Reach, version: int, content: str, refused: Refusal) -> None:
        # It is retained, so it comes again at every connect; told once.
        if (version, content) in self._refused_configs:
            return
        self._refused_configs.add((version, content))
        log.error("a configuration is refused", agent=self._agent, version=version, code=refused.code)
        detail: Detail = {"version": version, "code": refused.code, "why": refused.text[:200]}
        reach.tell(RecordKind.FAULT, "config_refused", detail)

    def _answer(self, reach: Reach, command_id: str, op: str, refused: Refusal) -> None:
        log.warning("a command is refused", agent=self._agent, id=command_id, op=op, code=refused.code)
        reach.answer(command_id, encode(self._reply(command_id, op, "refused", refused.code, refused.text)))

    def _finish(self, reach: Reach, reply: Reply) -> None:
        self._book.finish(reply)
        reach.answer(reply.id, encode(reply))

    def _reply(
        self, command_id: str, op: str, outcome: str, code: str, text: str, result: dict[str, object] | None = None
    ) -> Reply:
        fields = {"id": command_id, "op": str(op), "outcome": outcome, "code": code, "text": text[:MAX_TEXT]}
        return Reply.model_validate(fields | {"result": result or {}, "ts": self._now()})

    def _now(self) -> str:
        return timestamp(self._clock.now_ms())


def _learnt(command_id: str, future: "Future[Teaching]", now: str) -> Reply:
    error = future.exception()
    if error is not None:
        # Whatever it was: the recording taught nothing, and the person beside the instrument is told why.
        fields: dict[str, object] = {"outcome": "failed", "code": "cannot_teach", "text": str(error)[:MAX_TEXT]}
    else:
        found = future.result()
        result = asdict(found) | {"sha256": found.profile.sha256, "warnings": list(found.warnings)}
        fields = {"outcome": "done", "code": "ok", "text": "; ".join(found.warnings)[:MAX_TEXT], "result": result}
    return Reply.model_validate(fields | {"id": command_id, "op": Op.TEACH.value, "ts": now})


def _fields(message: Birth | Live) -> dict[str, object]:
    fields: dict[str, object] = message.model_dump(mode="json", by_alias=True)
    return fields
