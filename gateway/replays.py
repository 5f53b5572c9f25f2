"""Asks agents again for what is missing in their streams, and closes what nobody has any more.

A thread of its own beside the pipes. A hole older than 30 s is asked for once a minute while its agent is there.
Rows that the agent no longer keeps come from the agent itself, as records that say so; where even their stream is gone
(a spool was lost) this gateway writes those records, the same bytes. Both raise an alert for a person.
"""

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.command_desk import CommandDesk
from gateway.holes import HoleBook
from gateway.metrics import GatewayMetrics
from store.alerts import raise_alert
from store.database import Database
from store.ledger import Arrival, StreamMark, commit_usage, stream_marks
from store.ledger.streams import StreamKey
from store.tables.registry import Agent
from store.tables.usage import AgentStatus
from wire.clock import Clock
from wire.commands import MAX_REPLAY_RANGES, Op, Reply, not_kept_record
from wire.messages import encode

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 1.0
CLOSE_AT_ONCE = 2_000
CLOSE_AT_MOST = 500_000
RULE = "usage_rows_lost"


@dataclass(frozen=True)
class _Asked:
    key: StreamKey
    ranges: tuple[tuple[int, int], ...]
    at: float


class Replays:
    """`note` from the usage pipe, `heard` from the network thread; everything else happens on its own thread."""

    def __init__(
        self,
        database: Database,
        desk: CommandDesk,
        clock: Clock,
        gateway_name: str,
        metrics: GatewayMetrics,
        *,
        after_s: float = 30.0,
        every_s: float = 60.0,
    ) -> None:
        self._database = database
        self._desk = desk
        self._clock = clock
        self._by = f"gateway:{gateway_name}"
        self._metrics = metrics
        self._lifetime_s = min(30.0, every_s)
        self._forget_after_s = 10 * every_s
        self._book = HoleBook(after_s=after_s, every_s=every_s)
        self._lock = threading.Lock()
        self._asked: dict[str, _Asked] = {}
        self._replies: queue.SimpleQueue[tuple[str, Reply] | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._look_every_s = min(LOOK_EVERY_S, after_s, every_s)
        self._thread = threading.Thread(target=self._run, name="replays", daemon=True)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End; what was asked and not answered is asked again by whoever comes next."""
        self._stopping.set()
        self._replies.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def note(self, key: StreamKey, mark: StreamMark) -> None:
        """Take what a commit said of a stream; returns at once."""
        with self._lock:
            self._book.note(key, mark.upto, mark.holes, time.monotonic())

    def heard(self, agent: str, reply: Reply) -> None:
        """Take an answer; returns at once. Answers to other people's commands are ignored."""
        self._replies.put((agent, reply))

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                arrived = self._replies.get(timeout=self._look_every_s)
            except queue.Empty:
                arrived = None
            try:
                if arrived is not None:
                    self._take(*arrived)
                self._ask_due()
            except Exception as error:  # noqa: BLE001 - a database that is away now; the holes stay and are asked later
                log.warning("missing records could not be looked after", error=repr(error))

    def _ask_due(self) -> None:
        now = time.monotonic()
        with self._lock:
            due = self._book.due(now)
        if not due or not self._desk.connected:
            return
        with self._database.read() as session:
            marks = stream_marks(session, due)
            away = _away(session, {agent for agent, _ in due})
        for key, mark in marks.items():
            if key[0] in away:
                continue
            with self._lock:
                ranges = self._book.to_ask(key, mark.holes, now)[:MAX_REPLAY_RANGES]
            if ranges:
                self._ask(key, ranges, now)

    def _ask(self, key: StreamKey, ranges: Sequence[tuple[int, int]], now: float) -> None:
        args = {"stream": key[1], "ranges": [[first, last] for first, last in ranges]}
        command = self._desk.command(Op.REPLAY, args, self._by, self._lifetime_s)  # type: ignore[arg-type]  # JSON
        self._asked = {c: a for c, a in self._asked.items() if now - a.at < self._forget_after_s}
        self._asked[command.id] = _Asked(key, tuple(ranges), now)
        if self._desk.send(key[0], command):
            self._metrics.replays.inc()
            log.info("missing records are asked for", agent=key[0], stream=key[1], ranges=len(ranges))

    def _take(self, agent: str, reply: Reply) -> None:
        asked = self._asked.get(reply.id)
        if asked is None or asked.key[0] != agent:
            return
        gone = asked.ranges if reply.code == "unknown_stream" else _ranges(reply.result.get("gone"))
        if gone:
            missing = sum(last - first + 1 for first, last in gone)
            detail = f"{missing} records of stream {asked.key[1]} are kept by nobody: {list(gone)[:5]}"
            with self._database.write() as session:
                found = session.get(Agent, agent)
                owner = "" if found is None else found.host_id
                raise_alert(session, RULE, f"{agent}/{asked.key[1]}", detail, self._clock.now_ms(), owner)
            log.error("records are lost", agent=agent, stream=asked.key[1], records=missing)
        if reply.code == "unknown_stream":
            for first, last in gone:
                self._close(asked.key, first, last)
        del self._asked[reply.id]

    def _close(self, key: StreamKey, first: int, last: int) -> None:
        """Write the records that stand for those nobody has, in portions that hold no lock for long."""
        agent, stream = key
        if last - first >= CLOSE_AT_MOST:
            # No spool ever was that long: a number that was made up, for the person who sees the alert.
            log.error(
                "a hole is too long to be real and stays open", agent=agent, stream=stream, first=first, last=last
            )
            return
        for start in range(first, last + 1, CLOSE_AT_ONCE):
            if self._stopping.is_set():
                return
            records = [not_kept_record(stream, seq) for seq in range(start, min(last, start + CLOSE_AT_ONCE - 1) + 1)]
            arrivals = [Arrival(agent, stream, record.seq, encode(record), record) for record in records]
            with self._database.write() as session:
                commit_usage(session, arrivals, self._clock.now_ms(), self._by)


def _away(session: Session, agents: set[str]) -> set[str]:
    """Agents that said, or whose last will says, that they are not there: a command would wait at the broker."""
    said = select(AgentStatus.agent_id).where(AgentStatus.agent_id.in_(agents), AgentStatus.online.is_(False))
    return set(session.scalars(said))


def _ranges(said: object) -> tuple[tuple[int, int], ...]:
    """Read ranges out of an answer; what is not one is left out: an agent's answer is not trusted further."""
    pairs = said if isinstance(said, list) else []
    return tuple(
        (pair[0], pair[1])
        for pair in pairs
        if isinstance(pair, list) and len(pair) == 2 and all(type(n) is int and n >= 1 for n in pair)
    )
