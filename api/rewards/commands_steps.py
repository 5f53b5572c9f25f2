"""`openlab rewards …` for what happens to a run once it is prepared: who signs, objections, money. See commands.py."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from api.accounts.acting import acting_as
from api.command_line import open_ledger
from api.errors import invalid
from api.rewards import payments, steps
from api.rewards.objections import answer_objection, object_to_run
from api.rewards.run_view import run_money
from api.rewards.service import find_run
from api.rewards.steps_repository import notice_until_of
from api.schemas import rfc3339
from store.money import yuan
from store.tables.reward_steps import ObjectionOutcome

DataDir = Annotated[Path | None, typer.Option(help="Folder of the databases, where no URL is set.")]
RunId = Annotated[str, typer.Argument(help="The run.")]
As = Annotated[str, typer.Option("--as", help="Login of the person who does it.", metavar="LOGIN")]
ResultHash = Annotated[str, typer.Option(help="Hash of the result that you looked at (rewards show).")]
Day = Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="Day of the transfer, Asia/Shanghai.")]
Reference = Annotated[str, typer.Option(help="The bank's reference.")]


def check(run_id: RunId, login: As, result_sha256: ResultHash, data_dir: DataDir = None) -> None:
    """Say as a second person that a prepared run was gone through.

    Example: openlab rewards check 01JD5W6ZQ4T8M0V2X3Y4Z5A6B7 --as finance-1 --result-sha256 5f2c…
    """
    with open_ledger(data_dir=data_dir) as ledger, acting_as(ledger, login) as work:
        typer.echo(f"{steps.check_run(work, run_id, result_sha256).run_id} is checked")


def publish(run_id: RunId, login: As, data_dir: DataDir = None) -> None:
    """Announce a checked run publicly, for the days that its policy says.

    Example: openlab rewards publish 01JD5W6ZQ4T8M0V2X3Y4Z5A6B7 --as officer-1
    """
    with open_ledger(data_dir=data_dir) as ledger, acting_as(ledger, login) as work:
        run = steps.publish_notice(work, run_id)
        until = notice_until_of(work.session, run_id) or work.now
        typer.echo(f"{run.run_id} is announced until {rfc3339(until)}")


def object_(
    run_id: RunId,
    login: As,
    text: Annotated[str, typer.Option(help="What is wrong.")],
    host: Annotated[str | None, typer.Option(help="The host whose amount it is about.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Record an objection to an announced run.

    Example: openlab rewards object 01JD5W6ZQ4T8M0V2X3Y4Z5A6B7 --as officer-2 --host h01 --text "a fee is missing"
    """
    with open_ledger(data_dir=data_dir) as ledger, acting_as(ledger, login) as work:
        typer.echo(f"objection {object_to_run(work, run_id, text, host).objection_id} is recorded")


def answer(
    objection_id: Annotated[str, typer.Argument(help="The objection.")],
    outcome: Annotated[ObjectionOutcome, typer.Option(help="Upheld: the run can only be withdrawn.")],
    login: As,
    text: Annotated[str, typer.Option(help="The answer.")],
    data_dir: DataDir = None,
) -> None:
    """Answer an objection, as an officer who did not raise it.

    Example: openlab rewards answer 01JD5W7A… --outcome rejected --as officer-1 --text "the fee was never paid"
    """
    with open_ledger(data_dir=data_dir) as ledger, acting_as(ledger, login) as work:
        typer.echo(f"the objection is {answer_objection(work, objection_id, outcome, text).outcome}")


def approve(run_id: RunId, login: As, result_sha256: ResultHash, data_dir: DataDir = None) -> None:
    """Approve an announced run as its second person, after the notice.

    Example: openlab rewards approve 01JD5W6ZQ4T8M0V2X3Y4Z5A6B7 --as finance-1 --result-sha256 5f2c…
    """
    with open_ledger(data_dir=data_dir) as ledger, acting_as(ledger, login) as work:
        typer.echo(f"{steps.approve_run(work, run_id, result_sha256).run_id} is approved")


def lock(run_id: RunId, login: As, result_sha256: ResultHash, data_dir: DataDir = None) -> None:
    """Lock an approved run as its second person; from then on it counts as granted and never changes.

    Example: openlab rewards lock 01JD5W6ZQ4T8M0V2X3Y4Z5A6B7 --as finance-1 --result-sha256 5f2c…
    """
    with open_ledger(data_dir=data_dir) as ledger, acting_as(ledger, login) as work:
        run = steps.lock_run(work, run_id, result_sha256)
        typer.echo(f"{run.run_id} is locked: {yuan(run.payable_fen)} yuan")


def pay(
    run_id: RunId,
    login: As,
    on: Day,
    ref: Reference,
    amount: Annotated[
        list[str] | None, typer.Option(help="HOST=FEN, repeated; without it, all that is unpaid.", metavar="HOST=FEN")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Record a transfer to hosts of a locked run.

    Example: openlab rewards pay 01JD5W6ZQ4T8M0V2X3Y4Z5A6B7 --as finance-1 --on 2027-02-01 --ref BANK-77
    """
    with open_ledger(data_dir=data_dir) as ledger, acting_as(ledger, login) as work:
        unpaid = run_money(work.session, find_run(work.session, run_id)).hosts
        amounts = _amounts(amount) if amount else {one.host_id: one.unpaid_fen for one in unpaid if one.unpaid_fen}
        payments.record_reward_payments(work, run_id, amounts, on.date(), ref)
        money = run_money(work.session, find_run(work.session, run_id))
    typer.echo(f"paid {yuan(money.paid_fen)} of {yuan(money.approved_fen)} yuan")


def returned(
    run_id: RunId,
    host: Annotated[str, typer.Argument(help="The host that the money came back from.")],
    fen: Annotated[int, typer.Argument(help="How much, in fen.")],
    login: As,
    on: Day,
    ref: Reference,
    reason: Annotated[str, typer.Option(help="Why.")],
    data_dir: DataDir = None,
) -> None:
    """Record that money came back from a host, or was recorded in error.

    Example: openlab rewards returned 01JD… h01 400000 --as finance-1 --on 2027-02-03 --ref BANK-78 --reason "closed"
    """
    with open_ledger(data_dir=data_dir) as ledger, acting_as(ledger, login) as work:
        payments.return_payment(work, run_id, host, fen, on.date(), ref, reason)
        money = run_money(work.session, find_run(work.session, run_id))
    typer.echo(f"paid {yuan(money.paid_fen)} of {yuan(money.approved_fen)} yuan")


def withdraw(
    run_id: RunId, login: As, reason: Annotated[str, typer.Option(help="Why.")], data_dir: DataDir = None
) -> None:
    """Take a run back before its lock; it never counts.

    Example: openlab rewards withdraw 01JD5W6ZQ4T8M0V2X3Y4Z5A6B7 --as officer-1 --reason "an assessment was late"
    """
    with open_ledger(data_dir=data_dir) as ledger, acting_as(ledger, login) as work:
        typer.echo(f"{steps.withdraw_run(work, run_id, reason).run_id} is withdrawn")


COMMANDS: dict[str, Callable[..., None]] = {
    "check": check,
    "publish": publish,
    "object": object_,
    "answer": answer,
    "approve": approve,
    "lock": lock,
    "pay": pay,
    "returned": returned,
    "withdraw": withdraw,
}


def _amounts(given: list[str]) -> dict[str, int]:
    amounts: dict[str, int] = {}
    for one in given:
        host, _, fen = one.partition("=")
        if not host or not fen.isdigit() or host in amounts:
            raise invalid(
                "bad_amount",
                f"{one!r} 不是 依托单位=金额(分),或重复;请更正。",
                f"{one!r} is not HOST=FEN, or names a host again; correct it.",
                field="amount",
            )
        amounts[host] = int(fen)
    return amounts
