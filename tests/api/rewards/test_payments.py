"""Approved against paid: transfers to hosts, money that comes back, days to pay, and who is told when it is late."""

from datetime import date, timedelta

import pytest
from sqlalchemy import select

from api.charging.reversal import reverse_charge
from api.chores import CHORES
from api.rewards.payments import UNPAID, record_reward_payments, return_payment, watch_payments
from api.rewards.run_view import run_money
from api.rewards.schemas_steps import MoneyAnswer
from store.migrations import downgrade, upgrade
from store.periods import SHANGHAI
from store.tables.reward_steps import RunStage
from store.tables.rewards import RewardRun
from store.tables.usage import Alert
from tests.api.charging.building import FINANCE, HOST, OFFICER, WORKER
from tests.api.rewards.building import RewardCounty
from tests.api.rewards.test_steps import refused, stage

pytestmark = pytest.mark.slow_on_postgresql


@pytest.fixture
def locked(county: RewardCounty) -> RewardRun:
    """A run that grants the host 40 yuan."""
    county.paid()
    return county.lock(county.prepare())


def today(county: RewardCounty) -> date:
    return county.now.astimezone(SHANGHAI).date()


def money(county: RewardCounty, run: RewardRun) -> MoneyAnswer:
    with county.database.read() as session:
        return run_money(session, session.get_one(RewardRun, run.run_id))


def pay(county: RewardCounty, run: RewardRun, fen: int, ref: str) -> None:
    county.do(record_reward_payments, run.run_id, {HOST: fen}, today(county), ref, who=FINANCE)


def test_a_run_is_paid_when_every_host_has_all_of_it(county: RewardCounty, locked: RewardRun) -> None:
    approved = county.now
    county.later(3)
    pay(county, locked, 1_000, "BANK-1")
    seen = money(county, locked)
    assert (seen.approved_fen, seen.paid_fen, seen.unpaid_fen, seen.days_to_pay) == (4_000, 1_000, 3_000, None)
    assert (seen.approved_at, stage(county, locked)) == (approved, RunStage.LOCKED)
    county.later(2)
    pay(county, locked, 3_000, "BANK-2")
    seen = money(county, locked)
    assert (seen.unpaid_fen, seen.days_to_pay, stage(county, locked)) == (0, 5, RunStage.PAID)
    [host] = seen.hosts
    assert [(one.amount_fen, one.external_ref) for one in host.payments] == [(1_000, "BANK-1"), (3_000, "BANK-2")]
    assert refused(county, record_reward_payments, locked.run_id, {HOST: 1}, today(county), "B", who=FINANCE).code == (
        "not_possible_now"
    )


def test_money_that_came_back_is_to_be_paid_again(county: RewardCounty, locked: RewardRun) -> None:
    pay(county, locked, 4_000, "BANK-1")
    back = (locked.run_id, HOST, 4_000, today(county), "BACK-1")
    assert refused(county, return_payment, *back, " ", who=FINANCE).code == "reason_missing"
    assert refused(county, return_payment, locked.run_id, HOST, 4_001, *back[3:], "x", who=FINANCE).code == (
        "returned_beyond"
    )
    assert refused(county, return_payment, *back, "closed account", who=OFFICER).status == 403
    county.do(return_payment, *back, "closed account", who=FINANCE)
    assert (money(county, locked).unpaid_fen, stage(county, locked)) == (4_000, RunStage.LOCKED)
    county.later(40)
    pay(county, locked, 4_000, "BANK-2")
    assert (money(county, locked).days_to_pay, stage(county, locked)) == (40, RunStage.PAID)


def test_payments_that_make_no_sense_are_refused(county: RewardCounty, locked: RewardRun) -> None:
    day = today(county)

    def code(amounts: dict[str, int], on: date, ref: str, who=FINANCE) -> str:
        return refused(county, record_reward_payments, locked.run_id, amounts, on, ref, who=who).code

    assert code({HOST: 4_001}, day, "B") == "paid_beyond"
    assert code({}, day, "B") == code({HOST: 0}, day, "B") == code({HOST: 1}, day, " ") == "no_payment"
    assert code({HOST: 1}, day + timedelta(days=1), "B") == "bad_payment_day"
    assert code({HOST: 1}, day - timedelta(days=1), "B") == "bad_payment_day"
    assert code({"h99": 1}, day, "B") == "not_found"
    assert code({HOST: 1}, day, "B", OFFICER) == "forbidden"
    pay(county, locked, 1, "B")
    assert code({HOST: 1}, day, "B") == "payment_recorded"
    # What was refused has left nothing behind.
    assert money(county, locked).paid_fen == 1


def test_nothing_is_paid_before_the_lock(county: RewardCounty) -> None:
    county.paid()
    run = county.approve(county.prepare())
    assert money(county, run).unpaid_fen == 4_000
    error = refused(county, record_reward_payments, run.run_id, {HOST: 1}, today(county), "B", who=FINANCE)
    assert error.code == "not_possible_now"


def test_money_that_is_late_is_told_once_until_it_is_paid(county: RewardCounty) -> None:
    county.publish("SOON", pay_within_days=10)
    county.paid()
    run = county.lock(county.prepare("SOON"))

    def told() -> list[str]:
        county.do(watch_payments, who=WORKER)
        with county.database.read() as session:
            rows = session.execute(select(Alert).where(Alert.rule == UNPAID, Alert.open_slot == 1)).scalars()
            return [f"{row.subject} {row.times} {row.owner}" for row in rows]

    county.later(9)
    assert told() == []
    county.later(1)
    assert told() == told() == [f"{run.run_id} 1 "]
    pay(county, run, 4_000, "BANK-1")
    assert told() == []
    assert any(chore.do is watch_payments for chore in CHORES)


def test_a_run_that_grants_nothing_is_never_late(county: RewardCounty, locked: RewardRun) -> None:
    [charge] = county.reasons(locked)
    county.do(reverse_charge, charge, "wrong payer", who=OFFICER)
    pay(county, locked, 4_000, "BANK-1")
    county.lock(county.prepare())
    county.later(60)
    county.do(watch_payments, who=WORKER)
    with county.database.read() as session:
        assert session.execute(select(Alert).where(Alert.rule == UNPAID)).first() is None


def test_a_run_that_was_locked_before_steps_were_kept_is_paid_like_any_other(
    county: RewardCounty, locked: RewardRun
) -> None:
    pay(county, locked, 1, "BANK-0")
    downgrade(county.database.engine, revision="0004")
    upgrade(county.database.engine)
    assert (stage(county, locked), money(county, locked).unpaid_fen) == (RunStage.LOCKED, 4_000)
    assert money(county, locked).approved_at == locked.closed_at
    pay(county, locked, 4_000, "BANK-1")
    assert stage(county, locked) is RunStage.PAID
