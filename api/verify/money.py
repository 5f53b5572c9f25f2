"""Where the money of payments stands, what is disputed and decided, and the chains that closed months sealed.

SQL joins, counts and sums; nothing is divided. What a charge is settled with = settlements - releases + applies.
"""

from collections import defaultdict
from collections.abc import Iterator

from sqlalchemy import case, exists, func, or_, select, union_all
from sqlalchemy.orm import Session, aliased

from api.charging.anomalies import DISPUTED
from api.charging.months_seals import recompute
from api.verify.finding import Finding
from store.tables.audit import Anomaly, AnomalyDecision
from store.tables.charging import (
    Charge,
    Invoice,
    InvoiceKind,
    Payment,
    Settlement,
    Statement,
    StatementLine,
    StatementState,
)
from store.tables.disputes import (
    Correction,
    CorrectionDecision,
    CorrectionKind,
    CreditEntry,
    CreditKind,
    Dispute,
    DisputeEnd,
    MonthSeal,
)


def settlements(session: Session) -> Iterator[Finding]:
    """14: 0 <= settled <= charged for what is live, and nothing settles what was reversed; of every payment, what
    settles charges, what was paid back and what is left as credit is its amount; payer and host stay the same."""
    yield from _charges_settled(session)
    yield from _payments_spent(session)
    parts = union_all(
        select(Settlement.payment_id, Settlement.charge_id),
        select(CreditEntry.payment_id, CreditEntry.charge_id).where(CreditEntry.charge_id.is_not(None)),
    ).subquery()
    strays = session.execute(
        select(parts.c.payment_id, parts.c.charge_id)
        .join(Payment, Payment.payment_id == parts.c.payment_id)
        .join(Statement, Statement.statement_id == Payment.statement_id)
        .join(Charge, Charge.charge_id == parts.c.charge_id)
        .where(or_(Charge.host_id != Statement.host_id, Charge.payer_org != Statement.payer_org))
        .order_by(parts.c.payment_id, parts.c.charge_id)
    )
    for payment_id, charge_id in strays:
        yield Finding(
            "settlement", f"{payment_id}/{charge_id}", "the charge is not of the payer and host that was paid"
        )
    first = aliased(Charge)
    elsewhere = session.execute(
        select(Settlement.payment_id, Settlement.charge_id)
        .join(Payment, Payment.payment_id == Settlement.payment_id)
        .join(Charge, Charge.charge_id == Settlement.charge_id)
        .join(first, (first.booking_id == Charge.booking_id) & (first.purpose == Charge.purpose))
        .outerjoin(
            StatementLine,
            (StatementLine.charge_id == first.charge_id) & (StatementLine.statement_id == Payment.statement_id),
        )
        .where(first.revision == 1, StatementLine.charge_id.is_(None))
        .order_by(Settlement.payment_id, Settlement.charge_id)
    )
    for payment_id, charge_id in elsewhere:
        yield Finding("settlement", f"{payment_id}/{charge_id}", "the charge is not on the statement that was paid")


def invoices(session: Session) -> Iterator[Finding]:
    """Blue invoices are positive and at most what their statement says; red ones take back no more than their blue."""
    blue = aliased(Invoice)
    rows = session.execute(
        select(blue.invoice_no, blue.amount_fen, func.sum(Invoice.amount_fen))
        .join(blue, blue.invoice_no == Invoice.reverses)
        .group_by(blue.invoice_no, blue.amount_fen)
        .having(blue.amount_fen + func.sum(Invoice.amount_fen) < 0)
        .order_by(blue.invoice_no)
    )
    for number, amount, fen in rows:
        yield Finding("invoice", number, f"{-fen} fen taken back of {amount}")
    wrong_sign = session.execute(
        select(Invoice.invoice_no, Invoice.kind, Invoice.amount_fen)
        .where((Invoice.kind == InvoiceKind.BLUE.value) != (Invoice.amount_fen > 0))
        .order_by(Invoice.invoice_no)
    )
    for number, kind, amount in wrong_sign:
        yield Finding("invoice", number, f"a {kind} invoice of {amount} fen")
    # What was taken back since, and what is taken back beside it, has invoices in red of its own.
    charged = (
        select(StatementLine.statement_id, func.sum(StatementLine.amount_fen).label("fen"))
        .where(StatementLine.amount_fen > 0)
        .group_by(StatementLine.statement_id)
        .subquery()
    )
    most = func.coalesce(charged.c.fen, 0)
    over = session.execute(
        select(Statement.number, most, func.sum(Invoice.amount_fen))
        .join(Statement, Statement.statement_id == Invoice.statement_id)
        .outerjoin(charged, charged.c.statement_id == Statement.statement_id)
        .group_by(Statement.number, charged.c.fen)
        .having(func.sum(Invoice.amount_fen) > most)
        .order_by(Statement.number)
    )
    for statement_no, total, fen in over:
        yield Finding("statement", str(statement_no), f"{fen} fen invoiced of {total}")


def disputes(session: Session) -> Iterator[Finding]:
    """An open dispute has an anomaly that nobody decided; one that was corrected has a charge that took its place;
    no final statement bills a charge whose dispute was open before it became final."""
    opened = ~exists().where(DisputeEnd.dispute_id == Dispute.dispute_id)
    marked = exists().where(
        Anomaly.subject_kind == "charge",
        Anomaly.subject_id == Dispute.charge_id,
        or_(Anomaly.rule == DISPUTED, Anomaly.rule.startswith(f"{DISPUTED}_", autoescape=True)),
        Anomaly.blocks_reward,
        ~exists().where(AnomalyDecision.anomaly_id == Anomaly.anomaly_id),
    )
    unseen = select(Dispute.dispute_id).where(opened, ~marked).order_by(Dispute.dispute_id)
    for dispute_id in session.execute(unseen).scalars():
        yield Finding("dispute", dispute_id, "it is open and nothing keeps its charge out of a reward")
    after = case((Correction.kind == CorrectionKind.WITHDRAWAL.value, 1), else_=2)
    follows = aliased(Charge)
    followed = exists().where(
        follows.booking_id == Charge.booking_id,
        follows.purpose == Charge.purpose,
        follows.revision == Charge.revision + after,
    )
    idle = (
        select(Correction.correction_id)
        .join(CorrectionDecision, CorrectionDecision.correction_id == Correction.correction_id)
        .join(Charge, Charge.charge_id == Correction.charge_id)
        .where(CorrectionDecision.approved, Correction.kind != CorrectionKind.STANDS.value, ~followed)
        .order_by(Correction.correction_id)
    )
    for correction_id in session.execute(idle).scalars():
        yield Finding("correction", correction_id, "it was approved and the charge that follows from it is missing")
    billed = (
        select(Statement.number)
        .join(StatementLine, StatementLine.statement_id == Statement.statement_id)
        .join(Dispute, Dispute.charge_id == StatementLine.charge_id)
        .outerjoin(DisputeEnd, DisputeEnd.dispute_id == Dispute.dispute_id)
        .where(
            Statement.state == StatementState.FINAL.value,
            Dispute.raised_at < Statement.finalized_at,
            or_(DisputeEnd.ended_at.is_(None), DisputeEnd.ended_at > Statement.finalized_at),
        )
        .order_by(Statement.number)
    )
    for number in session.execute(billed).scalars():
        yield Finding("statement", str(number), "it became final while a line of it was disputed")


def sealed_chains(session: Session) -> Iterator[Finding]:
    """22: the chains that a closed month sealed still hold the same rows, sums and hashes."""
    by_month: dict[tuple[str, int], list[MonthSeal]] = defaultdict(list)
    for row in session.execute(
        select(MonthSeal).order_by(MonthSeal.host_id, MonthSeal.month, MonthSeal.chain)
    ).scalars():
        by_month[row.host_id, row.month].append(row)
    for (host_id, month), rows in by_month.items():
        for row in rows:
            found = recompute(session, host_id, month, row.chain, row.row_count)
            if (found.row_count, found.row_sum, found.sha256) != (row.row_count, row.row_sum, row.sha256):
                said = f"{row.row_count} rows of {row.row_sum} sealed, {found.row_count} of {found.row_sum} there"
                yield Finding("month_seal", f"{host_id}/{month}/{row.chain}", said)


def _charges_settled(session: Session) -> Iterator[Finding]:
    signed = case((CreditEntry.kind == CreditKind.APPLY.value, CreditEntry.amount_fen), else_=-CreditEntry.amount_fen)
    parts = union_all(
        select(Settlement.charge_id, Settlement.amount_fen.label("fen")),
        select(CreditEntry.charge_id, signed.label("fen")).where(CreditEntry.charge_id.is_not(None)),
    ).subquery()
    settled = select(parts.c.charge_id, func.sum(parts.c.fen).label("fen")).group_by(parts.c.charge_id).subquery()
    reversal = aliased(Charge)
    taken_back = exists().where(
        reversal.booking_id == Charge.booking_id,
        reversal.purpose == Charge.purpose,
        reversal.revision == Charge.revision + 1,
    )
    owed = case((or_(Charge.revision % 2 == 0, taken_back), 0), else_=Charge.total_fen)
    rows = session.execute(
        select(Charge.charge_id, owed, settled.c.fen)
        .join(settled, settled.c.charge_id == Charge.charge_id)
        .where(or_(settled.c.fen > owed, settled.c.fen < 0))
        .order_by(Charge.charge_id)
    )
    for charge_id, total, fen in rows:
        yield Finding("settlement", charge_id, f"{fen} fen settled of a charge of {total}")


def _payments_spent(session: Session) -> Iterator[Finding]:
    first = (
        select(Settlement.payment_id, func.sum(Settlement.amount_fen).label("fen"))
        .group_by(Settlement.payment_id)
        .subquery()
    )
    signed = case((CreditEntry.kind == CreditKind.RELEASE.value, CreditEntry.amount_fen), else_=-CreditEntry.amount_fen)
    credit = select(CreditEntry.payment_id, func.sum(signed).label("fen")).group_by(CreditEntry.payment_id).subquery()
    rows = session.execute(
        select(Payment.payment_id, Payment.amount_fen, func.coalesce(first.c.fen, 0), func.coalesce(credit.c.fen, 0))
        .outerjoin(first, first.c.payment_id == Payment.payment_id)
        .outerjoin(credit, credit.c.payment_id == Payment.payment_id)
        .where(or_(func.coalesce(first.c.fen, 0) != Payment.amount_fen, func.coalesce(credit.c.fen, 0) < 0))
        .order_by(Payment.payment_id)
    )
    for payment_id, amount, fen, left in rows:
        yield Finding("payment", payment_id, f"{amount} fen paid, {fen} fen of it settle charges; credit {left} fen")
