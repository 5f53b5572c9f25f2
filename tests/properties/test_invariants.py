"""Invariants 1 to 14 of the ledger where they are properties: money over any history of billing, use over any history
of corrections, and a whole simulated year in which verification finds nothing. docs/billing.md lists the others."""

import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from api.charging.corrections import Proposal, decide_correction, propose_correction
from api.charging.payments import open_fen, record_payment, settle_by_credit
from api.charging.payments_credit import credit_fen, refund_credit
from api.charging.reversal import reverse_charge
from api.charging.service import recharge_booking
from api.charging.settled import is_reversed, settled_fen
from api.charging.statements import finalize_statement, prepare_statement
from api.errors import Refused
from api.simulation.plan import Fate, Machine, make_plan
from api.simulation.year import simulate_year
from api.verify.checks import all_checks, verify
from store.database import Database
from store.ledger import check_usage_chain, correct_usage
from store.series import open_series
from store.series_sqlite import create_schema
from store.tables.calendar import BookingUse
from store.tables.charging import Charge, ChargeLine, Payment, Settlement, Statement, Tender
from store.tables.disputes import CorrectionKind, CreditEntry
from store.tables.usage import UsageEntry, UsageSession
from tests.api.charging.building import FIRM, HOST, MANAGER, MINUTE, SECOND, County, build
from tests.support.databases import DatabaseServers, opened
from tests.support.usage import NINE

MONTH = 202603
HOURS_4 = 4 * 60 * MINUTE
STEPS = st.one_of(
    st.tuples(st.just("charge"), st.sampled_from([1, 30, 80, 110]), st.just(0)),
    st.tuples(st.just("bill"), st.just(0), st.just(0)),
    st.tuples(st.just("pay"), st.integers(0, 5), st.sampled_from([1, 3, 2, 10**9])),
    st.tuples(st.just("reverse"), st.integers(0, 5), st.just(0)),
    st.tuples(st.just("recharge"), st.integers(0, 5), st.just(0)),
    st.tuples(st.just("metered"), st.integers(0, 5), st.sampled_from([0, 1, 30, 50, 119])),
    st.tuples(st.just("waive"), st.integers(0, 5), st.just(0)),
    st.tuples(st.just("settle"), st.integers(0, 5), st.just(0)),
    st.tuples(st.just("refund"), st.integers(0, 5), st.sampled_from([1, 2])),
)
OPENING = [("charge", 80, 0), ("bill", 0, 0), ("pay", 0, 10**9)]


class Story:
    """Carries out what people might do, in any order; what a service refuses is simply not done."""

    def __init__(self, county: County) -> None:
        self.county, self.made = county, 0

    def play(self, step: tuple[str, int, int]) -> None:
        with suppress(Refused):
            getattr(self, f"_{step[0]}")(*step[1:])

    def _charge(self, minutes: int, _: int) -> None:
        self.county.charged(minutes, NINE + self.made * HOURS_4)
        self.made += 1

    def _bill(self, *_: int) -> None:
        draft = self.county.do(prepare_statement, HOST, FIRM, MONTH, who=MANAGER)
        self.county.do(finalize_statement, draft.statement_id, who=MANAGER)

    def _pay(self, which: int, share: int) -> None:
        statement = self._one(Statement, which)
        with self.county.database.read() as session:
            left = open_fen(session, session.merge(statement, load=False))
        amount = left if share == 10**9 else max(1, left // share)
        self.made += 1
        step = (record_payment, statement.statement_id, Tender.CASH, amount, f"bank-{self.made}", self.county.now)
        self.county.do(*step, who=MANAGER)

    def _reverse(self, which: int, _: int) -> None:
        self.county.do(reverse_charge, self._one(Charge, which).charge_id, "wrong", who=MANAGER)

    def _recharge(self, which: int, _: int) -> None:
        step = (recharge_booking, self._one(Charge, which).booking_id, self.county.series, "right")
        self.county.do(*step, who=MANAGER)

    def _metered(self, which: int, minutes: int) -> None:
        charge = self._one(Charge, which)
        with self.county.database.read() as session:
            part = session.scalars(select(BookingUse).where(BookingUse.booking_id == charge.booking_id)).one()
        kind, ms = CorrectionKind.METERED, minutes * MINUTE
        self._correct(charge, Proposal(kind, "why", "what", session_id=part.session_id, metered_ms=ms))

    def _waive(self, which: int, _: int) -> None:
        charge = self._one(Charge, which)
        with self.county.database.read() as session:
            line = session.scalars(select(ChargeLine).where(ChargeLine.charge_id == charge.charge_id)).first()
        assert line is not None
        lines = [(line.component, line.item_code)]
        self._correct(charge, Proposal(CorrectionKind.WAIVER, "why", "what", lines=lines))

    def _settle(self, which: int, _: int) -> None:
        self.county.do(settle_by_credit, self._one(Statement, which).statement_id, who=MANAGER)

    def _refund(self, which: int, share: int) -> None:
        payment = self._one(Payment, which)
        with self.county.database.read() as session:
            left = credit_fen(session, payment.payment_id)
        self.made += 1
        step = (refund_credit, payment.payment_id, left // share, f"back-{self.made}", "")
        self.county.do(*step, who=MANAGER)

    def _correct(self, charge: Charge, proposal: Proposal) -> None:
        found = self.county.do(propose_correction, charge.charge_id, proposal, who=MANAGER)
        step = (decide_correction, found.correction_id, True, "ok", found.body_sha256, self.county.series)
        self.county.do(*step, who=SECOND)

    def _one(self, table, which: int):  # type: ignore[no-untyped-def]
        key = table.__mapper__.primary_key[0]
        with self.county.database.read() as session:
            rows = session.scalars(select(table).order_by(key)).all()
        if not rows:
            raise Refused(404, "none", "", "")
        return rows[which % len(rows)]


def check_money(county: County) -> None:
    """14: cash + voucher + waiver + open = charged, and no fen of a payment is lost or stands twice."""
    with county.database.read() as session:
        live = session.scalars(select(Charge).where(Charge.revision % 2 == 1, ~is_reversed())).all()
        settled = {charge.charge_id: settled_fen(session, charge.charge_id) for charge in live}
        assert all(0 <= settled[charge.charge_id] <= charge.total_fen for charge in live)
        paid = int(session.execute(select(func.coalesce(func.sum(Payment.amount_fen), 0))).scalar_one())
        refunds = select(func.coalesce(func.sum(CreditEntry.amount_fen), 0)).where(CreditEntry.kind == "refund")
        credit = sum(credit_fen(session, key) for key in session.scalars(select(Payment.payment_id)).all())
        assert paid == sum(settled.values()) + credit + int(session.execute(refunds).scalar_one())
        given = int(session.execute(select(func.coalesce(func.sum(Settlement.amount_fen), 0))).scalar_one())
        assert given == paid
        billed = sum(open_fen(session, one) for one in session.scalars(select(Statement)).all())
        everything = sum(charge.total_fen for charge in live) - sum(settled.values())
        assert 0 <= billed <= everything
        total = int(session.execute(select(func.coalesce(func.sum(Charge.total_fen), 0))).scalar_one())
        assert total == sum(charge.total_fen for charge in live)


@given(st.lists(STEPS, min_size=3, max_size=9))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.timeout(600)
def test_whatever_is_billed_paid_corrected_and_paid_back_no_fen_is_lost(
    database_servers: DatabaseServers, steps: list[tuple[str, int, int]]
) -> None:
    with (
        database_servers.fresh_url("sqlite") as url,
        opened(url) as database,
        tempfile.TemporaryDirectory() as folder,
    ):
        story = Story(build(database, Path(folder)))
        try:
            for step in OPENING + steps:
                story.play(step)
                check_money(story.county)
            with database.read() as session:
                assert [one for one in verify(session, all_checks()) if one.finding is not None] == []
        finally:
            story.county.series.close()


@given(st.lists(st.integers(-(10**6), 10**6) | st.sampled_from([0, 1, -1]), min_size=1, max_size=6))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.timeout(600)
def test_use_nets_to_the_odometers_and_what_was_corrected_and_the_chain_holds(
    database_servers: DatabaseServers, changes: list[int]
) -> None:
    """3, 4 and 6, over any number of corrections."""
    with (
        database_servers.fresh_url("sqlite") as url,
        opened(url) as database,
        tempfile.TemporaryDirectory() as folder,
    ):
        county = build(database, Path(folder))
        name = county.use(county.book(), 10)
        expected = 10 * MINUTE
        for change in changes:
            with database.write() as session:
                if expected + change < 0:
                    with pytest.raises(ValueError, match="cannot be added"):
                        correct_usage(session, name, change, "why", "test", county.now)
                    continue
                correct_usage(session, name, change, "why", "test", county.now)
                expected += change
        county.series.close()
        with database.read() as session:
            entries = session.scalars(
                select(UsageEntry).where(UsageEntry.session_id == name).order_by(UsageEntry.revision)
            ).all()
            assert sum(entry.quantity_ms for entry in entries) == expected
            for first, second in zip(entries[::2], entries[1::2], strict=False):
                assert first.quantity_ms + second.quantity_ms == 0
            row = session.get_one(UsageSession, name)
            assert row.odo_running_last_ms - row.odo_running_first_ms == 10 * MINUTE
            assert check_usage_chain(session, row.agent_id, row.stream) is None


MACHINES = [
    Machine("xc-h01-01", "h01", 40, True),
    Machine("xc-h01-02", "h01", 480, False),
    Machine("xc-h02-01", "h02", 5_000, False),
]


@given(st.integers(0, 2**31), st.integers(1, 400), st.integers(40, 200))
@settings(max_examples=15, deadline=None)
def test_a_plan_follows_from_its_seed_and_books_no_instrument_twice(seed: int, orders: int, firms: int) -> None:
    plan = make_plan(seed, 2025, orders, firms, MACHINES)
    assert plan == make_plan(seed, 2025, orders, firms, MACHINES)
    assert len(plan.orders) == orders
    busy: dict[str, int] = {}
    for order in sorted(plan.orders, key=lambda one: one.slot_from_ms):
        name = order.machine.instrument_id
        assert order.slot_from_ms >= busy.get(name, 0)
        assert (order.fate is Fate.USED) == (order.run_ms > 0)
        assert order.run_from_ms + order.run_ms <= order.slot_to_ms
        busy[name] = order.slot_to_ms


def year(database: Database, folder: Path, orders: int):
    create_schema(folder / "year.db")
    series = open_series(f"sqlite:///{folder / 'year.db'}")
    try:
        return simulate_year(database, series, seed=11, orders=orders, firms=40)
    finally:
        series.close()


@pytest.mark.timeout(900)
def test_a_simulated_year_is_billed_closed_paid_and_verified(sqlite_database: Database, tmp_path: Path) -> None:
    report = year(sqlite_database, tmp_path, 100)
    assert report.findings == []
    assert report.closed_months == 12 * 20
    assert report.counts["charge"] > 80
    assert report.late_charges > 0
    assert 0 < report.paid_fen <= report.charged_fen + 10**6
    with pytest.raises(Refused) as caught:
        year(sqlite_database, tmp_path, 100)
    assert caught.value.code == "not_empty"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_same_seed_gives_the_same_year_to_the_last_hash(database_servers: DatabaseServers, tmp_path: Path) -> None:
    digests = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        with database_servers.fresh_url("sqlite") as url, opened(url) as database:
            digests.append(year(database, folder, 40).digest)
    assert digests[0] == digests[1]
