"""`openlab alerts list|done`: alerts from the server's shell, as `openlab doctor` names them."""

import json
from pathlib import Path
from typing import Annotated

import typer

from api.accounts.acting import acting_as
from api.alerts.schemas import AlertAnswer
from api.alerts.service import AlertState, alerts_seen, be_done
from api.command_line import open_ledger
from api.errors import invalid
from store.tables.usage import Alert

app = typer.Typer(help="What a person should look at, and being done with it.", no_args_is_help=True)

DataDir = Annotated[Path | None, typer.Option(help="Folder of the databases, where no URL is set.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]


@app.command("list")
def list_alerts(
    state: Annotated[AlertState, typer.Option(help="Which ones.")] = AlertState.OPEN,
    rule: Annotated[str | None, typer.Option(help="Of one rule.")] = None,
    owner: Annotated[str | None, typer.Option(help="Of one host; '' for the county's own.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=10_000)] = 200,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """List alerts, the newest first, each with what it means.

    Example: openlab alerts list --owner h01
    """
    with open_ledger(data_dir=data_dir) as ledger, ledger.look("command") as work:
        seen = alerts_seen(work.actor, state, rule, owner).order_by(Alert.first_at.desc(), Alert.alert_id.desc())
        found = [AlertAnswer.of(row) for row in work.session.scalars(seen.limit(limit))]
    if as_json:
        typer.echo(json.dumps({"alerts": [one.model_dump(mode="json") for one in found]}, ensure_ascii=False))
        return
    for one in found:
        typer.echo(
            f"{one.alert_id}  {one.rule}  {one.subject}  ({one.owner or 'county'}, {one.times} times): {one.detail}"
        )
        typer.echo(f"{'':28}{one.means_zh} {one.means_en}")


@app.command("done")
def done(
    alert_id: Annotated[str, typer.Argument(help="Its id.")],
    note: Annotated[str, typer.Option(help="What was found and done about it.")],
    by: Annotated[str | None, typer.Option("--as", help="Login of the person who does it.", metavar="LOGIN")] = None,
    data_dir: DataDir = None,
) -> None:
    """Say that an alert has been dealt with; the note stands in the audit chain.

    Example: openlab alerts done 01KAB0ZV2X9M6Q3T4R5S7W8Y9A --note "cable of the meter mended" --as wang-7k2m
    """
    if not note.strip():
        raise invalid("note_missing", "请写明处理情况。", "Write down what was found and done.", field="note")
    with open_ledger(data_dir=data_dir) as ledger, acting_as(ledger, by) as work:
        alert = be_done(work, alert_id, note.strip())
    typer.echo(f"{alert.rule} {alert.subject}: done")
