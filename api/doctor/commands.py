"""`openlab doctor`, `openlab quarantine show|replay` and `openlab expire`: functions that api.commands adds."""

import json
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.charging.anomalies import raise_anomaly
from api.command_line import Ledger, open_ledger, usable
from api.doctor.checks import Symptom, examine, newest_first
from api.doctor.expiry import expire_samples, expire_ticks
from api.errors import invalid, not_found
from store.ledger import ReplayRefused
from store.requeue import Replayed, replay_quarantined, together
from store.series import SeriesStore, open_series
from store.tables.registry import Instrument
from store.tables.usage import Quarantine, QuarantineReason, UsageSession
from wire.clock import from_ms

DataDir = Annotated[Path | None, typer.Option(help="Folder of the databases, where no URL is set.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]

quarantine = typer.Typer(help="What was set aside, and another try for it.", no_args_is_help=True)

REPLAY_BLOCKED = "quarantined_use"


def doctor(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Say how the county's OpenLab is; exit 1 where a person should look, 2 where the ledger is not usable.

    Example: openlab doctor --json

    Looks at the schema's version, quarantine, alerts, agents, holes in streams, work that is late, sessions that
    never ended and the time series.
    """
    with open_ledger(data_dir=data_dir) as ledger, ledger.look("doctor") as work:
        with usable():
            series = _series(ledger)
        try:
            # That the ledger could be opened at all means that its schema is of this program's version.
            symptoms = [Symptom("schema", True, "the ledger's schema is current")]
            symptoms += examine(work.session, series, work.now, ledger.clock.speed)
            newest = [(row.quarantine_id, row.reason, row.topic, row.detail) for row in newest_first(work.session)]
        finally:
            series.close()
    well = all(symptom.well for symptom in symptoms)
    if as_json:
        names = ("id", "reason", "topic", "detail")
        told = {"well": well, "symptoms": [asdict(s) for s in symptoms]}
        typer.echo(
            json.dumps(told | {"newest": [dict(zip(names, n, strict=True)) for n in newest]}, ensure_ascii=False)
        )
    else:
        for symptom in symptoms:
            typer.echo(f"{'ok  ' if symptom.well else 'LOOK'} {symptom.name:<11} {symptom.said}")
            for line in symptom.subjects:
                typer.echo(f"       {line}")
        for quarantine_id, reason, topic, detail in newest:
            typer.echo(f"     {quarantine_id[:16]}  {reason}  {topic}: {detail}")
    if not well:
        raise typer.Exit(1)


@quarantine.command("show")
def show(
    quarantine_id: Annotated[str, typer.Argument(help="The id, or its first characters.")],
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Show one message that was set aside, with its bytes.

    Example: openlab quarantine show 3f7a9c
    """
    with open_ledger(data_dir=data_dir) as ledger, ledger.look("quarantine") as work:
        row = work.session.get_one(Quarantine, _ids(work.session, quarantine_id, None)[0])
        told = {
            "id": row.quarantine_id,
            "topic": row.topic,
            "reason": row.reason,
            "detail": row.detail,
            "times": row.times,
            "first_at": row.first_at.isoformat(),
            "last_at": row.last_at.isoformat(),
            "replayed_at": row.replayed_at.isoformat() if row.replayed_at else None,
            "bytes": len(row.payload),
            "text": row.payload.decode("utf-8", "backslashreplace"),
        }
    if as_json:
        typer.echo(json.dumps(told, ensure_ascii=False))
        return
    for name, value in told.items():
        typer.echo(f"{name:<12} {value}")


@quarantine.command("replay")
def replay(
    quarantine_id: Annotated[str | None, typer.Argument(help="The id, or its first characters.")] = None,
    reason: Annotated[QuarantineReason | None, typer.Option(help="All that were set aside for this reason.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Give messages another try after what was wrong has been put right. Exits 1 where one stays.

    Example: openlab quarantine replay --reason unknown_instrument

    A record takes its place in its stream, as if it had been understood at once. One that would change use that was
    already given to a booking stays; its session gets an anomaly, for a person to correct. Samples of telemetry go into
    the time series.
    """
    if (quarantine_id is None) == (reason is None):
        raise invalid(
            "one_of_both", "请给出编号或 --reason 其中之一。", "Give an id or --reason, one of them.", field="id"
        )
    done: list[Replayed] = []
    stays: list[tuple[str, str]] = []
    with open_ledger(data_dir=data_dir) as ledger:
        with usable():
            series = _series(ledger)
        try:
            with ledger.look("quarantine") as work:
                groups = together(work.session, _ids(work.session, quarantine_id, reason))
            while groups:
                ids = groups.pop(0)
                try:
                    with ledger.unit("quarantine") as work:
                        now_ms = ledger.clock.now_ms()
                        done += replay_quarantined(work.session, series, ids, now_ms, "system:quarantine")
                except ReplayRefused as refused:
                    if len(ids) > 1:
                        groups += [[one] for one in ids]  # it may be one of them that is in the way
                        continue
                    stays.append((ids[0], str(refused)))
                    _tell(ledger, ids[0], refused)
        finally:
            series.close()
    if as_json:
        typer.echo(json.dumps({"replayed": [asdict(one) for one in done], "stays": dict(stays)}, ensure_ascii=False))
    else:
        for one_done in done:
            typer.echo(f"{one_done.quarantine_id[:16]}  {_said(one_done)}")
        for one, why in stays:
            typer.echo(f"{one[:16]}  stays: {why}")
    if stays:
        raise typer.Exit(1)


def expire(
    days: Annotated[int, typer.Option(help="What is older than this many days goes.", min=7)] = 90,
    do_it: Annotated[bool, typer.Option("--yes", help="Do it; without, it is only said what would go.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Drop old ticks of settled use, and raw power samples; roll-ups, sessions and frozen evidence stay.

    Example: openlab expire --days 90 --yes

    What is left is verified in the same transaction: where a stream would not prove the same, it keeps all it has.
    """
    with open_ledger(data_dir=data_dir) as ledger:
        with usable():
            series = _series(ledger)
        try:
            before_ms = ledger.clock.now_ms() - days * 86_400_000
            ticks = expire_ticks(ledger.database, from_ms(before_ms), ledger.clock.now_ms(), do_it=do_it)
            with ledger.look("expire") as work:
                samples = expire_samples(work.session, series, before_ms, do_it=do_it)
        finally:
            series.close()
    if as_json:
        told = asdict(ticks) | {"samples_before_ms": samples, "done": do_it, "older_than": str(timedelta(days=days))}
        typer.echo(json.dumps(told, ensure_ascii=False))
    else:
        verb = "dropped" if do_it else "would drop"
        typer.echo(f"{verb} {ticks.dropped} ticks ({ticks.dropped_bytes} bytes) of {ticks.streams} streams")
        typer.echo(f"{verb} samples before {from_ms(samples).isoformat()}")
        for key, why in ticks.refused:
            typer.echo(f"{key} keeps all: {why}")
    if ticks.refused:
        raise typer.Exit(1)


def _series(ledger: Ledger) -> SeriesStore:
    token = ledger.settings.series_token
    return open_series(ledger.settings.series_url, token=token.get_secret_value() if token else None)


def _ids(session: Session, start: str | None, reason: QuarantineReason | None) -> list[str]:
    query = select(Quarantine.quarantine_id).order_by(Quarantine.first_at, Quarantine.quarantine_id)
    if reason is not None:
        return list(session.scalars(query.where(Quarantine.reason == reason.value, Quarantine.replayed_at.is_(None))))
    found = list(session.scalars(query.where(Quarantine.quarantine_id.startswith(start, autoescape=True)).limit(2)))
    if len(found) != 1:
        raise not_found("隔离消息", "quarantined message", start or "")
    return found


def _said(one: Replayed) -> str:
    if one.new:
        return "taken in: the ledger never had it"
    if not one.changed.new and not one.changed.changed:
        return "taken in: nothing else changed"
    return f"taken in: {len(one.changed.new)} sessions are new, {len(one.changed.changed)} are stated anew"


def _tell(ledger: Ledger, quarantine_id: str, refused: ReplayRefused) -> None:
    """Leave an anomaly where use that was given to somebody stands in the way."""
    if refused.session_id is None:
        return
    with ledger.unit("quarantine") as work:
        metered = work.session.get_one(UsageSession, refused.session_id)
        instrument = work.session.get_one(Instrument, metered.instrument_id)
        raise_anomaly(
            work,
            rule=REPLAY_BLOCKED,
            subject_kind="session",
            subject_id=refused.session_id,
            host_id=instrument.host_id,
            detail=f"quarantined message {quarantine_id[:16]} would change it",
        )
