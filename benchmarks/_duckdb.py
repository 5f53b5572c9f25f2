"""The same reward run in DuckDB, as a measure of what a column store needs for it: classify, snapshot, hash, tiers.

One policy only (FLAT10: paid, gross, all exclusions), written out in SQL, none of the product's code. The rows are
copied out of the ledger before the clock starts; DuckDB keeps them, and its snapshot, in a file of its own.
"""

import csv
import time
from dataclasses import dataclass
from pathlib import Path

import duckdb
from sqlalchemy import text

from store.database import Database

TABLES = {
    "host": "host_id, org_id",
    "charge": "charge_id, booking_id, purpose, revision, host_id, payer_org, service_at, service_month, total_fen,"
    " net_fen, internal, has_session, certificate_valid, coverage_bp, recorded_at",
    "settlement": "payment_id, charge_id, amount_fen",
    "payment": "payment_id, tender, recorded_at",
    "credit_entry": "charge_id, payment_id, kind, amount_fen, recorded_at",
    "affiliation_event": "host_org, other_org, effective_at, state, recorded_at",
    "anomaly": "anomaly_id, rule, subject_kind, subject_id, blocks_reward, found_at",
    "anomaly_decision": "anomaly_id, verdict, decided_at",
    "booking_use": "session_id, booking_id",
}
_FLAGS = {"internal", "has_session", "certificate_valid", "blocks_reward"}
_NUMBERS = ("_at", "_fen", "_month", "_bp", "revision")
_RULES = ("fee_without_session", "coverage_below_95", "certificate_expired")
_CLEARED = ", ".join(f"bool_or(d.verdict = 'cleared' AND f.rule = '{rule}') AS {rule}" for rule in _RULES)

SNAPSHOT = f"""
CREATE OR REPLACE TABLE reward_input AS
WITH standing AS (
    SELECT h.host_id, e.other_org, e.state, e.effective_at AS from_at,
           lead(e.effective_at) OVER (PARTITION BY e.host_org, e.other_org ORDER BY e.effective_at) AS to_at
    FROM affiliation_event e JOIN host h ON h.org_id = e.host_org WHERE e.recorded_at <= $at
), found AS (
    SELECT subject_id AS charge_id, anomaly_id, rule FROM anomaly
    WHERE subject_kind = 'charge' AND blocks_reward AND found_at <= $at
    UNION ALL
    SELECT c.charge_id, anomaly_id, rule FROM anomaly a JOIN charge c ON c.booking_id = a.subject_id
    WHERE subject_kind = 'booking' AND blocks_reward AND found_at <= $at
    UNION ALL
    SELECT c.charge_id, anomaly_id, rule FROM anomaly a JOIN booking_use u ON u.session_id = a.subject_id
    JOIN charge c ON c.booking_id = u.booking_id
    WHERE subject_kind = 'session' AND blocks_reward AND found_at <= $at
), marks AS (
    SELECT f.charge_id, {_CLEARED},
           bool_or(d.verdict = 'confirmed') AS confirmed, bool_or(d.anomaly_id IS NULL) AS undecided
    FROM found f LEFT JOIN anomaly_decision d ON d.anomaly_id = f.anomaly_id AND d.decided_at <= $at GROUP BY 1
), money AS (
    SELECT s.charge_id, p.tender, s.amount_fen FROM settlement s JOIN payment p USING (payment_id)
    WHERE p.recorded_at <= $at
    UNION ALL
    SELECT s.charge_id, p.tender, s.amount_fen FROM credit_entry s JOIN payment p USING (payment_id)
    WHERE s.kind = 'apply' AND s.recorded_at <= $at
), paid AS (
    SELECT charge_id, sum(amount_fen) AS fen, sum(CASE WHEN tender <> 'cash' THEN amount_fen ELSE 0 END) AS not_cash
    FROM money GROUP BY 1
), judged AS (
    SELECT c.charge_id, c.host_id, c.total_fen AS amount_fen, coalesce(p.not_cash, 0) AS not_cash, CASE
        WHEN c.revision % 2 = 0 OR r.charge_id IS NOT NULL THEN 'reversed'
        WHEN c.internal THEN 'internal'
        WHEN c.purpose IN ('cancellation', 'no_show') THEN 'no_show_or_cancellation'
        WHEN s.state = 'affiliated' THEN 'affiliated'
        WHEN NOT c.has_session AND NOT coalesce(m.fee_without_session, false) THEN 'no_session'
        WHEN c.has_session AND c.coverage_bp < 9500 AND NOT coalesce(m.coverage_below_95, false) THEN 'coverage'
        WHEN NOT c.certificate_valid AND NOT coalesce(m.certificate_expired, false) THEN 'certificate'
        WHEN m.confirmed THEN 'anomaly_confirmed'
        WHEN m.undecided THEN 'anomaly_open'
        WHEN coalesce(p.fen, 0) >= c.total_fen THEN 'eligible'
        ELSE 'unpaid' END AS reason
    FROM charge c
    LEFT JOIN charge r ON r.booking_id = c.booking_id AND r.purpose = c.purpose AND r.revision = c.revision + 1
         AND r.recorded_at <= $at
    LEFT JOIN standing s ON s.host_id = c.host_id AND s.other_org = c.payer_org AND s.from_at <= c.service_at
         AND (s.to_at IS NULL OR c.service_at < s.to_at)
    LEFT JOIN marks m ON m.charge_id = c.charge_id
    LEFT JOIN paid p ON p.charge_id = c.charge_id
    WHERE c.service_month BETWEEN $first AND $last AND c.recorded_at <= $at
)
SELECT charge_id, host_id, amount_fen,
       CASE WHEN reason = 'eligible' THEN amount_fen - not_cash ELSE 0 END AS eligible_fen, reason
FROM judged ORDER BY charge_id
"""
HASH = """
SELECT sha256(string_agg(charge_id || chr(9) || host_id || chr(9) || amount_fen || chr(9) || eligible_fen || chr(9)
                         || reason || chr(10), '' ORDER BY charge_id)) FROM reward_input
"""
RESULT = """
CREATE OR REPLACE TABLE reward_result AS
SELECT host_id, sum(eligible_fen)::BIGINT AS base_fen,
       least((2 * sum(eligible_fen)::BIGINT * 1000 + 10000) // 20000, 200000000) AS reward_fen
FROM reward_input GROUP BY 1 ORDER BY 1
"""


@dataclass(frozen=True)
class DuckRun:
    """What DuckDB came to: seconds on the wall and of processor time, and what must be equal."""

    seconds: float
    cpu_s: float
    input_sha256: str
    payable_fen: int


def copy_out(database: Database, folder: Path) -> duckdb.DuckDBPyConnection:
    """Copy what a run reads into a DuckDB file."""
    duck = duckdb.connect(str(folder / "bench.duckdb"))
    for table, columns in TABLES.items():
        path = folder / f"{table}.csv"
        with database.read() as session, path.open("w", newline="") as file:
            out = csv.writer(file)
            out.writerow(columns.split(", "))
            result = session.connection().execute(
                text(f"SELECT {columns} FROM {table}"), execution_options={"yield_per": 20_000}
            )
            for rows in result.partitions():
                out.writerows(rows)
        kinds = {name: _kind(name) for name in columns.split(", ")}
        duck.execute(f"CREATE TABLE {table} AS SELECT * FROM read_csv('{path}', header = true, columns = {kinds})")
        path.unlink()
    return duck


def _kind(column: str) -> str:
    return "BOOLEAN" if column in _FLAGS else "BIGINT" if column.endswith(_NUMBERS) else "VARCHAR"


def run(duck: duckdb.DuckDBPyConnection, first: int, last: int, at_ms: int) -> DuckRun:
    """Make a run."""
    began, cpu = time.perf_counter(), time.process_time()
    duck.execute("BEGIN")
    duck.execute(SNAPSHOT, {"at": at_ms, "first": first, "last": last})
    [sha256] = duck.execute(HASH).fetchone() or [""]
    duck.execute(RESULT)
    [payable] = duck.execute("SELECT sum(reward_fen)::BIGINT FROM reward_result").fetchone() or [0]
    duck.execute("COMMIT")
    return DuckRun(time.perf_counter() - began, time.process_time() - cpu, str(sha256), int(payable))
