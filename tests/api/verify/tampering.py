"""A ledger with a locked reward run, its exports and its bundle, as files; and ways of changing one thing in them."""

import io
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from api.bundle.service import make_bundle
from api.exports.service import export_run
from api.rewards.assessments import record_assessment
from api.rewards.policies import seed_policies
from api.rewards.service import prepare_run
from api.rewards.steps import approve_run, check_run, lock_run, publish_notice
from api.work import Actor, Work, system_actor
from store.database import Database
from store.periods import PeriodKind
from store.tables.accounts import Person, Role, RoleGrant
from store.tables.registry import Host
from store.tables.rewards import ExportFormat, Grade, RewardPolicy

POLICY = "XC-DEMO"


@dataclass(frozen=True)
class Signed:
    """A ledger as a file, with what left the house."""

    ledger: Path
    run_id: str
    exports: dict[ExportFormat, bytes]
    bundle: bytes


def sign(database: Database, now: datetime, year: int) -> tuple[str, dict[ExportFormat, bytes], bytes]:
    """Assess every host, then prepare, lock, export and bundle the reward of a year; return run, exports, bundle."""

    def do(step: Callable[..., Any], *args: Any, who: Actor, at: datetime) -> Any:
        with database.write() as session:
            return step(Work(session, who, at), *args)

    first, second = _officers(database)
    seed = system_actor("seed")
    names = (first.person_id, second.person_id)
    with database.read() as session:
        hosts = session.scalars(select(Host.host_id).order_by(Host.host_id)).all()
        has_policies = session.scalars(select(RewardPolicy)).first() is not None
    if not has_policies:
        do(seed_policies, *names, who=seed, at=now)
    for host in hosts:
        do(record_assessment, host, year, Grade.GOOD, "minutes of the panel", *names, who=seed, at=now)
    later = now + timedelta(days=1)
    run = do(prepare_run, POLICY, PeriodKind.YEAR, year * 100 + 1, who=first, at=later)
    do(check_run, run.run_id, run.result_sha256, who=second, at=later)
    do(publish_notice, run.run_id, who=first, at=later)
    later += timedelta(days=9)
    do(approve_run, run.run_id, run.result_sha256, who=second, at=later)
    do(lock_run, run.run_id, run.result_sha256, who=second, at=later)
    exports = {one: do(export_run, run.run_id, one, who=first, at=later).data for one in ExportFormat}
    return run.run_id, exports, do(make_bundle, run.run_id, who=first, at=later).data


def _officers(database: Database) -> tuple[Actor, Actor]:
    with database.read() as session:
        rows = session.scalars(
            select(Person)
            .join(RoleGrant, RoleGrant.person_id == Person.person_id)
            .where(RoleGrant.role == Role.COUNTY_OFFICER.value)
            .order_by(Person.person_id)
        ).all()
    roles = frozenset({Role.COUNTY_OFFICER})
    first, second = (Actor(row.person_id, row.name, row.org_id, roles, frozenset()) for row in rows[:2])
    return first, second


@dataclass(frozen=True)
class Change:
    """One thing that somebody with the file can do, and what must be named. `{run}` and the values of `find` (a query
    of one row) may stand in the statement and in the name."""

    find: str
    change: str
    table: str
    key: str


ELIGIBLE = (
    "SELECT charge_id AS charge, host_id AS host FROM reward_input WHERE reason = 'eligible' AND run_id = '{run}'"
)
IN_THE_LEDGER = {
    "a charge's amount": Change(ELIGIBLE, "UPDATE charge SET total_fen = total_fen + 100 WHERE charge_id = '{charge}'",
                                "charge", "{charge}"),
    "a byte of evidence": Change(
        ELIGIBLE,
        "UPDATE charge_evidence SET content = CAST(substr(content, 1, 20) || x'00' || substr(content, 22) AS BLOB)"
        " WHERE charge_id = '{charge}' AND kind = 'samples'",
        "charge_evidence", "{charge}/samples"),
    "a usage record": Change(
        "SELECT agent_id AS agent, stream, min(seq) AS seq FROM usage_record GROUP BY agent_id, stream",
        "UPDATE usage_record SET payload = CAST(replace(CAST(payload AS TEXT), 'running', 'runnin9') AS BLOB)"
        " WHERE agent_id = '{agent}' AND stream = '{stream}' AND seq = {seq}",
        "usage_record", "{agent}/{stream}/{seq}"),
    "an affiliation": Change(
        "SELECT i.charge_id AS charge, o.org_id AS host, c.payer_org AS payer FROM reward_input i JOIN charge c"
        " ON c.charge_id = i.charge_id JOIN host o ON o.host_id = i.host_id"
        " WHERE i.reason = 'eligible' AND i.run_id = '{run}' ORDER BY i.charge_id",
        "INSERT INTO affiliation_event (host_org, other_org, effective_at, state, evidence, recorded_by, recorded_at)"
        " VALUES ('{host}', '{payer}', 0, 'affiliated', 'register', 'x', 0)",
        "reward_input", "{run}/{charge}"),
    "the policy": Change("SELECT 1 AS one", "UPDATE reward_policy_version SET body = replace(body, '2000', '2001')"
                         " WHERE policy_id = 'XC-DEMO'", "reward_policy_version", "XC-DEMO/1"),
    "an assessment": Change(
        "SELECT host_id AS host FROM reward_result WHERE run_id = '{run}' AND grade = 'good'",
        "UPDATE assessment SET grade = 'excellent' WHERE host_id = '{host}'", "reward_result", "{run}/{host}"),
    "a line of the snapshot": Change(
        ELIGIBLE, "UPDATE reward_input SET eligible_fen = eligible_fen - 1 WHERE charge_id = '{charge}'",
        "reward_input", "{run}/{charge}"),
    "a result": Change(
        "SELECT host_id AS host FROM reward_result WHERE run_id = '{run}' AND reward_fen > 0",
        "UPDATE reward_result SET reward_fen = reward_fen + 1, payable_fen = payable_fen + 1 WHERE host_id = '{host}'",
        "reward_result", "{run}/{host}"),
    "a payment": Change(
        "SELECT s.charge_id AS charge FROM settlement s JOIN reward_input i ON i.charge_id = s.charge_id"
        " WHERE i.reason = 'eligible' AND i.run_id = '{run}' ORDER BY s.charge_id",
        "UPDATE settlement SET amount_fen = amount_fen - 1 WHERE charge_id = '{charge}'",
        "reward_input", "{run}/{charge}"),
    "an audit event": Change(
        "SELECT chain_id AS chain, seq FROM audit_event WHERE action = 'reward_run.locked'",
        "UPDATE audit_event SET body = CAST(replace(CAST(body AS TEXT), 'locked', 'lockee') AS BLOB)"
        " WHERE chain_id = '{chain}' AND seq = {seq}",
        "audit_event", "{chain}/{seq}"),
    "a recorded export": Change(
        "SELECT min(export_id) AS export FROM export_file",
        "UPDATE export_file SET content_sha256 = '{run}' WHERE export_id = '{export}'", "export_file", "{export}"),
}  # fmt: skip


def tamper(signed: Signed, copy: Path, change: Change) -> tuple[str, str]:
    """Change a copy of the ledger as somebody with the file can, guards dropped; return table and key to be named."""
    copy.write_bytes(signed.ledger.read_bytes())
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.row_factory = sqlite3.Row
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        found = connection.execute(change.find.format(run=signed.run_id)).fetchone()
        values = dict(found) | {"run": signed.run_id}
        assert connection.execute(change.change.format(**values)).rowcount > 0
    return change.table, change.key.format(**values)


def with_member(bundle: bytes, name: str, change: Callable[[bytes], bytes]) -> bytes:
    """Return an archive with one member changed."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(bundle)) as given, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
        for one in given.namelist():
            content = given.read(one)
            changed = change(content) if one == name else content
            assert one != name or changed != content
            file.writestr(one, changed)
    return made.getvalue()


def damaged(archive: bytes, name: str) -> bytes:
    """Return an archive with the packed bytes of one member spoilt."""
    with zipfile.ZipFile(io.BytesIO(archive)) as given:
        start = given.getinfo(name).header_offset
    begins = start + 30 + int.from_bytes(archive[start + 26 : start + 28], "little")
    begins += int.from_bytes(archive[start + 28 : start + 30], "little")
    return archive[:begins] + b"\xff" * 8 + archive[begins + 8 :]
