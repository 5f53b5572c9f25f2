"""Bundles made of the product's pure functions, without a ledger: any policy, any facts, any history."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from api.bundle import members
from api.bundle.service import archive, checker
from api.rewards.computing import HostName, HostResult, RunHead, Situation, host_results, input_line, result_document
from api.rewards.instrument_cap import capped
from api.rewards.policy_body import PolicyBody, canonical_policy
from api.rewards.rules import ENGINE_VERSION, ChargeFacts, Classified, FrozenShares, judge
from store.canonical import canonical_json, chain_hash, sha256_hex
from store.tables.rewards import Grade, MarkCode

PAYER, SERVICE_AT_MS, WATERMARK_MS = "o-sme001", 1_772_413_200_000, 1_775_793_600_000
YEAR = 202601
GENESIS = "0" * 64
ONLY = "i-1"


def facts_of(charge_id: str, host_id: str, total_fen: int, **fields: Any) -> ChargeFacts:
    """A charge that counts, unless `fields` say otherwise."""
    good: dict[str, Any] = {
        "charge_id": charge_id,
        "host_id": host_id,
        "purpose": "use",
        "revision": 1,
        "reversed": False,
        "internal": False,
        "has_session": True,
        "coverage_bp": 10_000,
        "certificate_valid": True,
        "affiliated": False,
        "session_cleared": False,
        "coverage_cleared": False,
        "certificate_cleared": False,
        "anomaly_confirmed": False,
        "anomaly_open": False,
        "invoiced": True,
        "total_fen": total_fen,
        "net_fen": total_fen,
        "cash_fen": total_fen,
        "voucher_fen": 0,
        "waived_fen": 0,
        "payer_region": "330624",
    }
    return ChargeFacts(**good | fields)


@dataclass
class Made:
    """A run as the product computes it; `archived` is its bundle."""

    policy: PolicyBody
    facts: Sequence[ChargeFacts]
    grades: Mapping[str, Grade] = field(default_factory=dict)
    history: Sequence[dict[str, Any]] = ()
    granted: Mapping[str, int] = field(default_factory=dict)
    owed: Mapping[str, int] = field(default_factory=dict)
    frozen: FrozenShares | None = None
    run_no: int = 1

    def rows(self) -> list[Classified]:
        """Every charge as the run has it."""
        rows = [judge(one, self.policy) for one in sorted(self.facts, key=lambda one: one.charge_id)]
        cap = self.policy.instrument_fee_cap_fen
        return rows if cap is None else list(capped(rows, iter([(row.charge_id, ONLY) for row in rows]), cap))

    def names(self, one: ChargeFacts) -> members.ChargeNames:
        """What leads from a charge to dated facts: a booking of its own, one instrument for all."""
        return members.ChargeNames("o-own" if one.affiliated else PAYER, SERVICE_AT_MS, f"b-{one.charge_id}", ONLY)

    def marks(self) -> list[dict[str, Any]]:
        """Every mark of every charge, one that was withdrawn, and one that came too late."""
        signed = {"evidence": "letter", "evidence_sha256": None, "prepared_by": "a", "decided_by": "b"}
        rows: list[dict[str, Any]] = []
        for one in self.facts:
            booking = f"b-{one.charge_id}"
            made = [(code, None, WATERMARK_MS) for code in one.marks]
            others = [code.value for code in MarkCode if code.value not in one.marks]
            if others:
                made += [(others[0], None, 0), (others[0], f"{booking}-{len(made)}", WATERMARK_MS)]
                made.append((others[-1], None, WATERMARK_MS + 1))
            rows += [
                {"mark_id": f"{booking}-{n}", "booking_id": booking, "code": code, "withdraws": withdraws}
                | signed
                | {"decided_at_ms": at}
                for n, (code, withdraws, at) in enumerate(made)
            ]
        return rows

    def results(self) -> list[HostResult]:
        """What every host gets."""
        bases: dict[str, int] = {}
        for row in self.rows():
            bases[row.host_id] = bases.get(row.host_id, 0) + row.eligible_fen
        names = {host: HostName("91", "单位", "Host") for host in {*bases, *self.granted, *self.owed}}
        situation = Situation(bases, self.grades, self.granted, self.owed, names, self.frozen)
        return host_results(situation, self.policy, ENGINE_VERSION)

    def parts(self) -> dict[str, Iterable[bytes]]:
        """The members of the bundle."""
        ordered = sorted(self.facts, key=lambda one: one.charge_id)
        rows = self.rows()
        inputs, results = b"".join(map(input_line, rows)), self.results()
        head = RunHead(
            policy_id="P",
            policy_version=1,
            policy_sha256=sha256_hex(canonical_policy(self.policy)),
            period_kind=self.policy.period_kind.value,
            period_first=YEAR,
            run_no=self.run_no,
            engine_version=ENGINE_VERSION,
            watermark_ms=WATERMARK_MS,
            charge_count=len(rows),
            base_fen=sum(row.eligible_fen for row in rows),
            payable_fen=sum(row.payable_fen for row in results),
            input_sha256=sha256_hex(inputs),
        )
        result = result_document(head, results)
        after = {"result_sha256": sha256_hex(result), "input_sha256": head.input_sha256}
        event = canonical_json({"subject": "reward_run:R1", "after": after}).decode()
        chain = {"prev_hash": GENESIS, "body": event, "hash": chain_hash(GENESIS, event.encode())}
        grades = [
            {"host_id": host, "year": 2026, "version": 1, "grade": grade.value, "recorded_at_ms": 0}
            for host, grade in self.grades.items()
        ]
        affiliated = sorted({one.host_id for one in ordered if one.affiliated})
        marks = {members.MARKS: [canonical_json(self.marks())]} if self.policy.looks_at_marks else {}
        return marks | {
            "README.txt": [b"made for a test"],
            "affiliations.tsv": [
                members.table_line(members.AFFILIATIONS),
                *(members.table_line([host, "o-own", "0", "affiliated", '""', "x", "0"]) for host in affiliated),
            ],
            "assessments.json": [canonical_json(grades)],
            "chains.json": [canonical_json({"prepared": chain})],
            "check.py": [checker()],
            "facts.tsv": [
                members.table_line(members.facts_columns(self.policy)),
                *(members.facts_line(one, self.names(one), members.facts_columns(self.policy)) for one in ordered),
            ],
            "history.json": [json.dumps(list(self.history)).encode()],
            "inputs.tsv": [inputs],
            "policy.json": [canonical_policy(self.policy)],
            "result.json": [result],
            "run.json": [canonical_json({"run_id": "R1", "result_sha256": sha256_hex(result)})],
        }

    def archived(self) -> bytes:
        """The bundle."""
        return archive(self.parts())

    def as_history(self, run_no: int) -> list[dict[str, Any]]:
        """What a later run is told of this one."""
        of_run = {
            "run_id": "R0",
            "policy_id": "P",
            "period_kind": self.policy.period_kind.value,
            "period_first": YEAR,
            "run_no": run_no,
            "watermark_ms": 1_900_000_000_000,
        }
        return [of_run | vars(row) for row in self.results()]
