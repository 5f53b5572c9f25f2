"""The facts of every charge of a period, as known at an instant, for the rules to judge.

Called by the reward service and by verification. SQL filters, joins, counts and sums; `rules` decides. One row a
charge is streamed, no object of the ORM is built. Everything is read as of a watermark (facts recorded up to and
including it), so that the same can be read again later.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    and_,
    case,
    func,
    literal,
    or_,
    select,
)
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from api.rewards.facts_joins import (
    MARK_CODES,
    REVIEWED_RULES,
    TENDERS,
    anomaly_marks,
    invoiced_statements,
    moved_by_tender,
    relations,
    reverses,
    standing_marks,
)
from api.rewards.policy_body import Attribution, Basis, PolicyBody
from api.rewards.rules import ChargeFacts
from store.database import by_code_point, read_tuples
from store.tables.charging import (
    Charge,
    ChargePurpose,
    Payment,
    Settlement,
    StatementLine,
)
from store.tables.registry import Affiliation, Org

# Few: what is worked on column by column stays in the caches, and the collector has little to look through. With 10,000
# rows at a time judging takes three times as long.
ROWS_AT_ONCE = 500
_REGION = (3, 6)
"""Where a social credit code says in which administrative area its holder is registered: first character, length."""
_PURPOSES = tuple(purpose.value for purpose in ChargePurpose)
_COVERAGE_BITS, _FLAG_BITS, _PURPOSE_BITS = 14, 11, 4
_MARKS_AT = _COVERAGE_BITS + _FLAG_BITS + _PURPOSE_BITS
_REVISION_AT = _MARKS_AT + len(MARK_CODES)


class FactsRow(NamedTuple):
    """What the database gives of a charge. `key` holds everything but ids and money; `facts_of` takes it apart.

    `settled_fen` by `tender` (position in `TENDERS`; None: nothing known) is one settlement: a charge that took
    several has as many rows, one after the other. `moved_*`: what came from reversed charges, the same in all of them.
    `payer_region` is there where it was asked for.
    """

    charge_id: str
    host_id: str
    total_fen: int
    net_fen: int
    key: int
    settled_fen: int
    tender: int | None
    moved_cash_fen: int | None
    moved_voucher_fen: int | None
    moved_waived_fen: int | None
    payer_region: str = ""


@dataclass(frozen=True)
class Asked:
    """Which facts a policy looks at besides those that are always read. What is not asked for is not joined."""

    invoices: bool = True
    marks: bool = False
    region: bool = False

    @staticmethod
    def by(policy: PolicyBody) -> "Asked":
        """Return what a policy asks for."""
        return Asked(policy.basis is Basis.INVOICED, policy.looks_at_marks, policy.looks_at_area)


def charge_facts(
    session: Session, months: Sequence[int], attribution: Attribution, watermark: datetime, asked: Asked | None = None
) -> Iterator[ChargeFacts]:
    """Yield the facts of every charge and reversal of these months, ordered by charge id (code point order)."""
    held: list[FactsRow] = []
    for rows in facts_rows(session, months, attribution, watermark, asked or Asked()):
        for row in (FactsRow(*row) for row in rows):
            if held and held[0].charge_id != row.charge_id:
                yield facts_of(held)
                held.clear()
            held.append(row)
    if held:
        yield facts_of(held)


def charge_instruments(
    session: Session, months: Sequence[int], attribution: Attribution, watermark: datetime
) -> Iterator[tuple[str, str]]:
    """Yield id and instrument of the same charges in the same order. Begun after the facts it misses none of theirs."""
    statement = (
        select(Charge.charge_id, Charge.instrument_id)
        .where(_month(attribution).in_(months), Charge.recorded_at <= watermark)
        .order_by(by_code_point(session, Charge.charge_id.expression))
    )
    for rows in read_tuples(session, statement, ROWS_AT_ONCE):
        yield from rows


def facts_rows(
    session: Session, months: Sequence[int], attribution: Attribution, watermark: datetime, asked: Asked
) -> Iterator[Sequence[Any]]:
    """Yield the rows of these months' charges by charge id (code point order), some hundreds at a time, as tuples with
    the fields of FactsRow. Without invoices nothing counts as invoiced (a policy that looks at payments does not ask).
    """
    statement = _facts_statement(session, months, attribution, watermark, asked)
    return read_tuples(session, statement, ROWS_AT_ONCE)


def facts_of(rows: Sequence[FactsRow]) -> ChargeFacts:
    """Return the facts of one charge out of its rows."""
    first, of_key = rows[0], _of_key(rows[0].key)
    by_tender = [first.moved_cash_fen or 0, first.moved_voucher_fen or 0, first.moved_waived_fen or 0]
    for row in rows:
        if row.tender is not None:
            by_tender[row.tender] += row.settled_fen
    return of_key._replace(
        charge_id=first.charge_id,
        host_id=first.host_id,
        total_fen=first.total_fen,
        net_fen=first.net_fen,
        cash_fen=by_tender[0],
        voucher_fen=by_tender[1],
        waived_fen=by_tender[2],
        payer_region=first.payer_region,
    )


@lru_cache(maxsize=50_000)
def _of_key(key: int) -> ChargeFacts:
    """What a key says, of no charge in particular."""
    bits = key >> _COVERAGE_BITS
    flag = [bool(bits >> place & 1) for place in range(_FLAG_BITS)]
    return ChargeFacts(
        charge_id="",
        host_id="",
        purpose=_PURPOSES[bits >> _FLAG_BITS & (1 << _PURPOSE_BITS) - 1],
        revision=key >> _REVISION_AT,
        reversed=flag[0],
        internal=flag[1],
        has_session=flag[2],
        coverage_bp=key & (1 << _COVERAGE_BITS) - 1,
        certificate_valid=flag[3],
        affiliated=flag[4],
        session_cleared=flag[5],
        coverage_cleared=flag[6],
        certificate_cleared=flag[7],
        anomaly_confirmed=flag[8],
        anomaly_open=flag[9],
        invoiced=flag[10],
        total_fen=0,
        net_fen=0,
        cash_fen=0,
        voucher_fen=0,
        waived_fen=0,
        marks=tuple(code for place, code in enumerate(MARK_CODES) if key >> _MARKS_AT + place & 1),
    )


def _month(attribution: Attribution) -> InstrumentedAttribute[int]:
    return Charge.service_month if attribution is Attribution.SERVICE else Charge.posting_month


def _facts_statement(
    session: Session, months: Sequence[int], attribution: Attribution, watermark: datetime, asked: Asked
) -> Select[Any]:
    marks, moved = anomaly_marks(watermark), moved_by_tender(watermark)
    stands = relations(watermark)
    reversal, known = aliased(Charge), aliased(Payment)
    flags: list[ColumnElement[bool]] = [
        reversal.charge_id.is_not(None),
        Charge.internal.expression,
        Charge.has_session.expression,
        Charge.certificate_valid.expression,
        stands.c.state == Affiliation.AFFILIATED.value,
        *(marks.c[rule] == 1 for rule in REVIEWED_RULES),
        marks.c.confirmed == 1,
        marks.c.undecided == 1,
    ]
    invoiced = invoiced_statements(watermark)
    if asked.invoices:
        flags.append(invoiced.c.statement_id.is_not(None))
    places = {name: place << _COVERAGE_BITS + _FLAG_BITS for place, name in enumerate(_PURPOSES)}
    key = Charge.revision * (1 << _REVISION_AT) + case(places, value=Charge.purpose.expression) + Charge.coverage_bp
    for place, flag in enumerate(flags):
        key += case((flag, 1 << _COVERAGE_BITS + place), else_=0)
    marked = standing_marks(watermark)
    for place, code in enumerate(MARK_CODES if asked.marks else ()):
        key += case((marked.c[code] == 1, literal(1 << _MARKS_AT + place, BigInteger)), else_=literal(0, BigInteger))
    tender = case({tender.value: place for place, tender in enumerate(TENDERS)}, value=known.tender)
    statement = (
        select(
            Charge.charge_id,
            Charge.host_id,
            Charge.total_fen,
            Charge.net_fen,
            key,
            func.coalesce(Settlement.amount_fen, 0),
            tender,
            *(moved.c[tender.value] for tender in TENDERS),
        )
        .outerjoin(reversal, reverses(reversal, Charge, watermark))
        .outerjoin(
            stands,
            and_(
                stands.c.host_id == Charge.host_id,
                stands.c.other_org == Charge.payer_org,
                stands.c.from_at <= Charge.service_at,
                or_(stands.c.to_at.is_(None), stands.c.to_at > Charge.service_at),
            ),
        )
        .outerjoin(marks, marks.c.charge_id == Charge.charge_id)
        .outerjoin(Settlement, Settlement.charge_id == Charge.charge_id)
        .outerjoin(known, and_(known.payment_id == Settlement.payment_id, known.recorded_at <= watermark))
        .outerjoin(moved, moved.c.charge_id == Charge.charge_id)
        .where(_month(attribution).in_(months), Charge.recorded_at <= watermark)
        .order_by(by_code_point(session, Charge.charge_id.expression))
    )
    if asked.marks:
        statement = statement.outerjoin(marked, marked.c.booking_id == Charge.booking_id)
    if asked.region:
        statement = statement.add_columns(func.substr(Org.uscc, *_REGION)).join(Org, Org.org_id == Charge.payer_org)
    if not asked.invoices:
        return statement
    return statement.outerjoin(StatementLine, StatementLine.charge_id == Charge.charge_id).outerjoin(
        invoiced, invoiced.c.statement_id == StatementLine.statement_id
    )
