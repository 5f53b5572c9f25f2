"""`openlab-gateway command` and `configure`: what a person orders, written into the audit chain, then sent.

Composition root of these two commands. The order is in the audit chain before it leaves: nothing is done unwritten.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue, ValidationError
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from ulid import ULID

from gateway.command_desk import CommandDesk
from gateway.running import CannotRun, broker_address, open_ledger, settings_of_environment
from store.audit import append_audit_event
from store.database import Database
from store.tables.audit import AuditEvent
from store.tables.registry import Agent, Metering
from wire.client import BrokerRefused
from wire.clock import Clock, from_ms, open_clock
from wire.commands import REMEMBERED_MS, Command, Config, Op, ProfileFields, Reply, desired_config
from wire.ids import is_stream_id, new_ulid

CONNECT_S = 10.0
THRESHOLDS = frozenset({"on_w", "off_w", "standby_w"})
SENT, ANSWERED, CONFIGURED = "command_sent", "command_answered", "config_published"


@dataclass(frozen=True)
class Office:
    """What both commands work with."""

    database: Database
    clock: Clock
    desk: CommandDesk


@contextmanager
def office() -> Iterator[Office]:
    """Open what the environment names and connect, for the length of one command. Raises CannotRun."""
    settings = settings_of_environment()
    address = broker_address(settings)
    database = open_ledger(settings)
    clock = open_clock(settings.clock_file)
    # A name of its own: the broker ends the older of two connections of one name.
    desk = CommandDesk(address, f"{settings.gateway_name[:20]}-{new_ulid().lower()[-8:]}", clock)
    try:
        desk.start()
        desk.wait_ready(CONNECT_S)
        yield Office(database, clock, desk)
    except (BrokerRefused, TimeoutError) as error:
        raise CannotRun(str(error)) from None
    finally:
        desk.stop()
        database.dispose()


def order(
    at: Office,
    agent: str,
    op: Op,
    args: Mapping[str, JsonValue],
    by: str,
    wait_s: float,
    command_id: str | None = None,
) -> Reply | None:
    """Send one command and return the answer, None where none came. Both are audited. Raises CannotRun.

    With the `command_id` of one that was sent before, the agent gives the answer it gave, or executes what never came.
    """
    try:
        command = at.desk.command(op, args, by, lifetime_s=wait_s)
    except ValidationError as error:
        raise CannotRun(f"the command is not one: {error.errors(include_url=False)[0]['msg']}") from None
    if command_id is not None:
        command = command.model_copy(update={"id": _still_known(command_id, at.clock)})
    with at.database.write() as session:
        _audit(session, at.clock, agent, by, SENT, _words(command))
    reply = at.desk.ask(agent, command, wait_s)
    said = {"id": command.id, "outcome": "none" if reply is None else reply.outcome}
    with at.database.write() as session:
        _audit(session, at.clock, agent, by, ANSWERED, said | {"code": "" if reply is None else reply.code})
    return reply


def _still_known(command_id: str, clock: Clock) -> str:
    """Return the id of a command that agents still remember. Raises CannotRun: an older one would be executed twice."""
    try:
        made_ms = ULID.from_str(command_id).milliseconds if is_stream_id(command_id) else None
    except ValueError:
        made_ms = None
    if made_ms is None:
        raise CannotRun(f"{command_id} is not the id of a command")
    if clock.now_ms() - made_ms >= REMEMBERED_MS:
        raise CannotRun(f"command {command_id} is older than 24 h: no agent remembers whether it was executed")
    return command_id


def configure(at: Office, agent: str, by: str, version: int | None = None) -> Config:
    """Publish, retained, the profiles of the instruments this agent meters by the registry. Raises CannotRun.

    Versions rise by one with each publication (`version` sets it, after a restored database for instance).
    """
    with at.database.write() as session:
        profiles = _profiles(session, agent, at.clock)
        made = select(func.count()).select_from(AuditEvent)
        before = session.scalar(made.where(AuditEvent.subject == f"agent:{agent}", AuditEvent.action == CONFIGURED))
        try:
            config = desired_config(agent, version or (before or 0) + 1, profiles, by)
        except ValidationError as error:
            raise CannotRun(f"no configuration: {error.errors(include_url=False)[0]['msg']}") from None
        _audit(session, at.clock, agent, by, CONFIGURED, {"version": config.version, "sha256": config.sha256})
    if not at.desk.configure(config, CONNECT_S):
        raise CannotRun("the broker did not take the configuration; publish it again")
    return config


def _profiles(session: Session, agent: str, clock: Clock) -> dict[str, ProfileFields]:
    """The profile of the metering fact in force of each instrument that this agent speaks for now."""
    now = from_ms(clock.now_ms())
    facts = session.scalars(
        select(Metering)
        .where(
            Metering.effective_at <= now,
            Metering.instrument_id.in_(select(Metering.instrument_id).where(Metering.agent_id == agent)),
        )
        .order_by(Metering.instrument_id, Metering.effective_at)
    )
    latest = {fact.instrument_id: fact for fact in facts}
    profiles: dict[str, ProfileFields] = {}
    for instrument, fact in latest.items():
        if fact.agent_id != agent:
            continue
        try:
            fields = json.loads(fact.profile)
        except ValueError:
            raise CannotRun(f"the profile recorded for {instrument} is not JSON; record a metering with one") from None
        if not isinstance(fields, dict) or not fields.keys() >= THRESHOLDS:
            raise CannotRun(
                f"the profile recorded for {instrument} is not a detector's: it lacks {', '.join(sorted(THRESHOLDS))}"
            )
        profiles[instrument] = fields
    if not profiles:
        raise CannotRun(f"no metering in force says that {agent} speaks for an instrument")
    return profiles


def _audit(session: Session, clock: Clock, agent: str, by: str, action: str, after: dict[str, Any]) -> None:
    found = session.get(Agent, agent)
    if found is None:
        raise CannotRun(f"no agent is registered as {agent}")
    append_audit_event(
        session,
        chain_id=f"host:{found.host_id}",
        at=from_ms(clock.now_ms()),
        actor=f"operator:{by}",
        action=action,
        subject=f"agent:{agent}",
        after=after,
    )


def _words(command: Command) -> dict[str, Any]:
    # As text: an audit event holds no fractions, and arguments may.
    return {"id": command.id, "op": command.op.value, "args": json.dumps(command.args, sort_keys=True)}


def parsed(pairs: list[str]) -> dict[str, JsonValue]:
    """Read `key=value` pairs; a value that is JSON is taken as such, anything else as text. Raises CannotRun."""
    args: dict[str, JsonValue] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise CannotRun(f"{pair!r} is not key=value")
        try:
            args[key] = json.loads(value)
        except ValueError:
            args[key] = value
    return args
