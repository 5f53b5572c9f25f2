"""What payers owe and for how long: open amounts of final statements by age, as of an instant. Reads only.

The age of a charge is the number of full days since the statement that first billed it became final. What is credit of
a payer stands beside the open amounts and is not taken off them: it settles the next statement, or is paid back.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import literal, select
from sqlalchemy.orm import aliased

from api.charging.access import visible_to
from api.charging.payments_credit import credits_of
from api.charging.settled import is_reversed, settled_of
from api.work import Work
from store.tables.charging import Charge, Statement, StatementLine, StatementState
from store.tables.registry import Org

BUCKETS = ("0-30", "31-60", "61-90", "90+")
_LAST_DAYS = (30, 60, 90)


@dataclass
class AgeingRow:
    """One payer at one host. `open_fen` is the sum of the buckets; amounts in fen."""

    host_id: str
    payer_org: str
    payer_name_zh: str
    payer_name_en: str
    buckets: dict[str, int] = field(default_factory=lambda: dict.fromkeys(BUCKETS, 0))
    credit_fen: int = 0

    @property
    def open_fen(self) -> int:
        """All that is open, whatever its age."""
        return sum(self.buckets.values())


def bucket_of(finalized_at: datetime, as_of: datetime) -> str:
    """Return the bucket of what was billed at one instant, seen at another: day 30 is the last one of `0-30`."""
    days = (as_of - finalized_at) // timedelta(days=1)
    return next((name for name, last in zip(BUCKETS, _LAST_DAYS, strict=False) if days <= last), BUCKETS[-1])


def ageing(work: Work, host_id: str | None = None, as_of: datetime | None = None) -> list[AgeingRow]:
    """Return who owes what, of all that the actor may see (a firm: its own), ordered by host and payer.

    `as_of` only moves the day the age is counted to; amounts are those of now.
    """
    moment = as_of or work.now
    first = aliased(Charge)
    settled = settled_of(Charge.charge_id.expression)
    query = (
        select(Charge.host_id, Charge.payer_org, Statement.finalized_at, Charge.total_fen - settled)
        .join(first, (first.booking_id == Charge.booking_id) & (first.purpose == Charge.purpose))
        .join(StatementLine, StatementLine.charge_id == first.charge_id)
        .join(Statement, Statement.statement_id == StatementLine.statement_id)
        .where(
            first.revision == 1,
            Statement.state == StatementState.FINAL.value,
            Charge.revision % 2 == 1,
            ~is_reversed(),
            Charge.total_fen - settled > literal(0),
            visible_to(work.actor, Charge.host_id.expression, Charge.payer_org.expression),
        )
    )
    if host_id is not None:
        query = query.where(Charge.host_id == host_id)
    rows: dict[tuple[str, str], AgeingRow] = {}
    names = {row[0]: (row[1], row[2]) for row in work.session.execute(select(Org.org_id, Org.name_zh, Org.name_en))}
    for host, payer, finalized_at, fen in work.session.execute(query):
        row = rows.setdefault((host, payer), AgeingRow(host, payer, *names[payer]))
        assert finalized_at is not None  # of a final statement
        row.buckets[bucket_of(finalized_at, moment)] += int(fen)
    for (host, payer), fen in credits_of(work.session, host_id, None).items():
        if (host, payer) in rows:
            rows[host, payer].credit_fen = fen
        elif work.actor.org_id == payer or _sees_host(work, host):
            rows[host, payer] = AgeingRow(host, payer, *names[payer], credit_fen=fen)
    return [rows[key] for key in sorted(rows)]


def _sees_host(work: Work, host_id: str) -> bool:
    seen = visible_to(work.actor, Statement.host_id.expression, literal(None))
    query = select(Statement.statement_id).where(Statement.host_id == host_id, seen).limit(1)
    return work.session.execute(query).first() is not None
