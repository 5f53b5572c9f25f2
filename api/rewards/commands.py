"""`openlab rewards …`: prepare, look at, lock and withdraw reward runs. Added to the command line by api.commands."""

from pathlib import Path
from typing import Annotated

import typer

from api.command_line import open_ledger
from api.rewards import service
from api.rewards.periods import read_period
from api.rewards.persons import acting_as
from api.rewards.repository import stored_results
from api.rewards.schemas import RunWhole
from store.money import yuan

app = typer.Typer(help="Reward runs: what the county grants its hosts for outside testing.", no_args_is_help=True)

DataDir = Annotated[Path | None, typer.Option(help="Folder of the databases, where no URL is set.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]
RunId = Annotated[str, typer.Argument(help="The run.")]
As = Annotated[str, typer.Option("--as", help="Login of the person who does it.", metavar="LOGIN")]


@app.command()
def prepare(
    policy: Annotated[str, typer.Argument(help="The policy, like FLAT10.")],
    period: Annotated[str, typer.Argument(help="2026 (year), 2026-Q4 (quarter) or 2026-11 (month).")],
    login: As,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Compute a period's rewards out of all that is known now. Grants nothing until a second person locks it.

    Example: openlab rewards prepare FLAT10 2026 --as officer-1
    """
    kind, first = read_period(period)
    with open_ledger(data_dir=data_dir) as ledger, acting_as(ledger, login) as work:
        run = service.prepare_run(work, policy, kind, first)
        shown = RunWhole.whole(run, stored_results(work.session, run.run_id))
    _show(shown, as_json)


@app.command()
def show(run_id: RunId, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Show a run with the result of every host.

    Example: openlab rewards show 01JD5W6ZQ4T8M0V2X3Y4Z5A6B7 --json
    """
    with open_ledger(data_dir=data_dir) as ledger, ledger.look("rewards") as work:
        shown = RunWhole.whole(service.find_run(work.session, run_id), stored_results(work.session, run_id))
    _show(shown, as_json)


@app.command()
def lock(
    run_id: RunId,
    login: As,
    result_sha256: Annotated[str, typer.Option(help="Hash of the result that you looked at (rewards show).")],
    data_dir: DataDir = None,
) -> None:
    """Approve a prepared run as its second person; from then on it counts as granted and never changes.

    Example: openlab rewards lock 01JD5W6ZQ4T8M0V2X3Y4Z5A6B7 --as finance-1 --result-sha256 5f2c…
    """
    with open_ledger(data_dir=data_dir) as ledger, acting_as(ledger, login) as work:
        run = service.lock_run(work, run_id, result_sha256)
        typer.echo(f"{run.run_id} is locked: {yuan(run.payable_fen)} yuan")


@app.command()
def withdraw(
    run_id: RunId,
    login: As,
    reason: Annotated[str, typer.Option(help="Why.")],
    data_dir: DataDir = None,
) -> None:
    """Take a prepared run back; it never counts.

    Example: openlab rewards withdraw 01JD5W6ZQ4T8M0V2X3Y4Z5A6B7 --as officer-1 --reason "an assessment was late"
    """
    with open_ledger(data_dir=data_dir) as ledger, acting_as(ledger, login) as work:
        typer.echo(f"{service.withdraw_run(work, run_id, reason).run_id} is withdrawn")


def _show(run: RunWhole, as_json: bool) -> None:
    if as_json:
        typer.echo(run.model_dump_json(indent=2))
        return
    typer.echo(f"run      {run.run_id} ({run.state.value}), number {run.run_no} of {run.policy_id} for {run.period}")
    typer.echo(f"charges  {run.charge_count}, eligible {yuan(run.base_fen)} yuan, payable {yuan(run.payable_fen)} yuan")
    typer.echo(f"result   {run.result_sha256}")
    for row in run.results:
        typer.echo(
            f"{row.host_id:12} base {yuan(row.base_fen):>14}  reward {yuan(row.reward_fen):>12}"
            f"  before {yuan(row.granted_before_fen):>12}  payable {yuan(row.payable_fen):>12}  {row.name_zh}"
        )
