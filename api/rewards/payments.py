"""What was paid of a locked run, and what came back. Decides and writes, never commits.

The county promises to pay all of it: a run is paid when every host has exactly what it was granted. A wrong or returned
transfer is recorded as a negative one with its reason. `watch_payments` is a chore of the worker.
"""

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta

from sqlalchemy import func, select

from api.errors import Refused, conflict, invalid, not_found
from api.rewards.access import require_person
from api.rewards.policies import policy_version
from api.rewards.states import shanghai_day, who_may
from api.rewards.steps import permitted, record_step
from api.rewards.steps_repository import HostMoney, approved_at, money_of, take_run
from api.work import Work
from store.alerts import clear_alert, raise_alert
from store.money import yuan
from store.periods import SHANGHAI, PeriodKind, format_period
from store.tables.reward_steps import RewardPayment, RewardStep, RunAction
from store.tables.rewards import RewardRun, RunState
from store.tables.usage import Alert
from wire.clock import to_ms

UNPAID = "reward_unpaid"


def record_reward_payments(
    work: Work, run_id: str, amounts: Mapping[str, int], paid_on: date, external_ref: str
) -> RewardStep:
    """Record one transfer (a bank's batch) to some hosts of a locked run; amounts in fen by host id, a day of Shanghai.

    Refused: 403, 404 (also for a host that the run grants nothing), 409 `not_possible_now`, `paid_beyond` (more than is
    granted), `payment_recorded` (this reference is there for this host), 422 `no_payment`, `bad_payment_day`.
    """
    require_person(work, who_may(RunAction.PAY), "登记奖励拨付", "record reward payments")
    run = take_run(work.session, run_id)
    permitted(work, run, RunAction.PAY)
    if not amounts or any(fen <= 0 for fen in amounts.values()) or not external_ref.strip():
        raise invalid(
            "no_payment",
            "请给出每个依托单位的拨付金额(正数)和凭证号。",
            "Give a positive amount for each host, and the bank's reference.",
            field="amounts",
        )
    paid_at = _day_of_payment(work, run, paid_on)
    money = money_of(work.session, run_id)
    for host_id, fen in amounts.items():
        of_host = _of_host(money, host_id)
        if fen > of_host.unpaid_fen:
            raise _paid_beyond(of_host, fen)
    left = sum(one.unpaid_fen for one in money.values()) - sum(amounts.values())
    step = record_step(work, run, RunAction.PAY_PART if left else RunAction.PAY)
    for host_id, fen in sorted(amounts.items()):
        _add_payment(work, run, step, host_id, fen, paid_at, external_ref.strip())
    if not left:
        clear_alert(work.session, UNPAID, run_id, to_ms(work.now), work.actor.person_id)
    return step


def return_payment(
    work: Work, run_id: str, host_id: str, amount_fen: int, paid_on: date, external_ref: str, reason: str
) -> RewardStep:
    """Record that money came back from a host, or was never sent: the run is to be paid again as far as that goes.

    Refused: 403, 404, 409 `not_possible_now`, `returned_beyond` (more than the host got), `payment_recorded`, 422
    `no_payment`, `bad_payment_day`, `reason_missing`.
    """
    require_person(work, who_may(RunAction.RETURN), "登记退回款项", "record returned payments")
    run = take_run(work.session, run_id)
    permitted(work, run, RunAction.RETURN, reason)
    if amount_fen <= 0 or not external_ref.strip():
        raise invalid(
            "no_payment",
            "请给出退回金额(正数)和凭证号。",
            "Give the amount that came back and its reference.",
            field="amount_fen",
        )
    paid_at = _day_of_payment(work, run, paid_on)
    of_host = _of_host(money_of(work.session, run_id), host_id)
    if amount_fen > of_host.paid_fen:
        raise conflict(
            "returned_beyond",
            f"请更正金额:{host_id} 只收到 {yuan(of_host.paid_fen)} 元。",
            f"{host_id} got {yuan(of_host.paid_fen)} yuan; correct the amount: no more can come back.",
            host_id=host_id,
            paid_fen=of_host.paid_fen,
        )
    step = record_step(work, run, RunAction.RETURN, reason=reason)
    _add_payment(work, run, step, host_id, -amount_fen, paid_at, external_ref.strip())
    return step


def days_to_pay(approved: datetime | None, money: HostMoney) -> int | None:
    """Return the days from approval to the last transfer of a host that has everything; None while it has not."""
    if approved is None or money.unpaid_fen or money.last_paid_at is None:
        return None
    return (money.last_paid_at - shanghai_day(approved)).days


def watch_payments(work: Work) -> None:
    """Open an alert for each run approved longer ago than its policy allows and not paid in full; close the others."""
    late: dict[str, str] = {}
    for run in work.session.scalars(
        select(RewardRun).where(RewardRun.state != RunState.WITHDRAWN.value, RewardRun.payable_fen > 0)
    ):
        approved = approved_at(work.session, run)
        if approved is None:
            continue
        days = policy_version(work.session, run.policy_id, run.policy_version).body.pay_within_days
        unpaid = sum(one.unpaid_fen for one in money_of(work.session, run.run_id).values())
        if unpaid and work.now >= approved + timedelta(days=days):
            period = format_period(PeriodKind(run.period_kind), run.period_first)
            late[run.run_id] = (
                f"run {run.run_no} of {run.policy_id} for {period} was approved over {days} days ago;"
                f" {yuan(unpaid)} of {yuan(run.payable_fen)} yuan are unpaid"
            )
    now_ms = to_ms(work.now)
    told = set(work.session.scalars(select(Alert.subject).where(Alert.rule == UNPAID, Alert.open_slot == 1)))
    for run_id, detail in sorted(late.items()):
        if run_id not in told:
            raise_alert(work.session, UNPAID, run_id, detail, now_ms, "")
    for run_id in sorted(told - set(late)):
        clear_alert(work.session, UNPAID, run_id, now_ms, "system")


def _day_of_payment(work: Work, run: RewardRun, paid_on: date) -> datetime:
    day = datetime.combine(paid_on, time(), SHANGHAI)
    if run.closed_at is None or not shanghai_day(run.closed_at) <= day <= work.now:
        raise invalid(
            "bad_payment_day",
            "拨付日期须在锁定日与今天之间;请更正。",
            "The day of the payment is between the day of the lock and today; correct it.",
            field="paid_on",
        )
    return shanghai_day(day)


def _of_host(money: Mapping[str, HostMoney], host_id: str) -> HostMoney:
    if host_id not in money:
        raise not_found("该核算应拨付的依托单位", "host that this run grants anything", host_id)
    return money[host_id]


def _paid_beyond(money: HostMoney, fen: int) -> Refused:
    return conflict(
        "paid_beyond",
        f"{money.host_id} 尚有 {yuan(money.unpaid_fen)} 元未拨付,不能拨付 {yuan(fen)} 元;请更正金额。",
        f"{yuan(money.unpaid_fen)} yuan are still to be paid to {money.host_id}, not {yuan(fen)}; correct the amount.",
        host_id=money.host_id,
        unpaid_fen=money.unpaid_fen,
    )


def _add_payment(
    work: Work, run: RewardRun, step: RewardStep, host_id: str, fen: int, paid_at: datetime, external_ref: str
) -> None:
    of_host = (RewardPayment.run_id == run.run_id, RewardPayment.host_id == host_id)
    known = select(RewardPayment.payment_no).where(*of_host, RewardPayment.external_ref == external_ref)
    if work.session.execute(known).first() is not None:
        raise conflict(
            "payment_recorded",
            f"凭证 {external_ref} 已为 {host_id} 登记过;请核对凭证号。",
            f"{external_ref} has been recorded for {host_id} before; check the reference.",
            host_id=host_id,
            external_ref=external_ref,
        )
    last = work.session.execute(
        select(func.coalesce(func.max(RewardPayment.payment_no), 0)).where(*of_host)
    ).scalar_one()
    work.session.add(
        RewardPayment(
            run_id=run.run_id,
            host_id=host_id,
            payment_no=int(last) + 1,
            step_no=step.step_no,
            amount_fen=fen,
            paid_at=paid_at,
            external_ref=external_ref,
            recorded_by=work.actor.person_id,
            recorded_at=work.now,
        )
    )
    work.session.flush()
    work.audit(
        "reward_payment.recorded",
        f"reward_run:{run.run_id}",
        host_id=host_id,
        after={"amount_fen": fen, "paid_at": to_ms(paid_at), "external_ref": external_ref, "step": step.step_no},
    )
