"""Compute the reward of an OpenLab bundle again, on any machine with Python 3.9 or newer and nothing else.

    python check.py                     in the folder where the bundle was unpacked
    python check.py BUNDLE.zip          or on the archive itself; --result-sha256 HASH: it must be what was signed

Exit code 0: every number and hash comes out again. 1: the first difference is named. This file shares no code with
the product: it was written from the documents (docs/exports.md, docs/money.md), as a second witness.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import zipfile
import zlib
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import IO, Any

ENGINE = "1"
NUMBERS = "service_at_ms revision coverage_bp total_fen net_fen cash_fen voucher_fen waived_fen"
FLAGS = (
    "reversed internal has_session certificate_valid session_cleared coverage_cleared certificate_cleared "
    "anomaly_confirmed anomaly_open invoiced"
)
MARKS = (
    *("statutory", "enforcement", "certification_test", "commercial_inspection", "bulk", "medical", "filming"),
    *("already_funded", "double_invoice"),
)
EXCLUSIONS = (
    *("affiliated", "anomaly_open", "certificate", "coverage", "no_session", "no_show_or_cancellation", "out_of_area"),
    *MARKS,
)
POLICY = (
    "schema period_kind basis amount attribution tiers coefficients host_cap_fen budget_fen on_budget_short "
    "min_payout_fen rounding exclusions coverage_min_bp voucher_counts"
)
POLICY_MAY = "notice_days pay_within_days instrument_fee_cap_fen area_codes"
Json = dict[str, Any]
SHANGHAI = timezone(timedelta(hours=8))
NOBODY: Json = {"charge_id": ""}
UNREADABLE = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)
Events = dict[tuple[str, str], list[tuple[int, str]]]
First = dict[str, tuple[Json, int]]
MONTHS = {"month": 1, "quarter": 3, "year": 12}


class Differs(Exception):
    """Something does not come out again. The text names it."""


def need(holds: object, what: str) -> None:
    if not holds:
        raise Differs(what)


def canonical(value: Any) -> bytes:
    """The one byte form of a JSON value: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def half_up(numerator: int, denominator: int) -> int:
    """Rounded to the nearest whole number, halves away from zero."""
    whole, rest = divmod(abs(numerator), denominator)
    whole += 2 * rest >= denominator
    return whole if numerator >= 0 else -whole


class Folder:
    """The members of a bundle, in a folder or in an archive."""

    def __init__(self, path: Path) -> None:
        self.zip = None if path.is_dir() else zipfile.ZipFile(path)
        self.path = path

    def open(self, name: str) -> IO[bytes]:
        return self.zip.open(name) if self.zip else (self.path / name).open("rb")

    def json(self, name: str) -> Any:
        with self.open(name) as file:
            return json.loads(file.read())

    def rows(self, name: str) -> Iterator[dict[str, Any]]:
        """The rows of a table with a header, as dictionaries of text."""
        with self.open(name) as file:
            header = next(file, b"").decode().rstrip("\n").split("\t")
            for number, line in enumerate(file, start=2):
                cells = line.decode().rstrip("\n").split("\t")
                need(len(cells) == len(header), f"{name}, line {number}: {len(cells)} cells under {len(header)} titles")
                yield dict(zip(header, cells))  # noqa: B905 - Python 3.9 knows no strict


def check_members(bundle: Folder) -> None:
    """Every member is there and has the hash that the manifest names; nothing else is there."""
    manifest = bundle.json("manifest.json")
    if bundle.zip:
        wanted = sorted([*manifest["members"], "manifest.json"])
        need(sorted(bundle.zip.namelist()) == wanted, "the archive has other members than manifest.json names")
    for name, wanted in sorted(manifest["members"].items()):
        running = hashlib.sha256()
        with bundle.open(name) as file:
            for part in iter(lambda: file.read(1 << 20), b""):
                running.update(part)
        need(running.hexdigest() == wanted, f"member {name}: its bytes do not have the hash in manifest.json")


def read_policy(bundle: Folder, head: Json) -> Json:
    with bundle.open("policy.json") as file:
        body = file.read()
    need(hashlib.sha256(body).hexdigest() == head["policy_sha256"], "policy.json: not the policy that the run names")
    policy: Json = json.loads(body)
    need(policy["schema"] == "openlab.reward-policy/1", f"policy.json: the schema {policy['schema']} is unknown")
    fields = set(policy) - set(POLICY_MAY.split())
    need(fields == set(POLICY.split()), f"policy.json: its fields are {', '.join(sorted(policy))}")
    need(set(policy["exclusions"]) <= set(EXCLUSIONS), "policy.json: an exclusion that this program does not know")
    need(policy["rounding"] == "half_up_fen", "policy.json: a rounding that this program does not know")
    need(head["engine_version"] == ENGINE, f"this program knows the rules {ENGINE}, not {head['engine_version']}")
    return policy


def read_affiliations(bundle: Folder, watermark_ms: int) -> Events:
    """(host, party) -> dated states, the oldest first."""
    found: Events = {}
    for row in bundle.rows("affiliations.tsv"):
        if int(row["recorded_at_ms"]) <= watermark_ms:
            event = (int(row["effective_at_ms"]), row["state"])
            found.setdefault((row["host_id"], row["other_org"]), []).append(event)
    return {pair: sorted(events) for pair, events in found.items()}


def is_affiliated(affiliations: Events, fact: Json) -> bool:
    state = ""
    for effective_at_ms, then in affiliations.get((fact["host_id"], fact["payer_org"]), ()):
        if effective_at_ms <= fact["service_at_ms"]:
            state = then
    return state == "affiliated"


def read_marks(bundle: Folder, policy: Json, watermark_ms: int) -> dict[str, set[str]]:
    """Booking -> codes that stand on it: approved by the watermark by a second person, and not withdrawn by then."""
    found: dict[str, set[str]] = {}
    if not set(MARKS) & set(policy["exclusions"]):
        return found
    rows = [row for row in bundle.json("marks.json") if row["decided_at_ms"] <= watermark_ms]
    gone = {row["withdraws"] for row in rows}
    for row in rows:
        need(row["decided_by"] != row["prepared_by"], f"marks.json: one person alone made {row['mark_id']}")
        if row["withdraws"] is None and row["mark_id"] not in gone:
            found.setdefault(row["booking_id"], set()).add(row["code"])
    return found


def reason_of(fact: Json, policy: Json, affiliated: bool, marks: set[str]) -> str:
    """The one reason of a charge: the first that holds."""
    off, areas = policy["exclusions"], policy.get("area_codes", ())
    thin = fact["has_session"] and fact["coverage_bp"] < policy["coverage_min_bp"]
    settled = fact["cash_fen"] + fact["voucher_fen"] + fact["waived_fen"] >= fact["total_fen"]
    reasons = (
        ("reversed", fact["reversed"] or fact["revision"] % 2 == 0),
        ("internal", fact["internal"]),
        ("no_show_or_cancellation", fact["purpose"] in ("cancellation", "no_show")),
        ("affiliated", affiliated),
        ("out_of_area", areas and not any(fact["payer_region"].startswith(area) for area in areas)),
        *((code, code in marks) for code in MARKS),
        ("no_session", not fact["has_session"] and not fact["session_cleared"]),
        ("coverage", thin and not fact["coverage_cleared"]),
        ("certificate", not fact["certificate_valid"] and not fact["certificate_cleared"]),
        ("anomaly_confirmed", fact["anomaly_confirmed"]),
        ("anomaly_open", fact["anomaly_open"]),
    )
    for name, holds in reasons:
        if holds and (name not in EXCLUSIONS or name in off):
            return name
    if policy["basis"] == "paid":
        return "eligible" if settled else "unpaid"
    return "eligible" if fact["invoiced"] else "uninvoiced"


def counted_fen(fact: Json, policy: Json) -> int:
    """What of an eligible charge counts: gross or net, less what was waived, and less vouchers unless they count."""
    without = fact["waived_fen"] + (0 if policy["voucher_counts"] else fact["voucher_fen"])
    gross: int = fact["total_fen"] - without
    net: int = fact["net_fen"]
    if policy["amount"] == "gross":
        return gross
    return half_up(net * gross, fact["total_fen"]) if without else net


def check_inputs(bundle: Folder, policy: Json, head: Json) -> dict[str, int]:
    """Every charge is judged again from its facts; the lines have their order, count, sum and hash."""
    affiliations = read_affiliations(bundle, head["watermark_ms"])
    marks = read_marks(bundle, policy, head["watermark_ms"])
    cap = policy.get("instrument_fee_cap_fen")
    of_instrument: dict[tuple[str, str], int] = {}  # what has counted so far, by host and instrument
    bases: dict[str, int] = {}
    running, count, last = hashlib.sha256(), 0, ""
    facts = bundle.rows("facts.tsv")
    with bundle.open("inputs.tsv") as lines:
        for line in lines:
            charge_id, host_id, amount, eligible, reason = line.decode().rstrip("\n").split("\t")
            need(charge_id > last, f"inputs.tsv: charge {charge_id} is not in order")
            fact = next(facts, NOBODY)
            need(fact["charge_id"] == charge_id, f"facts.tsv: no facts of charge {charge_id}")
            fact.update({name: fact[name] == "1" for name in FLAGS.split()})
            fact.update({name: int(fact[name]) for name in NUMBERS.split()})
            marked = marks.get(fact.get("booking_id", ""), set())
            wanted = reason_of(fact, policy, is_affiliated(affiliations, fact), marked)
            fen = counted_fen(fact, policy) if wanted == "eligible" else 0
            if cap is not None and fen > 0:
                key = (fact["host_id"], fact["instrument_id"])
                fen = min(fen, cap - of_instrument.get(key, 0))
                of_instrument[key] = of_instrument.get(key, 0) + fen
                wanted = "eligible" if fen else "instrument_cap"
            said = (host_id, int(amount), reason, int(eligible))
            true = (fact["host_id"], fact["total_fen"], wanted, fen)
            need(said == true, f"charge {charge_id}: inputs.tsv says {said}, its facts say {true}")
            running.update(line)
            bases[host_id] = bases.get(host_id, 0) + fen
            count, last = count + 1, charge_id
    need(next(facts, None) is None, "facts.tsv: more charges than inputs.tsv")
    need(running.hexdigest() == head["input_sha256"], "inputs.tsv: not the lines that were hashed (input_sha256)")
    need((count, sum(bases.values())) == (head["charge_count"], head["base_fen"]), "charge_count or base_fen differs")
    return bases


def read_grades(bundle: Folder, head: Json) -> dict[str, str]:
    """Host -> grade of the year: the newest version that was known."""
    grades = {}
    for row in sorted(bundle.json("assessments.json"), key=lambda row: row["version"]):
        if row["year"] == head["period_first"] // 100 and row["recorded_at_ms"] <= head["watermark_ms"]:
            grades[row["host_id"]] = row["grade"]
    return grades


def read_history(bundle: Folder, head: Json) -> tuple[dict[str, int], dict[str, int], First | None]:
    """What was granted for the period, what hosts owe, and how the budget was shared when it was first granted."""
    granted: dict[str, int] = {}
    owed: dict[str, int] = {}
    first: First = {}
    first_no = None
    year, month = divmod(head["period_first"], 100)
    end = year * 12 + month - 1 + MONTHS[head["period_kind"]]
    ended_ms = datetime(end // 12, end % 12 + 1, 1, tzinfo=SHANGHAI).timestamp() * 1000
    line = ("policy_id", "period_kind", "period_first")
    for row in sorted(bundle.json("history.json"), key=lambda row: row["run_no"]):
        host = row["host_id"]
        owed[host] = owed.get(host, 0) + row["carried_out_fen"] - row["carried_in_fen"]
        if any(row[name] != head[name] for name in line) or row["run_no"] >= head["run_no"]:
            continue
        granted[host] = granted.get(host, 0) + row["reward_fen"] - row["granted_before_fen"]
        if row["watermark_ms"] >= ended_ms and first_no in (None, row["run_no"]):
            first_no = row["run_no"]
            first[host] = (json.loads(row["explanation"]), row["reward_fen"])
    return granted, owed, first if first_no is not None else None


def earned(base: int, policy: Json, grade: str | None) -> Json:
    """What a base earns, step by step: marginal tiers, coefficient, cap, one rounding, minimum payout."""
    tiers = []
    for tier in policy["tiers"]:
        end = base if tier["to_fen"] is None else min(base, tier["to_fen"])
        tiers.append({**tier, "part_fen": max(0, end - tier["from_fen"])})
    tiers_e4 = sum(tier["part_fen"] * tier["rate_bp"] for tier in tiers)
    coefficients = policy["coefficients"]
    coefficient = 10_000 if coefficients is None else coefficients[grade] if grade else 0
    graded_e8, cap = tiers_e4 * coefficient, policy["host_cap_fen"]
    capped = cap is not None and graded_e8 > cap * 10**8
    amount = half_up(cap * 10**8 if capped else graded_e8, 10**8)
    below = 0 < amount < policy["min_payout_fen"]
    return {
        "tiers": tiers,
        "tiers_e4": str(tiers_e4),
        "graded_e8": str(graded_e8),
        "coefficient_bp": coefficient,
        "cap_fen": cap,
        "capped": capped,
        "min_payout_fen": policy["min_payout_fen"],
        "below_minimum": below,
        "full_fen": 0 if below else amount,
    }


def share(full: dict[str, int], policy: Json, first: First | None) -> tuple[dict[str, int], tuple[int, int]]:
    """Shares of a short budget by largest remainder, or by the scale of the first grant; and that scale."""
    budget, total = policy["budget_fen"], sum(full.values())
    if policy["on_budget_short"] != "prorate" or budget is None:
        return full, (1, 1)
    if first is not None:
        scale = next((said["scale"] for said, _ in first.values()), {"numerator": 1, "denominator": 1})
        up, down = scale["numerator"], scale["denominator"]
        then = {host: (said["full_fen"], fen) for host, (said, fen) in first.items()}
        return {
            host: then[host][1] if host in then and then[host][0] == fen else fen * up // down
            for host, fen in full.items()
        }, (up, down)
    if total <= budget:
        return full, (1, 1)
    shares = {host: fen * budget // total for host, fen in full.items()}
    order = sorted(full, key=lambda host: (-(full[host] * budget % total), host))
    for host in order[: budget - sum(shares.values())]:
        shares[host] += 1
    return shares, (budget, total)


def check_results(bundle: Folder, policy: Json, head: Json, bases: dict[str, int], results: list[Json]) -> None:
    """Every host's row comes out again, field by field."""
    granted, owed, first = read_history(bundle, head)
    grades = read_grades(bundle, head)
    hosts = sorted({*bases, *(host for host in granted if granted[host]), *(host for host in owed if owed[host])})
    need([row["host_id"] for row in results] == hosts, f"result.json: its hosts are not {', '.join(hosts)}")
    steps = {host: earned(bases.get(host, 0), policy, grades.get(host)) for host in hosts}
    shares, (up, down) = share({host: step["full_fen"] for host, step in steps.items()}, policy, first)
    for row in results:
        host = row["host_id"]
        before, carried = granted.get(host, 0), owed.get(host, 0)
        rest = shares[host] - before + carried
        name = json.loads(row["explanation"])["host"]
        scale = {"numerator": up, "denominator": down}
        explanation = {"schema": "openlab.reward-explanation/1", "host": name, **steps[host], "scale": scale}
        wanted = {
            "host_id": host,
            "base_fen": bases.get(host, 0),
            "grade": grades.get(host, "") if policy["coefficients"] is not None else "",
            "coefficient_bp": steps[host]["coefficient_bp"],
            "reward_fen": shares[host],
            "granted_before_fen": before,
            "carried_in_fen": carried,
            "payable_fen": max(rest, 0),
            "carried_out_fen": min(rest, 0),
            "explanation": canonical(explanation).decode(),
        }
        for field, value in wanted.items():
            need(row.get(field) == value, f"host {host}: {field} is {row.get(field)!r}, it comes to {value!r}")
    need(sum(row["payable_fen"] for row in results) == head["payable_fen"], "payable_fen is not the sum of the results")


def check_chains(bundle: Folder, run: Json, head: Json) -> None:
    """The audit event in which the run was prepared names this result, and has the hash that its chain goes on from."""
    chains = bundle.json("chains.json")
    event = chains["prepared"]
    found = hashlib.sha256(event["prev_hash"].encode() + event["body"].encode()).hexdigest()
    need(found == event["hash"], "chains.json: the audit event does not have its hash")
    said = json.loads(event["body"])
    need(said["subject"] == f"reward_run:{run['run_id']}", "chains.json: the audit event is about another run")
    need(said["after"]["result_sha256"] == run["result_sha256"], "chains.json: the audit event names another result")
    need(said["after"]["input_sha256"] == head["input_sha256"], "chains.json: the audit event names other inputs")


def check(bundle: Folder, result_sha256: str | None = None) -> tuple[Json, Json]:
    """Check a whole bundle, what people read before what is hashed; return its run and head. Raises Differs."""
    run = bundle.json("run.json")
    with bundle.open("result.json") as file:
        document = file.read()
    result = json.loads(document)
    head = result["run"]
    policy = read_policy(bundle, head)
    bases = check_inputs(bundle, policy, head)
    check_results(bundle, policy, head, bases, result["results"])
    found = hashlib.sha256(document).hexdigest()
    need(canonical(result) == document, "result.json: not in the form that was hashed")
    need(found == run["result_sha256"], "result.json: not what was hashed (result_sha256)")
    need(result_sha256 in (None, found), f"the result is {found}, not the one you named")
    check_chains(bundle, run, head)
    check_members(bundle)
    return run, head


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--result-sha256", help="hash of the result that was signed")
    given = parser.parse_args()
    try:
        run, head = check(Folder(given.bundle), given.result_sha256)
    except Differs as error:
        sys.stdout.write(f"DIFFERS {error}\n")
        return 1
    except UNREADABLE as error:
        sys.stdout.write(f"DIFFERS the bundle cannot be read: {type(error).__name__}: {error}\n")
        return 1
    yuan = f"{head['payable_fen'] // 100}.{head['payable_fen'] % 100:02d} yuan"
    sys.stdout.write(f"ok      run {run['run_id']}: {head['charge_count']} charges, {yuan}\n")
    sys.stdout.write(f"        result {run['result_sha256']}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
