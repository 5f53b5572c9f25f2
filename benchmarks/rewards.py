"""What a reward run costs: `python -m benchmarks.rewards [--charges 1000000] [--engines sqlite postgresql]`.

A run over so many charges of one year (classify, hash, tiers, snapshot, commit) and its verification, in a process of
their own whose memory is measured, beside DuckDB doing the same on the same rows. It must come to the same hash and the
same amount. A database server's processor time counts as ours. Promised: at most ten times DuckDB, verification no
slower than the run, less than 300 MB.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import psutil
from sqlalchemy import text

from api.rewards.policies import seed_policies
from api.rewards.service import prepare_run
from api.verify.checks import run_checks, verify
from api.work import Actor, Work, system_actor
from benchmarks import _duckdb
from benchmarks._charges import PEOPLE, WATERMARK, YEAR_FIRST, fill
from store.database import Database, open_database
from store.periods import PeriodKind
from store.tables.accounts import Role
from tests.support.databases import ENGINES, DatabaseServers, opened
from wire.clock import to_ms

RATIO_AT_MOST, MEGABYTES_AT_MOST = 10, 300
OFFICER = Actor(PEOPLE[0], PEOPLE[0], "org-h00", frozenset({Role.COUNTY_OFFICER}), frozenset())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--charges", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--policy", default="FLAT10", help="DuckDB takes part under FLAT10 only")
    parser.add_argument("--child", metavar="URL", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measured(given.child, given.policy)))
        return
    with ExitStack() as stack:
        servers = DatabaseServers()
        stack.callback(servers.close)
        for engine in given.engines:
            for charges in given.charges:
                with servers.fresh_url(engine) as url, opened(url) as database:
                    side_by_side(url, database, charges, given.policy)


def side_by_side(url: str, database: Database, charges: int, policy: str) -> None:
    """Fill the database, let both run, print."""
    began = time.perf_counter()
    fill(database, charges)
    with database.write() as session:
        seed_policies(Work(session, system_actor("seed"), WATERMARK - timedelta(days=100)), *PEOPLE)
    engine = url.split(":")[0].split("+")[0]
    print(f"{engine}, {charges:,} charges (filled in {time.perf_counter() - began:.0f} s), {policy}", flush=True)
    duck = None
    if policy == "FLAT10":
        with tempfile.TemporaryDirectory(prefix="openlab-bench-") as folder:
            copy = _duckdb.copy_out(database, Path(folder))
            runs = [_duckdb.run(copy, YEAR_FIRST, YEAR_FIRST + 11, to_ms(WATERMARK)) for _ in range(3)]
            copy.close()
        duck = sorted(runs, key=lambda one: one.seconds)[1]
        print(f"  {'DuckDB, median of 3':24} {duck.seconds:8.2f} s   processor {duck.cpu_s:8.2f} s")
    command = [sys.executable, "-m", "benchmarks.rewards", "--policy", policy, "--child", url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    ours = json.loads(done.stdout.splitlines()[-1])
    for step in ("run", "verify"):
        own, server = ours[step + "_cpu"], ours[step + "_server_cpu"]
        print(f"  {step:24} {ours[step]:8.2f} s   processor {own:8.2f} s + {server:.2f} s of the server")
    print(f"  {'peak memory':24} {ours['mb']:8.0f} MB {_said(ours['mb'] < MEGABYTES_AT_MOST)}")
    print(f"  {'verify / run':24} {ours['verify'] / ours['run']:8.2f}    {_said(ours['verify'] <= ours['run'])}")
    verify_cpu, run_cpu = (ours[f"{step}_cpu"] + ours[f"{step}_server_cpu"] for step in ("verify", "run"))
    print(f"  {'verify / run, processor':24} {verify_cpu / run_cpu:8.2f}")
    if duck is None:
        return
    same = (duck.input_sha256, duck.payable_fen) == (ours["input_sha256"], ours["payable_fen"])
    ratio = ours["run"] / duck.seconds
    print(f"  {'run / DuckDB':24} {ratio:8.2f}    {_said(ratio <= RATIO_AT_MOST)}")
    print(f"  {'run / DuckDB, processor':24} {run_cpu / duck.cpu_s:8.2f}")
    print(f"  same hash and amount: {_said(same)}", flush=True)


def measured(url: str, policy: str) -> dict[str, object]:
    """Make a run and verify it; return what it took. For a process of its own."""
    database = open_database(url)
    server = server_cpu_s(database)
    began, cpu = time.perf_counter(), time.process_time()
    with database.write() as session:
        run = prepare_run(Work(session, OFFICER, WATERMARK), policy, PeriodKind.YEAR, YEAR_FIRST)
    made, made_cpu, made_server = time.perf_counter(), time.process_time(), server_cpu_s(database)
    with database.read() as session:
        findings = [one.finding for one in verify(session, run_checks(run.run_id)) if one.finding]
    if findings:
        raise SystemExit(f"verification found {findings[0]}")
    done, done_cpu = time.perf_counter(), time.process_time()
    return {
        "run": made - began,
        "run_cpu": made_cpu - cpu,
        "run_server_cpu": made_server - server,
        "verify": done - made,
        "verify_cpu": done_cpu - made_cpu,
        "verify_server_cpu": server_cpu_s(database) - made_server,
        "mb": peak_mb(),
        "input_sha256": run.input_sha256,
        "payable_fen": run.payable_fen,
    }


def server_cpu_s(database: Database) -> float:
    """Return the processor time of a database server on this machine, of all its processes; 0 for a file."""
    if database.engine.dialect.name == "sqlite":
        return 0
    with database.look() as session:
        parent = psutil.Process(session.scalars(text("SELECT pg_backend_pid()")).one()).parent()
    assert parent is not None
    ended = parent.cpu_times()
    family = [one.cpu_times() for one in (parent, *parent.children())]
    return sum(one.user + one.system for one in family) + ended.children_user + ended.children_system


def peak_mb() -> float:
    """Return the most memory that this process had (its own: what getrusage says includes the parent's at the fork)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def _said(reached: bool) -> str:
    return "reached" if reached else "MISSED"


if __name__ == "__main__":
    main()
