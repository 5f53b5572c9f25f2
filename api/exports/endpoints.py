"""HTTP of exports. A download changes nothing, so it is a GET that auditors may make too; that a file left the house
is recorded in a transaction of its own, committed before the answer is sent."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from api.deps import AppParts, Parts, reads
from api.exports import service
from api.exports.service import EXPORTERS
from api.problems import problems
from api.rewards.periods import read_period
from api.work import Work

router = APIRouter(tags=["exports"])

_CSV: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "The file"}
}


@router.get(
    "/reward-runs/{run_id}/export.csv",
    summary="Export a reward run as CSV",
    response_class=Response,
    responses=_CSV | problems(404, 409),
)
def export_run(
    run_id: Annotated[str, Path(min_length=1, max_length=40)],
    work: Annotated[Work, reads(*EXPORTERS)],
    parts: AppParts,
) -> Response:
    """Names the run, the policy, the watermark and its content hash. A run that is not locked is marked DRAFT."""
    return _exported(parts, work, run_id)


@router.get(
    "/reward-exports/{policy_id}/{period}.csv",
    summary="Export the newest reward run of a period as CSV",
    response_class=Response,
    responses=_CSV | problems(404, 409),
)
def export_period(
    policy_id: Annotated[str, Path(max_length=40)],
    period: Annotated[str, Path(max_length=7, description="2026, 2026-Q4 or 2026-11")],
    work: Annotated[Work, reads(*EXPORTERS)],
    parts: AppParts,
) -> Response:
    """The newest locked run, or the prepared one where none is locked. 404 `no_run` says how to get one."""
    kind, first = read_period(period)
    return _exported(parts, work, service.run_to_export(work.session, policy_id, kind, first).run_id)


def _exported(parts: Parts, asked: Work, run_id: str) -> Response:
    with parts.database.write() as session:
        export = service.export_run(Work(session, asked.actor, asked.now), run_id)
    headers = {
        "Content-Disposition": f'attachment; filename="{export.file_name}"',
        "X-Content-SHA256": export.content_sha256,
        "Cache-Control": "no-store",
    }
    return Response(export.data, media_type=export.media_type, headers=headers)
