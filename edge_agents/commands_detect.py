"""`openlab-agent teach` and `detect`: learn a profile from a labelled recording, and read another one with it.

Both work on files alone; the agent that bills uses the same detector and the same profile.
"""

import csv
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from edge_agents.detector import DetectorProfile
from edge_agents.drivers.recording import BadFile, read_samples
from edge_agents.power_curve import Sample, running_intervals, sample_period_ms, thinned_to
from edge_agents.power_files import read_labels
from edge_agents.refusal import refuse
from edge_agents.teaching import BILLABLE_PERIOD_MS, CannotTeach, Teaching
from edge_agents.teaching import teach as learn
from wire.profiles import ProfileSettings

HOLE_PERIODS = 5

TraceArgument = Annotated[Path, typer.Argument(help="Recording: t_s,power_w (seconds, watts).", metavar="TRACE.csv")]


def teach(
    trace: TraceArgument,
    labels: Annotated[Path, typer.Option(help="What it did when: trace,start_s,end_s,state.")],
    name: Annotated[str, typer.Option(help="Name of this recording in the labels' first column.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Write the profile here (JSON).")],
) -> None:
    """Learn an instrument's thresholds and dwell times from a recording that a person has labelled.

    States: off, standby, running, ambiguous (teaches nothing). What was seen is told on stderr.

    Example: openlab-agent teach day1.csv --labels labels.csv --name washer -o profile.json
    """
    try:
        teaching = learn(read_samples(trace), read_labels(labels, name))
        draft = output.with_name(output.name + ".tmp")
        draft.write_text(json.dumps(asdict(teaching.profile), indent=1) + "\n", encoding="utf-8")
        os.replace(draft, output)
    except (BadFile, CannotTeach) as error:
        refuse(str(error))
    except OSError as error:
        refuse(f"{output} cannot be written: {error.strerror}")
    for line in _told(teaching):
        typer.echo(line, err=True)


def detect(
    trace: TraceArgument,
    profile: Annotated[Path, typer.Option(help="Profile that `teach` wrote.")],
    period: Annotated[float, typer.Option(help="Thin the samples to one in so many seconds.", min=0)] = 0.0,
    allow_indicative: Annotated[
        bool, typer.Option("--allow-indicative", help="Go on above 10 s, where the result is not billable.")
    ] = False,
) -> None:
    """Print the intervals in which the instrument ran, as CSV: start_s,end_s in seconds of the recording.

    Pauses of the samples inside a session are told on stderr as hole,from,to.

    Example: openlab-agent detect day2.csv --profile profile.json --period 5
    """
    try:
        samples, known = read_samples(trace), read_profile(profile)
    except BadFile as error:
        refuse(str(error))
    if not math.isfinite(period):
        refuse(f"--period {period} is no number of seconds")
    native, wanted = sample_period_ms(samples), round(period * 1000)
    slow = max(native, wanted)
    if slow > BILLABLE_PERIOD_MS and not allow_indicative:
        refuse(
            f"one sample in {slow / 1000:g} s is not billable: use 5 s or less (10 s at most), "
            "or --allow-indicative for a result that no invoice may rest on"
        )
    if wanted > native:
        # A slower meter sees the same pause up to one of its periods longer.
        samples = thinned_to(samples, wanted)
        known = replace(known, max_hole_ms=known.max_hole_ms + wanted)
    found = running_intervals(known, samples)
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(("start_s", "end_s"))
    out.writerows((seconds(a), seconds(b)) for a, b in found)
    for a, b in holes(samples, found, HOLE_PERIODS * slow):
        typer.echo(f"hole,{seconds(a)},{seconds(b)}", err=True)


def read_profile(path: Path) -> DetectorProfile:
    """Read what `teach` wrote. Raises BadFile."""
    try:
        fields = ProfileSettings.model_validate_json(path.read_bytes())
        return DetectorProfile(**fields.model_dump())
    except OSError as error:
        raise BadFile(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise BadFile(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except ValueError as error:
        raise BadFile(f"{path}: {error}") from None


def holes(
    samples: Sequence[Sample], found: Sequence[tuple[int, int]], longer_than_ms: int
) -> Iterator[tuple[int, int]]:
    """Yield each pause of the samples that begins while the instrument runs."""
    for (a, _), (b, _) in pairwise(samples):
        if b - a > longer_than_ms and any(start <= a <= end for start, end in found):
            yield a, b


def seconds(ms: int) -> str:
    """Return milliseconds as seconds, without zeros that say nothing."""
    return str(ms // 1000) if ms % 1000 == 0 else f"{ms / 1000:.3f}".rstrip("0")


def _told(teaching: Teaching) -> Iterator[str]:
    profile, contrast = teaching.profile, teaching.contrast
    yield f"period          {teaching.period_ms / 1000:g} s"
    yield f"idle ceiling    {teaching.idle_ceiling_w:g} W"
    if teaching.run_median_w is not None:
        yield f"running, usual  {teaching.run_median_w:g} W" + ("" if contrast is None else f", {contrast:.3g} x idle")
    yield f"longest spike while idle  {teaching.longest_idle_spike_ms / 1000:g} s"
    yield f"longest pause in a run    {teaching.longest_pause_ms / 1000:g} s"
    yield (
        f"learned: on above {profile.on_w:g} W for {profile.up_ms / 1000:g} s, "
        f"over below {profile.off_w:g} W for {profile.down_ms / 1000:g} s"
    )
    yield f"on this recording {teaching.wrong_ms / 1000:g} s of {teaching.run_ms / 1000:g} s are wrong"
    for warning in teaching.warnings:
        yield f"warning: {warning}"
