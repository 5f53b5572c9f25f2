"""Import and export of the registry as CSV over HTTP. Large files go through `openlab registry`."""

from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Response

from api.deps import Once, reads, writes
from api.errors import invalid
from api.registry import schemas, transfer
from api.registry.rules import EDITORS
from api.work import Work
from store.tables.accounts import Role

router = APIRouter(prefix="/registry", tags=["registry"])


class Table(StrEnum):
    """A file of the registry."""

    HOSTS = "hosts"
    LABS = "labs"
    INSTRUMENTS = "instruments"
    TEST_ITEMS = "test_items"
    CERTIFICATES = "certificates"
    SPECIAL_DAYS = "special_days"


@router.get(
    "/export/{table}",
    summary="A table of the registry as CSV",
    response_class=Response,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
def export_table(table: Table, work: Annotated[Work, reads(*EDITORS, Role.FINANCE)]) -> Response:
    """All of it, in the order of its keys. Importing it again changes nothing."""
    headers = {"Content-Disposition": f'attachment; filename="{table.value}.csv"'}
    return Response(transfer.export_table(work.session, table.value), media_type="text/csv", headers=headers)


@router.post("/import", summary="Import CSV files of the registry", response_model=schemas.ImportAnswer)
def import_tables(asked: schemas.ImportAsked, once: Once, work: Annotated[Work, writes(*EDITORS)]) -> Response:
    """All rows or none: where anything is wrong, every finding is listed (`facts.findings` of 422 `import_refused`).
    A dry run answers 200 with the same findings. A lab manager imports what belongs to the own host."""
    given = asked.model_dump(exclude={"dry_run"}, exclude_none=True)
    return once(lambda: _dry(work, given) if asked.dry_run else _real(work, given), status=200)


def _dry(work: Work, files: dict[str, str]) -> schemas.ImportAnswer:
    return _answer(transfer.plan_import(work, files), imported=False)


def _real(work: Work, files: dict[str, str]) -> schemas.ImportAnswer:
    plan = transfer.carry_out(work, files)
    answer = _answer(plan, imported=not plan.findings)
    if plan.findings:
        raise invalid(
            "import_refused",
            f"共发现 {len(plan.findings)} 处问题,未导入任何数据;请逐条改正后重新导入。",
            f"Nothing was imported: {len(plan.findings)} findings; correct each, then import again.",
            findings=[each.model_dump() for each in answer.findings],
        )
    return answer


def _answer(plan: transfer.Plan, imported: bool) -> schemas.ImportAnswer:
    return schemas.ImportAnswer(
        imported=imported,
        counts={name: schemas.TableCounts.model_validate(counts) for name, counts in plan.counts.items()},
        findings=[schemas.FindingAnswer.model_validate(each) for each in plan.findings],
    )
