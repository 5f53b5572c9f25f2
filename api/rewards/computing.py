"""From the eligible sums of all hosts to the rows and hashes of a run. Pure.

Called by the reward service and by verification with the same arguments; both must come to the same bytes. The lines
of a run's input and the document of its result are what is hashed, sorted by code point, so that every engine agrees.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.rewards.policy_body import OnBudgetShort, PolicyBody
from api.rewards.rules import Classified, FrozenShares, Reason, Reward, engine, prorate, share_again
from store.canonical import canonical_json
from store.tables.rewards import Grade, RewardResult, RewardRun
from wire.clock import to_ms

EXPLANATION_SCHEMA = "openlab.reward-explanation/1"
RESULT_SCHEMA = "openlab.reward-result/1"
_RESULT_FIELDS = (
    "host_id",
    "base_fen",
    "grade",
    "coefficient_bp",
    "reward_fen",
    "granted_before_fen",
    "carried_in_fen",
    "payable_fen",
    "carried_out_fen",
    "explanation",
)


@dataclass(frozen=True)
class HostName:
    """Who a host was when the run was made; frozen with its result."""

    uscc: str
    name_zh: str
    name_en: str


@dataclass(frozen=True)
class Situation:
    """What a run starts from besides its policy: eligible sums, grades, and what was granted and is owed, by host."""

    bases: Mapping[str, int]
    grades: Mapping[str, Grade]
    granted: Mapping[str, int]
    owed: Mapping[str, int]
    names: Mapping[str, HostName]
    frozen: FrozenShares | None

    @property
    def hosts(self) -> list[str]:
        """Every host that the run says something about, in code point order."""
        return sorted({*self.bases, *self.granted, *self.owed})


@dataclass(frozen=True)
class HostResult:
    """The row of one host. `explanation` is canonical JSON."""

    host_id: str
    base_fen: int
    grade: str
    coefficient_bp: int
    reward_fen: int
    granted_before_fen: int
    carried_in_fen: int
    payable_fen: int
    carried_out_fen: int
    explanation: str


@dataclass(frozen=True)
class RunHead:
    """What is hashed of a run besides its rows."""

    policy_id: str
    policy_version: int
    policy_sha256: str
    period_kind: str
    period_first: int
    run_no: int
    engine_version: str
    watermark_ms: int
    charge_count: int
    base_fen: int
    payable_fen: int
    input_sha256: str


def host_results(situation: Situation, policy: PolicyBody, engine_version: str) -> list[HostResult]:
    """Return the result of every host in code point order."""
    rules = engine(engine_version)
    full = {
        host: rules.reward(situation.bases.get(host, 0), policy, situation.grades.get(host)) for host in situation.hosts
    }
    shares, scale = _shares({host: one.amount_fen for host, one in full.items()}, policy, situation.frozen)
    results = []
    for host, one in full.items():
        granted, owed = situation.granted.get(host, 0), situation.owed.get(host, 0)
        settled = rules.settle(shares[host], granted, owed)
        # The grade is of no account where the policy has no coefficients.
        grade = situation.grades.get(host) if policy.coefficients is not None else None
        results.append(
            HostResult(
                host,
                one.base_fen,
                "" if grade is None else grade.value,
                one.coefficient_bp,
                shares[host],
                granted,
                owed,
                settled.payable_fen,
                settled.carried_out_fen,
                _explanation(situation.names[host], one, policy, scale),
            )
        )
    return results


def run_head(run: RewardRun, policy_sha256: str) -> RunHead:
    """Return what is hashed of a run besides its rows."""
    return RunHead(
        run.policy_id,
        run.policy_version,
        policy_sha256,
        run.period_kind,
        run.period_first,
        run.run_no,
        run.engine_version,
        to_ms(run.watermark),
        run.charge_count,
        run.base_fen,
        run.payable_fen,
        run.input_sha256,
    )


def input_line(row: Classified) -> bytes:
    """Return what is hashed of one charge of a run. Raises ValueError for ids with a tab or line break in them."""
    return input_lines([row])


def input_lines(rows: Sequence[Classified]) -> bytes:
    """Return what is hashed of some charges of a run, one after the other. Raises ValueError as `input_line` does."""
    text = "".join(["%s\t%s\t%d\t%d\t%s\n" % row for row in rows])  # noqa: UP031 - half the time of an f-string
    if text.count("\t") != 4 * len(rows) or text.count("\n") != len(rows):
        wrong = next(row for row in rows if {"\t", "\n"} & {*row.charge_id, *row.host_id})
        raise ValueError(f"charge {wrong.charge_id!r} of host {wrong.host_id!r} cannot be written as one line")
    return text.encode()


def read_input_line(line: bytes) -> Classified:
    """Read back what `input_line` wrote."""
    charge_id, host_id, amount, eligible, reason = line.decode().removesuffix("\n").split("\t")
    return Classified(charge_id, host_id, int(amount), int(eligible), Reason(reason))


def result_document(head: RunHead, results: Sequence[HostResult]) -> bytes:
    """Return the bytes whose hash is the run's `result_sha256`."""
    rows = sorted(results, key=lambda row: row.host_id)
    return canonical_json(
        {"schema": RESULT_SCHEMA, "run": dict(vars(head)), "results": [dict(vars(row)) for row in rows]}
    )


def stored_result(row: RewardResult) -> HostResult:
    """Return a stored row in the form that `host_results` returns, to hold one against the other."""
    return HostResult(**{name: getattr(row, name) for name in _RESULT_FIELDS})


def name_in(explanation: str) -> HostName:
    """Return who the host was, out of a result's explanation. Raises ValueError where it is none."""
    fields: Any = json.loads(explanation)
    if not isinstance(fields, dict) or fields.get("schema") != EXPLANATION_SCHEMA:
        raise ValueError(f"this is not a document of {EXPLANATION_SCHEMA}")
    return HostName(**fields["host"])


def full_fen(result: HostResult) -> int:
    """Return what a host earned before a short budget was shared."""
    fen: int = json.loads(result.explanation)["full_fen"]
    return fen


def frozen_shares(results: Sequence[HostResult]) -> FrozenShares:
    """Return how the budget was shared in the run with these results."""
    explained = {row.host_id: json.loads(row.explanation) for row in results}
    scale = next((one["scale"] for one in explained.values()), {"numerator": 1, "denominator": 1})
    first = {row.host_id: (explained[row.host_id]["full_fen"], row.reward_fen) for row in results}
    return FrozenShares(scale["numerator"], scale["denominator"], first)


def _shares(
    full: dict[str, int], policy: PolicyBody, frozen: FrozenShares | None
) -> tuple[dict[str, int], tuple[int, int]]:
    if policy.on_budget_short is not OnBudgetShort.PRORATE or policy.budget_fen is None:
        return full, (1, 1)
    if frozen is not None:
        return share_again(full, frozen), (frozen.numerator, frozen.denominator)
    total = sum(full.values())
    return prorate(full, policy.budget_fen), (policy.budget_fen, total) if total > policy.budget_fen else (1, 1)


def _explanation(name: HostName, one: Reward, policy: PolicyBody, scale: tuple[int, int]) -> str:
    return canonical_json(
        {
            "schema": EXPLANATION_SCHEMA,
            "host": dict(vars(name)),
            "tiers": [dict(vars(part)) for part in one.tiers],
            # Texts: these run beyond the integers that some readers of JSON can hold.
            "tiers_e4": str(one.tiers_e4),
            "graded_e8": str(one.graded_e8),
            "coefficient_bp": one.coefficient_bp,
            "cap_fen": policy.host_cap_fen,
            "capped": one.capped,
            "min_payout_fen": policy.min_payout_fen,
            "below_minimum": one.below_minimum,
            "full_fen": one.amount_fen,
            "scale": {"numerator": scale[0], "denominator": scale[1]},
        }
    ).decode()
