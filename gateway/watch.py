"""Look regularly at what should not be, raise an alert for each, and clear it by itself when the cause has gone.

A thread of the gateway. Every gateway looks at the whole county and finds the same, so any number may run: there is
one open alert a rule and subject. What happened once (a conflict, a quarantined message, rows lost) is not cleared
here: a person says that it has been dealt with. Times are those of the process' clock, which the grace follows.
"""

import json
import threading
from collections.abc import Callable, Set
from datetime import datetime, timedelta

import structlog
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from gateway.cause import Cause
from gateway.metering_watch import NOT_METERED, PROFILE_DIFFERS, MeteringWatch
from gateway.profiles import NamedProfiles
from store.alerts import clear_alert, raise_alert
from store.database import Database
from store.liveness import SILENT_AFTER, counts_as_online, meterings_in_force, on_duty
from store.tables.registry import Agent, Instrument
from store.tables.usage import AgentStatus, Alert, MeterPosition, UsageRecordRow, UsageStream
from wire.clock import Clock, from_ms
from wire.messages import PowerState, RecordKind, StreamKind

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 10.0
GAP_AFTER = timedelta(seconds=60)
SKEW_WARN_MS, SKEW_WRONG_MS = 5_000, 60_000
CALM_AFTER = timedelta(hours=1)
NEVER_HEARD_AFTER = timedelta(minutes=10)

OFFLINE, NEVER_HEARD, SKEWED, WRONG_CLOCK = "agent_offline", "agent_never_heard", "clock_skew", "clock_wrong"
GAP, SILENT, TWINS, NAME_TAKEN = "usage_gap", "sensor_silent", "duplicate_identity", "gateway_name_taken"
_TAKE_TIME = [RecordKind.TICK.value, RecordKind.OPEN.value, RecordKind.CLOSE.value, RecordKind.GAP.value]
WATCHED = (OFFLINE, NEVER_HEARD, SKEWED, WRONG_CLOCK, GAP, SILENT, PROFILE_DIFFERS, NOT_METERED)


class Watch:
    """`look` once, or let it look every ten seconds between `start` and `stop`."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        skews: Callable[[], dict[str, int]],
        profiles: Callable[[], NamedProfiles] = dict,
    ) -> None:
        self._database = database
        self._clock = clock
        self._skews = skews
        self._meterings = MeteringWatch(profiles)
        self._gaps: dict[str, datetime] = {}
        self._listening_since = from_ms(clock.now_ms())
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End after the look in hand."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def look(self) -> tuple[int, int]:
        """Look once; return how many alerts were raised and cleared. Writes only where something changed."""
        now_ms = self._clock.now_ms()
        now = from_ms(now_ms)
        with self._database.read() as session:
            skews = _to_store(session, self._skews())
            causes = self._causes(session, now, skews)
            found = {(c.rule, c.subject): c for c in causes if c.is_sure}
            unsure = {(c.rule, c.subject) for c in causes if not c.is_sure}
            open_now = {
                (row[0], row[1])
                for row in session.execute(
                    select(Alert.rule, Alert.subject).where(Alert.rule.in_(WATCHED), Alert.open_slot == 1)
                )
            }
            # Two machines with one name speak in turn while both run: an hour of silence about it ends it.
            calm = session.execute(
                select(Alert.rule, Alert.subject).where(
                    Alert.rule.in_((TWINS, NAME_TAKEN)),
                    Alert.open_slot == 1,
                    Alert.last_at < now - CALM_AFTER * self._clock.speed,
                )
            ).all()
        fresh = [cause for key, cause in found.items() if key not in open_now]
        gone = [key for key in open_now if key not in found and key not in unsure]
        gone += [(row[0], row[1]) for row in calm]
        if fresh or gone or skews:
            with self._database.write() as session:
                for agent, skew_ms in sorted(skews.items()):
                    session.execute(update(AgentStatus).where(AgentStatus.agent_id == agent).values(skew_ms=skew_ms))
                for cause in sorted(fresh, key=lambda cause: (cause.rule, cause.subject)):
                    raise_alert(session, cause.rule, cause.subject, cause.detail, now_ms, cause.owner)
                for rule, subject in sorted(gone):
                    clear_alert(session, rule, subject, now_ms, "system")
        return len(fresh), len(gone)

    def _causes(self, session: Session, now: datetime, skews: dict[str, int]) -> list[Cause]:
        causes: list[Cause] = []
        online: set[str] = set()
        rows = session.execute(
            select(AgentStatus, Agent.host_id)
            .join(Agent, Agent.agent_id == AgentStatus.agent_id)
            .where(Agent.revoked_at.is_(None))
        )
        hosts: dict[str, str] = {}
        for status, host in rows:
            agent = status.agent_id
            hosts[agent] = host
            if not counts_as_online(status.online, status.changed_at, status.heard_at, now, self._clock.speed):
                # Silence is for those to judge who have listened that long.
                sure = not status.online or self._has_listened(SILENT_AFTER, now)
                since = status.heard_at if status.online else status.changed_at
                causes.append(Cause(OFFLINE, agent, host, f"not heard of since {since.isoformat()}", sure))
                if sure:
                    continue
            online.add(agent)
            skew_ms = skews.get(agent, status.skew_ms)
            # So is the way of a message: a tenth of a second of it is six of a clock that runs sixty times as fast.
            off_ms = abs(skew_ms) / self._clock.speed
            if off_ms > SKEW_WARN_MS:
                rule = WRONG_CLOCK if off_ms > SKEW_WRONG_MS else SKEWED
                side = "behind" if skew_ms > 0 else "ahead"
                causes.append(Cause(rule, agent, host, f"its clock is {abs(skew_ms) / 1000:.0f} s {side}"))
        causes += self._never_heard(session, hosts.keys(), now)
        causes += self._holes(session, hosts, now)
        causes += _silent(session, online, now)
        causes += self._meterings.causes(session, now)
        return causes

    def _never_heard(self, session: Session, heard: Set[str], now: datetime) -> list[Cause]:
        """Agents that ought to speak and never did."""
        late = NEVER_HEARD_AFTER * self._clock.speed
        sure = self._has_listened(NEVER_HEARD_AFTER, now)
        return [
            Cause(NEVER_HEARD, duty.agent_id, duty.host_id, f"expected since {duty.since.isoformat()}", sure)
            for duty in on_duty(session, now).values()
            if duty.agent_id not in heard and now - duty.since >= late
        ]

    def _has_listened(self, long: timedelta, now: datetime) -> bool:
        """Whether this watch has looked for so much real time."""
        return now - self._listening_since >= long * self._clock.speed

    def _holes(self, session: Session, hosts: dict[str, str], now: datetime) -> list[Cause]:
        """Streams in which something has been missing for a minute."""
        top = (
            select(func.max(UsageRecordRow.seq))
            .where(UsageRecordRow.agent_id == UsageStream.agent_id, UsageRecordRow.stream == UsageStream.stream)
            .correlate(UsageStream)
            .scalar_subquery()
        )
        rows = session.execute(
            select(UsageStream.agent_id, UsageStream.stream, UsageStream.upto).where(
                UsageStream.kind == StreamKind.USAGE.value, top > UsageStream.upto
            )
        ).all()
        self._gaps = {f"{a}/{s}/{upto}": self._gaps.get(f"{a}/{s}/{upto}", now) for a, s, upto in rows}
        return [
            Cause(GAP, f"{a}/{s}", hosts.get(a, ""), f"records after {upto} are missing, later ones are here")
            for a, s, upto in rows
            if now - self._gaps[f"{a}/{s}/{upto}"] >= GAP_AFTER * self._clock.speed
        ]

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_EVERY_S):
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - a database that is away now; the next look finds the same
                log.warning("could not look after alerts", error=repr(error))


def _to_store(session: Session, skews: dict[str, int]) -> dict[str, int]:
    """The skews that differ from what is stored by more than noise."""
    stored = {row[0]: row[1] for row in session.execute(select(AgentStatus.agent_id, AgentStatus.skew_ms))}
    return {a: skew for a, skew in skews.items() if a in stored and abs(skew - stored[a]) > 1_000}


def _silent(session: Session, online: Set[str], now: datetime) -> list[Cause]:
    """Instruments whose agent is there and has not known what they do for two ticks: the meter is silent.

    A single unknown interval says nothing: each restart and each hole leaves one.
    """
    newest = (
        select(MeterPosition.instrument_id, func.max(MeterPosition.accounted_to).label("at"))
        .group_by(MeterPosition.instrument_id)
        .subquery()
    )
    rows = session.execute(
        select(MeterPosition, Instrument.host_id)
        .join(
            newest,
            (newest.c.instrument_id == MeterPosition.instrument_id) & (newest.c.at == MeterPosition.accounted_to),
        )
        .join(Instrument, Instrument.instrument_id == MeterPosition.instrument_id)
        .where(MeterPosition.state == PowerState.UNKNOWN.value)
    ).all()
    in_force = meterings_in_force(session, now) if rows else {}
    return [
        Cause(
            SILENT, at.instrument_id, host, f"agent {at.agent_id} gets no reading up to {at.accounted_to.isoformat()}"
        )
        for at, host in rows
        if at.agent_id in online
        and in_force.get(at.instrument_id, ("", now))[0] == at.agent_id
        and _stays_unknown(session, at)
    ]


def _stays_unknown(session: Session, at: MeterPosition) -> bool:
    """Whether two records of unknown time followed the one with which it began."""
    payloads = session.scalars(
        select(UsageRecordRow.payload)
        .where(
            UsageRecordRow.agent_id == at.agent_id,
            UsageRecordRow.stream == at.stream,
            UsageRecordRow.instrument_id == at.instrument_id,
            UsageRecordRow.kind.in_(_TAKE_TIME),
        )
        .order_by(UsageRecordRow.seq.desc())
        .limit(3)
    ).all()
    unknown = PowerState.UNKNOWN.value
    return len(payloads) == 3 and all(json.loads(payload)["state"] == unknown for payload in payloads)
