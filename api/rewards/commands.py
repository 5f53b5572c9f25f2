"""`openlab rewards …`: try, prepare and look at reward runs. Added to the command line by api.commands; what happens to
a run once it is prepared is in commands_steps.py, marks and grades are in commands_signed.py."""

import json
from pathlib import Path
from typing import Annotated

import typer

from api.accounts.acting import acting_as
from api.command_line import open_ledger
from api.errors import invalid
from api.pagination import PageAsked
from api.rewards import commands_signed, commands_steps, service
from api.rewards.periods import read_period
from api.rewards.policies import policy_refused
from api.rewards.policy_body import BadPolicy, PolicyBody, parse_policy
from api.rewards.repository import stored_results
from api.rewards.run_view import run_detail, runs_page
from api.rewards.schemas import ResultAnswer, RunAnswer, RunWhole
from api.rewards.schemas_steps import RunDetail
from api.rewards.schemas_whatif import SideAnswer, WhatIfAnswer
from api.rewards.whatif import Asked, what_if
from api.schemas import rfc3339
from store.money import yuan
from store.tables.reward_steps import RunStage

app = typer.Typer(help="Reward runs: what the county grants its hosts for outside testing.", no_args_is_help=True)

DataDir = Annotated[Path | None, typer.Option(help="Folder of the databases, where no URL is set.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]
Period = Annotated[str, typer.Argument(help="2026 (year), 2026-Q4 (quarter) or 2026-11 (month).")]


@app.command("what-if")
def try_policy(
    period: Period,
    policy: Annotated[str | None, typer.Option(help="A published policy, like XC-DEMO.")] = None,
    version: Annotated[int | None, typer.Option(help="Its version, where it is not the one for the period.")] = None,
    draft: Annotated[Path | None, typer.Option(help="A file with a draft: JSON of openlab.reward-policy/1.")] = None,
    against_run: Annotated[str | None, typer.Option(help="Compare with what this run granted.")] = None,
    against_policy: Annotated[str | None, typer.Option(help="Compare with this policy.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Say what a policy would grant for a past period: winners, losers, budget. Writes nothing.

    Without --against-…, compares with the newest locked run of the period, else with what is in force.

    Example: openlab rewards what-if 2026 --draft draft.json --against-policy FLAT10 --json
    """
    kind, first = read_period(period)
    asked = Asked(kind, first, _draft(draft), policy, version, against_run, against_policy)
    with open_ledger(data_dir=data_dir) as ledger, ledger.look("rewards") as work:
        found = WhatIfAnswer.of(what_if(work, asked))
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
        return
    for title, side in (("asked", found.asked), ("against", found.against)):
        typer.echo(_side(title, side))
    typer.echo(f"difference {yuan(found.difference_fen)} yuan: {found.winners} win, {found.losers} lose")
    for row in found.hosts:
        typer.echo(
            f"{row.host_id:12} before {yuan(row.reward_before_fen):>14}  then {yuan(row.reward_fen):>14}"
            f"  difference {yuan(row.difference_fen):>14}  {row.name_zh}"
        )


@app.command("list")
def list_runs(
    policy: Annotated[str | None, typer.Option(help="Only runs of this policy.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """List the newest 200 runs with how far each has come.

    Example: openlab rewards list --policy FLAT10
    """
    with open_ledger(data_dir=data_dir) as ledger, ledger.look("rewards") as work:
        shown, _ = runs_page(work.session, PageAsked(limit=200), policy)
    if as_json:
        typer.echo(json.dumps([run.model_dump(mode="json") for run in shown], ensure_ascii=False, indent=2))
        return
    for run in shown:
        typer.echo(f"{run.run_id}  {run.stage.value:10} {run.policy_id:10} {run.period:8} {yuan(run.payable_fen):>16}")


@app.command()
def prepare(
    policy: Annotated[str, typer.Argument(help="The policy, like FLAT10.")],
    period: Period,
    login: commands_steps.As,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Compute a period's rewards out of all that is known now. Grants nothing until it is locked.

    Example: openlab rewards prepare FLAT10 2026 --as officer-1
    """
    kind, first = read_period(period)
    with open_ledger(data_dir=data_dir) as ledger, acting_as(ledger, login) as work:
        run = service.prepare_run(work, policy, kind, first)
        shown = RunWhole.whole(run, RunStage.PREPARED, stored_results(work.session, run.run_id))
    if as_json:
        typer.echo(shown.model_dump_json(indent=2))
        return
    _show(shown, shown.results)


@app.command()
def show(run_id: commands_steps.RunId, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Show a run: the result of every host, its steps, objections, payments, and what it stands on.

    Example: openlab rewards show 01JD5W6ZQ4T8M0V2X3Y4Z5A6B7 --json
    """
    with open_ledger(data_dir=data_dir) as ledger, ledger.look("rewards") as work:
        shown = run_detail(work, service.find_run(work.session, run_id))
    if as_json:
        typer.echo(shown.model_dump_json(indent=2))
        return
    _show(shown, shown.results)
    _show_way(shown)


for name, command in commands_steps.COMMANDS.items():
    app.command(name)(command)
app.add_typer(commands_signed.marks, name="marks")
app.add_typer(commands_signed.assessments, name="assessments")


def _draft(file: Path | None) -> PolicyBody | None:
    if file is None:
        return None
    try:
        return parse_policy(json.loads(file.read_text(encoding="utf-8")))
    except BadPolicy as fault:
        raise policy_refused(fault) from None
    except (OSError, ValueError) as error:
        raise invalid(
            "draft_unreadable",
            f"无法读取政策草案,请检查 JSON:{file}:{error}",
            f"The draft {file} cannot be read as JSON; correct it: {error}",
            field="draft",
        ) from None


def _side(title: str, side: SideAnswer) -> str:
    named = side.kind if not side.policy_id else f"{side.kind} {side.policy_id}/{side.version} {side.run_id or ''}"
    short = f", {yuan(side.shortfall_fen)} over the budget" if side.shortfall_fen else ""
    ungraded = f"; without a grade: {', '.join(side.hosts_without_grade)}" if side.hosts_without_grade else ""
    return (
        f"{title:8} {named.strip()}: eligible {yuan(side.base_fen)} of {side.charge_count} charges,"
        f" reward {yuan(side.reward_fen)} yuan{short}{ungraded}"
    )


def _show(run: RunAnswer, results: list[ResultAnswer]) -> None:
    typer.echo(f"run      {run.run_id} ({run.stage.value}), number {run.run_no} of {run.policy_id} for {run.period}")
    typer.echo(f"charges  {run.charge_count}, eligible {yuan(run.base_fen)} yuan, payable {yuan(run.payable_fen)} yuan")
    typer.echo(f"result   {run.result_sha256}")
    for row in results:
        typer.echo(
            f"{row.host_id:12} base {yuan(row.base_fen):>14}  reward {yuan(row.reward_fen):>12}"
            f"  before {yuan(row.granted_before_fen):>12}  payable {yuan(row.payable_fen):>12}  {row.name_zh}"
        )


def _show_way(run: RunDetail) -> None:
    for earlier in run.stands_on:
        typer.echo(f"stands on {earlier.run_id}, number {earlier.run_no}, policy version {earlier.policy_version}")
    for change in run.changes:
        typer.echo(f"since    {change.host_id:12} {change.count} {change.kind}, {yuan(change.difference_fen)} eligible")
    for step in run.steps:
        typer.echo(f"step     {rfc3339(step.done_at)} {step.action.value} by {step.done_by} {step.reason}".rstrip())
    for one in run.objections:
        said = "open" if one.outcome is None else one.outcome.value
        typer.echo(f"objection {one.objection_id} ({said}): {one.objection}")
    if run.money.approved_at is not None:
        took = "" if run.money.days_to_pay is None else f" in {run.money.days_to_pay} days"
        typer.echo(f"paid     {yuan(run.money.paid_fen)} of {yuan(run.money.approved_fen)} yuan{took}")
