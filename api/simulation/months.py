"""The end of each simulated month: drafts, objections, corrections, final statements, invoices, payments, the lock.

On the 1st drafts are issued, on the 2nd payers object and labs answer, on the 3rd the second person decides, on the 5th
statements become final, anomalies are decided and the month is locked. Payments follow, most of them at once.
"""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.charging import corrections, disputes, invoices, months, payments, statements, statements_window
from api.charging.anomalies import decide_anomaly
from api.charging.corrections import Proposal
from api.charging.explain import charge_lines
from api.charging.waiting import correction_waits
from api.simulation.county import County
from api.simulation.plan import Order, Plan, Quarrel
from api.work import Work
from store.database import Database
from store.series import SeriesStore
from store.tables.audit import Anomaly, AnomalyDecision, Verdict
from store.tables.calendar import BookingUse
from store.tables.charging import (
    Charge,
    InvoiceKind,
    Payment,
    Statement,
    StatementKind,
    StatementLine,
    StatementState,
    Tender,
)
from store.tables.disputes import Correction, CorrectionKind, Dispute


class Months:
    """Bills and closes months, a transaction a step."""

    def __init__(self, database: Database, series: SeriesStore, county: County, plan: Plan) -> None:
        self._database, self._series, self._county, self._plan = database, series, county, plan
        self._invoice_no = 0

    def issue(self, month: int, now: datetime) -> int:
        """Collect what is not billed in drafts and show them to their payers; return how many there are."""
        count = 0
        with self._database.write() as session:
            for host_id in self._county.host_ids:
                work = Work(session, self._county.manager(host_id), now)
                for payer in _unbilled_payers(session, host_id, month):
                    draft = statements.prepare_statement(work, host_id, payer, month)
                    statements_window.issue_statement(work, draft.statement_id)
                    count += 1
        return count

    def quarrel(self, month: int, quarrels: list[tuple[Order, str]], now: datetime) -> int:
        """Payers of these orders (with their booking ids) object, labs propose what to do; return how many objected."""
        count = 0
        for order, booking_id in quarrels:
            with self._database.write() as session:
                charge = _live_charge(session, booking_id, month)
                if charge is None or charge.total_fen == 0:
                    continue
                firm = Work(session, self._county.firm(order.firm), now)
                dispute = disputes.raise_dispute(firm, charge.charge_id, "not what we used")
                count += 1
                if order.quarrel is Quarrel.TAKEN_BACK:
                    disputes.withdraw_dispute(firm, dispute.dispute_id, "the curve shows it")
                    continue
                lab = Work(session, self._county.manager(order.machine.host_id), now)
                assert order.quarrel is not None
                corrections.propose_correction(lab, charge.charge_id, _answer(session, charge, order.quarrel))
        return count

    def decide(self, now: datetime) -> int:
        """The second person of each host approves what was proposed; return how many corrections that were."""
        count = 0
        with self._database.write() as session:
            for correction in _waiting(session):
                work = Work(session, self._county.deputy(correction.host_id), now)
                corrections.decide_correction(
                    work, correction.correction_id, True, "checked", correction.body_sha256, self._series
                )
                count += 1
        return count

    def finalize(self, month: int, now: datetime) -> int:
        """Refresh drafts, make them final, record the tax invoices; return how many statements became final."""
        count = 0
        with self._database.write() as session:
            for host_id in self._county.host_ids:
                work = Work(session, self._county.manager(host_id), now)
                # What was corrected since is taken in; where nothing was, the draft stays as its payer saw it.
                stale = _stale_payers(session, host_id, month)
                for payer in sorted({*_unbilled_payers(session, host_id, month), *stale}):
                    statements.prepare_statement(work, host_id, payer, month)
                for draft in _drafts(session, host_id, month):
                    final = statements.finalize_statement(work, draft)
                    count += 1
                    if final.kind == StatementKind.STATEMENT.value and final.total_fen > 0:
                        self._invoice_no += 1
                        number = f"{self._plan.year % 100:02d}{self._invoice_no:018d}"
                        invoices.record_invoice(work, draft, number, InvoiceKind.BLUE, now)
        return count

    def close(self, month: int, now: datetime) -> tuple[months.ClosedMonth, ...]:
        """Decide what looked wrong and lock the month of every host."""
        with self._database.write() as session:
            officer = Work(session, self._county.officer(), now)
            open_ones = select(Anomaly.anomaly_id).where(
                ~select(AnomalyDecision.anomaly_id).where(AnomalyDecision.anomaly_id == Anomaly.anomaly_id).exists()
            )
            for anomaly_id in sorted(session.scalars(open_ones)):
                decide_anomaly(officer, anomaly_id, Verdict.CLEARED, "looked at")
        with self._database.write() as session:
            return tuple(months.close_month(Work(session, self._county.finance(), now), None, month))

    def collect(self, month: int, now: datetime, late: bool) -> int:
        """Record payments for final statements of a month: of prompt payers (or, `late`, of the others, a part of them
        in two parts, a part never); return how many."""
        count = 0
        with self._database.write() as session:
            for host_id in self._county.host_ids:
                work = Work(session, self._county.manager(host_id), now)
                for statement in _final(session, host_id, month):
                    firm = int(statement.payer_org.removeprefix("o-sme")) - 1
                    if (firm in self._plan.prompt_firms) == late:
                        continue
                    count += _pay(work, statement, firm, late, now)
        return count


def _pay(work: Work, statement: Statement, firm: int, late: bool, now: datetime) -> int:
    open_fen = payments.open_fen(work.session, statement)
    if open_fen == 0 or (late and firm % 7 == 0):
        return 0
    parts = [open_fen]
    if late and firm % 3 == 0 and open_fen > 1:
        parts = [open_fen // 3 or 1, open_fen - (open_fen // 3 or 1)]
    for number, part in enumerate(parts, start=1):
        tender = Tender.VOUCHER if firm % 11 == 0 else Tender.CASH
        payments.record_payment(work, statement.statement_id, tender, part, f"{statement.number}/{number}", now)
    return len(parts)


def _answer(session: Session, charge: Charge, quarrel: Quarrel) -> Proposal:
    """What the lab proposes, by what the plan says; where a charge has no meter, it stands."""
    if quarrel is Quarrel.METERED:
        part = session.scalars(
            select(BookingUse).where(BookingUse.booking_id == charge.booking_id).order_by(BookingUse.session_id)
        ).first()
        if part is not None and part.running_ms > 1:
            half = part.running_ms // 2
            return Proposal(CorrectionKind.METERED, "idled", "log book", session_id=part.session_id, metered_ms=half)
    if quarrel is Quarrel.WAIVER:
        line = max(charge_lines(session, charge.charge_id), key=lambda line: (line.amount_fen, -line.line_no))
        return Proposal(CorrectionKind.WAIVER, "goodwill", "agreed", lines=[(line.component, line.item_code)])
    if quarrel is Quarrel.WITHDRAWAL:
        return Proposal(CorrectionKind.WITHDRAWAL, "samples were spoilt", "report")
    return Proposal(CorrectionKind.STANDS, "as metered", "power curve")


def _live_charge(session: Session, booking_id: str, month: int) -> Charge | None:
    charge = session.scalars(
        select(Charge).where(Charge.booking_id == booking_id).order_by(Charge.revision.desc()).limit(1)
    ).one_or_none()
    return charge if charge is not None and charge.revision % 2 and charge.posting_month == month else None


def _waiting(session: Session) -> list[Correction]:
    query = select(Correction).where(correction_waits()).order_by(Correction.correction_id)
    return list(session.scalars(query))


def _unbilled_payers(session: Session, host_id: str, month: int) -> list[str]:
    billed = select(StatementLine.charge_id).where(StatementLine.charge_id == Charge.charge_id).exists()
    query = select(Charge.payer_org).where(Charge.host_id == host_id, Charge.posting_month == month, ~billed)
    return sorted(set(session.scalars(query)))


def _stale_payers(session: Session, host_id: str, month: int) -> list[str]:
    """Payers whose drafts have a charge that was disputed and corrected since."""
    query = (
        select(Statement.payer_org)
        .join(StatementLine, StatementLine.statement_id == Statement.statement_id)
        .join(Dispute, Dispute.charge_id == StatementLine.charge_id)
        .where(
            Statement.host_id == host_id,
            Statement.month == month,
            Statement.state == StatementState.DRAFT.value,
        )
    )
    return sorted(set(session.scalars(query)))


def _drafts(session: Session, host_id: str, month: int) -> list[str]:
    query = select(Statement.statement_id).where(
        Statement.host_id == host_id, Statement.month == month, Statement.state == StatementState.DRAFT.value
    )
    return sorted(session.scalars(query))


def _final(session: Session, host_id: str, month: int) -> list[Statement]:
    query = select(Statement).where(
        Statement.host_id == host_id,
        Statement.month == month,
        Statement.state == StatementState.FINAL.value,
        ~select(Payment.payment_id).where(Payment.statement_id == Statement.statement_id).exists(),
    )
    return sorted(session.scalars(query), key=lambda statement: statement.number or "")
