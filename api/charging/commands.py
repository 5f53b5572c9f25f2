"""`openlab close-month` and `openlab explain`: plain functions that api.commands adds to the command line."""

import json
from pathlib import Path
from typing import Annotated

import typer

from api.charging import months
from api.charging.explain import Explanation, explain_charge
from api.charging.schemas import ExplanationAnswer
from api.command_line import open_ledger
from api.errors import Refused
from store.money import yuan
from store.periods import parse_month

DataDir = Annotated[Path | None, typer.Option(help="Folder of the databases, where no URL is set.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]


def close_month(
    month: Annotated[str, typer.Argument(help="The month, like 2026-03 (Asia/Shanghai).")],
    host: Annotated[str | None, typer.Option(help="Only this host; otherwise all of them or none.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Lock a month: nothing is posted into it any more, and its seal recomputes for ever.

    Lists what is still open and exits 1 unless everything is done. Example: openlab close-month 2026-03
    """
    chosen = parse_month(month)
    with open_ledger(data_dir=data_dir) as ledger:
        try:
            with ledger.unit("close-month") as work:
                closed = months.close_month(work, host, chosen)
        except Refused as refused:
            if as_json:
                typer.echo(json.dumps({"code": refused.code, "facts": refused.facts}, ensure_ascii=False))
            raise
    if as_json:
        typer.echo(json.dumps([_as_fields(one) for one in closed]))
        return
    for one in closed:
        again = " (already)" if one.already else ""
        typer.echo(
            f"{one.host_id}  {one.seal.count:>6} charges  {yuan(one.seal.sum_fen):>14}  {one.seal.sha256}{again}"
        )


def explain(
    charge_id: Annotated[str, typer.Argument(help="The charge.")],
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Say why a charge is what it is: price list and rule, use, sessions, records, evidence.

    Example: openlab explain 01JD5W6ZQ4T8M0V2X3Y4Z5A6B7
    """
    with open_ledger(data_dir=data_dir) as ledger, ledger.look("explain") as work:
        found = explain_charge(work, charge_id)
        text = ExplanationAnswer.of(found).model_dump_json(indent=2) if as_json else "\n".join(_tree(found))
    typer.echo(text)


def _as_fields(one: months.ClosedMonth) -> dict[str, object]:
    return {"host_id": one.host_id, "month": one.month, "already": one.already, **vars(one.seal)}


def _tree(found: Explanation) -> list[str]:
    charge, tariff = found.charge, found.tariff
    lines = [
        f"{charge.charge_id}  {yuan(charge.total_fen)} (net {yuan(charge.net_fen)})  booking {charge.booking_id}",
        f"├─ price list {tariff.tariff_id} version {tariff.version}  sha256 {tariff.body_sha256}",
    ]
    lines += [f"├─ {line.component.value:<8} {said.zh}\n│           {said.en}" for line, said in found.lines]
    days = () if found.given.times is None else found.given.times.days
    lines += [f"├─ {day} was {kind.value} by the public calendar" for day, kind in days]
    for use in found.uses:
        lines.append(f"├─ session {use.session_id}: {use.running_ms / 1000:.1f} s running, {use.records} records")
    lines += [f"├─ {hole.from_at:%Y-%m-%d %H:%M:%S} {hole.zh}\n│  {hole.en} ({hole.record})" for hole in found.holes]
    for other in found.second_sources:
        decided = {"cleared": "billed, as an officer decided", "": "not billed until an officer decides"}
        lines.append(f"├─ session {other.session_id}: {decided.get(other.verdict, 'not billed')}; {other.detail}")
    for kept in found.evidence:
        lines.append(f"├─ {kept.kind}: {kept.item_count} items, {kept.size_bytes} bytes, sha256 {kept.content_sha256}")
    lines += [f"├─ anomaly {each.rule}: {each.detail}" for each, _ in found.anomalies]
    lines.append(f"└─ coverage {charge.coverage_bp / 100:.2f} %, row hash {charge.row_hash}")
    return lines
