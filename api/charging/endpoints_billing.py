"""HTTP around statements: issuing and files, ageing and refunds, the dispute window, closing months.

Each endpoint calls one service function; no rule lives here.
"""

from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from api.charging import months, statements_window
from api.charging import statement_schemas as b
from api.charging.ageing import AgeingRow, ageing
from api.charging.payments import settle_by_credit
from api.charging.payments_credit import refund_credit
from api.charging.repository import statement_parts
from api.charging.statement_files import statement_csv, statement_table, statement_xlsx
from api.deps import Once, reads, writes
from api.problems import problems
from api.schemas import Instant
from api.work import Work
from store.tables.accounts import Role

router = APIRouter(tags=["charging"])

_READERS = (Role.SME, Role.LAB_MANAGER, Role.COUNTY_OFFICER, Role.FINANCE, Role.ADMIN)
_BILLERS = (Role.LAB_MANAGER, Role.FINANCE)
_CLOSERS = (Role.COUNTY_OFFICER, Role.FINANCE)
Month = Annotated[int, Path(ge=200_001, le=299_912, description="Month of posting, yyyymm")]


class FileFormat(StrEnum):
    """What a statement can be downloaded as."""

    CSV = "csv"
    XLSX = "xlsx"


_MEDIA = {
    FileFormat.CSV: "text/csv; charset=utf-8",
    FileFormat.XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


@router.post(
    "/statements/{statement_id}/issue",
    status_code=201,
    response_model=b.StatementAnswer,
    summary="Show a draft to its payer and start the dispute window",
    responses=problems(404),
)
def issue_statement(statement_id: str, work: Annotated[Work, writes(*_BILLERS)], once: Once) -> Response:
    """It can become final when the window is over and nothing on it is disputed."""
    return once(lambda: b.StatementAnswer.model_validate(statements_window.issue_statement(work, statement_id)))


@router.get(
    "/statements/{statement_id}/file",
    summary="A statement as a file for a spreadsheet",
    response_class=Response,
    responses={**problems(404), 200: {"content": {media: {} for media in _MEDIA.values()}}},
)
def statement_file(
    statement_id: str, work: Annotated[Work, reads(*_READERS)], format: FileFormat = FileFormat.CSV
) -> Response:
    """Equal content gives equal bytes. 404 also for a statement that is not yours to see."""
    statement = statement_parts(work, statement_id).statement
    table = statement_table(work.session, statement)
    data = statement_csv(table) if format is FileFormat.CSV else statement_xlsx(table)
    name = f"statement-{statement.number or statement_id}.{format.value}"
    return Response(data, media_type=_MEDIA[format], headers={"Content-Disposition": f'attachment; filename="{name}"'})


@router.post(
    "/statements/{statement_id}/credit",
    status_code=201,
    response_model=b.CreditUsed,
    summary="Settle a statement with the payer's credit",
    responses=problems(404),
)
def use_credit(statement_id: str, work: Annotated[Work, writes(*_BILLERS)], once: Once) -> Response:
    """Money that a reversal set free; what replaced the reversed charge has taken its part by itself."""
    return once(lambda: b.CreditUsed(settled_fen=settle_by_credit(work, statement_id)))


@router.get("/ageing", summary="Who owes what, and for how long")
def list_ageing(
    work: Annotated[Work, reads(*_READERS)],
    host_id: Annotated[str | None, Query(max_length=64)] = None,
    as_of: Annotated[Instant | None, Query(description="Count the days up to this instant")] = None,
) -> list[b.AgeingAnswer]:
    """A firm sees its own, a lab manager its host's payers, the county all."""
    return [_ageing_answer(row) for row in ageing(work, host_id, as_of)]


@router.post(
    "/payments/{payment_id}/refunds",
    status_code=201,
    response_model=b.RefundAnswer,
    summary="Record that credit was paid back",
    responses=problems(404),
)
def refund(payment_id: str, asked: b.RefundAsked, work: Annotated[Work, writes(*_BILLERS)], once: Once) -> Response:
    """Only money that a reversal set free and that settled nothing since."""
    return once(
        lambda: b.RefundAnswer.model_validate(
            refund_credit(work, payment_id, asked.amount_fen, asked.external_ref, asked.reason)
        )
    )


@router.post(
    "/hosts/{host_id}/billing-terms",
    status_code=201,
    response_model=b.TermsAnswer,
    summary="Set for how many days payers may object",
    responses=problems(404),
)
def set_terms(host_id: str, asked: b.TermsAsked, work: Annotated[Work, writes(*_CLOSERS)], once: Once) -> Response:
    """From an instant on; statements that were issued keep theirs. Without any setting it is 7 days."""
    return once(
        lambda: b.TermsAnswer.model_validate(
            statements_window.set_dispute_days(work, host_id, asked.dispute_days, asked.valid_from)
        )
    )


@router.get(
    "/hosts/{host_id}/months/{month}/checklist",
    summary="What is still open before a month can be closed",
    responses=problems(404),
)
def read_checklist(
    host_id: str,
    month: Month,
    work: Annotated[Work, reads(Role.LAB_MANAGER, Role.COUNTY_OFFICER, Role.FINANCE, Role.ADMIN)],
) -> b.ChecklistAnswer:
    """Bookings, sessions, anomalies, disputes, corrections, drafts and charges, each with what it waits for."""
    state, found = months.read_checklist(work, host_id, month)
    points = [b.OpenPointAnswer(what=p.what, zh=p.zh, en=p.en, count=p.count, subjects=list(p.subjects)) for p in found]
    return b.ChecklistAnswer(host_id=host_id, month=month, state=state.value, open=points)


@router.post(
    "/hosts/{host_id}/months/{month}/close",
    status_code=201,
    response_model=b.ClosedMonthAnswer,
    summary="Lock a month of a host",
    responses=problems(404),
)
def close_month(host_id: str, month: Month, work: Annotated[Work, writes(*_CLOSERS)], once: Once) -> Response:
    """Nothing is posted into it any more, and its seals recompute for ever. 409 lists what is still open."""

    def produce() -> b.ClosedMonthAnswer:
        [closed] = months.close_month(work, host_id, month)
        return b.ClosedMonthAnswer(
            host_id=closed.host_id,
            month=closed.month,
            already=closed.already,
            charge_count=closed.seal.count,
            sum_fen=closed.seal.sum_fen,
            sha256=closed.seal.sha256,
            chains=[b.ChainSealAnswer.model_validate(chain) for chain in closed.chains],
        )

    return once(produce)


def _ageing_answer(row: AgeingRow) -> b.AgeingAnswer:
    first, second, third, last = row.buckets.values()
    return b.AgeingAnswer(
        host_id=row.host_id,
        payer_org=row.payer_org,
        payer_name_zh=row.payer_name_zh,
        payer_name_en=row.payer_name_en,
        days_0_30_fen=first,
        days_31_60_fen=second,
        days_61_90_fen=third,
        days_over_90_fen=last,
        open_fen=row.open_fen,
        credit_fen=row.credit_fen,
    )
