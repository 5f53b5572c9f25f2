"""Play a whole simulated year and say what it came to. The one function that `openlab simulate-year`, the benchmark and
the tests call. Same seed, same year: every name, row and hash but the password hashes of people who never sign in.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import func, select

from api.errors import Refused, conflict
from api.simulation.county import is_empty, seed_year
from api.simulation.days import Days
from api.simulation.months import Months
from api.simulation.plan import Order, make_plan
from api.verify.checks import all_checks, verify
from api.work import Work, system_actor
from store.canonical import sha256_hex
from store.database import Database
from store.periods import SHANGHAI, month_bounds, month_of, next_month
from store.series import SeriesStore
from store.tables.audit import ChainHead
from store.tables.charging import Charge, Payment, Statement, StatementState
from store.tables.disputes import Correction, CreditEntry, Dispute
from store.tables.usage import UsageRecordRow, UsageSession
from wire.ids import named_by

_ULID_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
Say = Callable[[str], None]


@dataclass
class YearReport:
    """What a year came to. `seconds` by step; `digest` is the same for the same seed, year, orders and firms."""

    seed: int
    year: int
    orders: int
    firms: int
    counts: dict[str, int] = field(default_factory=dict)
    charged_fen: int = 0
    paid_fen: int = 0
    late_charges: int = 0
    closed_months: int = 0
    findings: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    digest: str = ""

    @property
    def made_s(self) -> float:
        """Seconds to make the year."""
        return sum(value for name, value in self.seconds.items() if name != "verify")


def simulate_year(
    database: Database,
    series: SeriesStore,
    *,
    seed: int,
    orders: int,
    firms: int,
    year: int = 2025,
    say: Say = lambda text: None,
) -> YearReport:
    """Fill an empty, migrated ledger with a year of a county, month by month, and verify it.

    Refused 409 `not_empty` where the ledger has a county already. Raises ValueError for a plan that does not fit.
    """
    report = YearReport(seed, year, orders, firms)
    with database.write() as session, named_by(_names(seed)):
        begins = month_bounds(year * 100 + 1)[0].astimezone(SHANGHAI)
        work = Work(session, system_actor("simulation"), begins)
        if not is_empty(work):
            raise _not_empty()
        with _timed(report, "seed"):
            county = seed_year(work, firms)
    with named_by(_names(seed + 2**32)):
        plan = make_plan(seed, year, orders, firms, county.machines)
        days, months = Days(database, series, county, plan), Months(database, series, county, plan)
        quarrels = [order for order in plan.orders if order.quarrel is not None]
        day = begins
        last = begins.replace(year=year + 1) + timedelta(days=20)
        while day < last:
            with _timed(report, "book"):
                days.book(day)
            with _timed(report, "use"):
                days.use(day)
            with _timed(report, "match and charge"):
                days.work(day)
            month = next_month(month_of(day), -1)
            if month >= year * 100 + 1:
                noon = day + timedelta(hours=23, minutes=40)
                _month_end(
                    report,
                    months,
                    month,
                    day.day,
                    noon,
                    [(order, days.booked[order.number]) for order in quarrels if order.number in days.booked],
                    say,
                )
            day += timedelta(days=1)
        with _timed(report, "collect"):
            for number in range(12):
                months.collect(next_month(year * 100 + 1, number), last, late=True)
    with _timed(report, "verify"):
        report.findings = list(_verified(database))
    _sum_up(report, database)
    return report


def _month_end(
    report: YearReport,
    months: Months,
    month: int,
    day: int,
    now: datetime,
    quarrels: list[tuple[Order, str]],
    say: Say,
) -> None:
    if day == 1:
        with _timed(report, "issue"):
            months.issue(month, now)
    elif day == 2:
        with _timed(report, "disputes"):
            months.quarrel(month, quarrels, now)
    elif day == 3:
        with _timed(report, "disputes"):
            months.decide(now)
    elif day == 5:
        with _timed(report, "finalize"):
            final = months.finalize(month, now)
        with _timed(report, "close"):
            closed = months.close(month, now)
        report.closed_months += len(closed)
        total = sum(one.seal.sum_fen for one in closed)
        say(f"{month}: {sum(one.seal.count for one in closed)} charges, {total / 100:,.2f} yuan, {final} statements")
    elif day == 15:
        with _timed(report, "collect"):
            months.collect(month, now, late=False)


def _verified(database: Database) -> Iterator[str]:
    with database.read() as session:
        for outcome in verify(session, all_checks()):
            if outcome.finding is not None:
                found = outcome.finding
                yield f"{outcome.name}: {found.table} {found.key}: {found.what}"


def _sum_up(report: YearReport, database: Database) -> None:
    tables = (UsageRecordRow, UsageSession, Charge, Statement, Payment, Dispute, Correction, CreditEntry)
    with database.read() as session:
        for table in tables:
            count = session.execute(select(func.count()).select_from(table)).scalar_one()
            report.counts[str(table.__tablename__)] = int(count)
        report.charged_fen = int(session.execute(select(func.coalesce(func.sum(Charge.total_fen), 0))).scalar_one())
        report.paid_fen = int(session.execute(select(func.coalesce(func.sum(Payment.amount_fen), 0))).scalar_one())
        late = select(func.count()).where(Charge.posting_month > Charge.service_month, Charge.revision == 1)
        report.late_charges = int(session.execute(late).scalar_one())
        heads = session.execute(select(ChainHead.chain_id, ChainHead.seq, ChainHead.hash))
        lines = [f"{row[0]} {row[1]} {row[2]}" for row in heads]
        lines += session.execute(select(Charge.row_hash)).scalars()
        final = select(Statement.content_sha256).where(Statement.state == StatementState.FINAL.value)
        lines += session.execute(final).scalars()
    report.digest = sha256_hex("\n".join(sorted(lines)).encode())


def _names(seed: int) -> Callable[[], str]:
    """Names in the form of a ULID that count up from a seed."""
    number = seed % 2**60 << 40

    def make() -> str:
        nonlocal number
        number += 1
        left, digits = number, []
        for _ in range(25):
            left, digit = divmod(left, 32)
            digits.append(_ULID_DIGITS[digit])
        return "0" + "".join(reversed(digits))

    return make


@contextmanager
def _timed(report: YearReport, step: str) -> Iterator[None]:
    began = time.monotonic()
    try:
        yield
    finally:
        report.seconds[step] = report.seconds.get(step, 0.0) + time.monotonic() - began


def _not_empty() -> Refused:
    return conflict(
        "not_empty",
        "该数据库中已有数据;模拟只能写入空数据库,请另给 --data-dir。",
        "This database has a county in it; a simulation only goes into an empty one. Give another --data-dir.",
    )
