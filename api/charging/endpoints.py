"""HTTP of the charging domain. Each endpoint calls one service function; no rule lives here."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.charging import (
    endpoints_anomalies,
    endpoints_billing,
    endpoints_disputes,
    endpoints_prices,
    explain,
    invoices,
    payments,
    statements,
    tariffs,
)
from api.charging import schemas as s
from api.charging import statement_schemas as b
from api.charging.repository import charges_seen, statement_parts, statement_seen
from api.deps import Once, public_reads, reads, writes
from api.pagination import WantedPage, paginate
from api.problems import problems
from api.schemas import Page
from api.work import Work
from store.tables.accounts import Role
from store.tables.charging import Charge, Statement, StatementState

router = APIRouter(tags=["charging"])

_READERS = (Role.SME, Role.LAB_MANAGER, Role.COUNTY_OFFICER, Role.FINANCE, Role.ADMIN)
_SIGNERS = (Role.LAB_MANAGER, Role.COUNTY_OFFICER)
_BILLERS = (Role.LAB_MANAGER, Role.FINANCE)
Month = Annotated[int | None, Query(ge=200_001, le=299_912, description="Month of posting, yyyymm")]
Id = Annotated[str | None, Query(max_length=64)]


@router.get("/instruments/{instrument_id}/tariffs", summary="The price lists of an instrument, newest first")
def list_tariffs(instrument_id: str, work: Annotated[Work, public_reads()]) -> list[s.TariffAnswer]:
    """Every version that was ever published. Empty where the instrument has no prices."""
    return [s.TariffAnswer.of(found) for found in tariffs.tariff_versions(work.session, instrument_id)]


@router.post(
    "/instruments/{instrument_id}/tariff-proposals",
    status_code=201,
    response_model=s.ProposalAnswer,
    summary="Prepare a price list for somebody else to approve",
    responses=problems(404),
)
def propose_tariff(
    instrument_id: str, asked: s.ProposalAsked, work: Annotated[Work, writes(*_SIGNERS)], once: Once
) -> Response:
    """Kept in the host's audit chain under the caller's name; nothing is in force by it."""
    return once(lambda: s.ProposalAnswer.of(tariffs.propose_tariff(work, instrument_id, asked.body, asked.valid_from)))


@router.get("/tariff-proposals/{proposal_id}", summary="Read a proposed price list", responses=problems(404))
def read_proposal(proposal_id: str, work: Annotated[Work, reads(*_SIGNERS)]) -> s.ProposalAnswer:
    """With the hash that approving it takes."""
    return s.ProposalAnswer.of(tariffs.find_proposal(work.session, proposal_id))


@router.post(
    "/tariff-proposals/{proposal_id}/approval",
    status_code=201,
    response_model=s.TariffAnswer,
    summary="Approve and publish a price list that somebody else prepared",
    responses=problems(404),
)
def approve_proposal(
    proposal_id: str, asked: s.ApprovalAsked, work: Annotated[Work, writes(*_SIGNERS)], once: Once
) -> Response:
    """The second person is the caller; whoever prepared it cannot approve it (409 `same_person`)."""
    return once(lambda: s.TariffAnswer.of(tariffs.approve_proposal(work, proposal_id, asked.body_sha256)))


@router.get("/charges", summary="The charges you may see, newest service first")
def list_charges(
    work: Annotated[Work, reads(*_READERS)],
    page: WantedPage,
    host_id: Id = None,
    payer_org: Id = None,
    booking_id: Id = None,
    posting_month: Month = None,
) -> Page[s.ChargeAnswer]:
    """A firm sees its own, a lab manager its host's, the county all. Reversals are listed too."""
    seen = charges_seen(
        work.actor, host_id=host_id, payer_org=payer_org, booking_id=booking_id, posting_month=posting_month
    )
    rows, cursor = paginate(work.session, seen, (Charge.service_at, Charge.charge_id), page, descending=True)
    return Page[s.ChargeAnswer](items=[s.ChargeAnswer.model_validate(row) for row in rows], next_cursor=cursor)


@router.get("/charges/{charge_id}", summary="A charge with its lines", responses=problems(404))
def read_charge(charge_id: str, work: Annotated[Work, reads(*_READERS)]) -> s.ChargeWhole:
    """404 also for a charge that is not yours to see."""
    charge = explain.find_charge(work, charge_id)
    return s.ChargeWhole.whole(charge, list(explain.charge_lines(work.session, charge_id)))


@router.get("/charges/{charge_id}/explain", summary="Why this amount: down to the power curve", responses=problems(404))
def explain_charge(charge_id: str, work: Annotated[Work, reads(*_READERS)]) -> s.ExplanationAnswer:
    """Line -> price list and rule -> use -> session -> records -> frozen evidence with its hash."""
    return s.ExplanationAnswer.of(explain.explain_charge(work, charge_id))


@router.get("/statements", summary="The statements you may see, newest month first")
def list_statements(
    work: Annotated[Work, reads(*_READERS)],
    page: WantedPage,
    host_id: Id = None,
    payer_org: Id = None,
    month: Month = None,
    state: StatementState | None = None,
) -> Page[b.StatementAnswer]:
    """A firm sees its own final ones; drafts are the host's and the county's."""
    seen = statement_seen(work.actor, host_id=host_id, payer_org=payer_org, month=month, state=state)
    rows, cursor = paginate(work.session, seen, (Statement.month, Statement.statement_id), page, descending=True)
    return Page[b.StatementAnswer](items=[b.StatementAnswer.model_validate(row) for row in rows], next_cursor=cursor)


@router.get("/statements/{statement_id}", summary="A statement with lines and payments", responses=problems(404))
def read_statement(statement_id: str, work: Annotated[Work, reads(*_READERS)]) -> b.StatementWhole:
    """404 also for a statement that is not yours to see."""
    found = statement_parts(work, statement_id)
    return b.StatementWhole.whole(
        found.statement,
        payments.open_fen(work.session, found.statement),
        found.lines,
        [b.InvoiceAnswer.model_validate(each) for each in found.invoices],
        [b.PaymentAnswer.model_validate(each) for each in found.payments],
    )


@router.post(
    "/statements",
    status_code=201,
    response_model=b.StatementAnswer,
    summary="Collect a payer's unbilled charges of a month in a draft",
    responses=problems(404),
)
def prepare_statement(asked: b.StatementAsked, work: Annotated[Work, writes(*_BILLERS)], once: Once) -> Response:
    """Makes the draft, or brings the one there is up to date."""
    return once(
        lambda: b.StatementAnswer.model_validate(
            statements.prepare_statement(work, asked.host_id, asked.payer_org, asked.month)
        )
    )


@router.post(
    "/statements/{statement_id}/finalization",
    status_code=201,
    response_model=b.StatementAnswer,
    summary="Make a draft final: numbered, hashed, unchangeable",
    responses=problems(404),
)
def finalize_statement(statement_id: str, work: Annotated[Work, writes(*_BILLERS)], once: Once) -> Response:
    """Numbers have no gaps within a host and year."""
    return once(lambda: b.StatementAnswer.model_validate(statements.finalize_statement(work, statement_id)))


@router.post(
    "/statements/{statement_id}/invoices",
    status_code=201,
    response_model=b.InvoiceAnswer,
    summary="Record the number of a tax invoice",
    responses=problems(404),
)
def record_invoice(
    statement_id: str, asked: b.InvoiceAsked, work: Annotated[Work, writes(*_BILLERS)], once: Once
) -> Response:
    """20 digits, used once, ever; a red one takes back one blue one."""
    return once(
        lambda: b.InvoiceAnswer.model_validate(
            invoices.record_invoice(
                work,
                statement_id,
                asked.invoice_no,
                asked.kind,
                asked.issued_at,
                asked.reverses,
                asked.amount_fen,
            )
        )
    )


@router.post(
    "/statements/{statement_id}/payments",
    status_code=201,
    response_model=b.PaymentAnswer,
    summary="Record a payment",
    responses=problems(404),
)
def record_payment(
    statement_id: str, asked: b.PaymentAsked, work: Annotated[Work, writes(*_BILLERS)], once: Once
) -> Response:
    """In part or in full, never above what is open, each reference once."""
    return once(
        lambda: b.PaymentAnswer.model_validate(
            payments.record_payment(
                work, statement_id, asked.tender, asked.amount_fen, asked.external_ref, asked.received_at
            )
        )
    )


router.include_router(endpoints_anomalies.router)
router.include_router(endpoints_disputes.router)
router.include_router(endpoints_billing.router)
router.include_router(endpoints_prices.router)
