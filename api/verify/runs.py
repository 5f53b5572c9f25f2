"""Reward runs and exports computed again: inputs from the facts known at the watermark, results from the inputs."""

from collections.abc import Callable, Iterator
from itertools import groupby

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.exports.cells import WITH_INSTRUMENTS, template_of
from api.exports.files import BadExport, parse_any
from api.exports.rows import InstrumentRow, RunRow, content_hashes, content_sha256, reward_rows
from api.exports.service import SUBJECT_RUN
from api.rewards.computing import Situation, host_results, name_in, result_document, run_head, stored_result
from api.rewards.policies import PolicyInForce, in_force
from api.rewards.repository import (
    RunLine,
    grades,
    granted_before,
    shares_of_first_grant,
    stored_results,
)
from api.rewards.rules import UnknownEngine
from api.verify.finding import Check, Finding
from api.verify.run_inputs import inputs_differ, stored_bases
from store.canonical import sha256_hex
from store.tables.rewards import (
    ExportFile,
    Grade,
    RewardPolicyVersion,
    RewardResult,
    RewardRun,
    RunState,
)

_Judge = Callable[[Session, RewardRun, PolicyInForce], Finding | None]


def policies(session: Session) -> Iterator[Finding]:
    """Every policy version is the document that its hash names."""
    rows = session.execute(
        select(RewardPolicyVersion).order_by(RewardPolicyVersion.policy_id, RewardPolicyVersion.version)
    ).scalars()
    for row in rows:
        if sha256_hex(row.body.encode()) != row.body_sha256:
            key = f"{row.policy_id}/{row.version}"
            yield Finding("reward_policy_version", key, "its text does not have the stored hash")


def run_inputs(run_id: str | None = None) -> Check:
    """Return the check that the stored inputs have their hash and are what the facts at the watermark say."""
    return over_runs(run_id, inputs_differ)


def run_results(run_id: str | None = None) -> Check:
    """Return the check that the stored results follow from inputs, policy and what was granted, and have their hash."""
    return over_runs(run_id, _results_differ)


def carried(session: Session) -> Iterator[Finding]:
    """What a host carries into a locked run is what it carried out of the one locked before, and nothing at first."""
    rows = session.execute(
        select(
            RewardResult.host_id,
            RewardRun.closed_at,
            RewardRun.run_id,
            RewardResult.carried_in_fen,
            RewardResult.carried_out_fen,
        )
        .join(RewardRun, RewardRun.run_id == RewardResult.run_id)
        .where(RewardRun.state == RunState.LOCKED.value)
        .order_by(RewardResult.host_id, RewardRun.closed_at)
    )
    for host, of_host in groupby(rows, key=lambda row: row.host_id):
        owed = {0}
        # Runs locked in one millisecond may have been locked in any order.
        for _, at_once in groupby(of_host, key=lambda row: row.closed_at):
            group = list(at_once)
            possible = _carried_through(owed, [(row.carried_in_fen, row.carried_out_fen) for row in group])
            if not possible:
                key, fen = f"{group[0].run_id}/{host}", group[0].carried_in_fen
                yield Finding(
                    "reward_result", key, f"{fen} fen are carried in, {max(owed)} fen were carried out before"
                )
                break
            owed = possible


def _carried_through(owed: set[int], rows: list[tuple[int, int]]) -> set[int]:
    """What may be owed after these rows, in any order in which each takes in what was left by the one before."""
    if not rows:
        return owed
    return {
        end
        for i, (taken, left) in enumerate(rows)
        if taken in owed
        for end in _carried_through({left}, rows[:i] + rows[i + 1 :])
    }


def exports(session: Session) -> Iterator[Finding]:
    """What was exported is what the run says now; a draft that was locked since is compared as the draft it was."""
    rows = session.execute(
        select(ExportFile).where(ExportFile.subject_kind == SUBJECT_RUN).order_by(ExportFile.export_id)
    ).scalars()
    contents: dict[str, set[str]] = {}
    for row in rows:
        if row.subject_id not in contents:
            contents[row.subject_id] = content_hashes(reward_rows(session, row.subject_id))
        if row.content_sha256 not in contents[row.subject_id]:
            yield Finding("export_file", row.export_id, f"run {row.subject_id} does not have the exported content")


def export_file(data: bytes) -> Check:
    """Return the check of a file: it reads back, its rows are those of the run it names, and it left from here."""

    def check(session: Session) -> Iterator[Finding]:
        try:
            rows = parse_any(data)
        except BadExport as error:
            yield Finding("file", "content", str(error))
            return
        run = rows[0]
        assert isinstance(run, RunRow)
        if session.get(RewardRun, run.run_id) is None:
            yield Finding("reward_run", run.run_id, "there is no such run")
            return
        found = content_sha256(rows)
        if found not in content_hashes(reward_rows(session, run.run_id)):
            whole = template_of(rows) == WITH_INSTRUMENTS
            wanted = (row for row in reward_rows(session, run.run_id) if whole or not isinstance(row, InstrumentRow))
            for stored, given in zip(wanted, rows, strict=False):
                if stored != given and not isinstance(stored, RunRow):
                    yield Finding("file", type(given).__name__, f"it says {given}, the run says {stored}")
                    return
            yield Finding("file", run.run_id, "its rows are not those of the run")
            return
        recorded = select(ExportFile.export_id).where(
            ExportFile.subject_kind == SUBJECT_RUN,
            ExportFile.subject_id == run.run_id,
            ExportFile.content_sha256 == found,
        )
        if session.execute(recorded.limit(1)).first() is None:
            yield Finding("export_file", found, "no export with this content was recorded")

    return check


def run_named_in(data: bytes) -> str:
    """Return the id of the run that a file is about; "" (no run has it) where the file cannot be read."""
    try:
        run = parse_any(data)[0]
    except BadExport:
        return ""
    assert isinstance(run, RunRow)
    return run.run_id


def over_runs(run_id: str | None, judge: _Judge) -> Check:
    """Return the check of one run, or of all, with the policy each was made by. What cannot be read is a finding."""

    def check(session: Session) -> Iterator[Finding]:
        query = select(RewardRun).order_by(RewardRun.run_id)
        if run_id is not None:
            query = query.where(RewardRun.run_id == run_id)
        for run in session.execute(query).scalars().all():
            row = session.get_one(RewardPolicyVersion, (run.policy_id, run.policy_version))
            try:
                finding = judge(session, run, in_force(row))
            except (ValueError, UnknownEngine) as error:
                finding = Finding("reward_run", run.run_id, f"it cannot be computed again: {error}")
            if finding is not None:
                yield finding

    return check


def _results_differ(session: Session, run: RewardRun, policy: PolicyInForce) -> Finding | None:
    stored = {row.host_id: stored_result(row) for row in stored_results(session, run.run_id)}
    line = RunLine.of(run)
    situation = Situation(
        stored_bases(session, run.run_id),
        {host: Grade(row.grade) for host, row in stored.items() if row.grade},
        granted_before(session, line, run.run_no),
        {host: row.carried_in_fen for host, row in stored.items() if row.carried_in_fen},
        {host: name_in(row.explanation) for host, row in stored.items()},
        shares_of_first_grant(session, line, run.run_no),
    )
    if set(situation.hosts) - set(stored):
        host = min(set(situation.hosts) - set(stored))
        return Finding("reward_result", f"{run.run_id}/{host}", "the host has charges or grants and no result")
    computed = {row.host_id: row for row in host_results(situation, policy.body, run.engine_version)}
    assessed = grades(session, run.period_first // 100, run.watermark)
    for host, row in sorted(stored.items()):
        key = f"{run.run_id}/{host}"
        wanted = computed.get(host)
        if wanted is not None and row != wanted:
            names = [name for name in vars(row) if getattr(row, name) != getattr(wanted, name)]
            said = ", ".join(f"{name} {getattr(row, name)} not {getattr(wanted, name)}" for name in names)
            return Finding("reward_result", key, said)
        if row.grade and assessed.get(host) != row.grade:
            return Finding("reward_result", key, f"grade {row.grade}, the assessment says {assessed.get(host)}")
    document = result_document(run_head(run, policy.body_sha256), list(stored.values()))
    if run.payable_fen != sum(row.payable_fen for row in stored.values()):
        return Finding("reward_run", run.run_id, f"payable {run.payable_fen}, its results come to another sum")
    if sha256_hex(document) != run.result_sha256:
        return Finding("reward_run", run.run_id, "its results do not have the stored hash")
    return None
