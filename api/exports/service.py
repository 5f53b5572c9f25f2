"""Make a file out of a reward run, and keep what left the house: content hash, who made it and when."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from api.errors import Refused, conflict
from api.exports.cells import template_of
from api.exports.files import FORMATS
from api.exports.rows import DRAFT, TotalRow, content_sha256, reward_rows, run_row
from api.rewards.repository import RunLine, newest_run
from api.rewards.service import find_run
from api.work import Work
from store.canonical import sha256_hex
from store.periods import PeriodKind, format_period
from store.tables.accounts import Role
from store.tables.rewards import ExportFile, ExportFormat, RewardRun, RunState
from wire.ids import new_ulid

EXPORTERS = (Role.FINANCE, Role.COUNTY_OFFICER, Role.AUDITOR)
SUBJECT_RUN = "reward_run"


@dataclass(frozen=True)
class Export:
    """A file that was made. `content_sha256` is over its canonical rows."""

    export_id: str
    run_id: str
    file_name: str
    media_type: str
    data: bytes
    content_sha256: str
    is_draft: bool


def export_run(work: Work, run_id: str, file_format: ExportFormat = ExportFormat.CSV) -> Export:
    """Write a run in a format and record that it left the house. A run that is not locked is marked DRAFT.

    Refused: 403, 404, 409 `run_withdrawn`.
    """
    work.require(EXPORTERS, "导出奖励核算", "export reward runs")
    run = find_run(work.session, run_id)
    if run.state == RunState.WITHDRAWN.value:
        raise conflict(
            "run_withdrawn",
            f"核算 {run_id} 已撤回({run.close_reason}),不能导出;请导出有效的核算。",
            f"Run {run_id} was withdrawn ({run.close_reason}); there is nothing to export; choose a run that stands.",
            run_id=run_id,
        )
    rows = list(reward_rows(work.session, run_id))
    data, content = FORMATS[file_format].write(rows), content_sha256(rows)
    row = ExportFile(
        export_id=new_ulid(),
        subject_kind=SUBJECT_RUN,
        subject_id=run_id,
        format=file_format.value,
        template_version=template_of(rows),
        row_count=len(rows),
        total_fen=sum(one.payable_fen for one in rows if isinstance(one, TotalRow)),
        content_sha256=content,
        file_sha256=sha256_hex(data),
        created_by=work.actor.person_id,
        created_at=work.now,
    )
    work.session.add(row)
    work.session.flush()
    work.audit(
        "reward_run.exported",
        f"reward_run:{run_id}",
        host_id=None,
        after={
            "export_id": row.export_id,
            "format": file_format.value,
            "content_sha256": content,
            "file_sha256": row.file_sha256,
        },
    )
    is_draft = run_row(work.session, run).status == DRAFT
    name = file_name(run, is_draft, file_format.value)
    return Export(row.export_id, run_id, name, FORMATS[file_format].media_type, data, content, is_draft)


def run_to_export(session: Session, policy_id: str, kind: PeriodKind, first: int) -> RewardRun:
    """Return the newest locked run of a period, or the prepared one where none is locked.

    Refused 404 `no_run`, with what to do, where there is neither.
    """
    line = RunLine(policy_id, kind, first)
    run = newest_run(session, line, RunState.LOCKED) or newest_run(session, line, RunState.PREPARED)
    if run is None:
        period = format_period(kind, first)
        raise Refused(
            404,
            "no_run",
            f"政策 {policy_id} 在 {period} 尚无奖励核算;请先由县科技局编制:"
            f"openlab rewards prepare {policy_id} {period} --as 登录名。",
            f"There is no reward run of {policy_id} for {period}; ask a county officer to prepare one first: "
            f"openlab rewards prepare {policy_id} {period} --as LOGIN.",
            policy_id=policy_id,
            period=period,
        )
    return run


def file_name(run: RewardRun, is_draft: bool, suffix: str) -> str:
    """Return what a file of a run is called."""
    period = format_period(PeriodKind(run.period_kind), run.period_first)
    draft = "-DRAFT" if is_draft else ""
    return f"openlab-reward-{run.policy_id}-{period}-run{run.run_no}{draft}.{suffix}"
