"""HTTP of exports. A download changes nothing, so it is a GET that auditors may make too; that a file left the house
is recorded in a transaction of its own, committed before the answer is sent."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from api.bundle.service import make_bundle
from api.deps import AppParts, Parts, reads
from api.exports import service
from api.exports.files import FORMATS
from api.exports.service import EXPORTERS
from api.problems import problems
from api.rewards.periods import read_period
from api.work import Work
from store.tables.rewards import ExportFormat

router = APIRouter(tags=["exports"])

_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            FORMATS[one].media_type.split(";")[0]: {"schema": {"type": "string", "format": "binary"}} for one in FORMATS
        },
        "description": "The file",
    }
}
_ZIP: dict[int | str, dict[str, Any]] = {200: {"content": {"application/zip": {}}, "description": "The archive"}}
Format = Annotated[ExportFormat, Path(description="csv, xlsx or json; the rows and their content hash are the same")]


@router.get(
    "/reward-runs/{run_id}/export.{file_format}",
    summary="Export a reward run",
    response_class=Response,
    responses=_FILE | problems(404, 409),
)
def export_run(
    run_id: Annotated[str, Path(min_length=1, max_length=40)],
    file_format: Format,
    work: Annotated[Work, reads(*EXPORTERS)],
    parts: AppParts,
) -> Response:
    """Names the run, the policy, the watermark and its content hash. A run that is not locked is marked DRAFT."""
    return _exported(parts, work, run_id, file_format)


@router.get(
    "/reward-exports/{policy_id}/{period}.{file_format}",
    summary="Export the newest reward run of a period",
    response_class=Response,
    responses=_FILE | problems(404, 409),
)
def export_period(
    policy_id: Annotated[str, Path(max_length=40)],
    period: Annotated[str, Path(max_length=7, description="2026, 2026-Q4 or 2026-11")],
    file_format: Format,
    work: Annotated[Work, reads(*EXPORTERS)],
    parts: AppParts,
) -> Response:
    """The newest locked run, or the prepared one where none is locked. 404 `no_run` says how to get one."""
    kind, first = read_period(period)
    run = service.run_to_export(work.session, policy_id, kind, first)
    return _exported(parts, work, run.run_id, file_format)


@router.get(
    "/reward-runs/{run_id}/bundle.zip",
    summary="Download everything of a reward run, with a program that computes it again",
    response_class=Response,
    responses=_ZIP | problems(404, 409),
)
def download_bundle(
    run_id: Annotated[str, Path(min_length=1, max_length=40)],
    work: Annotated[Work, reads(*EXPORTERS)],
    parts: AppParts,
) -> Response:
    """Policy, facts, inputs, results, chain heads and `check.py`, which needs nothing but Python."""
    with parts.database.write() as session:
        bundle = make_bundle(Work(session, work.actor, work.now), run_id)
    return _answered(bundle.data, bundle.file_name, "application/zip", bundle.result_sha256)


def _exported(parts: Parts, asked: Work, run_id: str, file_format: ExportFormat) -> Response:
    with parts.database.write() as session:
        export = service.export_run(Work(session, asked.actor, asked.now), run_id, file_format)
    return _answered(export.data, export.file_name, export.media_type, export.content_sha256)


def _answered(data: bytes, file_name: str, media_type: str, content_sha256: str) -> Response:
    headers = {
        "Content-Disposition": f'attachment; filename="{file_name}"',
        "X-Content-SHA256": content_sha256,
        "Cache-Control": "no-store",
    }
    return Response(data, media_type=media_type, headers=headers)
