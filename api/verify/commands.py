"""`openlab verify …`: recompute what is stored, name the first row that does not hold. Added by api.commands.

Reads only. Exit code 0: everything holds. 1: something does not, or there is nothing of that name.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import select

from api.command_line import open_ledger
from api.errors import not_found
from api.rewards.service import find_run
from api.verify import checks
from api.verify.finding import NamedCheck, Outcome
from store.periods import parse_month
from store.tables.charging import Statement

app = typer.Typer(help="Recompute the ledger from its evidence. Exit code 1 where a row differs.", no_args_is_help=True)

DataDir = Annotated[Path | None, typer.Option(help="Folder of the databases, where no URL is set.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]


@app.command("all")
def everything(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Verify everything: usage, charges, statements, payments, months, rewards, exports, audit.

    Example: openlab verify all --json
    """
    _verify(checks.all_checks(), as_json, data_dir)


@app.command()
def chain(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Verify the hash chains of usage and audit, and fold every session again.

    Example: openlab verify chain
    """
    _verify(checks.chain_checks(), as_json, data_dir)


@app.command()
def charges(
    month: Annotated[str, typer.Argument(help="Month of posting, like 2026-11.")],
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Price every charge of a month again from its evidence.

    Example: openlab verify charges 2026-11
    """
    try:
        chosen = parse_month(month)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    _verify(checks.charge_checks(chosen), as_json, data_dir)


@app.command()
def statement(
    number: Annotated[str, typer.Argument(help="Number of a final statement.")],
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Verify one statement against its charges.

    Example: openlab verify statement XC-H01-2026-0001
    """
    with open_ledger(data_dir=data_dir) as ledger, ledger.look("verify") as work:
        if work.session.execute(select(Statement.statement_id).where(Statement.number == number)).first() is None:
            raise not_found("结算单", "statement", number)
    _verify(checks.statement_checks(number), as_json, data_dir)


@app.command()
def run(
    run_id: Annotated[str, typer.Argument(help="The reward run.")], as_json: AsJson = False, data_dir: DataDir = None
) -> None:
    """Compute a reward run again from what was known at its watermark.

    Example: openlab verify run 01JD5W6ZQ4T8M0V2X3Y4Z5A6B7
    """
    with open_ledger(data_dir=data_dir) as ledger, ledger.look("verify") as work:
        find_run(work.session, run_id)
    _verify(checks.run_checks(run_id), as_json, data_dir)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="The exported file.", exists=True, dir_okay=False, readable=True)],
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Verify an exported file (CSV, XLSX or JSON) against the run it names, and that run against its charges.

    Example: openlab verify export openlab-reward-FLAT10-2026-run1.xlsx
    """
    _verify(checks.export_checks(file.read_bytes()), as_json, data_dir)


@app.command()
def bundle(
    file: Annotated[Path, typer.Argument(help="The archive.", exists=True, dir_okay=False, readable=True)],
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Verify a bundle against the ledger, and its run against its charges. Without the ledger: check.py in the bundle.

    Example: openlab verify bundle openlab-reward-FLAT10-2026-run1.zip
    """
    _verify(checks.bundle_checks(file.read_bytes()), as_json, data_dir)


def _verify(chosen: Iterable[NamedCheck], as_json: bool, data_dir: Path | None) -> None:
    outcomes: list[Outcome] = []
    with open_ledger(data_dir=data_dir) as ledger, ledger.look("verify") as work:
        for outcome in checks.verify(work.session, chosen):
            outcomes.append(outcome)
            if not as_json:
                typer.echo(_line(outcome))
    good = all(outcome.finding is None for outcome in outcomes)
    if as_json:
        typer.echo(json.dumps({"holds": good, "checks": [_fields(one) for one in outcomes]}, ensure_ascii=False))
    raise typer.Exit(0 if good else 1)


def _line(outcome: Outcome) -> str:
    found = outcome.finding
    if found is None:
        return f"ok      {outcome.name}"
    return f"DIFFERS {outcome.name}: {found.table} {found.key}: {found.what}"


def _fields(outcome: Outcome) -> dict[str, object]:
    return {"check": outcome.name, "finding": None if outcome.finding is None else dict(vars(outcome.finding))}
